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
_ON_EDGE = 0.01  # pixels; Label Studio's percents are rounded
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


def polygon_of_edges(points_xy: Sequence[Point], size_hw: tuple[int, int]) -> Mask | None:
    """The pixels whose centre lies in a ring or on it, given by edges as Label Studio counts them.

    A ring with the corners of a rectangle covers what the rectangle covers, and one that runs
    through the centres of border pixels, as ours do, covers these too.

    Args:
        points_xy: at least three corners, in pixels; (0, 0) is the corner of the image. A ring that
            crosses itself is filled by the even-odd rule.
        size_hw: of the image; what lies outside is cut.

    Returns:
        The tight mask, or None where no centre is covered.

    >>> polygon_of_edges([(1, 0), (3, 0), (3, 1), (1, 1)], (2, 4))
    Mask(x=1, y=0, crop=array([[ True,  True]]))
    """
    corners = np.asarray(points_xy, np.float64) - 0.5  # centres lie on whole numbers now
    window = _cut(corners, size_hw)
    if window is None:
        return None
    left, top, right, bottom = window
    start = corners - [left, top]
    end = np.roll(start, -1, 0)
    edge, row = _rows_of(start, end, bottom - top)
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    flat = np.abs(y1 - y0) <= _ON_EDGE
    share = np.divide(row - y0, y1 - y0, out=np.zeros_like(y0), where=~flat)
    at = x0 + share.clip(0, 1) * (x1 - x0)
    frame = np.zeros((bottom - top, right - left + 1), np.int32)
    # Inside: between the first and the second crossing of a row, the third and the fourth, ...
    crosses = ~flat & (np.minimum(y0, y1) <= row) & (row < np.maximum(y0, y1))
    order = np.lexsort((at[crosses], row[crosses]))
    rows = row[crosses][order].astype(np.intp)
    ends = at[crosses][order]
    _add_runs(frame, rows[::2], ends[::2], ends[1::2])
    # On the ring: where an edge passes a row of centres, and along edges that lie in one.
    _add_runs(
        frame,
        row.astype(np.intp),
        np.where(flat, np.minimum(x0, x1), at),
        np.where(flat, np.maximum(x0, x1), at),
    )
    return _moved(mask_from_full(np.cumsum(frame[:, :-1], 1) > 0), left, top)


def _rows_of(
    start: NDArray[np.float64], end: NDArray[np.float64], n_rows: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Every pair of an edge and a row of pixel centres that it reaches."""
    low = np.ceil(np.minimum(start[:, 1], end[:, 1]) - _ON_EDGE).clip(0, n_rows).astype(np.intp)
    high = np.floor(np.maximum(start[:, 1], end[:, 1]) + _ON_EDGE).clip(-1, n_rows - 1)
    count = (high.astype(np.intp) - low + 1).clip(0)
    edge = np.repeat(np.arange(len(start)), count)
    first = np.repeat(np.cumsum(count) - count, count)
    return edge, (low[edge] + np.arange(len(edge)) - first).astype(np.float64)


def _add_runs(
    frame: NDArray[np.int32],
    rows: NDArray[np.intp],
    x0: NDArray[np.float64],
    x1: NDArray[np.float64],
) -> None:
    """Count runs of pixels whose centres lie from x0 to x1, as steps up and down along each row."""
    first = np.ceil(x0 - _ON_EDGE).clip(0, frame.shape[1] - 1).astype(np.intp)
    last = (np.floor(x1 + _ON_EDGE) + 1).clip(0, frame.shape[1] - 1).astype(np.intp)
    there = last > first
    np.add.at(frame, (rows[there], first[there]), 1)
    np.add.at(frame, (rows[there], last[there]), -1)


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
