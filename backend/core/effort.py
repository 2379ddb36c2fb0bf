"""How much an annotator will have to correct in a prediction, by what its models say of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backend.core.boxes import box_iou
from backend.core.types import Instance

NOTHING_FOUND = 1.0  # corrections in a picture where nothing was found: something may be missed


def expected_effort(instances: Sequence[Instance]) -> float:
    """The expected number of objects to correct: of each, the chance that it is not right.

    It is right when the detector is, the mask is, and both mean the same: one less the product of
    the detection score, the mask's quality, and the IoU of the detector's box with that of the
    mask. Where accepted pictures showed how often such an object is right, that counts.

    Args:
        instances: of one image.

    >>> import numpy as np
    >>> box = np.array([0, 0, 4, 4], np.float32)
    >>> sure, unsure = Instance("cat", 0, 1.0, box), Instance("cat", 0, 0.5, box, quality=0.5)
    >>> expected_effort([sure, unsure])
    0.75
    """
    return effort_of(chance_of_right(one) for one in instances)


def chance_of_right(one: Instance) -> float:
    """The chance that nobody has to correct an object, 0..1: as it turned out for others, where
    that is known, else as its models say.
    """
    if one.chance is not None:
        return one.chance
    agreement = 1.0
    if (mask := one.mask) is not None:
        h, w = mask.crop.shape
        agreement = box_iou(one.xyxy.tolist(), (mask.x, mask.y, mask.x + w, mask.y + h))
    quality = 1.0 if one.quality is None else one.quality
    return min(1.0, max(0.0, one.score * quality * agreement))


def effort_of(chances: Iterable[float]) -> float:
    """The expected number of corrections, by the chance of each object that it is right.

    >>> effort_of([0.75, 0.5])
    0.75
    >>> effort_of([])
    1.0
    """
    known = list(chances)
    return sum(1 - chance for chance in known) if known else NOTHING_FOUND
