"""Confidence intervals by bootstrap over images: how far the figures could be off had other images
been annotated.

Percentile intervals (Efron and Tibshirani, "An introduction to the bootstrap", 1993): images are
drawn with replacement as often as there are images, with everything that belongs to one image, and
every figure is computed again from the summed counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from backend.evaluation.accumulate import Rows
from backend.evaluation.columns import COLUMNS, Table

RESAMPLES = 1000
LEVEL = 0.95
SEED = 20150608  # any; the same input gives the same report
_MOST_WEIGHTS = 4 << 20  # in one piece

Interval = tuple[float, float]


def resampled(
    rows: Rows, units: NDArray[np.int64], n_values: int, resamples: int = RESAMPLES
) -> Iterator[Table]:
    """Sums over resampled images.

    Args:
        rows: of all images.
        units: of all images, with those that have no row.
        n_values: classes and background.
        resamples: how many.

    Yields:
        (B, n_values, len(COLUMNS)) with B adding up to ``resamples``.

    >>> rows = Rows(np.array([0, 1]), np.array([1, 1]), np.ones((2, len(COLUMNS))))
    >>> [table] = resampled(rows, rows.units, n_values=2, resamples=3)
    >>> table[:, 1, 0].tolist()  # two of the two images, three times
    [2.0, 2.0, 2.0]
    """
    names = np.unique(units)
    n = len(names)
    of_row = np.searchsorted(names, rows.units)
    by_value = [np.flatnonzero(rows.values == value) for value in range(n_values)]
    rng = np.random.default_rng(SEED)
    step = max(1, min(resamples, _MOST_WEIGHTS // max(1, n, len(rows.values))))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        total = np.zeros((size, n_values, len(COLUMNS)))
        for value, at in enumerate(by_value):
            if len(at):
                total[:, value] = weights[:, of_row[at]] @ rows.counts[at]
        yield total


def intervals(
    rows: Rows,
    units: NDArray[np.int64],
    n_values: int,
    figures: Callable[[Table], Mapping[str, NDArray[np.float64]]],
    resamples: int = RESAMPLES,
) -> dict[str, NDArray[np.float64]]:
    """Intervals of every figure.

    Args:
        rows: of all images.
        units: of all images.
        n_values: classes and background.
        figures: a table with a leading axis to named figures with the same leading axis.
        resamples: how many.

    Returns:
        Name to (2, ...) lower and upper bound; nan where there are fewer than two images or a
        figure is mostly undefined.

    >>> rows = Rows(np.array([0, 1]), np.array([1, 1]), np.ones((2, len(COLUMNS))))
    >>> found = intervals(rows, rows.units, 2, lambda table: {"pixels": table[:, 1, 0]})
    >>> found["pixels"].tolist()  # the images are equal, so every resample is
    [2.0, 2.0]
    """
    if len(np.unique(units)) < 2:
        return {}
    pieces = [figures(table) for table in resampled(rows, units, n_values, resamples)]
    tail = (1 - LEVEL) / 2
    found = {}
    for name in pieces[0]:
        values = np.concatenate([piece[name] for piece in pieces])
        enough = (~np.isnan(values)).mean(0) >= LEVEL
        with np.errstate(invalid="ignore"):
            bounds = np.full((2, *values.shape[1:]), np.nan)
            flat = values.reshape(len(values), -1)
            ok = np.atleast_1d(enough).ravel()
            if ok.any():
                bounds.reshape(2, -1)[:, ok] = np.nanquantile(flat[:, ok], [tail, 1 - tail], axis=0)
        found[name] = bounds
    return found
