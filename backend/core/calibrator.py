"""How often objects are right that models are sure of to a degree, learned from what people did
with others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 40  # objects that a curve is fitted to


@dataclass(frozen=True)
class Curve:
    """A chance as models say it, and as it turned out: both rise, 0..1."""

    said: tuple[float, ...]
    found: tuple[float, ...]

    def __call__(self, said: float) -> float:
        """The chance that is meant.

        >>> Curve((0.0, 1.0), (0.2, 0.6))(0.5)
        0.4
        """
        return float(np.interp(said, self.said, self.found))


@dataclass(frozen=True)
class Calibrator:
    """Curves for labels with enough objects, and one for all others."""

    every: Curve
    by_label: Mapping[str, Curve] = field(default_factory=dict)

    def chance(self, label: str, said: float) -> float:
        """The chance that an object is right, 0..1."""
        return self.by_label.get(label, self.every)(said)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; see ``read_calibrator``."""
        return {
            "every": [self.every.said, self.every.found],
            "by_label": {name: [one.said, one.found] for name, one in self.by_label.items()},
        }


def read_calibrator(document: Any) -> Calibrator | None:
    """What ``as_dict`` gave; None for anything else.

    >>> made = Calibrator(Curve((0.0, 1.0), (0.1, 0.9)), {"cat": Curve((0.0, 1.0), (0.0, 0.5))})
    >>> read_calibrator(made.as_dict()) == made
    True
    >>> read_calibrator({"every": [[0, 1], [2, 3]]}) is None
    True
    """
    try:
        by_label = {str(name): _curve(one) for name, one in document["by_label"].items()}
        return Calibrator(_curve(document["every"]), by_label)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None


def _curve(pair: Any) -> Curve:
    said, found = (tuple(_number(value) for value in values) for values in pair)
    rises = all(
        np.all(np.diff(values) >= 0) and 0 <= values[0] <= values[-1] <= 1
        for values in (said, found)
        if values
    )
    if not said or len(said) != len(found) or not rises:
        raise ValueError("no curve")
    return Curve(said, found)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return float(value)


def fit_calibrator(objects: Iterable[tuple[str, float, bool]]) -> Calibrator | None:
    """Learn how often objects are right.

    Isotonic regression (Zadrozny and Elkan 2002), with a made-up object where the chance is lowest,
    which is right, and one where it is highest, which is wrong, so that nothing is certain.

    Args:
        objects: of each the label, the chance that models gave it, 0..1, and whether it was right.

    Returns:
        None where there are fewer than ``LEAST`` objects.

    >>> known = [("cat", k % 10 / 10, k % 10 > 4 and k % 3 > 0) for k in range(600)]
    >>> found = fit_calibrator(known)
    >>> round(found.chance("cat", 0.9), 2), round(found.chance("dog", 0.2), 2)
    (0.66, 0.0)
    """
    rows = list(objects)
    if len(rows) < LEAST:
        return None
    said = np.array([chance for _, chance, _ in rows])
    right = np.array([float(one) for _, _, one in rows])
    labels = np.array([label for label, _, _ in rows])
    by_label = {
        str(label): _fit(said[labels == label], right[labels == label])
        for label in np.unique(labels)
        if np.count_nonzero(labels == label) >= LEAST
    }
    return Calibrator(_fit(said, right), by_label)


def _fit(said: NDArray[np.float64], right: NDArray[np.float64]) -> Curve:
    from scipy.optimize import isotonic_regression  # a second, which each program start would take

    places, group = np.unique(np.concatenate([said, [said.min(), said.max()]]), return_inverse=True)
    values = np.concatenate([right, [1.0, 0.0]])
    counts = np.bincount(group)
    means = np.bincount(group, values) / counts
    found = isotonic_regression(means, weights=counts).x
    # Only where a step begins or ends does the curve bend.
    inner = (np.diff(found[:-1]) != 0) | (np.diff(found[1:]) != 0)
    bends = np.concatenate([[True], inner, [True]])[: len(places)]
    return Curve(tuple(places[bends].round(4).tolist()), tuple(found[bends].round(4).tolist()))
