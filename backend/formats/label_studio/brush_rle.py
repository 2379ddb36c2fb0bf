"""Label Studio's brush RLE, from and to cropped masks, byte for byte as label-studio-sdk writes it.

The format is rle-pack of thi.ng/umbrella, most significant bit first. Header of 53 bits: number of
values (32), word size minus one (5), four size fields minus one (4 each). Then blocks: a flag (1 =
run, 0 = literals), a slot number (2) that picks one of the four sizes, the count minus one in that
many bits, and one word (run) or ``count`` words (literals).

The values are the bytes of an RGBA image; Label Studio looks at alpha only. The SDK writes each
mask pixel as four equal bytes, 0 or 255, sizes 3, 4, 8, 16, splits runs over 65536, and adds a
whole zero byte when the last bit already ends a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from backend.core.types import Mask
from backend.core.upsample import fill_between
from backend.errors import InputError, json_kind

_HEADER_BITS = 53
_SHORT = 800  # bytes; below, decoding block by block is faster
_SIZES = (3, 4, 8, 16)
_LONGEST = 1 << 16  # values in one block of the longest kind
_MAX_VALUES = 4 << 28  # a quarter of a giga pixel; beyond this a header is damage, not an image

Runs = tuple[
    NDArray[np.int64], bool
]  # lengths in pixels, alternating, and whether the first is foreground


def run_lengths(mask: Mask, size_hw: tuple[int, int]) -> Runs:
    """Run lengths of the full frame in row order, from the crop alone.

    Args:
        mask: a crop inside the image.
        size_hw: of the image.

    Returns:
        Lengths in pixels, (N,) int64, alternating between background and foreground, and whether
        the first is foreground.

    >>> lengths, first = run_lengths(Mask(1, 0, np.ones((1, 2), np.bool_)), (1, 4))
    >>> lengths.tolist(), first  # one of background, two of foreground, one of background
    ([1, 2, 1], False)
    """
    height, width = size_hw
    h, w = mask.crop.shape
    padded = np.zeros((h, w + 2), np.uint8)
    padded[:, 1:-1] = mask.crop
    flat = padded.ravel()
    changed = np.flatnonzero(flat[1:] != flat[:-1])
    row, column = np.divmod(changed, w + 2)
    edges = (row + mask.y) * width + mask.x + column
    if (
        w == width and len(edges) > 2
    ):  # a run may go on into the next row only where the crop is as wide as the image
        inner = edges[1:-1].reshape(-1, 2)
        edges = np.concatenate([edges[:1], inner[inner[:, 0] != inner[:, 1]].ravel(), edges[-1:]])
    lengths = np.diff(np.concatenate([[0], edges, [height * width]]))
    first = bool(len(edges)) and bool(edges[0] == 0)
    if first:
        lengths = lengths[1:]
    return (lengths[:-1] if lengths[-1] == 0 else lengths), first


def _pack(lengths: NDArray[np.int64], first: bool, n_pixels: int) -> bytes:
    """Blocks for alternating runs of pixels, packed behind the header."""
    values = np.where((np.arange(len(lengths)) & 1) == (0 if first else 1), 255, 0)
    counts = lengths * 4
    pieces = (counts - 1) // _LONGEST + 1
    split = bool((pieces > 1).any())
    if split:
        last = np.cumsum(pieces) - 1
        rest = counts - (pieces - 1) * _LONGEST
        values = np.repeat(values, pieces)
        pieces = np.repeat(pieces, pieces)
        counts = np.full(len(values), _LONGEST, np.int64)
        counts[last] = rest
    slot = np.searchsorted((8, 16, 256), counts)
    if split:
        slot[pieces > 1] = 3  # the SDK keeps the widest size for what is left of a split run
    bits = np.array(_SIZES)[slot]
    codes = (((4 | slot) << bits) | (counts - 1)) << 8 | values
    widths = bits + 11
    ends = np.cumsum(widths)
    total = _HEADER_BITS + int(ends[-1] if len(ends) else 0)
    # No two codes share a bit, so adding is or-ing; a double holds any sum of parts of one 32-bit
    # word exactly.
    starts = ends - widths + _HEADER_BITS
    word = starts >> 5
    offset = starts & 31
    wide = codes << (64 - widths - offset)
    n_words = total // 32 + 2
    packed = np.bincount(word, (wide >> 32) & 0xFFFFFFFF, n_words) + np.bincount(
        word + 1, wide & 0xFFFFFFFF, n_words
    )
    header = (
        (4 * n_pixels) << 32
        | (7 << 27)
        | sum((size - 1) << (23 - 4 * k) for k, size in enumerate(_SIZES))
    )
    packed[0] += header >> 32
    packed[1] += header & 0xFFFFFFFF
    return packed.astype(">u4").tobytes()[: total // 8 + 1]


def encode_brush(mask: Mask | None, size_hw: tuple[int, int]) -> bytes:
    """Encode a mask as Label Studio's ``value.rle``.

    Args:
        mask: a crop inside the image; None is all background.
        size_hw: of the upright image.

    Returns:
        One byte per list element; ``list(encode_brush(...))`` equals label-studio-sdk's
        ``mask2rle`` of the full frame in 0 and 255.

    Raises:
        InputError: the image has no pixels or more than the format can count, or the crop reaches
            beyond it.

    >>> rle = encode_brush(Mask(1, 0, np.ones((1, 1), np.bool_)), (1, 2))
    >>> rle[:4].hex()  # two pixels of four values
    '00000008'
    """
    height, width = size_hw
    if height < 1 or width < 1 or 4 * height * width >= 1 << 32:
        raise InputError(f"rle: an image of {width}x{height} pixels cannot be encoded")
    if mask is None:
        return _pack(np.array([height * width]), False, height * width)
    h, w = mask.crop.shape
    if mask.x < 0 or mask.y < 0 or mask.x + w > width or mask.y + h > height:
        raise InputError(
            f"rle: crop {w}x{h} at ({mask.x}, {mask.y}) reaches beyond the image of"
            f" {width}x{height}"
        )
    lengths, first = run_lengths(mask, size_hw)
    return _pack(lengths, first, height * width)


@cache
def _byte_texts() -> NDArray[np.bytes_]:
    return np.array([f"{value},".rjust(4).encode() for value in range(256)], "S4")


def brush_json(rle: bytes) -> str:
    """The list of bytes as compact JSON, several times faster than ``json.dumps(list(rle))``.

    >>> brush_json(bytes([0, 8, 255]))
    '[0,8,255]'
    """
    text = _byte_texts()[np.frombuffer(rle, np.uint8)].tobytes().replace(b" ", b"")
    return "[" + text[:-1].decode("ascii") + "]"


def _any_blocks(
    data: bytes, start: int, n_values: int, sizes: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts and values of runs and literals of 8-bit words, block by block.

    A literal is a run of one.
    """
    # 40 bits from every byte on: enough for the longest run block (27 bits) at any bit offset
    # within the byte.
    raw = np.frombuffer(data + bytes(8), np.uint8).astype(np.int64)
    n = len(data)
    windows = (
        raw[:n] << 32
        | raw[1 : n + 1] << 24
        | raw[2 : n + 2] << 16
        | raw[3 : n + 3] << 8
        | raw[4 : n + 4]
    ).tolist()
    counts: list[int] = []
    values: list[int] = []
    at = start
    filled = 0
    end = 8 * n
    while filled < n_values:
        if at + 3 > end:
            raise InputError(f"rle: ends after {filled} of {n_values} values")
        window = windows[at >> 3]
        skip = at & 7
        head = window >> (37 - skip) & 7
        size = sizes[head & 3]
        body = window >> (29 - size - skip)
        count = (body >> 8 & ((1 << size) - 1)) + 1
        if head & 4:
            at += 11 + size
            counts.append(count)
            values.append(body & 255)
        else:
            at += 3 + size
            if at + count * 8 > end:
                raise InputError(f"rle: ends after {filled} of {n_values} values")
            values.extend(
                windows[k >> 3] >> (32 - (k & 7)) & 255 for k in range(at, at + 8 * count, 8)
            )
            at += 8 * count
            counts.extend([1] * count)
        filled += count
    if at > end or filled != n_values:
        raise InputError(f"rle: {filled} values in the blocks, expected {n_values}")
    return np.array(counts), np.array(values)


def _run_blocks(
    data: bytes, start: int, n_values: int, sizes: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Counts and values of a stream of runs of 8-bit words, or None if it holds literals or ends
    early.

    Where a block begins is known only after the one before it. So the distance to the next block is
    computed for every bit, as if a block began there; following it eight blocks at a time leaves
    little to do one after the other.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    head = bits[:-2] << 2 | bits[1:-1] << 1 | bits[2:]
    step = np.array(
        [0, 0, 0, 0, *(11 + size for size in sizes)], np.int32
    )  # literals and padding stay where they are
    jump = np.minimum(
        np.arange(len(head), dtype=np.int32) + np.take(step, head), np.int32(len(head) - 1)
    )
    jumps = [jump]
    for _ in range(3):
        jumps.append(np.take(jumps[-1], jumps[-1]))
    at = start
    far = jumps[-1]
    found = [at]
    while (ahead := int(far[at])) != at:
        found.append(ahead)
        at = ahead
    positions = np.array(found, np.int32)
    for level in jumps[-2::-1]:
        positions = np.stack([positions, np.take(level, positions)], 1).ravel()
    keep = np.flatnonzero(np.diff(positions) <= 0)
    positions = positions[: keep[0] + 1] if len(keep) else positions
    slot = head[positions]
    positions = positions[slot > 3].astype(np.int64)
    slot = slot[slot > 3] & 3
    raw = np.frombuffer(data + bytes(8), np.uint8).astype(np.int64)
    byte = positions >> 3
    skip = positions & 7
    size = np.array(sizes)[slot]
    window = (
        raw[byte] << 32
        | raw[byte + 1] << 24
        | raw[byte + 2] << 16
        | raw[byte + 3] << 8
        | raw[byte + 4]
    )
    body = window >> (29 - skip - size)
    counts = (body >> 8 & ((1 << size) - 1)) + 1
    fits = len(positions) and positions[-1] + 11 + size[-1] <= 8 * len(data)
    return (counts, body & 255) if fits and counts.sum() == n_values else None


def _foreground(
    counts: NDArray[np.int64], values: NDArray[np.int64], n_pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one-past-last pixel of every stretch with alpha above 0."""
    if not (counts % 4).any():
        ends = np.cumsum(counts // 4)
        inside = values > 0
        return (ends - counts // 4)[inside], ends[inside]
    alpha = np.ascontiguousarray(np.repeat(values > 0, counts)[: 4 * n_pixels].reshape(-1, 4)[:, 3])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], alpha.view(np.int8), [0]])))
    return edges[::2], edges[1::2]


def decode_brush(rle: Sequence[int] | bytes, size_hw: tuple[int, int]) -> Mask | None:
    """Decode Label Studio's ``value.rle``, whoever wrote it (the editor colours R, G and B and may
    use literals).

    Args:
        rle: the list of bytes.
        size_hw: ``original_height`` and ``original_width`` of the region.

    Returns:
        The mask where alpha is above 0, as a tight crop, or None where it is empty.

    Raises:
        InputError: not bytes, damaged, or of another size than ``size_hw``.

    >>> rle = encode_brush(Mask(1, 0, np.ones((1, 1), np.bool_)), (1, 2))
    >>> decode_brush(rle, (1, 2))
    Mask(x=1, y=0, crop=array([[ True]]))
    """
    height, width = size_hw
    if not isinstance(rle, list | tuple | bytes | bytearray):
        raise InputError(f"rle: expected a list of integers 0..255, got {json_kind(rle)}")
    try:
        data = bytes(rle)
    except (TypeError, ValueError) as error:
        raise InputError(f"rle: expected a list of integers 0..255: {error}") from None
    if len(data) * 8 < _HEADER_BITS:
        raise InputError(f"rle: {len(data)} bytes are too few for a header")
    header = int.from_bytes(data[:7], "big") >> 3
    n_values = header >> 21
    word_size = (header >> 16 & 31) + 1
    if n_values != 4 * height * width or n_values > _MAX_VALUES:
        raise InputError(
            f"rle: holds {n_values} values, expected {4 * height * width} for {width}x{height}"
            " pixels"
        )
    if word_size != 8:
        raise InputError(f"rle: word size {word_size}, expected 8")
    sizes = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    blocks = _run_blocks(data, _HEADER_BITS, n_values, sizes) if len(data) > _SHORT else None
    blocks = blocks or _any_blocks(data, _HEADER_BITS, n_values, sizes)
    starts, ends = _foreground(*blocks, height * width)
    return mask_of_stretches(starts, ends, width) if len(starts) else None


def mask_of_stretches(starts: NDArray[np.int64], ends: NDArray[np.int64], width: int) -> Mask:
    """The tight crop around stretches of foreground pixels of a frame in row order.

    Args:
        starts: (N,) first pixels, N >= 1, ascending.
        ends: (N,) one past the last pixels.
        width: of the frame.

    >>> mask_of_stretches(np.array([1, 5]), np.array([3, 7]), width=4)  # pixels 1, 2, 5 and 6
    Mask(x=1, y=0, crop=array([[ True,  True],
           [ True,  True]]))
    """
    row, column = np.divmod(starts, width)
    top = int(row[0])
    bottom = int(ends[-1] - 1) // width + 1
    left = int(column.min())
    right = int((column + ends - starts).max())
    if (
        right > width
    ):  # some stretch wraps into the next row, so only painting tells which columns are used
        frame = _painted(starts - top * width, ends - top * width, (bottom - top, width))
        used = np.flatnonzero(frame.any(0))
        return Mask(int(used[0]), top, np.ascontiguousarray(frame[:, used[0] : used[-1] + 1]))
    begin = (row - top) * (right - left) + column - left
    return Mask(left, top, _painted(begin, begin + ends - starts, (bottom - top, right - left)))


def _painted(
    starts: NDArray[np.int64], ends: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """A frame of ``shape`` in row order, True in every stretch."""
    changes = np.concatenate([starts, ends])
    return (
        fill_between(np.zeros_like(changes), changes, np.zeros(1, np.bool_), shape[0] * shape[1])
        .view(np.bool_)
        .reshape(shape)
    )
