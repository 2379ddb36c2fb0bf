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

import itertools
from collections.abc import Sequence

import numpy as np

from backend.core import kernels
from backend.core.runs import edges_of_mask, mask_of_edges
from backend.core.types import Mask
from backend.errors import InputError, json_kind

_HEADER_BITS = 53
_MAX_VALUES = 4 << 28  # a quarter of a giga pixel; beyond this a header is damage, not an image


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
    _check(mask, size_hw)
    edges = np.empty(0, np.int64) if mask is None else edges_of_mask(mask, width)
    return kernels.brush.brush_of_edges(edges, height * width).tobytes()


def brush_jsons(masks: Sequence[Mask], size_hw: tuple[int, int]) -> list[str]:
    """Masks of one image as ``value.rle`` in compact JSON: ``encode_brush`` and ``json.dumps`` of
    each, in one compiled call.

    Args:
        masks: crops inside the image.
        size_hw: of the upright image.

    Raises:
        InputError: see ``encode_brush``.

    >>> mask = Mask(1, 0, np.ones((1, 1), np.bool_))
    >>> brush_jsons([mask], (1, 2)) == [str([*encode_brush(mask, (1, 2))]).replace(" ", "")]
    True
    """
    height, width = size_hw
    if not masks:
        return []
    for mask in masks:
        _check(mask, size_hw)
    edges = [edges_of_mask(mask, width) for mask in masks]
    ends = np.array([*itertools.accumulate(map(len, edges))])
    text, stops = kernels.brush.json_of_edges(np.concatenate(edges), ends, height * width)
    whole = str(text.data, "ascii")
    places = [0, *stops.tolist()]
    return [whole[begin:stop] for begin, stop in itertools.pairwise(places)]


def _check(mask: Mask | None, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    if height < 1 or width < 1 or 4 * height * width >= 1 << 32:
        raise InputError(f"rle: an image of {width}x{height} pixels cannot be encoded")
    if mask is None:
        return
    h, w = mask.crop.shape
    if mask.x < 0 or mask.y < 0 or mask.x + w > width or mask.y + h > height:
        raise InputError(
            f"rle: crop {w}x{h} at ({mask.x}, {mask.y}) reaches beyond the image of"
            f" {width}x{height}"
        )


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
    sizes = np.array([(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)])
    edges, filled = kernels.brush.edges_of_brush(
        np.frombuffer(data, np.uint8), _HEADER_BITS, n_values, sizes
    )
    if filled < 0:
        raise InputError(f"rle: ends after {-1 - filled} of {n_values} values")
    if filled != n_values:
        raise InputError(f"rle: {filled} values in the blocks, expected {n_values}")
    return mask_of_edges(edges, width)
