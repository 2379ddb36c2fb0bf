"""Two model versions on the same images, side by side: what differs, and what could be chance.

An annotation that began from one of them speaks for that one: what its annotator accepted as it was
counts as perfect. So images whose annotations began from neither are compared where there are
enough, and else what speaks for the version that more began from is no verdict.

Both are resampled with the same draws of images, so that what is hard about an image counts for
both (paired bootstrap; Efron and Tibshirani, "An introduction to the bootstrap", 1993).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.errors import ConfigError
from backend.evaluation.accumulate import Rows, Tally
from backend.evaluation.columns import COLUMNS, Table, areas
from backend.evaluation.intervals import LEVEL, RESAMPLES, resampled
from backend.evaluation.summary import headline
from backend.evaluation.versions import is_meant

_ENOUGH = 10  # images whose annotations began from neither version
FAVOURED = "favoured"

FIGURES = (
    "mean_iou",
    "mean_iou_without_background",
    "pixel_accuracy",
    "boundary_f",
    "precision_50",
    "recall_50",
    "f1_50",
    "f1_75",
    "panoptic_quality",
    "untouched_share",
)


def chosen_version(tally: Tally, asked: str) -> str:
    """The model version that a name means: the version itself, or its only one with such a
    beginning or end.

    Raises:
        ConfigError: none, or several.
    """
    known = tally.model_versions
    if asked in known:
        return asked
    found = [one for one in known if is_meant(asked, one)]
    if len(found) == 1:
        return found[0]
    told = "there are" if not found else "it could be"
    raise ConfigError(f"--compare {asked}: {told} {', '.join(found or known) or 'none'}")


def _restricted(rows: Rows, units: NDArray[np.int64]) -> Rows:
    kept = np.isin(rows.units, units)
    return Rows(rows.units[kept], rows.values[kept], rows.counts[kept])


def _sums(rows: Rows, n_values: int) -> Table:
    total = np.zeros((n_values, len(COLUMNS)))
    np.add.at(total, rows.values, rows.counts)
    return total


def _figures(table: Table) -> dict[str, NDArray[np.float64]]:
    found = headline(table)
    return {
        **{name: found[name] for name in FIGURES},
        "iou_by_class": areas(table).iou,
    }


def compare_versions(
    tally: Tally, names: Sequence[str], asked: tuple[str, str], resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Figures of two versions over the images that both have, and their differences.

    Args:
        tally: of everything.
        names: of the classes.
        asked: two versions; see ``chosen_version``.
        resamples: of the bootstrap; 0 for no intervals.

    Raises:
        ConfigError: no such version, or no image with both.
    """
    versions = tuple(chosen_version(tally, one) for one in asked)
    sides = [tally.group(None, one) for one in versions]
    first, second = (np.unique(np.array(one.units, np.int64)) for one in sides)
    units = np.intersect1d(first, second)
    if not len(units):
        raise ConfigError(f"--compare: no image has predictions of both {' and '.join(versions)}")
    begun = [np.intersect1d(np.array(one.begun, np.int64), units) for one in sides]
    neutral = np.setdiff1d(units, np.concatenate(begun))
    if len(neutral) >= _ENOUGH:
        units = neutral
    lead = 0 if len(units) == len(neutral) else len(begun[1]) - len(begun[0])
    n_values = len(names) + 1
    rows = [_restricted(one.rows(), units) for one in sides]
    values = [_figures(_sums(one, n_values)) for one in rows]
    spread: dict[str, NDArray[np.float64]] = {}
    if resamples and len(units) > 1:
        drawn = [
            [_figures(table) for table in resampled(one, units, n_values, resamples)]
            for one in rows
        ]
        for name in values[0]:
            ours, theirs = (np.concatenate([piece[name] for piece in side]) for side in drawn)
            edge = 100 * (1 - LEVEL) / 2
            # A class that a resample lacks has no figure in it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                spread[name] = np.nanpercentile(theirs - ours, [edge, 100 - edge], axis=0)
    rows_made = [fair(_row(name, values, spread), lead) for name in FIGURES]
    classes = ["background", *names]
    by_class = [
        fair(_row("iou_by_class", values, spread, k, name), lead) for k, name in enumerate(classes)
    ]
    return {
        "versions": list(versions),
        "images": len(units),
        "began_from": [len(one) for one in begun],
        "neutral": len(units) == len(neutral),
        "left_out": [int(len(set(one.units)) - len(units)) for one in sides],
        "figures": rows_made,
        "iou_by_class": [row for row in by_class if row["first"] is not None or row["second"]],
    }


def fair(row: dict[str, Any], lead: int) -> dict[str, Any]:
    """A row without a verdict for the version that more annotations began from.

    Args:
        row: see ``judged``.
        lead: above 0 where that is the second version, below 0 the first.

    >>> fair({"verdict": "better"}, 3)["verdict"], fair({"verdict": "worse"}, 3)["verdict"]
    ('favoured', 'worse')
    """
    spoken_for = "better" if lead > 0 else "worse"
    return {**row, "verdict": FAVOURED} if lead and row["verdict"] == spoken_for else row


def _row(
    name: str,
    values: Sequence[Mapping[str, NDArray[np.float64]]],
    spread: Mapping[str, NDArray[np.float64]],
    at: int | None = None,
    called: str | None = None,
) -> dict[str, Any]:
    first, second = (float(side[name]) if at is None else float(side[name][at]) for side in values)
    interval = None
    if name in spread:
        bounds = spread[name] if at is None else spread[name][:, at]
        interval = None if np.isnan(bounds).any() else [float(v) for v in bounds]
    return judged(called or name, first, second, interval)


def judged(
    name: str, first: float, second: float, interval: Sequence[float] | None
) -> dict[str, Any]:
    """A row of a comparison: two figures, nan where there is none, and what can be said of them.

    >>> judged("mean_iou", 0.5, 0.75, [0.125, 0.375])["verdict"]
    'better'
    """
    if interval is not None:
        interval = [round(edge, 6) for edge in interval]
    difference = second - first
    verdict = "could be chance"
    if interval is None or np.isnan(difference):
        verdict = "unknown"
    elif interval[0] > 0 or interval[1] < 0:
        verdict = "better" if difference > 0 else "worse"
    elif difference == 0 and interval == [0.0, 0.0]:
        verdict = "the same"
    plain = [None if np.isnan(v) else round(v, 6) for v in (first, second, difference)]
    return {
        "name": name,
        "first": plain[0],
        "second": plain[1],
        "difference": plain[2],
        "interval": interval,
        "verdict": verdict,
    }
