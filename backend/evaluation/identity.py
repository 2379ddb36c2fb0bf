"""Whether objects keep their identity through a video: HOTA, IDF1 and switches.

HOTA is that of Luiten and others, "HOTA: A higher order metric for evaluating multi-object
tracking" (2020): for each of 19 thresholds of overlap the geometric mean of how well objects are
found (DetA) and how well they are joined (AssA), and their mean. IDF1 is that of Ristani and others
(2016), and switches are those of CLEAR MOT (Bernardin and Stiefelhagen, 2008), at an overlap of
0.5. Masks are compared, whatever their classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.core.masks import mask_iou
from backend.core.tracks import TrackedVideo

S = TypeVar("S")  # a shape: a mask or a box
ALPHAS = np.arange(0.05, 0.99, 0.05)  # thresholds of overlap
_MATCH = 0.5  # overlap from which on IDF1 and switches take two masks as the same object
_CONTINUES = 1000.0  # what going on with the same track is worth against any overlap
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """One frame of a video.

    Attributes:
        truth: (R,) numbers of the true tracks that are seen, from 0 on.
        found: (C,) numbers of the found tracks that are seen.
        iou: (R, C) of their masks.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    iou: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class IdentityCounts:
    """What identity figures are made of; the counts of several videos add up.

    Attributes:
        matches: (19,) pairs of masks that match, per threshold.
        n_truth: true masks.
        n_found: found masks.
        association: (19,) sum over the matches of how well their tracks are joined, 0..1 each.
        location: (19,) sum over the matches of their overlap.
        n_identical: masks whose tracks are each other's in the best one-to-one choice.
        switches: how often a true object went on under another track.
    """

    matches: NDArray[np.float64]
    n_truth: int
    n_found: int
    association: NDArray[np.float64]
    location: NDArray[np.float64]
    n_identical: int
    switches: int

    def __add__(self, other: IdentityCounts) -> IdentityCounts:
        return IdentityCounts(
            matches=self.matches + other.matches,
            n_truth=self.n_truth + other.n_truth,
            n_found=self.n_found + other.n_found,
            association=self.association + other.association,
            location=self.location + other.location,
            n_identical=self.n_identical + other.n_identical,
            switches=self.switches + other.switches,
        )

    @property
    def figures(self) -> IdentityFigures:
        """The figures of these counts."""
        either = self.n_truth + self.n_found - self.matches
        det = self.matches / np.maximum(1, either)
        ass = self.association / np.maximum(1, self.matches)
        location = np.maximum(1e-10, self.location) / np.maximum(1e-10, self.matches)
        return IdentityFigures(
            hota=float(np.sqrt(det * ass).mean()),
            det_a=float(det.mean()),
            ass_a=float(ass.mean()),
            loc_a=float(location.mean()),
            idf1=2 * self.n_identical / max(1, self.n_truth + self.n_found),
            switches=self.switches,
        )


@dataclass(frozen=True, kw_only=True)
class IdentityFigures:
    """How well identities were kept; all but ``switches`` from 0 to 1."""

    hota: float
    det_a: float
    ass_a: float
    loc_a: float
    idf1: float
    switches: int


def overlaps_in(
    truth: Sequence[tuple[int, S]], found: Sequence[tuple[int, S]], iou: Callable[[S, S], float]
) -> Overlaps:
    """The overlap of all shapes in one frame.

    Args:
        truth: number and shape of the true tracks that are seen.
        found: likewise of the found ones.
        iou: of two shapes.
    """
    values = np.array([[iou(a, b) for _, b in found] for _, a in truth], np.float64)
    return Overlaps(
        np.array([number for number, _ in truth], np.int64),
        np.array([number for number, _ in found], np.int64),
        values.reshape(len(truth), len(found)),
    )


def overlaps_of(truth: TrackedVideo, found: TrackedVideo) -> list[Overlaps]:
    """The overlap of all masks in each frame of a video.

    Args:
        truth: the true tracks.
        found: those that were found in the same frames.
    """
    frames = []
    for frame in range(max(truth.n_frames, found.n_frames)):
        sides = []
        for video in (truth, found):
            there = [
                (place, track.seen[frame].mask)
                for place, track in enumerate(video.tracks)
                if frame in track.seen
            ]
            sides.append([(place, mask) for place, mask in there if mask is not None])
        frames.append(overlaps_in(sides[0], sides[1], mask_iou))
    return frames


def overlaps_of_maps(truth: NDArray[np.integer], found: NDArray[np.integer]) -> Overlaps:
    """The overlap of all objects of two maps of one frame.

    Args:
        truth: (H, W) numbers of the true tracks, 0 for none.
        found: (H, W) numbers of the found ones.

    >>> one = overlaps_of_maps(np.array([[1, 1, 0]]), np.array([[0, 4, 4]]))
    >>> one.truth.tolist(), one.found.tolist(), one.iou.round(2).tolist()
    ([1], [4], [[0.33]])
    """
    true_numbers, rows = np.unique(truth.ravel(), return_inverse=True)
    found_numbers, columns = np.unique(found.ravel(), return_inverse=True)
    shape = (len(true_numbers), len(found_numbers))
    both = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    both = both.reshape(shape).astype(np.float64)
    either = both.sum(1)[:, None] + both.sum(0)[None] - both
    kept = np.ix_(true_numbers > 0, found_numbers > 0)
    iou = (both / np.maximum(1, either))[kept]
    return Overlaps(
        true_numbers[true_numbers > 0].astype(np.int64),
        found_numbers[found_numbers > 0].astype(np.int64),
        iou,
    )


def count_identities(frames: Sequence[Overlaps]) -> IdentityCounts:
    """Count what happened to the identities of one video.

    >>> there = np.array([0])
    >>> same = Overlaps(there, there, np.ones((1, 1)))
    >>> figures = count_identities([same, same]).figures
    >>> figures.hota, figures.idf1, figures.switches
    (1.0, 1.0, 0)
    """
    frames, rows, columns = _in_places(frames)
    truth_count = np.zeros((rows, 1))
    found_count = np.zeros((1, columns))
    alike = np.zeros((rows, columns))
    same = np.zeros((rows, columns))
    for one in frames:
        truth_count[one.truth] += 1
        found_count[0, one.found] += 1
        at = np.ix_(one.truth, one.found)
        union = one.iou.sum(0)[None] + one.iou.sum(1)[:, None] - one.iou
        alike[at] += np.where(union > _EPS, one.iou / np.maximum(union, _EPS), 0)
        same[at] += one.iou >= _MATCH
    alignment = alike / np.maximum(_EPS, truth_count + found_count - alike)
    matches, location = _matched(frames, alignment)
    total = matches.sum((1, 2))
    joined = matches / np.maximum(1, truth_count + found_count - matches)
    return IdentityCounts(
        matches=total,
        n_truth=int(truth_count.sum()),
        n_found=int(found_count.sum()),
        association=(matches * joined).sum((1, 2)),
        location=location,
        n_identical=int(same[_best(same)].sum()),
        switches=_switches(frames, rows),
    )


def _in_places(frames: Sequence[Overlaps]) -> tuple[list[Overlaps], int, int]:
    """The same with tracks numbered from 0 on without gaps, and how many there are."""
    none = [np.zeros(0, np.int64)]
    truth = np.unique(np.concatenate([one.truth for one in frames] or none))
    found = np.unique(np.concatenate([one.found for one in frames] or none))
    placed = [
        Overlaps(np.searchsorted(truth, one.truth), np.searchsorted(found, one.found), one.iou)
        for one in frames
    ]
    return placed, len(truth), len(found)


def _best(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns, each used once, with the largest sum."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(values, maximize=True)
    return rows, columns


def _matched(
    frames: Iterable[Overlaps], alignment: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each pair of tracks matched, (19, rows, columns), and the sum of their overlaps."""
    matches = np.zeros((len(ALPHAS), *alignment.shape))
    location = np.zeros(len(ALPHAS))
    for one in frames:
        if not one.iou.size:
            continue
        rows, columns = _best(alignment[np.ix_(one.truth, one.found)] * one.iou)
        overlap = one.iou[rows, columns]
        for k, alpha in enumerate(ALPHAS):
            enough = overlap >= alpha - _EPS
            matches[k, one.truth[rows[enough]], one.found[columns[enough]]] += 1
            location[k] += overlap[enough].sum()
    return matches, location


def _switches(frames: Iterable[Overlaps], n_truth: int) -> int:
    """How often a true object is matched by another track than it was last."""
    last = np.full(n_truth, -1)  # track of each object, whenever it was matched
    before = np.full(n_truth, -1)  # in the frame before
    switches = 0
    for one in frames:
        if not one.iou.size:
            continue  # as CLEAR does: such a frame interrupts nothing
        goes_on = one.found[None] == before[one.truth][:, None]
        values = np.where(one.iou >= _MATCH - _EPS, one.iou + _CONTINUES * goes_on, 0)
        rows, columns = _best(values)
        real = values[rows, columns] > _EPS
        truth = one.truth[rows[real]]
        found = one.found[columns[real]]
        switches += int(((last[truth] >= 0) & (last[truth] != found)).sum())
        last[truth] = found
        before[:] = -1
        before[truth] = found
    return switches
