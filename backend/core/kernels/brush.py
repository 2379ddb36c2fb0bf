"""Brush run lengths of Label Studio as bits; ``formats.label_studio.brush_rle`` says what the
format is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.kernels.compiled import compiled
from backend.core.kernels.runs import Edges, toggled

_LONGEST = 1 << 16  # values in one block of the longest kind
_LONGEST_BITS = 27
# Every byte as text with a comma behind it.
_TEXTS = np.array([f"{value},".ljust(4).encode() for value in range(256)]).view(np.uint8)
_TEXTS = _TEXTS.reshape(256, 4)
_LENGTHS = np.array([len(f"{value},") for value in range(256)])


@compiled
def _room(edges: Edges, n_values: int) -> int:
    """At most how many bytes the blocks take."""
    n_blocks = len(edges) + 2 + n_values // _LONGEST
    return n_blocks * _LONGEST_BITS // 8 + 16


@compiled
def _block(count: int, split: bool) -> tuple[int, int]:
    """The head of a run of up to 65536 values, as bits and their number; the SDK keeps the widest
    size for all parts of a longer run.
    """
    size = 16
    slot = 3
    if not split and count <= 256:
        size, slot = 8, 2
        if count <= 8:
            size, slot = 3, 0
        elif count <= 16:
            size, slot = 4, 1
    return ((4 | slot) << size) | (count - 1), size + 3


@compiled
def brush_of_edges(edges: Edges, n_pixels: int) -> NDArray[np.uint8]:
    """Runs as brush run lengths.

    Args:
        edges: (E,) int64 in a frame of ``n_pixels``.
        n_pixels: of the frame, fewer than 2 ** 30.

    Returns:
        (N,) uint8, header and padding included.
    """
    n_values = 4 * n_pixels
    out = np.empty(_room(edges, n_values), np.uint8)
    # The header: number of values, size of words, four sizes of counts; all but its last five bits
    # fill whole bytes.
    header = (((n_values << 5) | 7) << 16) | (2 << 12) | (3 << 8) | (7 << 4) | 15
    for k in range(6):
        out[k] = (header >> (45 - 8 * k)) & 255
    n = 6
    held = np.uint64(header & 31)
    n_held = 5
    begin = 0
    word = np.uint64(0)
    for k in range(len(edges) + 1):
        end = 4 * edges[k] if k < len(edges) else n_values
        count = end - begin
        split = count > _LONGEST
        while count > 0:
            piece = min(count, _LONGEST)
            head, width = _block(piece, split)
            held = (held << np.uint64(width + 8)) | (np.uint64(head) << np.uint64(8)) | word
            n_held += width + 8
            while n_held >= 8:
                n_held -= 8
                out[n] = (held >> np.uint64(n_held)) & np.uint64(255)
                n += 1
            count -= piece
        begin = end
        word ^= np.uint64(255)
    # What is left of the last byte, or a whole byte of zeros.
    out[n] = (held << np.uint64(8 - n_held)) & np.uint64(255)
    return out[: n + 1].copy()


@compiled
def edges_of_brush(
    data: NDArray[np.uint8], start: int, n_values: int, sizes: NDArray[np.int64]
) -> tuple[Edges, int]:
    """The runs of pixels whose alpha, every fourth value, is above 0.

    Args:
        data: (N,) uint8.
        start: bit of the first block.
        n_values: that the blocks are to hold.
        sizes: (4,) int64, bits of the counts.

    Returns:
        (E,) int64 edges, and how many values there were; -1 - values where the data end early.
    """
    stop = 8 * len(data)
    edges = np.empty(len(data) + 4, np.int64)
    n = 0
    at = start
    filled = 0
    inside = False
    while filled < n_values:
        if at + 3 > stop:
            return edges[:0].copy(), -1 - filled
        head = _bits(data, at, 3)
        size = sizes[head & 3]
        at += 3
        if at + size + 8 > stop:
            return edges[:0].copy(), -1 - filled
        count = _bits(data, at, size) + 1
        at += size
        is_run = head >= 4
        blocks = 1 if is_run else count
        if at + 8 * blocks > stop:
            return edges[:0].copy(), -1 - filled
        for _ in range(blocks):
            values = count if is_run else 1
            is_foreground = _bits(data, at, 8) > 0
            at += 8
            # Alpha is the last of four values, so that a pixel begins where its alpha does.
            first = filled // 4
            filled += values
            if filled // 4 > first and is_foreground != inside:
                if n == len(edges):
                    return edges[:0].copy(), -1 - filled
                n = toggled(edges, n, first)
                inside = is_foreground
    if inside:
        n = toggled(edges, n, n_values // 4)
    return edges[:n].copy(), filled


@compiled
def _bits(data: Any, at: int, width: int) -> int:
    """Up to 16 bits from a bit on; zeros behind the end."""
    byte = at >> 3
    found = 0
    for k in range(3):
        found = (found << 8) | (int(data[byte + k]) if byte + k < len(data) else 0)
    return (found >> (24 - (at & 7) - width)) & ((1 << width) - 1)


@compiled
def _write_json(data: Any, out: Any, n: int) -> int:
    """Write bytes as a JSON list of numbers behind the first n bytes of an array, which needs room
    for four times as many and four more; how many there are then.
    """
    begin = n
    out[n] = 91
    n += 1
    for value in data:
        for k in range(4):  # what is too much is written over
            out[n + k] = _TEXTS[value, k]
        n += _LENGTHS[value]
    n = max(n, begin + 2)
    out[n - 1] = 93
    return n


@compiled
def json_of_edges(
    edges: Edges, ends: NDArray[np.int64], n_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Brush run lengths of many masks as JSON, in one call.

    Args:
        edges: (E,) int64 of all masks, one after the other, each in a frame of ``n_pixels``.
        ends: (N,) int64, where the edges of each mask end.
        n_pixels: of the frame.

    Returns:
        (M,) uint8, ASCII, the texts one after the other; and (N,) int64, where each ends.
    """
    out = np.empty(32 * len(edges) + 256, np.uint8)
    text_ends = np.empty(len(ends), np.int64)
    n = 0
    begin = 0
    for k in range(len(ends)):
        data = brush_of_edges(edges[begin : ends[k]], n_pixels)
        begin = ends[k]
        if n + 4 * len(data) + 4 > len(out):
            larger = np.empty(2 * len(out) + 4 * len(data) + 4, np.uint8)
            larger[:n] = out[:n]
            out = larger
        n = _write_json(data, out, n)
        text_ends[k] = n
    return out[:n].copy(), text_ends
