"""Which instance is seen where several are, and label maps painted in that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from backend.core.classes import IGNORE
from backend.core.types import Instance, LabelMap, Mask


def painting_order(instances: Sequence[Instance]) -> list[int]:
    """Indices with large objects first and, among equals, low scores first, so that small and sure
    ones end on top.
    """
    areas = [-1 if i.mask is None else int(np.count_nonzero(i.mask.crop)) for i in instances]
    return sorted(range(len(instances)), key=lambda k: (-areas[k], instances[k].score))


OVERLAPS = {
    "score": "the surer instance is seen",
    "smallest": "the smaller instance is seen",
    "last": "the instance that comes later in the prediction is seen",
}


def stacking_order(instances: Sequence[Instance], overlap: str = "score") -> list[int]:
    """Indices of the instances that have a mask, in the order to paint them in, later over earlier.

    Args:
        instances: of one image.
        overlap: of ``OVERLAPS``; equals keep their order.
    """
    with_mask = [
        (k, instance.score, np.count_nonzero(instance.mask.crop))
        for k, instance in enumerate(instances)
        if instance.mask is not None
    ]
    keys = {
        "score": lambda one: one[1],
        "smallest": lambda one: -one[2],
        "last": lambda one: one[0],
    }
    return [k for k, _, _ in sorted(with_mask, key=keys[overlap])]


def paint(masks: Iterable[tuple[Mask, int]], size_hw: tuple[int, int]) -> LabelMap:
    """Paint masks into one index image, later over earlier.

    Args:
        masks: pairs of mask and value, value >= 0.
        size_hw: of the image.

    Returns:
        (H, W) uint8 where all values fit below 255, else uint16; unpainted pixels are 0.
    """
    pairs = list(masks)
    largest = max((value for _, value in pairs), default=0)
    canvas = np.zeros(size_hw, np.uint8 if largest < IGNORE else np.uint16)
    for mask, value in pairs:
        h, w = mask.crop.shape
        canvas[mask.y : mask.y + h, mask.x : mask.x + w][mask.crop] = value
    return canvas
