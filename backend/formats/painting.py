"""The instances of an image as one map, for formats in which a pixel belongs to one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from backend.core.stacking import paint
from backend.core.types import LabelMap
from backend.formats.sample import DatasetInstance


def paint_instances(
    instances: Sequence[DatasetInstance], size_hw: tuple[int, int]
) -> tuple[LabelMap, Counter[str]]:
    """Paint instances, later parts over earlier ones.

    Args:
        instances: those that are only a box are left out.
        size_hw: of the image.

    Returns:
        The place of the instance that is seen at each pixel, (H, W), from 1; 0 where there is none.
        And what of the instances others cover.

    >>> from backend.core.types import Mask
    >>> from backend.formats.sample import Part
    >>> row, dot = (Mask(0, 0, np.ones((1, width), np.bool_)) for width in (2, 1))
    >>> drawn = [DatasetInstance("sofa", (Part(row, 0),)), DatasetInstance("cat", (Part(dot, 1),))]
    >>> paint_instances(drawn, (1, 3))
    (array([[2, 1, 0]], dtype=uint8), Counter({'pixels of instances under others': 1}))
    """
    parts = sorted(
        ((part, k) for k, one in enumerate(instances, 1) for part in one.parts),
        key=lambda pair: pair[0].order,
    )
    index = paint(((part.mask, k) for part, k in parts), size_hw, largest=len(instances))
    with_mask = [one for one in instances if one.parts]
    n_pixels = sum(one.mask.area for one in with_mask)
    hidden = {
        "pixels of instances under others": n_pixels - int(np.count_nonzero(index)),
        "instances that others cover completely": len(with_mask) - len(np.unique(index[index > 0])),
    }
    return index, Counter({text: n for text, n in hidden.items() if n})
