"""A segmenter's grids of logits as runs and crops; what runs are says ``kernels.runs``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.kernels.compiled import compiled
from backend.core.kernels.runs import ONES, WORD, Edges, bounds, paint, toggled, with_room

_APART = 64  # bytes; crops begin at multiples of it


@compiled
def _signs(logits: Any) -> tuple[NDArray[np.uint8], int, int, int, int]:
    """1 where a grid is above 0, in rows of whole words, and the first and the last row and column
    where it is; rows -1 where it is nowhere.
    """
    rows, columns = logits.shape
    signs = np.zeros((rows, (columns + WORD - 1) // WORD * WORD), np.uint8)
    in_column = np.zeros(columns, np.uint8)
    top = -1
    bottom = -1
    for row in range(rows):
        in_row = np.uint8(0)
        for column in range(columns):
            sign = np.uint8(logits[row, column] > 0)
            signs[row, column] = sign
            in_column[column] |= sign
            in_row |= sign
        if in_row:
            bottom = row
            top = row if top < 0 else top
    left = 0
    while left < columns and not in_column[left]:
        left += 1
    right = columns - 1
    while right > left and not in_column[right]:
        right -= 1
    return signs, top, bottom, left, right


@compiled
def _span(
    first: int, last: int, cells: int, pixels: int, origin: float, extent: float
) -> tuple[int, int]:
    """Pixels that interpolation can make positive: from a cell's width before the first positive
    cell to one after the last, of those whose centre the grid covers.
    """
    low = int(np.floor(origin + (first - 0.5) * extent / cells)) - 1
    high = int(np.ceil(origin + (last + 1.5) * extent / cells)) + 1
    begin = int(np.ceil(origin - 0.5))
    end = int(np.floor(origin + extent - 0.5)) + 1
    return max(0, low, begin), min(pixels, high, end)


@compiled
def edges_of_logits(
    logits: NDArray[np.float32],
    height: int,
    width: int,
    area_x: float,
    area_y: float,
    area_w: float,
    area_h: float,
) -> Edges:
    """Where an upsampled grid of logits crosses 0.

    Rows are interpolated as numbers. Along a row, only the places where the sign changes are
    computed, because between two cells the interpolant is a straight line.

    Args:
        logits: (h, w) float32, > 0 inside.
        height: of the image.
        width: of the image.
        area_x: left side of what the grid covers, in pixels of the image.
        area_y: its upper side.
        area_w: its width.
        area_h: its height.

    Returns:
        (E,) int64 edges in a frame of the image's size.
    """
    cells_h, cells_w = logits.shape
    signs, first_row, last_row, first_column, last_column = _signs(logits)
    if last_row < 0:
        return np.empty(0, np.int64)
    top, bottom = _span(first_row, last_row, cells_h, height, area_y, area_h)
    left, right = _span(first_column, last_column, cells_w, width, area_x, area_w)
    c0 = max(0, first_column - 1)
    c1 = min(cells_w, last_column + 2)
    # As torch does it: positions and values in single precision, half-pixel centres, the borders
    # replicated.
    half = np.float32(0.5)
    zero = np.float32(0)
    step_y = np.float32(cells_h / area_h)
    step_x = np.float64(np.float32(area_w / cells_w))
    from_x = np.float64(np.float32(area_x - 0.5))
    cells = np.empty(c1 - c0, np.int64)
    n_cells = 0
    of_row = -1
    edges = np.empty(4 * max(0, bottom - top) + 2, np.int64)
    n = 0
    for y in range(top, bottom if left < right else top):
        edges = with_room(edges, n, c1 - c0 + 2)
        source = (np.float32(y) + half - np.float32(area_y)) * step_y - half
        source = min(max(source, zero), np.float32(cells_h - 1))
        above = int(source)
        below = min(above + 1, cells_h - 1)
        weight = source - np.float32(above)
        if above != of_row:
            n_cells = _crossed(signs, above, below, c0, c1, cells)
            of_row = above
        base = y * width
        inside = bool(_between(logits, above, below, c0, weight) > 0)
        if inside:
            n = toggled(edges, n, base + left)
        for k in range(n_cells):
            c = cells[k]
            before = _between(logits, above, below, c, weight)
            after = _between(logits, above, below, c + 1, weight)
            if (before > 0) == (after > 0):
                continue
            share = np.float64(before / (before - after))
            where = (np.float64(c) + share + 0.5) * step_x + from_x
            # A pixel is past the crossing when its centre is; on the crossing itself the value is
            # 0, which is outside.
            pixel = int(np.ceil(where)) if before > 0 else int(np.floor(where)) + 1
            n = toggled(edges, n, base + min(max(pixel, left), right))
            inside = not inside
        if inside:
            n = toggled(edges, n, base + right)
    return edges[:n].copy()


@compiled
def _between(logits: Any, above: int, below: int, column: int, weight: np.float32) -> np.float32:
    """A value between two rows."""
    value = logits[above, column]
    return np.float32(value + (logits[below, column] - value) * weight)


@compiled
def _crossed(signs: Any, above: int, below: int, c0: int, c1: int, cells: Any) -> int:
    """Write down the columns behind which the sign may change between two rows, and tell how many
    there are.
    """
    upper = signs[above].view(np.uint64)
    lower = signs[below].view(np.uint64)
    n = 0
    for k in range(c0 // WORD, (c1 + WORD - 2) // WORD):
        begin = max(c0, k * WORD)
        end = min(c1 - 1, k * WORD + WORD)
        first = np.uint64(signs[above, end])
        if (
            upper[k] == lower[k] == first * ONES and signs[below, end] == first
        ):  # as almost everywhere
            continue
        for c in range(begin, end):
            sign = signs[above, c]
            if (
                sign != signs[above, c + 1]
                or sign != signs[below, c]
                or sign != signs[below, c + 1]
            ):
                cells[n] = c
                n += 1
    return n


@compiled
def crops_of_logits(
    grids: NDArray[np.float32],
    height: int,
    width: int,
    area_x: float,
    area_y: float,
    area_w: float,
    area_h: float,
) -> tuple[NDArray[np.int64], NDArray[np.uint8], Edges]:
    """The tight crops of what is inside of each grid; see ``edges_of_logits``.

    All in one call: threads that take turns at many short ones wait for each other.

    Args:
        grids: (N, h, w) float32.
        height: of the image.
        width: of the image.
        area_x: left side of what the grids cover, in pixels of the image.
        area_y: its upper side.
        area_w: its width.
        area_h: its height.

    Returns:
        (N, 7) int64: column, row, width and height of each crop, where its pixels begin, and where
        its edges begin and end; (P,) uint8, the pixels of all crops; and (E,) int64, their edges in
        a frame of the image's size.
    """
    n = len(grids)
    boxes = np.zeros((n, 7), np.int64)
    all_edges = np.empty(1024, np.int64)
    n_edges = 0
    size = 0
    for k in range(n):
        edges = edges_of_logits(grids[k], height, width, area_x, area_y, area_w, area_h)
        if len(edges) == 0:
            continue
        stop = n_edges + len(edges)
        all_edges = with_room(all_edges, n_edges, len(edges))
        all_edges[n_edges:stop] = edges
        x, y, right, bottom = bounds(edges, width)
        boxes[k] = (x, y, right - x, bottom - y, size, n_edges, stop)
        n_edges = stop
        size += ((right - x) * (bottom - y) + _APART - 1) // _APART * _APART
    pixels = np.zeros(size, np.uint8)
    for k in range(n):
        x, y, w, h, begin, first, stop = boxes[k]
        crop = pixels[begin : begin + w * h].reshape(h, w)
        paint(all_edges[first:stop], width, x, y, crop)
    return boxes, pixels, all_edges[:n_edges].copy()
