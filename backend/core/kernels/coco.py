"""COCO's compressed run lengths as text; ``formats.coco.segmentation`` says what the format is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backend.core.kernels.compiled import compiled
from backend.core.kernels.runs import Edges

_GROUPS = 7  # of five bits; more than any count of pixels needs
NOT_TEXT = -1
TOO_LARGE = -2
WRONG_SUM = -3


@compiled
def text_of_edges(edges: Edges, n_pixels: int) -> NDArray[np.uint8]:
    """Runs as compressed text.

    Args:
        edges: (E,) int64 in a frame in column order.
        n_pixels: of the frame, fewer than 2 ** 34.

    Returns:
        (N,) uint8, ASCII.
    """
    has_rest = len(edges) == 0 or edges[-1] < n_pixels
    n_counts = len(edges) + (1 if has_rest else 0)
    out = np.empty(_GROUPS * n_counts, np.uint8)
    n = 0
    begin = np.int64(0)
    one_before = np.int64(0)
    two_before = np.int64(0)
    for k in range(n_counts):
        end = edges[k] if k < len(edges) else np.int64(n_pixels)
        count = end - begin
        value = count - two_before if k > 2 else count
        two_before = one_before
        one_before = count
        begin = end
        more = True
        while more:
            code = value & 31
            value >>= 5
            more = value != (-1 if code & 16 else 0)
            out[n] = code + (32 if more else 0) + 48
            n += 1
    return out[:n].copy()


@compiled
def edges_of_text(text: NDArray[np.uint8], n_pixels: int) -> tuple[Edges, int]:
    """Compressed text as runs.

    Args:
        text: (N,) uint8.
        n_pixels: that the counts are to add up to.

    Returns:
        (E,) int64 edges, and 0; or none, and what is wrong: NOT_TEXT, TOO_LARGE or WRONG_SUM.
    """
    edges = np.empty(len(text) + 1, np.int64)
    none = edges[:0].copy()
    n = 0
    k = 0
    at = 0
    end = np.int64(0)
    one_before = np.int64(0)
    two_before = np.int64(0)
    wrong = 0
    while at < len(text):
        value = np.int64(0)
        shift = 0
        more = True
        while more:
            if at == len(text) or text[at] < 48 or text[at] > 111:
                return none, NOT_TEXT
            if shift == 5 * _GROUPS:
                return none, TOO_LARGE
            code = np.int64(text[at]) - 48
            at += 1
            more = (code & 32) != 0
            value |= (code & 31) << shift
            shift += 5
            if not more and code & 16:
                value -= np.int64(1) << shift
        count = value + two_before if k > 2 else value
        two_before = one_before
        one_before = count
        k += 1
        if count < 0 or count > n_pixels or wrong:
            wrong = WRONG_SUM  # whether it is text at all matters more
            continue
        begin = end
        end += count
        if k % 2 == 0 and count > 0:
            if n and edges[n - 1] == begin:
                edges[n - 1] = end
            else:
                edges[n] = begin
                edges[n + 1] = end
                n += 2
    if wrong or end != n_pixels:
        return none, WRONG_SUM if k else NOT_TEXT
    return edges[:n].copy(), 0
