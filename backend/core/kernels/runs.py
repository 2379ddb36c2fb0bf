"""Crops and runs of pixels.

Runs are told by their edges: the positions in a frame in row order where foreground begins and
ends, ascending, an even number of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.kernels.compiled import compiled

Edges = NDArray[np.int64]
ONES = np.uint64(0x0101010101010101)
_PLACES = np.uint64(0x0001020304050607)  # times the lowest byte that is set: which one it is
WORD = 8


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
def with_room(edges: Any, n: int, more: int) -> Any:
    """An array with the first n edges and room for more."""
    if n + more <= len(edges):
        return edges
    larger = np.empty(2 * len(edges) + more, np.int64)
    larger[:n] = edges[:n]
    return larger


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
    words = flat[: h * w // WORD * WORD].view(np.uint64)
    edges = np.empty(4 * h + w + 2, np.int64)
    n = 0
    for row in range(h):
        edges = with_room(edges, n, w + 2)
        base = (y + row) * width + x - row * w  # plus a position in the crop
        at = row * w
        stop = at + w
        first_word = min(stop, (at + WORD - 1) // WORD * WORD)
        n, before = _single_changes(flat, at, first_word, np.uint8(0), base, edges, n)
        last_word = max(first_word, stop // WORD * WORD)
        k = first_word // WORD
        end = last_word // WORD
        while k < end:
            k = _past_equal(words, k, end, np.uint64(before) * ONES)
            if k < end:
                n = _word_changes(words[k], before, base + k * WORD, edges, n)
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
def bounds(edges: Any, width: int) -> tuple[int, int, int, int]:
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
    x, y, right, bottom = bounds(edges, width)
    crop = np.zeros((bottom - y, right - x), np.uint8)
    paint(edges, width, x, y, crop)
    return x, y, crop


@compiled
def paint(edges: Any, width: int, x: int, y: int, crop: Any) -> None:
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
