"""How well objects were followed through a video: region similarity J and contour accuracy F.

As the DAVIS 2017 benchmark defines them (Pont-Tuset and others, "The 2017 DAVIS challenge on video
object segmentation", 2017; Perazzi and others, "A benchmark dataset and evaluation methodology for
video object segmentation", 2016): J is the IoU of both masks, F the harmonic mean of the precision
and recall of their outlines. The first and last frame of a video do not count, as they are given to
methods that start from masks. The decay divides the frames into quarters of whole numbers; the
benchmark's own code keeps their bounds in 8 bits, and differs for videos of more than 255 frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

OUTLINE_TOLERANCE = 0.008  # of the diagonal of the picture
_GOOD = 0.5  # of a frame, which counts for the recall
_QUARTERS = 4


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Figures of one object, or their means over objects.

    Attributes:
        mean: over frames, 0..1.
        recall: share of the frames above 0.5.
        decay: mean of the first quarter of the frames less that of the last; above 0 where it gets
            worse. nan for fewer than four frames.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, kw_only=True)
class Followed:
    """How well one object was followed."""

    j: Similarity
    f: Similarity
    frames_j: tuple[float, ...]  # of all frames, the first and last included
    frames_f: tuple[float, ...]

    @property
    def j_and_f(self) -> float:
        """The benchmark's headline: the mean of both means."""
        return (self.j.mean + self.f.mean) / 2


def region_similarity(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """IoU of two masks of one frame; 1 where both are empty.

    Args:
        truth: (H, W).
        predicted: (H, W).

    >>> region_similarity(np.array([[True, True]]), np.array([[True, False]]))
    0.5
    """
    either = int(np.count_nonzero(truth | predicted))
    return int(np.count_nonzero(truth & predicted)) / either if either else 1.0


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels that differ from the one to the right, below, or both; (H, W) of 0 and 1."""
    right = np.zeros_like(mask)
    below = np.zeros_like(mask)
    both = np.zeros_like(mask)
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    both[:-1, :-1] = mask[1:, 1:]
    found = (mask ^ right) | (mask ^ below) | (mask ^ both)
    # The picture's frame is no outline.
    found[-1] = mask[-1] ^ right[-1]
    found[:, -1] = mask[:, -1] ^ below[:, -1]
    found[-1, -1] = False
    return found.astype(np.uint8)


def _disk(radius: int) -> NDArray[np.uint8]:
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(rows * rows + columns * columns <= radius * radius, np.uint8)


def contour_accuracy(
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    tolerance: float = OUTLINE_TOLERANCE,
) -> float:
    """F-score of the outlines of two masks of one frame; 1 where both are empty.

    Args:
        truth: (H, W).
        predicted: (H, W).
        tolerance: share of the diagonal that outlines may lie apart, rounded up to whole pixels.

    >>> square = np.zeros((100, 100), bool)
    >>> square[20:60, 20:60] = True
    >>> contour_accuracy(square, np.roll(square, 1, axis=1))
    1.0
    """
    ours = _outline(predicted)
    theirs = _outline(truth)
    n_ours = int(ours.sum())
    n_theirs = int(theirs.sum())
    if not n_ours or not n_theirs:
        return float(n_ours == n_theirs)
    disk = _disk(math.ceil(tolerance * math.hypot(*truth.shape)))
    near_theirs = np.asarray(cv2.dilate(theirs, disk), np.uint8)
    near_ours = np.asarray(cv2.dilate(ours, disk), np.uint8)
    precision = int((ours & near_theirs).sum()) / n_ours
    recall = int((theirs & near_ours).sum()) / n_theirs
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def similarity(values: Sequence[float]) -> Similarity:
    """Mean, recall and decay of the frames of one object.

    Args:
        values: of the frames that count, in order.

    >>> similarity([1.0, 1.0, 0.5, 0.25])
    Similarity(mean=0.6875, recall=0.5, decay=0.625)
    """
    found = np.asarray(values, np.float64)
    if not len(found):
        return Similarity(mean=math.nan, recall=math.nan, decay=math.nan)
    decay = math.nan
    if len(found) >= _QUARTERS:
        edges = np.round(np.linspace(1, len(found), _QUARTERS + 1) + 1e-10).astype(int) - 1
        first = found[edges[0] : edges[1] + 1]
        last = found[edges[-2] : edges[-1] + 1]
        decay = float(first.mean() - last.mean())
    return Similarity(mean=float(found.mean()), recall=float((found > _GOOD).mean()), decay=decay)


def followed(
    frames: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]], *, ends_count: bool = False
) -> Followed:
    """How well one object was followed.

    Args:
        frames: of each frame the true and the predicted mask, (H, W); empty where the object is not
            seen.
        ends_count: whether the first and last frame count.

    >>> square = np.zeros((50, 50), bool)
    >>> square[10:30, 10:30] = True
    >>> followed([(square, square)] * 3).j_and_f
    1.0
    """
    pairs = [
        (region_similarity(true, found), contour_accuracy(true, found)) for true, found in frames
    ]
    counted = pairs if ends_count else pairs[1:-1]
    return Followed(
        j=similarity([j for j, _ in counted]),
        f=similarity([f for _, f in counted]),
        frames_j=tuple(j for j, _ in pairs),
        frames_f=tuple(f for _, f in pairs),
    )
