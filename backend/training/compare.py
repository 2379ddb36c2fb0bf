"""Whether a tuned segmenter is better than its base on pictures that were held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from backend.evaluation.intervals import LEVEL, RESAMPLES, SEED

BETTER = "better"
WORSE = "worse"
NOT_SHOWN = "not shown"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure before and after.

    Attributes:
        before: of the base.
        after: of the tuned model.
        interval: of the difference, 95 % by bootstrap over pictures; None for fewer than two.
        objects: how many.
        pictures: how many.
    """

    before: float
    after: float
    interval: tuple[float, float] | None
    objects: int
    pictures: int

    @property
    def verdict(self) -> str:
        """Better or worse where the interval leaves no doubt; else it is not shown."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return NOT_SHOWN
        return BETTER if self.interval[0] > 0 else WORSE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "before": self.before,
            "after": self.after,
            "interval": None if self.interval is None else list(self.interval),
            "verdict": self.verdict,
            "objects": self.objects,
            "pictures": self.pictures,
        }


def paired_difference(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]
) -> Difference:
    """The mean over objects before and after, and the interval of its difference.

    Pictures are drawn with replacement with all their objects, the same ones before and after
    (Efron and Tibshirani, "An introduction to the bootstrap", 1993). As that is too sure of few
    pictures, the interval is widened by what Student's t asks for (Hesterberg, "What teachers
    should know about the bootstrap", 2015).

    Args:
        before: of each picture the figure of each object.
        after: of the same objects.

    >>> found = paired_difference([[0.5, 0.5], [0.5]], [[0.75, 0.75], [0.75]])
    >>> found.interval, found.verdict
    ((0.25, 0.25), 'better')
    """
    pairs = [(one, other) for one, other in zip(before, after, strict=True) if len(one)]
    sums = np.array([[len(one), sum(one), sum(other)] for one, other in pairs], np.float64)
    sums = sums.reshape(-1, 3)
    total = sums.sum(0)
    count = max(1.0, total[0])
    interval = _interval(sums) if len(sums) > 1 else None
    return Difference(
        before=float(total[1] / count),
        after=float(total[2] / count),
        interval=interval,
        objects=int(total[0]),
        pictures=len(sums),
    )


def _interval(sums: NDArray[np.float64]) -> tuple[float, float]:
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(sums), (RESAMPLES, len(sums)))
    tables = sums[drawn].sum(1)
    differences = (tables[:, 2] - tables[:, 1]) / tables[:, 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    middle = float((sums[:, 2] - sums[:, 1]).sum() / sums[:, 0].sum())
    return widened((float(low), float(high)), middle, len(sums))


def widened(interval: Sequence[float], middle: float, count: int) -> tuple[float, float]:
    """An interval by bootstrap over few pictures, as wide as Student's t asks for.

    Args:
        interval: lower and upper edge.
        middle: the figure itself.
        count: pictures, at least two.

    >>> [round(edge, 3) for edge in widened((-0.1, 0.1), 0.0, 3)]
    [-0.269, 0.269]
    """
    tail = (1 - LEVEL) / 2
    wider = math.sqrt(count / (count - 1)) * float(t.ppf(1 - tail, count - 1) / norm.ppf(1 - tail))
    return middle - wider * (middle - interval[0]), middle + wider * (interval[1] - middle)


def by_class(
    labels: Sequence[Sequence[str]],
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
) -> dict[str, Difference]:
    """A difference for each class, in the order of their names.

    Args:
        labels: of the objects of each picture.
        before: see ``paired_difference``.
        after: likewise.
    """
    found = {}
    for name in sorted({label for of_picture in labels for label in of_picture}):
        parts = [
            [
                [value for value, label in zip(values, of_picture, strict=True) if label == name]
                for values, of_picture in zip(figures, labels, strict=True)
            ]
            for figures in (before, after)
        ]
        found[name] = paired_difference(*parts)
    return found


def differences_text(every: Difference, classes: dict[str, Difference]) -> str:
    """A table for the terminal."""
    width = max([12, *(len(name) for name in classes)])
    lines = [f"{'':<{width}} {'objects':>8} {'before':>7} {'after':>7}  {'difference':<20} verdict"]
    for name, one in (("all", every), *classes.items()):
        spread = "" if one.interval is None else f"{one.interval[0]:+.3f} to {one.interval[1]:+.3f}"
        lines.append(
            f"{name:<{width}} {one.objects:>8} {one.before:>7.3f} {one.after:>7.3f}  {spread:<20}"
            f" {one.verdict}"
        )
    return "\n".join(lines)
