"""The integer counts of one image and class that every figure comes from, as columns of one table.

The table has a row for each image and class. Rows can be added up, and a resample of images is a
weighted sum of rows. So totals, groups and confidence intervals come from the same formulas: those
of ``semantic``, ``boundaries`` and ``instances``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.evaluation.boundaries import Boundaries
from backend.evaluation.instances import InstanceCounts
from backend.evaluation.semantic import Areas, Ratios, ratio

Table = NDArray[np.float64]  # (..., C, len(COLUMNS)); C counts background, which has no instances

AREAS = ("pixels_hit", "pixels_true", "pixels_predicted")
BOUNDARIES = ("edge_true", "edge_true_hit", "edge_predicted", "edge_predicted_hit")
INSTANCES = ("true", "predicted", "hit50", "hit75", "iou_sum", "hit_above50")
EFFORT = (
    "untouched",
    "relabelled",
    "reshaped",
    "relabelled_and_reshaped",
    "deleted",
    "added",
    "barely_touched",
    "changed_pixels",
    "edited_pixels",
)
COLUMNS = (*AREAS, *BOUNDARIES, *INSTANCES, *EFFORT)
_AT = {name: k for k, name in enumerate(COLUMNS)}


def column(table: Table, name: str) -> NDArray[np.float64]:
    """(..., C) one column.

    >>> table = np.zeros((2, len(COLUMNS)))
    >>> table[1, COLUMNS.index("pixels_true")] = 7
    >>> column(table, "pixels_true").tolist()
    [0.0, 7.0]
    """
    return table[..., _AT[name]]


def areas(table: Table) -> Areas:
    """Pixels per value, background first.

    >>> table = np.zeros((2, len(COLUMNS)))
    >>> table[1, :3] = 2, 3, 4  # pixels hit, true, predicted
    >>> areas(table).iou.tolist()
    [nan, 0.4]
    """
    return Areas(*(column(table, name) for name in AREAS))


def edges(table: Table) -> Boundaries:
    """Boundary pixels per value, background first.

    >>> table = np.zeros((2, len(COLUMNS)))
    >>> table[1, 3:7] = 4, 4, 4, 2  # all true edges were hit, half of the predicted ones
    >>> edges(table).f_score.round(3).tolist()
    [nan, 0.667]
    """
    return Boundaries(*(column(table, name) for name in BOUNDARIES))


def instances(table: Table) -> InstanceCounts:
    """Instances per class, without background.

    >>> table = np.zeros((2, len(COLUMNS)))
    >>> table[1, 7:10] = 4, 3, 2  # true, predicted, matched
    >>> instances(table).recall().tolist()
    [0.5]
    """
    return InstanceCounts(*(column(table, name)[..., 1:] for name in INSTANCES))


@dataclass(frozen=True, eq=False)
class Effort:
    """What became of predicted regions, by predicted class (added ones by their own).

    Leading axes as in the table.

    Each predicted region is exactly one of untouched, relabelled, reshaped, both, and deleted.
    """

    untouched: NDArray[np.float64]
    relabelled: NDArray[np.float64]
    reshaped: NDArray[np.float64]
    relabelled_and_reshaped: NDArray[np.float64]
    deleted: NDArray[np.float64]
    added: NDArray[np.float64]
    barely_touched: NDArray[np.float64]  # of the reshaped, those with little changed
    changed_pixels: NDArray[np.float64]  # in one of both masks only, over the reshaped
    edited_pixels: NDArray[np.float64]  # in either mask, over the reshaped

    @property
    def predicted(self) -> NDArray[np.float64]:
        """All predicted regions."""
        return (
            self.untouched
            + self.relabelled
            + self.reshaped
            + self.relabelled_and_reshaped
            + self.deleted
        )

    @property
    def untouched_share(self) -> Ratios:
        """Share of predicted regions that were accepted as they were."""
        return ratio(self.untouched, self.predicted)

    @property
    def changed_share(self) -> Ratios:
        """Of the reshaped regions: pixels in one of both masks only, over the pixels in either."""
        return ratio(self.changed_pixels, self.edited_pixels)


def effort(table: Table) -> Effort:
    """Edits per class, without background.

    >>> table = np.zeros((2, len(COLUMNS)))
    >>> table[1, COLUMNS.index("untouched")], table[1, COLUMNS.index("deleted")] = 3, 1
    >>> effort(table).untouched_share.tolist()
    [0.75]
    """
    return Effort(*(column(table, name)[..., 1:] for name in EFFORT))


def total_effort(table: Table) -> Effort:
    """Edits over all classes together.

    >>> table = np.zeros((3, len(COLUMNS)))
    >>> table[1:, COLUMNS.index("untouched")] = 2, 3
    >>> float(total_effort(table).untouched)
    5.0
    """
    return Effort(*(column(table, name)[..., 1:].sum(-1) for name in EFFORT))
