"""Masks of drawn shapes: polygons, turned rectangles, ellipses.

Pillow's polygon is the one labelme's own tools draw with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from backend.core.masks import mask_from_full
from backend.core.types import Mask

_STRIP = 64  # rows
Point = tuple[float, float]
Inside = Callable[
    [NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]
]  # x (w,) and y (h, 1) of pixel centres -> (h, w)


def _cut(
    corners: NDArray[np.float64], size_hw: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """The window of the image that points span, one pixel wider: left, top, right, bottom.

    None outside of it.
    """
    height, width = size_hw
    low = np.floor(corners.min(0)) - 1
    high = np.ceil(corners.max(0)) + 2
    left, top = (int(v) for v in np.clip(low, 0, [width, height]))
    right, bottom = (int(v) for v in np.clip(high, 0, [width, height]))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _moved(mask: Mask | None, left: int, top: int) -> Mask | None:
    return None if mask is None else Mask(mask.x + left, mask.y + top, mask.crop)


def polygon_mask(points_xy: Sequence[Point], size_hw: tuple[int, int]) -> Mask | None:
    """Fill a ring, its outline included.

    Args:
        points_xy: at least three corners, in pixels; (0, 0) is the centre of the first pixel.
        size_hw: of the image; what lies outside is cut.

    Returns:
        The tight mask, or None where no pixel of the image is covered.

    >>> triangle = polygon_mask([(0, 0), (2, 0), (2, 2)], (3, 3))
    >>> triangle.crop.astype(int).tolist()
    [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    """
    corners = np.asarray(points_xy, np.float64)
    window = _cut(corners, size_hw)
    if window is None:
        return None
    left, top, right, bottom = window
    picture = PIL.Image.new("L", (right - left, bottom - top))
    moved = [(float(x) - left, float(y) - top) for x, y in corners]
    PIL.ImageDraw.Draw(picture).polygon(moved, outline=1, fill=1)
    return _moved(mask_from_full(np.array(picture)), left, top)


def box_mask(x0: float, y0: float, x1: float, y1: float, size_hw: tuple[int, int]) -> Mask | None:
    """Pixels whose centre lies in an upright box given by its edges in pixels.

    (0, 0) is the corner of the image.

    >>> box_mask(0.4, 0, 2.6, 1, size_hw=(2, 4))  # the centres lie at 0.5, 1.5, 2.5 and 3.5
    Mask(x=0, y=0, crop=array([[ True,  True,  True]]))
    """
    height, width = size_hw
    left, right = (int(np.clip(math.ceil(v - 0.5), 0, width)) for v in (min(x0, x1), max(x0, x1)))
    top, bottom = (int(np.clip(math.ceil(v - 0.5), 0, height)) for v in (min(y0, y1), max(y0, y1)))
    return (
        Mask(left, top, np.ones((bottom - top, right - left), np.bool_))
        if left < right and top < bottom
        else None
    )


def turned_box_mask(
    x: float, y: float, width: float, height: float, degrees: float, size_hw: tuple[int, int]
) -> Mask | None:
    """A box turned clockwise around its first corner, as Label Studio stores it.

    Pixels whose centre lies inside.

    Args:
        x: of the corner, in pixels from the edge of the image.
        y: likewise.
        width: in pixels.
        height: in pixels.
        degrees: clockwise.
        size_hw: of the image.

    >>> turned_box_mask(2, 0, 3, 1, degrees=90, size_hw=(4, 4))  # its width now points down
    Mask(x=1, y=0, crop=array([[ True],
           [ True],
           [ True]]))
    """
    if degrees % 360 == 0:
        return box_mask(x, y, x + width, y + height, size_hw)
    cos = math.cos(math.radians(degrees))
    sin = math.sin(math.radians(degrees))
    corners = np.array(
        [
            (x + u * cos - v * sin, y + u * sin + v * cos)
            for u, v in ((0, 0), (width, 0), (width, height), (0, height))
        ]
    )
    return _where(
        corners, size_hw, lambda px, py: _in_turned_box(px - x, py - y, width, height, cos, sin)
    )


def _in_turned_box(
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    width: float,
    height: float,
    cos: float,
    sin: float,
) -> NDArray[np.bool_]:
    u = dx * cos + dy * sin
    v = dy * cos - dx * sin
    return (u >= min(0, width)) & (u < max(0, width)) & (v >= min(0, height)) & (v < max(0, height))


def ellipse_mask(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float, size_hw: tuple[int, int]
) -> Mask | None:
    """Pixels whose centre lies in an ellipse.

    Args:
        x: of the centre, in pixels from the edge of the image.
        y: likewise.
        radius_x: in pixels, > 0.
        radius_y: in pixels, > 0.
        degrees: clockwise, around the centre.
        size_hw: of the image.

    >>> circle = ellipse_mask(1.5, 1.5, 1.1, 1.1, degrees=0, size_hw=(3, 3))
    >>> circle.crop.astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    reach = max(radius_x, radius_y)
    cos = math.cos(math.radians(degrees))
    sin = math.sin(math.radians(degrees))
    corners = np.array([(x - reach, y - reach), (x + reach, y + reach)])
    return _where(
        corners,
        size_hw,
        lambda px, py: (
            (((px - x) * cos + (py - y) * sin) / radius_x) ** 2
            + (((py - y) * cos - (px - x) * sin) / radius_y) ** 2
            <= 1
        ),
    )


def _where(corners: NDArray[np.float64], size_hw: tuple[int, int], inside: Inside) -> Mask | None:
    window = _cut(corners, size_hw)
    if window is None:
        return None
    left, top, right, bottom = window
    frame = np.zeros((bottom - top, right - left), np.bool_)
    px = np.asarray(np.arange(left, right) + 0.5, np.float64)
    for start in range(
        0, bottom - top, _STRIP
    ):  # a few rows at a time, because these numbers take eight times the memory of the mask
        py = np.asarray(
            np.arange(top + start, min(top + start + _STRIP, bottom))[:, None] + 0.5, np.float64
        )
        frame[start : start + _STRIP] = inside(px, py)
    return _moved(mask_from_full(frame), left, top)
