"""The parts of a mask as closed outlines for people to edit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.types import Mask

_TOLERANCE = 0.75  # pixels an outline may leave the mask's edge by, for far fewer points to drag


@dataclass(frozen=True, eq=False)
class Outline:
    """One connected part of a mask as a closed ring, and how many holes the ring hides."""

    points_xy: NDArray[np.float64]  # (P, 2) in pixels, P >= 3
    n_holes: int
    area: float  # pixels inside the ring


def outlines(mask: Mask) -> list[Outline]:
    """The parts of a mask as rings, the largest first.

    Args:
        mask: not empty; parts are 8-connected.

    Returns:
        A ring through the centres of the border pixels, simplified by Douglas and Peucker; parts
        too thin for a ring give the narrowest box around them.

    >>> [square] = outlines(Mask(2, 1, np.ones((4, 4), np.bool_)))
    >>> sorted(square.points_xy.tolist()), square.n_holes
    ([[2.5, 1.5], [2.5, 4.5], [5.5, 1.5], [5.5, 4.5]], 0)
    """
    contours, tree = cv2.findContours(
        mask.crop.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.x, mask.y)
    )
    if tree is None:
        return []
    parents = tree[0][:, 3]
    rings: list[Outline] = []
    for k, contour in enumerate(contours):
        if parents[k] >= 0:
            continue
        points = cv2.approxPolyDP(contour, _TOLERANCE, True).reshape(-1, 2).astype(np.float64) + 0.5
        if len(points) < 3 or cv2.contourArea(contour) < 1:
            centre, (w, h), angle = cv2.minAreaRect(contour)
            points = (
                cv2.boxPoints((centre, (max(w, 1.0), max(h, 1.0)), angle)).astype(np.float64) + 0.5
            )
        rings.append(Outline(points, int((parents == k).sum()), float(cv2.contourArea(contour))))
    return sorted(rings, key=lambda ring: -ring.area)
