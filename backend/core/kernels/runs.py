"""Logits, crops and runs of pixels.

Runs are told by their edges: the positions in a frame in row order where foreground begins and
ends, ascending, an even number of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.kernels.compiled import compiled

Edges = NDArray[np.int64]
_ONES = np.uint64(0x0101010101010101)
_PLACES = np.uint64(0x0001020304050607)  # times the lowest byte that is set: which one it is
_WORD = 8


@compiled
def toggled(edges: Any, n: int, position: int) -> int:
    """Change between foreground and background at a position; two changes in one place undo each
    other. Positions may come a little out of order.

    Returns:
        How many edges there are now.
    """
    at = n
    while at > 0 and edges[at - 1] > position:
        at -= 1
    if at > 0 and edges[at - 1] == position:
        for k in range(at, n):
            edges[k - 1] = edges[k]
        return n - 1
    for k in range(n, at, -1):
        edges[k] = edges[k - 1]
    edges[at] = position
    return n + 1


@compiled
def _with_room(edges: Any, n: int, more: int) -> Any:
    """An array with the first n edges and room for more."""
    if n + more <= len(edges):
        return edges
    larger = np.empty(2 * len(edges) + more, np.int64)
    larger[:n] = edges[:n]
    return larger


@compiled
def _signs(logits: Any) -> tuple[NDArray[np.uint8], int, int, int, int]:
    """1 where a grid is above 0, in rows of whole words, and the first and the last row and column
    where it is; rows -1 where it is nowhere.
    """
    rows, columns = logits.shape
    signs = np.zeros((rows, (columns + _WORD - 1) // _WORD * _WORD), np.uint8)
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
        edges = _with_room(edges, n, c1 - c0 + 2)
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
    for k in range(c0 // _WORD, (c1 + _WORD - 2) // _WORD):
        begin = max(c0, k * _WORD)
        end = min(c1 - 1, k * _WORD + _WORD)
        first = np.uint64(signs[above, end])
        if (
            upper[k] == lower[k] == first * _ONES and signs[below, end] == first
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
def edges_of_crop(crop: NDArray[np.uint8], x: int, y: int, width: int) -> Edges:
    """The edges of a crop in the frame that it lies in.

    Args:
        crop: (h, w) uint8 of 0 and 1, contiguous.
        x: its first column in the frame.
        y: its first row.
        width: of the frame.

    Returns:
        (E,) int64.
    """
    h, w = crop.shape
    flat = crop.reshape(h * w)
    words = flat[: h * w // _WORD * _WORD].view(np.uint64)
    edges = np.empty(4 * h + w + 2, np.int64)
    n = 0
    for row in range(h):
        edges = _with_room(edges, n, w + 2)
        base = (y + row) * width + x - row * w  # plus a position in the crop
        at = row * w
        stop = at + w
        first_word = min(stop, (at + _WORD - 1) // _WORD * _WORD)
        n, before = _single_changes(flat, at, first_word, np.uint8(0), base, edges, n)
        last_word = max(first_word, stop // _WORD * _WORD)
        k = first_word // _WORD
        end = last_word // _WORD
        while k < end:
            k = _past_equal(words, k, end, np.uint64(before) * _ONES)
            if k < end:
                n = _word_changes(words[k], before, base + k * _WORD, edges, n)
                before = np.uint8(words[k] >> np.uint64(56))
                k += 1
        n, before = _single_changes(flat, last_word, stop, before, base, edges, n)
        if before:
            edges[n] = base + stop
            n += 1
    return edges[:n].copy()


@compiled
def _past_equal(words: Any, k: int, end: int, word: np.uint64) -> int:
    """The first of some words, from k on, that differs; they are looked at eight at once."""
    while k + 8 <= end:
        differs = np.uint64(0)
        for j in range(8):
            differs |= words[k + j] ^ word
        if differs:
            break
        k += 8
    while k < end and words[k] == word:
        k += 1
    return k


@compiled
def _single_changes(
    flat: Any, at: int, stop: int, before: np.uint8, base: int, edges: Any, n: int
) -> tuple[int, np.uint8]:
    """Write down where pixels differ from the one before; how many edges there are now, and the
    last pixel.
    """
    for k in range(at, stop):
        if flat[k] != before:
            n = _appended(edges, n, base + k)
            before = flat[k]
    return n, before


@compiled
def _word_changes(word: np.uint64, before: np.uint8, base: int, edges: Any, n: int) -> int:
    """The same for eight pixels in a word, the first lowest."""
    changed = word ^ ((word << np.uint64(8)) | np.uint64(before))  # 1 in each byte that differs
    while changed:
        low = changed & (~changed + np.uint64(1))
        n = _appended(edges, n, base + int((low * _PLACES) >> np.uint64(56)))
        changed ^= low
    return n


@compiled
def _appended(edges: Any, n: int, position: int) -> int:
    """An edge behind all others; where a row begins as the one above ended, neither is one."""
    if n and edges[n - 1] == position:
        return n - 1
    edges[n] = position
    return n + 1


@compiled
def _bounds(edges: Any, width: int) -> tuple[int, int, int, int]:
    """Left and top of the box around runs, and one past its right and its bottom."""
    top = int(edges[0]) // width
    left = width
    right = 0
    row_start = top * width
    for k in range(0, len(edges), 2):
        while edges[k] >= row_start + width:
            row_start += width
        left = min(left, int(edges[k]) - row_start)
        right = max(right, int(edges[k + 1]) - row_start)
    if right > width:  # a run goes on into the next row
        left = 0
        right = width
    return left, top, right, int(edges[-1] - 1) // width + 1


@compiled
def crop_of_edges(edges: Edges, width: int) -> tuple[int, int, NDArray[np.uint8]]:
    """Paint runs into the tight crop around them.

    Args:
        edges: (E,) int64.
        width: of the frame.

    Returns:
        The crop's first column and row in the frame, and the crop, (h, w) uint8 of 0 and 1; (0, 0)
        where there are no runs.
    """
    if len(edges) == 0:
        return 0, 0, np.zeros((0, 0), np.uint8)
    x, y, right, bottom = _bounds(edges, width)
    crop = np.zeros((bottom - y, right - x), np.uint8)
    row = 0
    start = y * width  # of the row in the frame
    for k in range(0, len(edges), 2):
        position = edges[k]
        stop = edges[k + 1]
        while position < stop:
            while position >= start + width:
                row += 1
                start += width
            end = min(stop, start + width)
            crop[row, position - start - x : end - start - x] = 1
            position = end
    return x, y, crop


@compiled
def crop_of_logits(
    logits: NDArray[np.float32],
    height: int,
    width: int,
    area_x: float,
    area_y: float,
    area_w: float,
    area_h: float,
) -> tuple[int, int, NDArray[np.uint8]]:
    """The tight crop of what is inside: ``edges_of_logits`` and ``crop_of_edges`` in one call."""
    edges = edges_of_logits(logits, height, width, area_x, area_y, area_w, area_h)
    return crop_of_edges(edges, width)
