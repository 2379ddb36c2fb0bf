"""Which instance is seen where several overlap, and label maps painted in that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.classes import IGNORE
from backend.core.masks import mask_from_full, mask_xyxy
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
    areas = [-1 if i.mask is None else i.mask.area for i in instances]
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
        (k, instance.score, instance.mask.area)
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
        (H, W) uint8 where all values fit below 255, else uint16 or uint32; unpainted pixels are 0.

    >>> row = np.ones((1, 2), np.bool_)
    >>> paint([(Mask(0, 0, row), 1), (Mask(1, 0, row), 2)], (1, 4)).tolist()
    [[1, 2, 2, 0]]
    """
    pairs = masks if largest is not None else list(masks)
    if largest is None:
        largest = max((value for _, value in pairs), default=0)
    wide = np.uint16 if largest < 1 << 16 else np.uint32
    canvas = np.zeros(size_hw, np.uint8 if largest < IGNORE else wide)
    for mask, value in pairs:
        h, w = mask.crop.shape
        canvas[mask.y : mask.y + h, mask.x : mask.x + w][mask.crop] = value
    return canvas


FLAT_ORDERS = ("predicted-iou", "stability", "smallest")


def flattened(
    instances: Sequence[Instance], size_hw: tuple[int, int], order: str = "predicted-iou"
) -> tuple[list[Instance], Mask | None]:
    """Instances of which no two share a pixel.

    Args:
        instances: of one image; those without a mask are left out.
        size_hw: of the image.
        order: of ``FLAT_ORDERS``: a pixel belongs to the mask with the highest predicted IoU or
            stability, or to the smallest. Masks that a detector found have no stability, and go
            before all that have one.

    Returns:
        Those that have pixels left, in the order they came in, and what none of them covers.

    >>> box = np.zeros(4, np.float32)
    >>> row = np.ones((1, 3), np.bool_)
    >>> sure = Instance("cat", 0, 0.5, box, Mask(1, 0, row), quality=0.9)
    >>> other = Instance("dog", 1, 0.9, box, Mask(0, 0, row), quality=0.8)
    >>> flat, rest = flattened([sure, other], size_hw=(1, 5))
    >>> [(one.label, one.mask.x, one.mask.crop.shape[1]) for one in flat], rest.x
    ([('cat', 1, 3), ('dog', 0, 1)], 4)
    """
    with_mask = [(one, one.mask) for one in instances if one.mask is not None]

    def rank(k: int) -> float:
        one, mask = with_mask[k]
        if order == "smallest":
            return -float(mask.area)
        value = one.quality if order == "predicted-iou" else one.stability
        return np.inf if value is None else value

    # The first of equals stays on top, as it is the better one.
    ranked = sorted(range(len(with_mask)), key=lambda k: (rank(k), -k))
    seen = paint(((with_mask[k][1], k + 1) for k in ranked), size_hw, largest=len(with_mask))
    flat = []
    for k, (one, mask) in enumerate(with_mask):
        h, w = mask.crop.shape
        left = mask_from_full(seen[mask.y : mask.y + h, mask.x : mask.x + w] == k + 1)
        if left is not None:
            left = Mask(mask.x + left.x, mask.y + left.y, left.crop)
            flat.append(replace(one, mask=left, xyxy=mask_xyxy(left)))
    return flat, mask_from_full(seen == 0)


def masks_by_value(values: NDArray[np.integer[Any]]) -> list[tuple[int, Mask]]:
    """The pixels of every value but 0, in the order of values.

    Takes time in proportion to the pixels, however many values there are.

    Args:
        values: (H, W).

    >>> [(value, mask.x) for value, mask in masks_by_value(np.array([[0, 7, 7, 5]]))]
    [(5, 3), (7, 1)]
    """
    at = np.flatnonzero(values)
    if not len(at):
        return []
    keys = values.ravel()[at]
    order = np.argsort(keys, kind="stable")
    at = at[order]
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    found = []
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        rows, columns = np.divmod(at[start:end], values.shape[1])
        x = int(columns.min())
        y = int(rows[0])
        crop = np.zeros((int(rows[-1]) - y + 1, int(columns.max()) - x + 1), np.bool_)
        crop[rows - y, columns - x] = True
        found.append((int(keys[start]), Mask(x, y, crop)))
    return found
