"""Boundary agreement of label maps: how much of each outline lies close to the other's.

The boundary F-score is that of Csurka, Larlus, Perronnin, "What is a good evaluation measure for
semantic segmentation?", 2013, except that boundary pixels are summed over images before dividing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.classes import IGNORE
from backend.core.types import LabelMap
from backend.evaluation.semantic import Counts, Ratios, ratio

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


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels of a mask with a 4-neighbour outside of it; the frame of the image is no edge."""
    grey = inside.view(np.uint8)
    inner = cv2.erode(
        grey, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(grey - inner, np.uint8)


def boundaries(
    truth: LabelMap,
    predicted: LabelMap,
    n_values: int,
    tolerance: float = BOUNDARY_TOLERANCE,
    occurring: Iterable[int] | None = None,
) -> Boundaries:
    """Count boundary pixels and their hits, class by class; background has none of its own.

    Args:
        truth: (H, W) index image; boundaries within pixels of 255, and those that touch one, are
            left out on both sides.
        predicted: (H, W) index image of the same size.
        n_values: number of classes plus one for background.
        tolerance: share of the image diagonal; at least a pixel.
        occurring: values that may occur, where that is known; looking for others takes time.

    Returns:
        The counts of this image.

    >>> truth = np.array([[0, 1, 1, 1, 0, 0]])
    >>> found = boundaries(truth, np.array([[0, 1, 1, 1, 1, 1]]), n_values=2)
    >>> found.truth.tolist(), found.truth_hit.tolist(), found.predicted_hit.tolist()
    ([0, 2], [0, 1], [0, 1])
    >>> found.f_score.round(3).tolist()  # precision 1, recall 1/2
    [nan, 0.667]
    """
    height, width = truth.shape
    reach = max(1.0, tolerance * float(np.hypot(height, width)))
    counts = np.zeros((4, n_values), np.int64)
    if not truth.size:
        return Boundaries(*counts)
    valid: NDArray[np.uint8] = np.asarray(
        cv2.erode(
            (truth != IGNORE).view(np.uint8),
            np.ones((3, 3), np.uint8),
            borderType=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )
    margin = int(np.ceil(reach)) + 2
    for value in range(1, n_values) if occurring is None else occurring:
        if value == 0:
            continue
        either = (truth == value) | (predicted == value)
        x, y, w, h = cv2.boundingRect(either.view(np.uint8))
        if not w:
            continue
        window = (
            slice(max(0, y - margin), y + h + margin),
            slice(max(0, x - margin), x + w + margin),
        )
        edges = [
            _edge(np.ascontiguousarray(one[window] == value)) & valid[window]
            for one in (truth, predicted)
        ]
        same = np.array_equal(edges[0], edges[1])  # as most accepted masks are what was predicted
        for side in (0, 1):
            counts[2 * side, value] = np.count_nonzero(edges[side])
            if same:
                counts[2 * side + 1, value] = counts[2 * side, value]
            elif edges[0].any() and edges[1].any():
                near = (
                    cv2.distanceTransform(1 - edges[1 - side], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                    <= reach
                )
                counts[2 * side + 1, value] = np.count_nonzero(edges[side] & near)
    return Boundaries(*counts)
