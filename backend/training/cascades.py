"""A detector and a segmenter before and after they learned, together on held-out pictures: with the
figures, the verdicts and the page of ``yolosam2 evaluate``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from backend.config.models import Settings
from backend.core.classes import ClassIndex
from backend.core.masks import mask_xyxy, unpack_mask
from backend.core.rasterize import box_mask
from backend.core.types import Image, Instance, Mask, Prediction
from backend.errors import InputError, Unavailable
from backend.evaluation.paired import compare_versions
from backend.evaluation.pairs import Pair, Picture, Region
from backend.evaluation.results import Outputs, finish
from backend.evaluation.scoring import Scoring
from backend.files.images import ImageLimits
from backend.formats.sample import Fault
from backend.labeling.load import BOXES, CASCADE, load_labeler
from backend.training.accepted import AcceptedPicture
from backend.training.changes import Changes
from backend.training.compare import BETTER, NOT_SHOWN, WORSE, widened

BEFORE, AFTER = "before", "after"
CHANGES = "changes.jpg"
ALONE = "before, with the outlines of after"  # what the detector alone is compared with
OFFERED = "offered until now"
_OF_MASKS, _OF_BOXES = "mean_iou_without_background", "f1_50"  # figures that decide


@dataclass(frozen=True, eq=False)
class Together:
    """What came of a comparison.

    Attributes:
        document: of a scoring; its ``comparison`` is of ``BEFORE`` and ``AFTER``.
        deciding: the comparison of the old detector and the new one, with the same outlines.
        of_boxes: whether boxes are compared, because few held-out objects have an outline.
    """

    document: dict[str, Any]
    deciding: dict[str, Any]
    of_boxes: bool

    @property
    def figure(self) -> str:
        """The name of the figure that decides."""
        return _OF_BOXES if self.of_boxes else _OF_MASKS

    def value(self, version: str) -> float:
        """That figure of a version that was compared; 0 where it found nothing."""
        [view] = [
            one
            for one in self.document["views"]
            if one["model_version"] == version and one["annotator"] is None
        ]
        return float(view["figures"][self.figure]["value"] or 0.0)

    @property
    def verdict(self) -> str:
        """Whether the new detector is better, with the certainty that so many pictures give."""
        rows = {row["name"]: row for row in self.deciding["figures"]}
        row = rows[self.figure]
        if row["interval"] is None:
            return NOT_SHOWN
        low, high = widened(row["interval"], row["difference"], self.deciding["images"])
        if low <= 0 <= high:
            return NOT_SHOWN
        return BETTER if low > 0 else WORSE


@dataclass(frozen=True, eq=False)
class _Sides:
    """What was accepted in a picture, what was found, and masks that count for neither."""

    truth: Sequence[Region]
    made: Sequence[Region]
    void: Sequence[Mask]


def compare_cascades(
    versions: Mapping[str, Settings],
    pictures: Sequence[AcceptedPicture],
    names: Collection[str],
    limits: ImageLimits,
    report: Path | None,
    stop: threading.Event,
    tell: Callable[[float], None] = lambda done: None,
) -> Together:
    """Label held-out pictures with several pairs of models, and compare with what was accepted.

    Args:
        versions: ``BEFORE``, ``AFTER``, and perhaps ``ALONE`` and ``OFFERED``, and the models of
            each.
        pictures: held out; regions with a box alone, and those to ignore, count neither for nor
            against. Where most objects have a box alone, boxes are compared.
        names: of all classes.
        limits: of pictures.
        report: takes a page with pictures of the worst; None for none. Beside it goes a picture
            of what changed most, ``CHANGES``.
        stop: ends early.
        tell: hears how much is done, 0..1.

    Raises:
        ConfigError: the models do not load, or nothing could be compared.
        Unavailable: it was stopped, so that there is no fair comparison.
    """
    names = sorted({*names, *(label for one in pictures for label in one.every_label)})
    numbers = {name: k for k, name in enumerate(names)}
    of_boxes = sum(len(one.boxes) for one in pictures) > sum(len(one.objects) for one in pictures)
    run = Scoring(ClassIndex(names), "score", with_gallery=report is not None)
    run.compare = (BEFORE, AFTER)
    changes = Changes(BEFORE, AFTER)
    done = 0
    for version, settings in versions.items():
        labeler = load_labeler(settings, BOXES if of_boxes else CASCADE, None).labeler
        for one in pictures:
            if stop.is_set():
                raise Unavailable("interrupted while the detector was judged")
            try:
                image = one.image(limits)
                prediction = labeler.finish(labeler.infer([image], None)[0])
            except InputError as error:
                run.take(Fault(str(one.name), str(error)))
                continue
            size_hw = (image.shape[0], image.shape[1])
            sides = (_boxes if of_boxes else _masks)(one, prediction, numbers, size_hw)
            changes.take(version, one.digest, size_hw, sides.truth, sides.made)
            run.take(_pair(one, version, size_hw, sides))
            done += 1
            tell(done / (len(versions) * len(pictures)))
    by_digest = {one.digest: one for one in pictures}

    def load(picture: Picture) -> Image:
        return by_digest[str(picture.uri)].image(limits)

    document = finish(
        run,
        Outputs(report=report, progress=False),
        {},
        title="Held-out pictures before and after learning",
        captions=("prediction", "accepted"),
        load=load,
    )
    document["recall_by_size"] = changes.recall_by_size()
    if report is not None:
        sheet = report.with_name(CHANGES)
        changes.write_sheet(sheet, lambda digest: by_digest[digest].image(limits))
    deciding = (ALONE if ALONE in versions else BEFORE, AFTER)
    return Together(document, compare_versions(run.tally, names, deciding), of_boxes)


def _boxes(
    one: AcceptedPicture, found: Prediction, numbers: Mapping[str, int], size_hw: tuple[int, int]
) -> _Sides:
    """The boxes of what was accepted in a picture, beside those that were found."""

    def region(label: str, xyxy: Sequence[float], score: float | None) -> Iterator[Region]:
        x0, y0, x1, y1 = xyxy
        mask = box_mask(x0, y0, x1, y1, size_hw)
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
    return _Sides(truth, made, [])


def _masks(
    one: AcceptedPicture, found: Prediction, numbers: Mapping[str, int], size_hw: tuple[int, int]
) -> _Sides:
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
    boxes = [box_mask(*xyxy, size_hw) for _, xyxy in one.boxes]
    return _Sides(
        [Region(key=None, instance=each, scored=False) for each in truth],
        [Region(key=None, instance=each) for each in made],
        [mask for mask in boxes if mask is not None],
    )


def _pair(one: AcceptedPicture, version: str, size_hw: tuple[int, int], sides: _Sides) -> Pair:
    return Pair(
        unit=one.digest,
        name=str(one.name),
        size_hw=size_hw,
        accepted=tuple(sides.truth),
        predicted=tuple(sides.made),
        void=(*sides.void, *(unpack_mask(mask) for mask in one.ignored)),
        model_version=version,
        started_here=False,
        first=version == AFTER,
        picture=Picture(uri=one.digest),
    )
