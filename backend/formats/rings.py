"""Masks as closed rings that lose nothing: holes and parts are bridged into the outline.

A ring runs through the centres of border pixels, (0, 0) being the centre of the first pixel, so that filling it by the even-odd rule with its
outline included, as OpenCV's ``fillPoly`` and Pillow's ``polygon`` do, gives the mask back. A hole is reached along a row of foreground pixels and
left the same way, which changes no pixel; a bridge between two parts crosses background, and costs a line of pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.geometry import mask_from_full
from backend.types import Mask

Ring = NDArray[np.int32]  # (P, 2) x and y


def _without_straights(ring: Ring) -> Ring:
    """The corners of a ring: points on the way from one to the next are left out."""
    ring = ring[np.any(ring != np.roll(ring, 1, 0), 1)] if len(ring) > 1 else ring
    if len(ring) < 3:
        return ring
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    before, after = np.sign(before) * np.abs(before).astype(np.int64), after.astype(np.int64)
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & ((before * after).sum(1) > 0)
    corners: Ring = ring[~straight]
    return corners


def _spliced(ring: Ring, at: int, other: Ring, start: int) -> Ring:
    """``other`` walked all round from its ``start``, on the way through point ``at`` of ``ring``, and back."""
    return np.concatenate([ring[: at + 1], other[start:], other[: start + 1], ring[at:]])


def _with_holes(crop: NDArray[np.bool_], outer: Ring, holes: list[Ring]) -> Ring:
    """The outline with every hole bridged along foreground pixels to its left."""
    ring = outer
    for hole in sorted(holes, key=lambda one: int(one[:, 0].min())):
        start = int(hole[:, 0].argmin())
        x, y = (int(v) for v in hole[start])
        row = crop[y, : x + 1]
        gaps = np.flatnonzero(~row)
        left = int(gaps[-1]) + 1 if len(gaps) else 0  # the first foreground pixel of this stretch is on the outline or an earlier hole
        at = np.flatnonzero((ring[:, 0] == left) & (ring[:, 1] == y))
        ring = _spliced(ring, int(at[0]), hole, start)
    return ring


def part_rings(mask: Mask, tolerance: float = 0.0) -> list[Ring]:
    """A ring for every 8-connected part, the largest first.

    Args:
        mask: not empty.
        tolerance: pixels by which a ring may leave the edge for fewer points (Douglas and Peucker); 0 is exact.

    Returns:
        Rings in pixels of the image. A part of one or two pixels gives as many points.
    """
    found, tree = cv2.findContours(mask.crop.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours: list[Ring] = [contour.reshape(-1, 2).astype(np.int32) for contour in found]
    parents = tree[0][:, 3] if tree is not None else np.zeros(0, int)
    origin = np.array([mask.x, mask.y], np.int32)
    rings: list[Ring] = []
    for k, outer in enumerate(contours):
        if parents[k] < 0:
            ring = _with_holes(mask.crop, outer, [contours[j] for j in np.flatnonzero(parents == k)])
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
        The ring, and how many bridges between parts it has; without any, and with tolerance 0, it is exact.
    """
    ring, *others = part_rings(mask, tolerance)
    for other in others:
        at = int(((ring - other[0]) ** 2).sum(1).argmin())
        start = int(((other - ring[at]) ** 2).sum(1).argmin())
        ring = _spliced(ring, at, other, start)
    return ring, len(others)


def ring_mask(ring: Ring, size_hw: tuple[int, int]) -> Mask | None:
    """Fill a ring by the even-odd rule, its outline included, as ``cv2.fillPoly`` does.

    Args:
        ring: (P, 2) int32, P >= 1.
        size_hw: of the image; what lies outside is cut.

    Returns:
        The tight mask, or None where it is empty.
    """
    low, high = np.maximum(ring.min(0), 0), np.minimum(ring.max(0) + 1, [size_hw[1], size_hw[0]])
    if (low >= high).any():
        return None
    window = np.zeros((int(high[1] - low[1]), int(high[0] - low[0])), np.uint8)
    cv2.fillPoly(window, [ring - low.astype(np.int32)], 1)
    inner = mask_from_full(window)
    return None if inner is None else Mask(int(low[0]) + inner.x, int(low[1]) + inner.y, inner.crop)
