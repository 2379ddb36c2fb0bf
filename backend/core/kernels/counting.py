"""Label maps: pairs of values, and outlines that lie close to each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.kernels.compiled import compiled

_WORD = 8
_CELL = 16  # pixels
_REPEATED = np.uint64(0x0101010101010101)


@compiled
def pairs(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each pair of values occurs.

    Args:
        first: (N,) uint8, contiguous.
        second: (N,) uint8, contiguous.

    Returns:
        (256, 256) int64, by the value of the first and of the second.
    """
    counts = np.zeros((256, 256), np.int64)
    n_words = len(first) // _WORD
    words = first[: n_words * _WORD].view(np.uint64)
    others = second[: n_words * _WORD].view(np.uint64)
    for k in range(n_words):
        a = words[k]
        b = others[k]
        value = np.uint8(a)
        other = np.uint8(b)
        if a == np.uint64(value) * _REPEATED and b == np.uint64(other) * _REPEATED:
            counts[value, other] += _WORD  # as within an object
            continue
        for at in range(k * _WORD, k * _WORD + _WORD):
            counts[first[at], second[at]] += 1
    for at in range(n_words * _WORD, len(first)):
        counts[first[at], second[at]] += 1
    return counts


@compiled
def edge_values(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A label map with what is not on an outline set to 0.

    Args:
        values: (H, W) uint8, contiguous.

    Returns:
        (H, W) uint8: the value where a 4-neighbour has another one; the frame of the image is no
        outline.
    """
    height, width = values.shape
    edges = np.empty((height, width), np.uint8)
    for y in range(height):
        row = values[y]
        above = values[max(0, y - 1)]
        below = values[min(height - 1, y + 1)]
        out = edges[y]
        for x in range(width):
            before = row[max(0, x - 1)]
            after = row[min(width - 1, x + 1)]
            value = row[x]
            differs = (value ^ above[x]) | (value ^ below[x]) | (value ^ before) | (value ^ after)
            out[x] = value if differs else np.uint8(0)
    return edges


@compiled
def near_hits(
    edges: NDArray[np.uint8],
    others: NDArray[np.uint8],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many outline pixels of each value there are, and how many of them have a pixel of the
    same value of the other side's outlines nearby.

    Args:
        edges: (H, W) uint8, see ``edge_values``.
        others: (H, W) uint8 of the other side.
        rows: (K,) int64, what is nearby: steps down, the shortest way first.
        columns: (K,) int64, and to the right.

    Returns:
        (256,) int64 each.
    """
    height, width = edges.shape
    counts = np.zeros(256, np.int64)
    hits = np.zeros(256, np.int64)
    side = max(_CELL, int(rows.max()) + 1)
    there = _values_in_cells(others, side)
    for y in range(height):
        row = edges[y]
        for x in range(width):
            value = row[x]
            if value == 0:
                continue
            counts[value] += 1
            if _is_around(there, value, y // side, x // side) and _is_near(
                others, value, y, x, rows, columns
            ):
                hits[value] += 1
    return counts, hits


@compiled
def _values_in_cells(edges: Any, side: int) -> Any:
    """Which values lie in each square of ``side`` pixels, (rows, columns, 256) uint8."""
    height, width = edges.shape
    there = np.zeros(((height - 1) // side + 1, (width - 1) // side + 1, 256), np.uint8)
    for y in range(height):
        for x in range(width):
            if edges[y, x]:
                there[y // side, x // side, edges[y, x]] = 1
    return there


@compiled
def _is_around(there: Any, value: int, row: int, column: int) -> bool:
    """Whether a value lies in a square or in one beside it."""
    for r in range(max(0, row - 1), min(there.shape[0], row + 2)):
        for c in range(max(0, column - 1), min(there.shape[1], column + 2)):
            if there[r, c, value]:
                return True
    return False


@compiled
def _is_near(others: Any, value: int, y: int, x: int, rows: Any, columns: Any) -> bool:
    height, width = others.shape
    for k in range(len(rows)):
        r = y + rows[k]
        c = x + columns[k]
        if 0 <= r < height and 0 <= c < width and others[r, c] == value:
            return True
    return False
