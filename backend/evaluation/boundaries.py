"""Boundary agreement of label maps: how much of each outline lies close to the other's.

The boundary F-score is that of Csurka, Larlus, Perronnin, "What is a good evaluation measure for
semantic segmentation?", 2013, except that boundary pixels are summed over images before dividing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core import kernels
from backend.core.classes import IGNORE
from backend.core.types import LabelMap
from backend.evaluation.semantic import Counts, Ratios, as_bytes, ratio

BOUNDARY_TOLERANCE = 0.0075  # of the image diagonal; the share that MATLAB's bfscore takes


@dataclass(frozen=True, eq=False)
class Boundaries:
    """Boundary pixels per label map value: of each side, and how many lie within the tolerance of
    the other side's boundary.
    """

    truth: Counts  # (..., C)
    truth_hit: Counts  # (..., C)
    predicted: Counts  # (..., C)
    predicted_hit: Counts  # (..., C)

    @property
    def f_score(self) -> Ratios:
        """(..., C) harmonic mean of boundary precision and recall, nan where a value has no
        boundary on either side.
        """
        precision = ratio(self.predicted_hit, self.predicted)
        recall = ratio(self.truth_hit, self.truth)
        precision = np.nan_to_num(precision)
        recall = np.nan_to_num(recall)
        score = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
        return np.where(np.asarray(self.truth) + self.predicted > 0, score, np.nan)


@lru_cache(64)  # one for each size of image
def _nearby(reach: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps down and to the right to all pixels within a distance, (K,) each, the nearest first."""
    far = int(reach)
    rows, columns = np.mgrid[-far : far + 1, -far : far + 1].reshape(2, -1)
    distance = np.hypot(rows, columns)
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] <= reach]
    return np.ascontiguousarray(rows[order]), np.ascontiguousarray(columns[order])


def boundaries(
    truth: LabelMap, predicted: LabelMap, n_values: int, tolerance: float = BOUNDARY_TOLERANCE
) -> Boundaries:
    """Count boundary pixels and their hits, class by class; background has none of its own.

    A boundary pixel has a 4-neighbour of another value; the frame of the image is no boundary. A
    hit has a boundary pixel of its value on the other side within the tolerance.

    Args:
        truth: (H, W) index image; boundaries within pixels of 255, and those that touch one, are
            left out on both sides.
        predicted: (H, W) index image of the same size.
        n_values: number of classes plus one for background, at most 255.
        tolerance: share of the image diagonal; at least a pixel.

    Returns:
        The counts of this image.

    Raises:
        InputError: a value of another type than uint8 is beyond ``n_values``.

    >>> truth = np.array([[0, 1, 1, 1, 0, 0]])
    >>> found = boundaries(truth, np.array([[0, 1, 1, 1, 1, 1]]), n_values=2)
    >>> found.truth.tolist(), found.truth_hit.tolist(), found.predicted_hit.tolist()
    ([0, 2], [0, 1], [0, 1])
    >>> found.f_score.round(3).tolist()  # precision 1, recall 1/2
    [nan, 0.667]
    """
    height, width = truth.shape
    if not truth.size:
        return Boundaries(*np.zeros((4, n_values), np.int64))
    sides = [
        kernels.counting.edge_values(as_bytes(values, n_values, name))
        for values, name in ((truth, "truth"), (predicted, "prediction"))
    ]
    ignored = truth == IGNORE
    if ignored.any():
        close = cv2.dilate(ignored.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
        for edges in sides:
            edges[close] = 0
    nearby = _nearby(max(1.0, tolerance * float(np.hypot(height, width))))
    counts = []
    for edges, others in (sides, sides[::-1]):
        counts += [one[:n_values] for one in kernels.counting.near_hits(edges, others, *nearby)]
        counts[-2][0] = 0
    return Boundaries(*counts)
