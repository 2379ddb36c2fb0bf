"""Which instance is seen where several overlap, and label maps painted in that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from backend.core.classes import IGNORE
from backend.core.types import Instance, LabelMap, Mask


def painting_order(instances: Sequence[Instance]) -> list[int]:
    """Indices in the order to paint in: large objects first, and low scores first at equal size.

    So small objects and sure ones end on top.

    >>> box = np.zeros(4, np.float32)
    >>> small = Instance("cat", 0, 0.9, box, Mask(0, 0, np.ones((1, 1), np.bool_)))
    >>> large = Instance("sofa", 1, 0.9, box, Mask(0, 0, np.ones((2, 2), np.bool_)))
    >>> painting_order([small, large])
    [1, 0]
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

    >>> mask = Mask(0, 0, np.ones((1, 1), np.bool_))
    >>> found = [Instance("cat", 0, s, np.zeros(4, np.float32), mask) for s in (0.9, 0.4)]
    >>> stacking_order(found, "score"), stacking_order(found, "last")
    ([1, 0], [0, 1])
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


def paint(
    masks: Iterable[tuple[Mask, int]], size_hw: tuple[int, int], largest: int | None = None
) -> LabelMap:
    """Paint masks into one index image, later over earlier.

    Args:
        masks: pairs of mask and value, value >= 0.
        size_hw: of the image.
        largest: no value is above; with it, masks are taken one at a time.

    Returns:
        (H, W) uint8 where all values fit below 255, else uint16; unpainted pixels are 0.

    >>> row = np.ones((1, 2), np.bool_)
    >>> paint([(Mask(0, 0, row), 1), (Mask(1, 0, row), 2)], (1, 4)).tolist()
    [[1, 2, 2, 0]]
    """
    pairs = masks if largest is not None else list(masks)
    if largest is None:
        largest = max((value for _, value in pairs), default=0)
    canvas = np.zeros(size_hw, np.uint8 if largest < IGNORE else np.uint16)
    for mask, value in pairs:
        h, w = mask.crop.shape
        canvas[mask.y : mask.y + h, mask.x : mask.x + w][mask.crop] = value
    return canvas
