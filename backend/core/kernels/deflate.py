"""Deflate written from runs, without the pixels (RFC 1950 and 1951).

Every run is a literal and matches of distance 1. The code lengths are always the same: those that
suit outlines of objects. They are told in the head of the only block.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.kernels.compiled import compiled
from backend.core.kernels.runs import Edges

_ADLER = 65521
_SHORTEST = 3  # bytes of a match
_LONGEST = 258
_END = 256
_FIRST_LENGTH = 257
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)

Codes = tuple[NDArray[np.uint32], NDArray[np.uint8]]


def _literal_lengths() -> list[int]:
    """Code lengths of literals 0 and 255, the end, and the lengths of matches; others do not
    occur.
    """
    lengths = [0] * 286
    for symbol in (0, 255, 285):
        lengths[symbol] = 3
    for symbol in range(_END, 285):
        lengths[symbol] = 5 if symbol in _FREQUENT else 6
    return lengths


_FREQUENT = frozenset((257, 258, *range(273, 282)))


def _reversed_codes(lengths: list[int]) -> Codes:
    """Canonical Huffman codes, the first bit lowest, as deflate writes them."""
    codes = np.zeros(len(lengths), np.uint32)
    code = 0
    for length in range(1, max(lengths) + 1):
        code <<= 1
        for symbol, own in enumerate(lengths):
            if own == length:
                codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
                code += 1
    return codes, np.array(lengths, np.uint8)


def _told(lengths: list[int]) -> list[tuple[int, int]]:
    """Code lengths as symbols of deflate's head: a length, or 17 and 18 for zeros, and how many."""
    told: list[tuple[int, int]] = []
    k = 0
    while k < len(lengths):
        zeros = 0
        while k + zeros < len(lengths) and lengths[k + zeros] == 0 and zeros < 138:
            zeros += 1
        if zeros >= 3:
            told.append((17 if zeros <= 10 else 18, zeros))
        else:
            told.append((lengths[k], 0))
        k += max(1, zeros if zeros >= 3 else 1)
    return told


@cache
def table() -> tuple[NDArray[np.uint8], Codes]:
    """The head of the block as bits, (N,) uint8 of 0 and 1, and the codes of literals and lengths,
    each with its number of bits.
    """
    literals = _literal_lengths()
    told = _told([*literals, 1])  # one distance, of one bit
    used = sorted({symbol for symbol, _ in told})
    # Codes for the code lengths: a complete code, shorter for what is met often.
    own = [0] * 19
    for symbol, length in zip(used, _complete(len(used)), strict=True):
        own[symbol] = length
    codes, widths = _reversed_codes(own)
    n_told = max(k for k, symbol in enumerate(_ORDER) if own[symbol]) + 1
    bits: list[int] = []

    def put(value: int, width: int) -> None:
        bits.extend(value >> k & 1 for k in range(width))

    put(1, 1)  # the last block
    put(2, 2)  # with codes of its own
    put(len(literals) - 257, 5)
    put(0, 5)
    put(n_told - 4, 4)
    for symbol in _ORDER[:n_told]:
        put(own[symbol], 3)
    for symbol, count in told:
        put(int(codes[symbol]), int(widths[symbol]))
        if symbol == 17:
            put(count - 3, 3)
        elif symbol == 18:
            put(count - 11, 7)
    return np.array(bits, np.uint8), _reversed_codes(literals)


def _complete(n: int) -> list[int]:
    """Lengths of a complete prefix code for n symbols, as even as can be."""
    width = max(1, (n - 1).bit_length())
    short = (1 << width) - n
    return [width - 1] * short + [width] * (n - short) if width > 1 else [1] * n


@compiled
def deflated_runs(
    edges: Edges,
    n_bytes: int,
    head: NDArray[np.uint8],
    codes: NDArray[np.uint32],
    widths: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Runs of the bytes 0 and 255 as a zlib stream.

    Args:
        edges: (E,) int64 in a frame of ``n_bytes`` bytes; what is between them is 255.
        n_bytes: of the frame.
        head: see ``table``.
        codes: see ``table``.
        widths: see ``table``.

    Returns:
        (N,) uint8.
    """
    room = 16 + len(head) // 8 + 6 * (len(edges) + 1) + n_bytes // _LONGEST
    out = np.zeros(room, np.uint8)
    out[0] = 0x78
    out[1] = 0x01
    n = 2
    held = np.uint64(0)  # bits that do not fill a byte yet, the first lowest
    n_held = 0
    for bit in head:
        n, held, n_held = _put(out, n, held, n_held, bit, 1)
    low = 1
    high = 0
    begin = 0
    for k in range(len(edges) + 1):
        end = int(edges[k]) if k < len(edges) else n_bytes
        count = end - begin
        begin = end
        value = 255 if k % 2 else 0
        # Adler-32 of `count` equal bytes at once.
        high = (high + count * low + value * (count * (count + 1) // 2 % _ADLER)) % _ADLER
        low = (low + count * value) % _ADLER
        n_literals = 1 if count > _SHORTEST else count
        for _ in range(n_literals):
            n, held, n_held = _put(out, n, held, n_held, codes[value], widths[value])
        rest = count - n_literals
        while rest > 0:
            length = min(rest, _LONGEST)
            if 0 < rest - length < _SHORTEST:
                length -= _SHORTEST - (rest - length)  # so that the last match is long enough
            rest -= length
            symbol, extra, n_extra = _length_symbol(length)
            n, held, n_held = _put(out, n, held, n_held, codes[symbol], widths[symbol])
            # And the bit of the distance, which is 0.
            n, held, n_held = _put(out, n, held, n_held, extra, n_extra + 1)
    n, held, n_held = _put(out, n, held, n_held, codes[_END], widths[_END])
    n, held, n_held = _put(out, n, held, n_held, 0, -n_held % 8)
    check = (high << 16) | low
    for k in range(4):
        out[n + k] = (check >> (24 - 8 * k)) & 255
    return out[: n + 4].copy()


@compiled
def _put(
    out: Any, n: int, held: np.uint64, n_held: int, value: int, width: int
) -> tuple[int, np.uint64, int]:
    """Write bits: how many bytes are full now, what is left of them, and how many bits that is."""
    held |= np.uint64(value) << np.uint64(n_held)
    n_held += width
    while n_held >= 8:
        out[n] = held & np.uint64(255)
        n += 1
        held >>= np.uint64(8)
        n_held -= 8
    return n, held, n_held


@compiled
def _length_symbol(length: int) -> tuple[int, int, int]:
    """The symbol of a match's length, 3 to 258, its extra bits and their number."""
    if length == _LONGEST:
        return 285, 0, 0
    over = length - 3
    if over < 8:
        return _FIRST_LENGTH + over, 0, 0
    n_extra = 1
    while over >> (n_extra + 3):
        n_extra += 1
    # Symbols come in fours with as many extra bits; 4 to 7 is what is above these.
    symbol = _FIRST_LENGTH + 4 * n_extra + (over >> n_extra)
    return symbol, over & ((1 << n_extra) - 1), n_extra
