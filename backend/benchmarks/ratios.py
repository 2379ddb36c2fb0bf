"""Ratios by CPU time: how two ways of doing the same are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """One measurement: ``value`` against ``goal``, at least or at most."""

    name: str
    value: float
    goal: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        """True if the goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def as_text(self) -> str:
        """One line for people."""
        sign = ">=" if self.at_least else "<="
        return (
            f"{'ok  ' if self.met else 'MISS'} {self.name:<52} {self.value:8.2f}  (goal {sign}"
            f" {self.goal:g}; {self.detail})"
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "met": self.met}


def ratio_of(
    theirs: Callable[[], object], ours: Callable[[], object], repeats: int, *, warm: bool = True
) -> tuple[float, float, float]:
    """Median of the paired CPU time ratios, and both medians in milliseconds.

    Args:
        theirs: their way.
        ours: our way.
        repeats: pairs.
        warm: whether theirs is run once before; without, its first run is the one that counts.
    """

    def spent(work: Callable[[], object], times: int) -> float:
        start = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - start) / times

    if warm:
        spent(theirs, 1)
    spent(ours, 1)  # compiled loops are loaded
    once = max(spent(ours, 2), 1e-6)
    times = max(1, int(0.03 / once))  # long enough for the clock
    pairs = [(spent(theirs, 1), spent(ours, times)) for _ in range(repeats)]
    return (
        statistics.median(a / b for a, b in pairs),
        1e3 * statistics.median(a for a, _ in pairs),
        1e3 * statistics.median(b for _, b in pairs),
    )


def _mean_row(name: str, ratios: Sequence[float], goal: float) -> Measurement:
    mean = float(np.exp(np.mean(np.log(ratios))))
    return Measurement(
        f"{name}, geometric mean of {len(ratios)}",
        mean,
        goal,
        True,
        f"{min(ratios):.1f}x to {max(ratios):.1f}x",
    )
