"""Samples as labelme JSON: a mask or polygons for every instance, in the order they are drawn in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from backend.datasets.copies import Copies
from backend.datasets.model import BACKGROUND_LABEL, IGNORE_LABEL, ClassNames, DatasetInstance, Encoded, Sample, count_left_out
from backend.files import json_bytes
from backend.formats.rings import part_rings, ring_mask
from backend.geometry import join_masks, mask_difference
from backend.types import Mask
from labelme_plugin.files import make_document, relative_image_path
from labelme_plugin.shapes import mask_shape, polygon_shape, score_keys

SHAPES = ("mask", "polygon")
_TOLERANCE = 0.75  # pixels; a polygon for people should not have a corner at every pixel


class LabelmeWriter:
    """``<stem>.json`` per image, and ``labels.txt`` as labelme2voc wants it.

    Args:
        out: output folder.
        names: of the classes.
        copies: puts pictures into the output, if wanted.
        shape: of ``SHAPES``.
        tolerance: of polygons, in pixels; None takes 0.75.
    """

    shared: Sequence[str] = ()

    def __init__(self, out: Path, names: ClassNames, copies: Copies, shape: str = "mask", tolerance: float | None = None) -> None:
        self._out, self._names, self._copies, self._shape = out, names, copies, shape
        self._tolerance = _TOLERANCE if tolerance is None else tolerance

    def encode(self, sample: Sample, stem: str) -> Encoded:
        size_hw = sample.known_size()
        instances, losses = count_left_out(sample.instances, self._names)
        pieces: list[tuple[int, dict[str, Any]]] = []
        groups = {one.notes.get("group_id") for one in instances}
        for instance in instances:
            drawn = [
                (part.order, shape) for part in instance.parts for shape in self._shapes(part.mask, instance, size_hw, sample.model_version is not None, losses)
            ]
            if len(drawn) > 1 and instance.notes.get("group_id") is None:
                group = next(k for k in range(len(groups) + 1) if k not in groups)
                groups.add(group)
                drawn = [(order, {**shape, "group_id": group}) for order, shape in drawn]
            pieces += drawn
        path = PurePosixPath(f"{stem}.json")
        copied = self._copies.place(sample, PurePosixPath(f"{stem}{sample.name.suffix}"), always=True)
        losses.update(copied.losses)
        if copied.path is None:
            losses["pictures that are not at hand: labelme opens a file once its picture lies beside it"] += 1
        document = make_document(
            [shape for _, shape in sorted(pieces, key=lambda pair: pair[0])],
            self._image_path(sample, path, bool(copied.files)),
            size_hw,
            sample.model_version,
            sample.notes.get("flags"),
            {key: value for key, value in sample.notes.items() if key != "flags"},
        )
        return Encoded([(path, json_bytes(document) + b"\n"), *copied.files], losses)

    def _image_path(self, sample: Sample, path: PurePosixPath, copied: bool) -> str:
        if isinstance(sample.picture, Path) and not copied:
            return relative_image_path(sample.picture, self._out / path)
        return path.name.removesuffix(".json") + sample.name.suffix

    def _shapes(self, mask: Mask, instance: DatasetInstance, size_hw: tuple[int, int], predicted: bool, losses: Counter[str]) -> Iterator[dict[str, Any]]:
        extras = _extras(instance, predicted)
        if self._shape == "mask":
            yield {**mask_shape(instance.label, _wide_enough(mask, size_hw)), **extras}
            return
        rings = part_rings(mask, self._tolerance)
        for ring in rings:
            points = [[float(x), float(y)] for x, y in ring]
            points += [points[-1]] * (3 - len(points))  # of one or two pixels
            yield {**polygon_shape(instance.label, points), **extras}
        drawn = [filled for ring in rings if (filled := ring_mask(ring, size_hw)) is not None]
        if changed := mask_difference(mask, join_masks(drawn) if drawn else None):
            losses["pixels changed by simplified polygons"] += changed

    def add(self, encoded: Encoded) -> None:
        return

    def close(self) -> Iterator[tuple[PurePosixPath, bytes]]:
        yield PurePosixPath("labels.txt"), ("\n".join([IGNORE_LABEL, BACKGROUND_LABEL, *self._names.names]) + "\n").encode()

    def abort(self) -> None:
        return


def _extras(instance: DatasetInstance, predicted: bool) -> dict[str, Any]:
    """What goes with a shape; of a prediction the score also where labelme's window shows it."""
    made: dict[str, Any] = {}
    if instance.score is not None:
        made = score_keys(instance.score) if predicted else {"score": instance.score}
    if instance.crowd:
        made["iscrowd"] = 1
    if instance.number is not None:
        made["voc_object"] = instance.number
    return {**made, **instance.notes}


def _wide_enough(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """A mask of a single pixel with a pixel of background beside it, because labelme 5.5 loses the second corner of a single pixel."""
    if mask.crop.size > 1 or size_hw == (1, 1):
        return mask
    if size_hw[1] > 1:
        left = mask.x + 1 >= size_hw[1]
        return Mask(mask.x - left, mask.y, np.array([[not left, left]]))
    above = mask.y + 1 >= size_hw[0]
    return Mask(mask.x, mask.y - above, np.array([[not above], [above]]))
