"""How many objects masks without classes find, and how many of the masks outline one, by size.

Sizes are COCO's: small below 32 x 32 pixels, medium below 96 x 96, large above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backend.core.types import Mask
from backend.evaluation.instances import iou_matrix, match

SIZES = {"small": 32**2, "medium": 96**2, "large": np.inf}  # pixels that a size ends below


@dataclass(frozen=True)
class FoundOfSize:
    """Counts of one size: of objects and those found, of masks and those that outline one."""

    n_true: int = 0
    n_found: int = 0
    n_proposed: int = 0
    n_right: int = 0

    def __add__(self, other: FoundOfSize) -> FoundOfSize:
        return FoundOfSize(
            self.n_true + other.n_true,
            self.n_found + other.n_found,
            self.n_proposed + other.n_proposed,
            self.n_right + other.n_right,
        )

    @property
    def recall(self) -> float:
        """Share of the objects that a mask outlines; NaN without objects."""
        return self.n_found / self.n_true if self.n_true else float("nan")

    @property
    def precision(self) -> float:
        """Share of the masks that outline an object; NaN without masks."""
        return self.n_right / self.n_proposed if self.n_proposed else float("nan")


@dataclass(frozen=True)
class ProposalCounts:
    """Counts by size; counts of images add up."""

    of_size: dict[str, FoundOfSize] = field(
        default_factory=lambda: {size: FoundOfSize() for size in SIZES}
    )

    def __add__(self, other: ProposalCounts) -> ProposalCounts:
        return ProposalCounts({size: self.of_size[size] + other.of_size[size] for size in SIZES})

    @property
    def total(self) -> FoundOfSize:
        """Of all sizes together."""
        return sum(self.of_size.values(), FoundOfSize())


def _size(mask: Mask) -> str:
    area = mask.area
    return next(size for size, limit in SIZES.items() if area < limit)


def matches(
    masks: Sequence[Mask], scores: NDArray[np.floating], truth: Sequence[Mask], least_iou: float
) -> NDArray[np.intp]:
    """Which object each mask outlines, the best masks first, each object by one mask.

    Args:
        masks: proposals of an image.
        scores: (N,) of them.
        truth: the objects of the image.
        least_iou: of a mask that outlines an object, 0..1.

    Returns:
        (N,) index of the object, -1 for none.
    """
    iou = iou_matrix(masks, truth)
    return match(iou, np.asarray(scores, np.float64), np.ones(iou.shape, np.bool_), least_iou)


def count_proposals(
    masks: Sequence[Mask],
    scores: NDArray[np.floating],
    truth: Sequence[Mask],
    least_iou: float = 0.75,
) -> ProposalCounts:
    """Count what masks without classes find in an image.

    Objects count under their own size, and masks under theirs; see ``matches`` for the arguments.

    >>> square = Mask(0, 0, np.ones((10, 10), np.bool_))
    >>> counts = count_proposals([square, square], np.array([0.9, 0.8]), [square])
    >>> counts.total.recall, counts.total.precision  # the second finds nothing new
    (1.0, 0.5)
    """
    found = matches(masks, scores, truth, least_iou)
    of_size = {size: FoundOfSize() for size in SIZES}
    for k, mask in enumerate(truth):
        one = FoundOfSize(n_true=1, n_found=int(k in found))
        of_size[_size(mask)] += one
    for k, mask in enumerate(masks):
        one = FoundOfSize(n_proposed=1, n_right=int(found[k] >= 0))
        of_size[_size(mask)] += one
    return ProposalCounts(of_size)
