"""Masks as closed rings that lose nothing: holes and parts are bridged into the outline.

A ring runs through the centres of border pixels, (0, 0) being the centre of the first pixel, so
that filling it by the even-odd rule with its outline included, as OpenCV's ``fillPoly`` and
Pillow's ``polygon`` do, gives the mask back. A hole is reached along a row of foreground pixels and
left the same way, which changes no pixel; a bridge between two parts crosses background, and costs
a line of pixels.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.masks import mask_from_full
from backend.core.types import Mask

Ring = NDArray[np.int32]  # (P, 2) x and y
_MOST_BY_DISTANCE = 1000  # parts


def _without_straights(ring: Ring) -> Ring:
    """The corners of a ring: points on the way from one to the next are left out."""
    ring = ring[np.any(ring != np.roll(ring, 1, 0), 1)] if len(ring) > 1 else ring
    if len(ring) < 3:
        return ring
    before = ring - np.roll(ring, 1, 0)
    after = np.roll(ring, -1, 0) - ring
    before = np.sign(before) * np.abs(before).astype(np.int64)
    after = after.astype(np.int64)
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & (
        (before * after).sum(1) > 0
    )
    corners: Ring = ring[~straight]
    return corners


@dataclass(frozen=True)
class _Detour:
    """On the way round a ring: from point ``at`` to another ring, all round it from its ``start``,
    and back.
    """

    at: int
    ring: int
    start: int


def _walk(rings: Sequence[Ring], detours: Mapping[int, list[_Detour]]) -> Ring:
    """The first ring walked all round with every detour, and theirs, on the way.

    Takes time in proportion to the points.
    """
    pieces: list[Ring] = []
    stack = [_round(rings[0], 0, detours.get(0, ()))]
    while stack:
        points, stops, done = stack.pop()
        if stops:
            at, detour = stops.pop()
            pieces.append(points[done : at + 1])
            stack.append((points, stops, at))
            stack.append(_round(rings[detour.ring], detour.start, detours.get(detour.ring, ())))
        else:
            pieces.append(points[done:])
    return np.concatenate(pieces)


def _round(
    ring: Ring, start: int, detours: Sequence[_Detour]
) -> tuple[Ring, list[tuple[int, _Detour]], int]:
    """A ring from its start back to it, and where on the way detours leave it, the last first."""
    points = np.concatenate([ring[start:], ring[: start + 1]])
    stops = sorted(
        (((one.at - start) % len(ring), one) for one in detours), key=lambda pair: -pair[0]
    )
    return points, stops, 0


def _with_holes(run_starts: NDArray[np.int32], outer: Ring, holes: list[Ring]) -> Ring:
    """The outline with every hole bridged along foreground pixels to its left.

    Args:
        run_starts: (h, w), for each foreground pixel the x where its stretch of the row begins.
        outer: of the part.
        holes: their borders, which are foreground pixels.
    """
    if not holes:
        return outer
    rings = [outer, *sorted(holes, key=lambda hole: int(hole[:, 0].min()))]
    width = run_starts.shape[1]
    keys = np.concatenate([ring[:, 1].astype(np.int64) * width + ring[:, 0] for ring in rings])
    owners = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    offsets = np.cumsum([0, *(len(ring) for ring in rings)])
    order = np.lexsort(
        (owners, keys)
    )  # among points in one place, those of the outline and of holes further left come first
    keys = keys[order]
    detours: defaultdict[int, list[_Detour]] = defaultdict(list)
    for number, hole in enumerate(rings[1:], 1):
        start = int(hole[:, 0].argmin())
        x, y = hole[start].tolist()
        # Where the stretch of foreground begins there is background, and so the outline or the
        # border of a hole further left.
        point = int(order[np.searchsorted(keys, y * width + int(run_starts[y, x]))])
        owner = int(owners[point])
        detours[owner].append(_Detour(point - int(offsets[owner]), number, start))
    return _walk(rings, detours)[:-1]  # it ends where it began


def _run_starts(crop: NDArray[np.bool_]) -> NDArray[np.int32]:
    columns = np.arange(1, crop.shape[1] + 1, dtype=np.int32)
    return np.asarray(np.maximum.accumulate(np.where(crop, np.int32(0), columns), 1), np.int32)


def part_rings(mask: Mask, tolerance: float = 0.0) -> list[Ring]:
    """A ring for every 8-connected part, the largest first.

    Args:
        mask: not empty.
        tolerance: pixels by which a ring may leave the edge for fewer points (Douglas and Peucker);
            0 is exact.

    Returns:
        Rings in pixels of the image. A part of one or two pixels gives as many points.

    >>> [ring.tolist() for ring in part_rings(Mask(1, 1, np.ones((2, 3), np.bool_)))]
    [[[1, 1], [1, 2], [3, 2], [3, 1]]]
    """
    found, tree = cv2.findContours(mask.crop.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours: list[Ring] = [contour.reshape(-1, 2).astype(np.int32) for contour in found]
    parents = tree[0][:, 3].tolist() if tree is not None else []
    holes: defaultdict[int, list[Ring]] = defaultdict(list)
    for k, parent in enumerate(parents):
        if parent >= 0:
            holes[parent].append(contours[k])
    run_starts = _run_starts(mask.crop)
    origin = np.array([mask.x, mask.y], np.int32)
    rings: list[Ring] = []
    for k, outer in enumerate(contours):
        if parents[k] < 0:
            ring = _with_holes(run_starts, outer, holes[k])
            rings.append((_simpler(_without_straights(ring), tolerance) + origin).astype(np.int32))
    return sorted(rings, key=lambda ring: -cv2.contourArea(ring))


def _simpler(ring: Ring, tolerance: float) -> Ring:
    if tolerance <= 0 or len(ring) < 4:
        return ring
    fewer: Ring = cv2.approxPolyDP(ring, tolerance, True).reshape(-1, 2).astype(np.int32)
    return fewer if len(fewer) > 2 else ring


def single_ring(mask: Mask, tolerance: float = 0.0) -> tuple[Ring, int]:
    """One ring for the whole mask, its parts bridged by straight lines.

    Args:
        mask: not empty.
        tolerance: see ``part_rings``.

    Returns:
        The ring, and how many bridges between parts it has; without any, and with tolerance 0, it
        is exact.

    >>> ring, n_bridges = single_ring(Mask(0, 0, np.array([[True, False, True]])))
    >>> ring.tolist(), n_bridges  # over the bridge and back
    ([[2, 0], [0, 0], [0, 0], [2, 0]], 1)
    """
    rings = part_rings(mask, tolerance)
    if len(rings) == 1:
        return rings[0], 0
    detours: defaultdict[int, list[_Detour]] = defaultdict(list)
    for parent, child in _tree(np.array([ring.mean(0) for ring in rings], np.float32)):
        at, start = _nearest(rings[parent], rings[child])
        detours[parent].append(_Detour(at, child, start))
    return _walk(rings, detours)[:-1], len(rings) - 1


def _nearest(ring: Ring, other: Ring) -> tuple[int, int]:
    """A point of each that are near each other: the nearest to the nearest, a few times over."""
    at = 0
    start = 0
    for _ in range(3):
        at = int(((ring - other[start]).astype(np.int64) ** 2).sum(1).argmin())
        start = int(((other - ring[at]).astype(np.int64) ** 2).sum(1).argmin())
    return at, start


def _tree(centres: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs of parent and child that join all parts, from the first one on: the shortest tree
    (Prim) for as many as that is quick, else a way to and fro.
    """
    n = len(centres)
    if n > _MOST_BY_DISTANCE:
        strip = max(1.0, float(np.ptp(centres[:, 1])) / math.sqrt(n))
        row = (centres[:, 1] // strip).astype(int)
        way = np.lexsort((np.where(row % 2, -centres[:, 0], centres[:, 0]), row)).tolist()
        first = way.index(0)
        return [*itertools.pairwise(way[first:]), *itertools.pairwise(way[first::-1])]
    nearest = np.zeros(n, int)
    distance = ((centres - centres[0]) ** 2).sum(1)
    distance[0] = np.inf
    joined = np.zeros(n, np.bool_)
    pairs = []
    joined[0] = True
    for _ in range(n - 1):
        child = int(distance.argmin())
        pairs.append((int(nearest[child]), child))
        joined[child] = True
        own = ((centres - centres[child]) ** 2).sum(1)
        closer = (own < distance) & ~joined
        nearest[closer], distance[closer] = child, own[closer]
        distance[child] = np.inf
    return pairs


def ring_mask(ring: Ring, size_hw: tuple[int, int]) -> Mask | None:
    """Fill a ring by the even-odd rule, its outline included, as ``cv2.fillPoly`` does.

    Args:
        ring: (P, 2) int32, P >= 1.
        size_hw: of the image; what lies outside is cut.

    Returns:
        The tight mask, or None where it is empty.

    >>> ring = np.array([[1, 1], [1, 2], [3, 2], [3, 1]], np.int32)
    >>> ring_mask(ring, size_hw=(5, 5))
    Mask(x=1, y=1, crop=array([[ True,  True,  True],
           [ True,  True,  True]]))
    """
    low = np.maximum(ring.min(0), 0)
    high = np.minimum(ring.max(0) + 1, [size_hw[1], size_hw[0]])
    if (low >= high).any():
        return None
    window = np.zeros((int(high[1] - low[1]), int(high[0] - low[0])), np.uint8)
    cv2.fillPoly(window, [ring - low.astype(np.int32)], 1)
    inner = mask_from_full(window)
    return None if inner is None else Mask(int(low[0]) + inner.x, int(low[1]) + inner.y, inner.crop)
