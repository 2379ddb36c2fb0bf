"""Boxes that show what a mask shows already."""

from __future__ import annotations

from collections.abc import Sequence

from backend.core.boxes import box_iou
from backend.evaluation.pairs import Region

_SAME_BOX = 0.5  # overlap of boxes from which a rectangle shows what a mask shows


def repeats(regions: Sequence[Region], without: set[int]) -> dict[int, str]:
    """Boxes that show the same object as a mask of the same label.

    A project with a tag for masks and one for boxes holds every object twice. Each mask takes at
    most one box, the one that fits best; a second box there is an object of its own.

    Returns:
        Index of the box to the id of its mask.

    >>> import numpy as np
    >>> from backend.core.types import Instance
    >>> cat = Instance("cat", 0, 0.9, np.array([0, 0, 4, 4], np.float32))
    >>> mask = Region(key="a", instance=cat)
    >>> box = Region(key="b", instance=cat, is_box=True)
    >>> repeats([mask, box], without=set())
    {1: 'a'}
    """
    places = [one.instance.xyxy.tolist() for one in regions]
    pairs = [
        (box_iou(places[b], places[m]), b, m)
        for b, box in enumerate(regions)
        for m, other in enumerate(regions)
        if box.is_box
        and not other.is_box
        and b not in without
        and box.instance.label == other.instance.label
    ]
    found: dict[int, str] = {}
    taken: set[int] = set()
    for overlap, b, m in sorted(pairs, key=lambda pair: -pair[0]):
        if overlap >= _SAME_BOX and b not in found and m not in taken:
            found[b] = regions[m].key or ""
            taken.add(m)
    return found
