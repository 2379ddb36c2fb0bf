"""Counts summed over images, separately for every annotator and model version.

An image adds a few rows of numbers to memory, not its pixels.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backend.evaluation.average_precision import AveragePrecision
from backend.evaluation.columns import COLUMNS, EFFORT, Table
from backend.evaluation.image_counts import Measured
from backend.evaluation.semantic import Confusion

Cell = tuple[str, str]  # annotator, model version
UNSHOWN = "annotations"  # how many of them did not begin from the prediction


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of all images as arrays."""

    units: NDArray[np.int64]  # (R,)
    values: NDArray[np.int64]  # (R,) label map value
    counts: NDArray[np.float64]  # (R, len(COLUMNS))


@dataclass(eq=False)
class Totals:
    """What one annotator and one model version add up to."""

    n_images: int = 0
    n_edited: int = 0  # pairs whose annotator began from this prediction
    confusion: Confusion = field(default_factory=lambda: Confusion(np.zeros((1, 1), np.int64)))
    precision: AveragePrecision = field(default_factory=AveragePrecision)
    relabelled: Counter[tuple[int, int]] = field(default_factory=Counter)
    unshown: Counter[str] = field(default_factory=Counter)  # edits there would have been
    units: array[int] = field(default_factory=lambda: array("q"))  # of images, one each
    begun: array[int] = field(default_factory=lambda: array("q"))  # those that began from it
    row_units: array[int] = field(default_factory=lambda: array("q"))
    row_values: array[int] = field(default_factory=lambda: array("B"))
    row_counts: array[float] = field(default_factory=lambda: array("d"))
    scores: array[float] = field(
        default_factory=lambda: array("d")
    )  # of predicted instances that have one
    score_classes: array[int] = field(default_factory=lambda: array("B"))
    score_hits: array[int] = field(default_factory=lambda: array("B"))
    classes_true: Counter[int] = field(
        default_factory=Counter
    )  # of the images whose predicted instances have scores
    n_unscored: int = 0
    unscored: bool = (
        False  # whether an image came whose predictions have no scores, were there any or none
    )

    def add(self, unit: int, measured: Measured, edited: bool, scored: bool) -> None:
        """Add an image; see ``Tally.add``."""
        self.n_images += 1
        self.n_edited += edited
        self.begun.extend([unit] * edited)
        self.confusion = grown(self.confusion, len(measured.confusion.counts)) + measured.confusion
        self.units.append(unit)
        occurs = np.flatnonzero(measured.table.any(1))
        self.row_units.extend([unit] * len(occurs))
        self.row_values.extend(occurs.tolist())
        self.row_counts.extend(measured.table[occurs].ravel().tolist())
        self.relabelled.update(measured.relabelled)
        if measured.unshown is not None:
            self.unshown[UNSHOWN] += 1
            for name, count in zip(EFFORT, measured.unshown.counts.sum(0).tolist(), strict=True):
                self.unshown[name] += int(count)
        if measured.matched is None:
            return
        found = measured.matched
        scores = np.array([i.score for i in found.predicted], np.float64)
        classes = np.array([i.class_id for i in found.predicted], np.intp)
        self.precision.add(measured.truth_classes, classes, scores, found.iou)
        if scored:
            self.classes_true.update(measured.truth_classes.tolist())
            self.scores.extend(scores.tolist())
            self.score_classes.extend(classes.tolist())
            self.score_hits.extend(found.hits50.astype(int).tolist())
        else:
            self.n_unscored += len(scores)
            self.unscored = True

    def rows(self) -> Rows:
        """What the confidence intervals are made of."""
        counts = np.array(self.row_counts, np.float64).reshape(-1, len(COLUMNS))
        return Rows(np.array(self.row_units, np.int64), np.array(self.row_values, np.int64), counts)

    def __add__(self, other: Totals) -> Totals:
        n_values = max(len(self.confusion.counts), len(other.confusion.counts))
        return Totals(
            self.n_images + other.n_images,
            self.n_edited + other.n_edited,
            grown(self.confusion, n_values) + grown(other.confusion, n_values),
            self.precision + other.precision,
            self.relabelled + other.relabelled,
            self.unshown + other.unshown,
            self.units + other.units,
            self.begun + other.begun,
            self.row_units + other.row_units,
            self.row_values + other.row_values,
            self.row_counts + other.row_counts,
            self.scores + other.scores,
            self.score_classes + other.score_classes,
            self.score_hits + other.score_hits,
            self.classes_true + other.classes_true,
            self.n_unscored + other.n_unscored,
            self.unscored or other.unscored,
        )

    def table(self, n_classes: int) -> Table:
        """The sums, (n_classes + 1, len(COLUMNS))."""
        rows = self.rows()
        total = np.zeros((n_classes + 1, len(COLUMNS)))
        np.add.at(total, rows.values, rows.counts)
        return total


def grown(confusion: Confusion, n_values: int) -> Confusion:
    """The same counts with room for at least ``n_values`` values.

    >>> grown(Confusion(np.array([[3]])), 2).counts.tolist()
    [[3, 0], [0, 0]]
    """
    more = n_values - len(confusion.counts)
    return Confusion(np.pad(confusion.counts, (0, more))) if more > 0 else confusion


class Tally:
    """Groups by annotator and model version."""

    def __init__(self) -> None:
        self.groups: dict[Cell, Totals] = {}  # each annotation once, see ``Pair.first``
        self._others: dict[Cell, Totals] = {}  # what else an annotation was compared with
        self._units: dict[str, int] = {}

    def add(
        self,
        unit: str,
        cell: Cell,
        measured: Measured,
        *,
        edited: bool = False,
        scored: bool = True,
        first: bool = True,
    ) -> None:
        """Add an image.

        Args:
            unit: names the image; several annotations of one image are resampled together.
            cell: annotator and model version.
            measured: its counts.
            edited: whether its edits count as effort.
            scored: whether its predicted instances have scores of their own.
            first: whether the pair stands for its annotation; see ``Pair.first``.
        """
        number = self._units.setdefault(unit, len(self._units))
        groups = self.groups if first else self._others
        group = groups.setdefault(cell, Totals())
        group.add(number, measured, edited, scored)

    @property
    def n_images(self) -> int:
        """Distinct images."""
        return len(self._units)

    @property
    def annotators(self) -> list[str]:
        """In order of their names."""
        return sorted({annotator for annotator, _ in (*self.groups, *self._others)})

    @property
    def model_versions(self) -> list[str]:
        """In order of their names."""
        return sorted({version for _, version in (*self.groups, *self._others)})

    def group(self, annotator: str | None = None, version: str | None = None) -> Totals:
        """The sum of the groups of an annotator and a model version; None is all of them.

        Of all versions together every annotation counts once; see ``Pair.first``.
        """
        there = self.groups.items()
        chosen = [
            group
            for cell, group in (there if version is None else (*there, *self._others.items()))
            if annotator in (None, cell[0]) and version in (None, cell[1])
        ]
        return sum(chosen[1:], chosen[0]) if chosen else Totals()
