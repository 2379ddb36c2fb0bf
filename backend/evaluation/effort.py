"""What an annotator did to the predicted regions of one image: kept, relabelled, reshaped, deleted,
added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.core.masks import common_pixels, mask_iou
from backend.core.types import Mask
from backend.evaluation.columns import EFFORT
from backend.evaluation.instances import iou_matrix, match
from backend.evaluation.pairs import Region

BARELY = 0.03  # share of pixels, below which a reshaped mask was right but for its edge
RIGHT_IOU = 0.9  # from here on nobody touches an outline
JOIN_IOU = 0.5  # regions without a common key are the same object from here on


@dataclass(frozen=True, eq=False)
class Edits:
    """Counts per class, and the relabellings as pairs of class indices."""

    counts: NDArray[np.float64]  # (n_classes, len(EFFORT))
    relabelled: tuple[tuple[int, int], ...]


def _masks(regions: Sequence[Region]) -> list[Mask]:
    return [region.instance.mask for region in regions if region.instance.mask is not None]


def join(
    predicted: Sequence[Region], accepted: Sequence[Region], least_iou: float = JOIN_IOU
) -> NDArray[np.intp]:
    """Which accepted region a predicted one became.

    Regions with the same key belong together, whatever was done to them. What is left is joined by
    overlap, first within a label, then across labels.

    Args:
        predicted: with masks.
        accepted: with masks.
        least_iou: lowest overlap for regions without a common key.

    Returns:
        (P,) index of the accepted region, -1 for none.

    >>> from backend.core.types import Instance
    >>> mask = Mask(0, 0, np.ones((1, 4), np.bool_))
    >>> cat = Instance("cat", 0, 0.9, np.zeros(4, np.float32), mask)
    >>> join([Region(key="a", instance=cat)], [Region(key="b", instance=cat)]).tolist()
    [0]
    """
    found = np.full(len(predicted), -1, np.intp)
    by_key = {region.key: k for k, region in enumerate(accepted) if region.key is not None}
    for k, region in enumerate(predicted):
        if region.key is not None:
            found[k] = by_key.pop(region.key, -1)
    open_predicted = np.flatnonzero(found < 0)
    open_accepted = np.setdiff1d(np.arange(len(accepted)), found)
    if not len(open_predicted) or not len(open_accepted):
        return found
    ours = [predicted[k] for k in open_predicted]
    theirs = [accepted[k] for k in open_accepted]
    iou = iou_matrix(_masks(ours), _masks(theirs))
    same = np.array(
        [[one.instance.label == other.instance.label for other in theirs] for one in ours]
    )
    best_first = iou.max(1)
    for allowed in (same, np.ones_like(same)):
        matched = match(iou, best_first, allowed, least_iou)
        for k in np.flatnonzero(matched >= 0):
            found[open_predicted[k]] = open_accepted[matched[k]]
            iou[k] = -1
            iou[:, matched[k]] = -1
    return found


def _same(one: Mask, other: Mask) -> bool:
    return one is other or (
        one.x == other.x and one.y == other.y and np.array_equal(one.crop, other.crop)
    )


def _changed(one: Mask, other: Mask) -> tuple[int, int]:
    """Pixels in exactly one of two masks, and in at least one."""
    total = sum(mask.area for mask in (one, other))
    common = common_pixels(one, other)
    return total - 2 * common, total - common


@dataclass(frozen=True, eq=False)
class Looked:
    """A predicted region that somebody looked at.

    Attributes:
        region: itself.
        is_found: whether it is an object of its label.
        is_right: whether nobody has to correct it: it also has nearly the same outline.
    """

    region: Region
    is_found: bool
    is_right: bool


def looked_at(
    predicted: Sequence[Region], accepted: Sequence[Region], void: Sequence[Mask] = ()
) -> list[Looked]:
    """The predicted regions that count, and what they are.

    Args:
        predicted: with masks.
        accepted: with masks.
        void: what mostly lies there is no false alarm, and does not count.

    >>> from backend.core.types import Instance
    >>> mask = Mask(0, 0, np.ones((1, 4), np.bool_))
    >>> cat = Region(key=None, instance=Instance("cat", 0, 0.9, np.zeros(4, np.float32), mask))
    >>> dog = Region(key=None, instance=Instance("dog", 1, 0.9, np.zeros(4, np.float32), mask))
    >>> [looked_at([cat], [other])[0].is_right for other in (cat, dog)]
    [True, False]
    >>> looked_at([cat], [], [mask])
    []
    """
    found = []
    for region, k in zip(predicted, join(predicted, accepted), strict=True):
        mask = region.instance.mask
        if mask is None or (k < 0 and _is_mostly_in(mask, void)):
            continue
        other = accepted[k].instance if k >= 0 else None
        is_found = other is not None and region.instance.label == other.label
        is_right = (
            is_found
            and other is not None
            and other.mask is not None
            and mask_iou(mask, other.mask) >= RIGHT_IOU
        )
        found.append(Looked(region, is_found, is_right))
    return found


def _is_mostly_in(mask: Mask, void: Sequence[Mask]) -> bool:
    common = sum(common_pixels(mask, one) for one in void)
    return 2 * common > mask.area


def edits(predicted: Sequence[Region], accepted: Sequence[Region], n_classes: int) -> Edits:
    """Compare the regions of one image.

    Args:
        predicted: with tight masks.
        accepted: with tight masks.
        n_classes: class indices lie below.

    Returns:
        The counts by predicted class; added regions by their own.

    >>> from backend.core.types import Instance
    >>> mask = Mask(0, 0, np.ones((1, 4), np.bool_))
    >>> cat = Instance("cat", 0, 0.9, np.zeros(4, np.float32), mask)
    >>> dog = Instance("dog", 1, 0.9, np.zeros(4, np.float32), mask)
    >>> before, after = Region(key="a", instance=cat), Region(key="a", instance=dog)
    >>> edits([before], [after], n_classes=2).relabelled
    ((0, 1),)
    """
    counts = np.zeros((n_classes, len(EFFORT)))
    at = {name: k for k, name in enumerate(EFFORT)}
    relabelled: list[tuple[int, int]] = []
    found = join(predicted, accepted)
    for region, k in zip(predicted, found, strict=True):
        row = counts[region.instance.class_id]
        if k < 0:
            row[at["deleted"]] += 1
            continue
        one = region.instance
        other = accepted[k].instance
        if one.mask is None or other.mask is None:
            continue
        shape = _same(one.mask, other.mask)
        label = one.label == other.label
        row[
            at[
                (
                    "untouched"
                    if shape and label
                    else (
                        "relabelled"
                        if shape
                        else "reshaped"
                        if label
                        else "relabelled_and_reshaped"
                    )
                )
            ]
        ] += 1
        if not label:
            relabelled.append((one.class_id, other.class_id))
        if not shape:
            changed, either = _changed(one.mask, other.mask)
            row[at["changed_pixels"]] += changed
            row[at["edited_pixels"]] += either
            row[at["barely_touched"]] += changed < BARELY * either
    for k in np.setdiff1d(np.arange(len(accepted)), found):
        counts[accepted[k].instance.class_id, at["added"]] += 1
    return Edits(counts, tuple(relabelled))
