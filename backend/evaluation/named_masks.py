"""Masks of everything against the objects of a dataset: how many objects they find, whether their
names are right, and from which probability on a name should be given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.naming import decided
from backend.core.types import ClassProbabilities, Instance, Mask, NamedProposals
from backend.evaluation.proposals import (
    SIZES,
    FoundOfSize,
    ProposalCounts,
    count_proposals,
    matches,
)
from backend.evaluation.risk_coverage import risk_coverage

LEAST_IOUS = (0.5, 0.75)  # of a mask that finds an object
_FEW = 0.8  # coverage that is told beside the full one
_MOST_POINTS = 200  # of the curve


@dataclass(frozen=True, eq=False)
class JudgedMasks:
    """The masks of one image.

    Attributes:
        counts: one for each of ``LEAST_IOUS``.
        scores: (N,) probability of each mask's likeliest class.
        right: (N,) whether that is the class of the object it outlines, at the lowest IoU.
        on_object: (N,) whether it outlines one.
        named: (N,) whether some threshold gives a name: background is not likelier, and the next
            class is not too near.
    """

    counts: tuple[ProposalCounts, ...]
    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    on_object: NDArray[np.bool_]
    named: NDArray[np.bool_]


def judge_masks(
    found: NamedProposals,
    truth: Sequence[Instance],
    dataset_class: Mapping[int, int],
    *,
    void: NDArray[np.bool_] | None = None,
    margin: float = 0.0,
) -> JudgedMasks:
    """Compare the masks of an image with its objects.

    Args:
        found: masks and what names they may have.
        truth: the objects; those without a mask do not count.
        dataset_class: the labeler's class to that of the truth; others are of no class there.
        void: (H, W), True where truth is ignored; masks that lie mostly there do not count.
        margin: by which a name must be likelier than the next, 0..1.
    """
    pairs = [(one.mask, one.class_id) for one in truth if one.mask is not None]
    objects: list[Mask] = [mask for mask, _ in pairs]
    found = _outside(found, void)
    proposals = found.proposals
    quality = proposals.predicted_iou * proposals.stability
    counts = tuple(
        count_proposals(proposals.masks, quality, objects, least) for least in LEAST_IOUS
    )
    of_object = matches(proposals.masks, quality, objects, LEAST_IOUS[0])
    shares = found.names.probabilities
    named = np.array([dataset_class.get(k, -1) for k in found.class_ids], np.int64)
    if not shares.size:
        nothing = np.zeros(len(shares), np.bool_)
        scores = np.zeros(len(shares), np.float32)
        return JudgedMasks(counts, scores, nothing, of_object >= 0, nothing)
    said = named[shares.argmax(1)]
    true = np.array([class_id for _, class_id in pairs] or [-1], np.int64)[of_object]
    right = (of_object >= 0) & (said == true)
    given = decided(found.names, 0.0, margin)[0] >= 0
    return JudgedMasks(counts, shares.max(1), right, of_object >= 0, given)


def _outside(found: NamedProposals, void: NDArray[np.bool_] | None) -> NamedProposals:
    """Masks without ignored pixels, and without those that lie mostly on such."""
    if void is None or not void.any():
        return found
    rows, masks = [], []
    for k, mask in enumerate(found.proposals.masks):
        h, w = mask.crop.shape
        left = mask.crop & ~void[mask.y : mask.y + h, mask.x : mask.x + w]
        if 2 * np.count_nonzero(left) > mask.area:
            rows.append(k)
            masks.append(Mask(mask.x, mask.y, left))
    kept = replace(found.proposals.keep(rows), masks=tuple(masks))
    index = np.array(rows, np.intp)
    names = ClassProbabilities(found.names.probabilities[index], found.names.background[index])
    return NamedProposals(kept, names, found.class_ids)


@dataclass(eq=False)
class NamedMasks:
    """The masks of a run, added image by image."""

    n_images: int = 0
    counts: list[ProposalCounts] = field(
        default_factory=lambda: [ProposalCounts() for _ in LEAST_IOUS]
    )
    parts: list[JudgedMasks] = field(default_factory=list)

    def add(self, one: JudgedMasks) -> None:
        """Count an image."""
        self.n_images += 1
        self.counts = [a + b for a, b in zip(self.counts, one.counts, strict=True)]
        self.parts.append(one)

    def document(self) -> dict[str, Any]:
        """Everything as JSON, with None where there is no number."""
        scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in self.parts)])
        nothing = np.zeros(0, np.bool_)
        right = np.concatenate([nothing, *(one.right for one in self.parts)])
        on_object = np.concatenate([nothing, *(one.on_object for one in self.parts)])
        named = np.concatenate([nothing, *(one.named for one in self.parts)])
        curve = risk_coverage(scores[on_object], right[on_object])
        step = max(1, -(-len(curve.scores) // _MOST_POINTS))
        # The last point is that of full coverage.
        shown = sorted({*range(len(curve.scores) - 1, -1, -step)})
        return {
            "images": self.n_images,
            "found": [
                {"least_iou": least, "sizes": _sizes(counts)}
                for least, counts in zip(LEAST_IOUS, self.counts, strict=True)
            ],
            "names": {
                "masks_on_objects": int(on_object.sum()),
                "accuracy": _number(curve.accuracy_at(1.0)),
                "coverage_told": _FEW,
                "accuracy_at_coverage": _number(curve.accuracy_at(_FEW)),
                "curve": [
                    {
                        "name_min": float(curve.scores[k]),
                        "coverage": float(curve.coverage[k]),
                        "accuracy": float(curve.accuracy[k]),
                    }
                    for k in shown
                ],
                "best": best_threshold(scores[named], right[named]),
            },
        }


def best_threshold(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> dict[str, Any] | None:
    """The probability from which on names should be given: most right ones less wrong ones.

    Args:
        scores: (N,) of all masks that get a name at some threshold, also of those that outline no
            object.
        right: (N,) whether the name is that of the object.

    Returns:
        ``name_min`` and what it gives; None where every threshold gives more wrong names.

    >>> best_threshold(np.array([0.9, 0.8, 0.4]), np.array([True, True, False]))
    {'name_min': 0.8, 'right': 2, 'wrong': 0}
    """
    order = np.argsort(-scores, kind="stable")
    ranked = np.asarray(scores, np.float64)[order]
    hits = np.cumsum(right[order])
    gain = 2 * hits - np.arange(1, len(ranked) + 1)
    ends = np.append(ranked[1:] != ranked[:-1], True) if len(ranked) else np.zeros(0, np.bool_)
    gain = np.where(ends, gain, -1)
    if not len(gain) or gain.max() <= 0:
        return None
    at = int(gain.argmax())
    return {
        "name_min": float(np.floor(ranked[at] * 1e4) / 1e4),  # rounded up, it would lose the last
        "right": int(hits[at]),
        "wrong": at + 1 - int(hits[at]),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _sizes(counts: ProposalCounts) -> list[dict[str, Any]]:
    def row(size: str, one: FoundOfSize) -> dict[str, Any]:
        return {
            "size": size,
            "objects": one.n_true,
            "found": one.n_found,
            "recall": _number(one.recall),
            "masks": one.n_proposed,
            "on_an_object": one.n_right,
            "precision": _number(one.precision),
        }

    return [*(row(size, counts.of_size[size]) for size in SIZES), row("all", counts.total)]
