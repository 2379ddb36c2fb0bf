"""How long annotators took for a task, with pre-labels and without.

Label Studio stores the seconds that a task was open as ``lead_time`` of each annotation. A task
that was left open over lunch has hours of it, so that medians are compared, and not means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.evaluation.intervals import LEVEL, SEED

_FEW = 5  # tasks in a group, below which nothing is said of what was saved


class LeadTimes:
    """Seconds of annotations, by whether the task had a prediction."""

    def __init__(self) -> None:
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    def add(self, annotations: Sequence[Mapping[str, Any]], prelabelled: bool) -> None:
        """Add the annotations of a task.

        Args:
            annotations: that count.
            prelabelled: whether the task had a prediction.
        """
        for one in annotations:
            seconds = one.get("lead_time")
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                continue
            if math.isfinite(seconds) and seconds > 0:
                self._seconds[prelabelled].append(float(seconds))

    def document(self, hourly: float | None, resamples: int) -> dict[str, Any] | None:
        """Medians, their intervals, and what was saved; None where no annotation tells its time.

        Args:
            hourly: what an hour of an annotator costs; None for unknown.
            resamples: of the bootstrap; 0 for no intervals.
        """
        groups = {name: np.array(self._seconds[name]) for name in (True, False)}
        if not any(len(group) for group in groups.values()):
            return None
        made: dict[str, Any] = {
            "with_prelabels": _group(groups[True], resamples),
            "without_prelabels": _group(groups[False], resamples),
            "saved": None,
        }
        if min(len(group) for group in groups.values()) >= _FEW:
            made["saved"] = _saved(groups[True], groups[False], hourly, resamples)
        return made


def _drawn(group: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> Any:
    return np.median(rng.choice(group, (resamples, len(group))), axis=1)


def _interval(values: NDArray[np.float64]) -> list[float]:
    edge = 100 * (1 - LEVEL) / 2
    return [round(float(v), 3) for v in np.percentile(values, [edge, 100 - edge])]


def _group(group: NDArray[np.float64], resamples: int) -> dict[str, Any]:
    if not len(group):
        return {"annotations": 0, "median_seconds": None, "interval": None}
    rng = np.random.default_rng(SEED)
    return {
        "annotations": len(group),
        "median_seconds": round(float(np.median(group)), 3),
        "interval": _interval(_drawn(group, resamples, rng)) if resamples else None,
    }


def _saved(
    with_prelabels: NDArray[np.float64],
    without: NDArray[np.float64],
    hourly: float | None,
    resamples: int,
) -> dict[str, Any]:
    """Seconds a task by the medians, and hours of all that were annotated with pre-labels."""
    seconds = float(np.median(without) - np.median(with_prelabels))
    hours = seconds * len(with_prelabels) / 3600
    interval = None
    if resamples:
        rng = np.random.default_rng(SEED)
        ours = _drawn(with_prelabels, resamples, rng)
        interval = _interval(_drawn(without, resamples, rng) - ours)
    return {
        "seconds_a_task": round(seconds, 3),
        "interval": interval,
        "hours": round(hours, 4),
        "cost": None if hourly is None else round(hours * hourly, 2),
    }
