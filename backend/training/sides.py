"""What was accepted in a picture, beside what models find in it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from backend.core.masks import mask_xyxy, unpack_mask
from backend.core.rasterize import box_mask
from backend.core.types import Instance, Mask, Prediction
from backend.errors import InputError, Unavailable
from backend.evaluation.pairs import Region
from backend.files.images import ImageLimits
from backend.labeling.cascade import Cascade
from backend.training.accepted import AcceptedPicture


@dataclass(frozen=True, eq=False)
class Sides:
    """What was accepted in a picture, what was found, and masks that count for neither."""

    truth: Sequence[Region]
    made: Sequence[Region]
    void: Sequence[Mask]


def are_boxes(pictures: Iterable[AcceptedPicture]) -> bool:
    """Whether boxes are to be compared, as most objects have nothing else."""
    known = list(pictures)
    return sum(len(one.boxes) for one in known) > sum(len(one.objects) for one in known)


def found_in(
    cascade: Cascade,
    pictures: Sequence[AcceptedPicture],
    limits: ImageLimits,
    stop: threading.Event,
) -> Iterator[tuple[AcceptedPicture, Prediction | InputError]]:
    """Label pictures; of one that cannot be read, what is wrong.

    Raises:
        Unavailable: it was stopped.
    """
    for one in pictures:
        if stop.is_set():
            raise Unavailable("interrupted while the detector was judged")
        try:
            yield one, cascade.predict([one.image(limits)])[0]
        except InputError as error:
            yield one, error


def sides_of(
    one: AcceptedPicture, found: Prediction, numbers: Mapping[str, int], *, of_boxes: bool
) -> Sides:
    """Both sides of a picture.

    Args:
        one: the picture.
        found: in it; labels without a number do not count.
        numbers: of labels.
        of_boxes: whether boxes are compared, else outlines.
    """
    return (_boxes if of_boxes else _masks)(one, found, numbers)


def _boxes(one: AcceptedPicture, found: Prediction, numbers: Mapping[str, int]) -> Sides:
    """The boxes of what was accepted in a picture, beside those that were found."""

    def region(label: str, xyxy: Sequence[float], score: float | None) -> Iterator[Region]:
        x0, y0, x1, y1 = xyxy
        mask = box_mask(x0, y0, x1, y1, found.size_hw)
        if mask is not None and label in numbers:
            corners = np.asarray(xyxy, np.float32)
            sure = 1.0 if score is None else score
            instance = Instance(label, numbers[label], sure, corners, mask)
            yield Region(key=None, instance=instance, scored=score is not None, is_box=True)

    outlined = [
        (label, mask_xyxy(mask).tolist()) for label, mask in zip(one.labels, one.masks, strict=True)
    ]
    truth = [each for label, xyxy in (*outlined, *one.boxes) for each in region(label, xyxy, None)]
    made = [
        each
        for each_found in found.instances
        for each in region(each_found.label, each_found.xyxy.tolist(), each_found.score)
    ]
    return Sides(truth, made, list(map(unpack_mask, one.ignored)))


def _masks(one: AcceptedPicture, found: Prediction, numbers: Mapping[str, int]) -> Sides:
    """The outlines that were accepted in a picture, beside those that were found."""
    truth = [
        Instance(label, numbers[label], 1.0, mask_xyxy(mask).astype(np.float32), mask)
        for label, mask in zip(one.labels, one.masks, strict=True)
    ]
    made = [
        replace(each, class_id=numbers[each.label])
        for each in found.instances
        if each.label in numbers
    ]
    boxes = [box_mask(*xyxy, found.size_hw) for _, xyxy in one.boxes]
    return Sides(
        [Region(key=None, instance=each, scored=False) for each in truth],
        [Region(key=None, instance=each) for each in made],
        [*(mask for mask in boxes if mask is not None), *map(unpack_mask, one.ignored)],
    )
