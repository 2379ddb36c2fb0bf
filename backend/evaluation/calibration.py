"""What the scores of predicted instances are worth: calibration, and the threshold per class that
would have been best.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from backend.core.colours import hex_colour

BINS = 10


@dataclass(frozen=True, eq=False)
class Calibration:
    """Predicted instances by score, in ``BINS`` bins of equal width.

    The expected calibration error (Naeini, Cooper, Hauskrecht, 2015) is the mean distance between
    score and share of hits, weighted by the instances in each bin.
    """

    hits: NDArray[np.int64]  # (BINS,) that match a true instance at IoU 0.5
    misses: NDArray[np.int64]  # (BINS,)
    mean_scores: NDArray[np.float64]  # (BINS,) nan where a bin is empty
    error: float  # nan without instances


def calibration(scores: NDArray[np.float64], hits: NDArray[np.bool_]) -> Calibration:
    """Compare scores with how often they were right.

    Args:
        scores: (N,) 0..1.
        hits: (N,) whether the instance matched.

    >>> found = calibration(np.full(4, 0.9), np.array([True, True, True, False]))
    >>> round(found.error, 3)  # 0.9 promised, 0.75 held
    0.15
    """
    bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    n = np.bincount(bins, minlength=BINS)
    right = np.bincount(bins, hits.astype(np.float64), BINS)
    sums = np.bincount(bins, scores, BINS)
    means = np.divide(sums, n, out=np.full(BINS, np.nan), where=n > 0)
    error = float(np.abs(sums - right).sum() / n.sum()) if n.sum() else float("nan")
    return Calibration(right.astype(np.int64), n - right.astype(np.int64), means, error)


@dataclass(frozen=True)
class Suggestion:
    """The score threshold with the best F1 of one class, and what it would change."""

    label: str
    threshold: float
    f1: float  # with the threshold
    f1_now: float  # with everything that was predicted
    n_kept: int
    n_predicted: int
    n_true: int

    def as_tag(self) -> str:
        """A ``Label`` to paste into the labeling config."""
        return (
            f'<Label value={quoteattr(self.label)} background="{hex_colour(self.label)}"'
            f' model_score_threshold="{self.threshold:.10g}"/>'
        )


def suggest(
    label: str, scores: NDArray[np.float64], hits: NDArray[np.bool_], n_true: int
) -> Suggestion | None:
    """The threshold that would have given the best F1.

    Matching takes the surest predictions first, so dropping the least sure changes no match of the
    others and F1 at every threshold follows from one matching. Of equally good thresholds the
    lowest is taken: a mask too many is deleted faster than one is drawn. The threshold lies half
    way to the next lower score, rounded to what still keeps the same instances.

    Args:
        label: of the class.
        scores: (N,) of its predicted instances.
        hits: (N,) whether they matched at IoU 0.5.
        n_true: true instances of the class.

    Returns:
        None where nothing was predicted, nothing is true, or all scores are the same.

    >>> found = suggest("cat", np.array([0.9, 0.8, 0.3]), np.array([True, True, False]), n_true=2)
    >>> found.threshold, found.f1, found.f1_now
    (0.55, 1.0, 0.8)
    """
    if not len(scores) or not n_true or scores.min() == scores.max():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    right = np.cumsum(hits[order])
    f1 = 2 * right / (np.arange(1, len(ranked) + 1) + n_true)
    ends = np.flatnonzero(
        np.append(ranked[1:] != ranked[:-1], True)
    )  # a threshold cannot part equal scores
    best = ends[len(ends) - 1 - int(np.argmax(f1[ends][::-1]))]
    if best == len(ranked) - 1:
        threshold = np.floor(ranked[best] * 1e4) / 1e4
    else:
        middle = (ranked[best] + ranked[best + 1]) / 2
        threshold = next(
            (
                t
                for t in (np.round(middle, d) for d in (2, 3, 4))
                if ranked[best + 1] < t <= ranked[best]
            ),
            middle,
        )
    return Suggestion(
        label, float(threshold), float(f1[best]), float(f1[-1]), int(best) + 1, len(ranked), n_true
    )
