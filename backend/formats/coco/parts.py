"""The parts of an instance, for formats that hold an instance as one mask.

They are kept beside the mask, so that labelme and label maps get back what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from backend.core.masks import common_pixels, join_masks, mask_difference
from backend.errors import InputError
from backend.formats.coco import segmentation as coco
from backend.formats.sample import DatasetInstance, Part

DRAWN = "drawn"  # key of an instance's extras


def _matters(instances: Sequence[DatasetInstance]) -> bool:
    """True if one mask per instance would lose notes on a part, or the place of a part that is
    drawn over another instance.
    """
    for one in (one for one in instances if len(one.parts) > 1):
        if any(part.notes is not None for part in one.parts):
            return True
        first = min(part.order for part in one.parts)
        others = [part for other in instances if other is not one for part in other.parts]
        if any(
            first < other.order < part.order and common_pixels(part.mask, other.mask)
            for part in one.parts
            for other in others
        ):
            return True
    return False


def keep(instances: Sequence[DatasetInstance], size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """What ``restore`` needs, for every instance of an image.

    Empty where one mask for each instance loses nothing.

    Args:
        instances: in any order.
        size_hw: of the image.

    >>> import numpy as np
    >>> from backend.core.types import Mask
    >>> masks = [Mask(x, 0, np.ones((1, 1), np.bool_)) for x in (0, 2)]
    >>> cat = DatasetInstance("cat", (Part(masks[0], 0, notes={}), Part(masks[1], 1)))
    >>> [part["mask"]["counts"] for part in keep([cat], (1, 3))[0][DRAWN]]
    ['012', '21']
    """
    if not _matters(instances):
        return [{}] * len(instances)
    return [
        {DRAWN: [_part(part, size_hw, len(one.parts) > 1) for part in one.parts]}
        for one in instances
    ]


def _part(part: Part, size_hw: tuple[int, int], is_piece: bool) -> dict[str, Any]:
    mask = {"mask": coco.encode_segmentation(part.mask, size_hw)} if is_piece else {}
    return {
        "order": part.order,
        **mask,
        **({"notes": dict(part.notes)} if part.notes is not None else {}),
    }


def restore(
    found: Sequence[tuple[DatasetInstance, object]], size_hw: tuple[int, int] | None
) -> tuple[DatasetInstance, ...]:
    """Instances with their parts as they were drawn.

    An instance whose mask was changed since stays in one part.

    Args:
        found: instances in one part, in drawing order, and what was kept with each, which may be
            anything.
        size_hw: of the image.

    >>> import numpy as np
    >>> from backend.core.types import Mask
    >>> left, right = (Part(Mask(x, 0, np.ones((1, 1), np.bool_)), x, notes={}) for x in (0, 2))
    >>> cat = DatasetInstance("cat", (left, right))
    >>> kept = keep([cat], (1, 3))[0][DRAWN]
    >>> [one] = restore([(DatasetInstance("cat", (Part(cat.mask, 0),)), kept)], (1, 3))
    >>> [part.order for part in one.parts]
    [0, 2]
    """
    parts = [
        _parts_of(instance, kept, size_hw) if size_hw is not None else None
        for instance, kept in found
    ]
    beyond = max(
        (part.order + 1 for known in parts if known is not None for part in known), default=0
    )  # what is new lies on top
    return tuple(
        replace(
            instance,
            parts=(
                known
                if known is not None
                else tuple(part.at(part.order + beyond) for part in instance.parts)
            ),
        )
        for (instance, _), known in zip(found, parts, strict=True)
    )


def _parts_of(
    instance: DatasetInstance, kept: object, size_hw: tuple[int, int]
) -> tuple[Part, ...] | None:
    if (
        not isinstance(kept, list)
        or not kept
        or not all(isinstance(one, dict) and type(one.get("order")) is int for one in kept)
    ):
        return None
    parts = []
    for one in kept:
        try:
            mask = (
                coco.decode_segmentation(one["mask"], size_hw) if len(kept) > 1 else instance.mask
            )
        except (InputError, KeyError):
            return None
        notes = one.get("notes")
        if mask is None or not isinstance(notes, dict | None):
            return None
        parts.append(
            Part(mask, one["order"], notes=None if notes is None else {"score": None, **notes})
        )
    return (
        tuple(parts)
        if not mask_difference(instance.mask, join_masks([part.mask for part in parts]))
        else None
    )
