"""What learning changed in held-out pictures: which of them most, and of which size the objects are
that are found now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backend.core.masks import PackedMask, mask_iou, mask_xyxy, pack_mask, unpack_mask
from backend.core.types import Image, Instance, Prediction
from backend.drawing.overlays import contact_sheet, draw, encode_picture
from backend.errors import InputError
from backend.evaluation.pairs import Region
from backend.evaluation.proposals import SIZES
from backend.files.atomic import write_atomic

FOUND = 0.5  # IoU from which an object is found
_SHOWN = 4  # pictures that became better most, and as many that became worse
_WIDTH = 1600  # pixels of the sheet


@dataclass(frozen=True)
class _Drawn:
    """An object in little memory."""

    label: str
    class_id: int
    mask: PackedMask


@dataclass(eq=False)
class _OfPicture:
    """A picture: what was accepted, and what each version found."""

    size_hw: tuple[int, int]
    accepted: list[_Drawn]
    areas: list[int]
    found: dict[str, list[_Drawn]] = field(default_factory=dict)
    ious: dict[str, list[float]] = field(default_factory=dict)  # of each accepted object


class Changes:
    """Compares two versions, object by object.

    Args:
        before: the name of the first.
        after: the name of the second.
    """

    def __init__(self, before: str, after: str) -> None:
        self._versions = (before, after)
        self._pictures: dict[str, _OfPicture] = {}

    def take(
        self,
        version: str,
        picture: str,
        size_hw: tuple[int, int],
        accepted: Sequence[Region],
        found: Sequence[Region],
    ) -> None:
        """Take what a version found in a picture; other versions are left out."""
        if version not in self._versions:
            return
        truth = [one.instance for one in accepted]
        made = [one.instance for one in found]
        held = self._pictures.get(picture)
        if held is None:
            areas = [0 if one.mask is None else int(one.mask.crop.sum()) for one in truth]
            held = self._pictures[picture] = _OfPicture(size_hw, _packed(truth), areas)
        held.found[version] = _packed(made)
        held.ious[version] = [_best(one, made) for one in truth]

    def recall_by_size(self) -> dict[str, dict[str, dict[str, int]]]:
        """Of each version and each of COCO's sizes: how many objects there are, and how many of
        them are found, at an IoU of 0.5 and under their label.
        """
        made: dict[str, dict[str, dict[str, int]]] = {}
        for version in self._versions:
            counts = {name: {"objects": 0, "found": 0} for name in SIZES}
            for one in self._pictures.values():
                for area, iou in zip(one.areas, one.ious.get(version, ()), strict=False):
                    name = next(name for name, end in SIZES.items() if area < end)
                    counts[name]["objects"] += 1
                    counts[name]["found"] += iou >= FOUND
            made[version] = counts
        return made

    def write_sheet(self, path: Path, load: Callable[[str], Image]) -> None:
        """Write the pictures that became better most, then those that became worse most: accepted,
        before and after, side by side.

        Args:
            path: of a JPEG.
            load: a picture by the name it was taken under.

        Raises:
            Unavailable: the disk refuses.
        """
        gains = {name: self._gain(one) for name, one in self._pictures.items()}
        order = sorted((name for name in gains if gains[name]), key=lambda name: -gains[name])
        better = [name for name in order if gains[name] > 0][:_SHOWN]
        worse = [name for name in reversed(order) if gains[name] < 0][:_SHOWN]
        shown: list[Image] = []
        for name in (*better, *worse):
            one = self._pictures[name]
            try:
                image = load(name)
            except InputError:  # it was there a minute ago; the others are shown all the same
                continue
            sides = [one.accepted, *(one.found[version] for version in self._versions)]
            shown += [draw(image, _prediction(side, one.size_hw)) for side in sides]
        if shown:
            write_atomic(path, encode_picture(contact_sheet(shown, 3, _WIDTH)))

    def _gain(self, one: _OfPicture) -> float:
        """By how much the mean IoU of accepted objects rose; where there are none, by how much
        fewer false ones were found.
        """
        before, after = self._versions
        if before not in one.ious or after not in one.ious:
            return 0.0
        if not one.areas:
            return float(len(one.found[before]) - len(one.found[after])) / 10
        return float(np.mean(one.ious[after]) - np.mean(one.ious[before]))


def _packed(instances: Sequence[Instance]) -> list[_Drawn]:
    return [
        _Drawn(one.label, one.class_id, pack_mask(one.mask))
        for one in instances
        if one.mask is not None
    ]


def _prediction(drawn: Sequence[_Drawn], size_hw: tuple[int, int]) -> Prediction:
    masks = [unpack_mask(one.mask) for one in drawn]
    instances = [
        Instance(one.label, one.class_id, math.nan, mask_xyxy(mask).astype(np.float32), mask)
        for one, mask in zip(drawn, masks, strict=True)
    ]
    return Prediction(tuple(instances), size_hw, "")


def _best(one: Instance, found: Sequence[Instance]) -> float:
    """The IoU with the best of the same label; 0 without one."""
    if one.mask is None:
        return 0.0
    return max(
        (
            mask_iou(one.mask, other.mask)
            for other in found
            if other.mask is not None and other.label == one.label
        ),
        default=0.0,
    )
