"""How right names are where only the surer ones are given.

The curve of selective classification: El-Yaniv and Wiener, "On the foundations of noise-free
selective classification", 2010.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The curve of N names, the surest first.

    Attributes:
        scores: (M,) descending, without repetition: what is given from this score on.
        coverage: (M,) 0..1, share of the masks that get a name.
        accuracy: (M,) 0..1, share of these names that are right.
    """

    scores: NDArray[np.float64]
    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    def accuracy_at(self, coverage: float) -> float:
        """The accuracy where at least this share of the masks gets a name; NaN without any."""
        reached = np.flatnonzero(self.coverage >= coverage - 1e-9)
        return float(self.accuracy[reached[0]]) if len(reached) else float("nan")

    def threshold_for(self, accuracy: float) -> float | None:
        """The lowest score from which on names are so accurate; None where none is."""
        reached = np.flatnonzero(self.accuracy >= accuracy)
        return float(self.scores[reached[-1]]) if len(reached) else None


def risk_coverage(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> RiskCoverage:
    """The curve of names by how sure they are.

    Args:
        scores: (N,) of the likeliest name of each mask.
        right: (N,) whether that is its class.

    >>> curve = risk_coverage(np.array([0.9, 0.8, 0.4]), np.array([True, True, False]))
    >>> curve.coverage.round(2).tolist(), curve.accuracy.round(2).tolist()
    ([0.33, 0.67, 1.0], [1.0, 1.0, 0.67])
    >>> curve.accuracy_at(0.5), curve.threshold_for(0.95)
    (1.0, 0.8)
    """
    order = np.argsort(-scores, kind="stable")
    ranked = np.asarray(scores, np.float64)[order]
    count = np.arange(1, len(ranked) + 1)
    # Equal scores are given together or not at all.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else count
    hits = np.cumsum(right[order])
    return RiskCoverage(ranked[ends], count[ends] / max(1, len(ranked)), hits[ends] / count[ends])
