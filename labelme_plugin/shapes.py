"""Masks as labelme shapes.

A labelme mask is a crop in an 8-bit grey PNG, placed by the corners of an inclusive box.

Format as labelme 5.5 to 7.9 read it: ``points`` are the first and the last pixel, so the crop has
the shape (y2 - y1 + 1, x2 - x1 + 1); any non-zero pixel is foreground.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from backend.core import kernels
from backend.core.masks import mask_xyxy
from backend.core.runs import edges_of_mask
from backend.core.types import Mask
from backend.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    )


def encode_mask_png(crop: NDArray[np.bool_]) -> bytes:
    """A boolean crop as an 8-bit grey PNG with 0 and 255.

    It is written from the runs of the mask, see ``core.kernels.deflate``: a hundred times as
    fast as a general encoder's defaults, and smaller.

    >>> encode_mask_png(np.ones((1, 2), np.bool_))[:4]
    b'\\x89PNG'
    """
    h, w = crop.shape
    # A row is one more byte, which names the filter: 0, none.
    edges = edges_of_mask(Mask(1, 0, crop), w + 1)
    head, codes = kernels.deflate.table()
    packed = kernels.deflate.deflated_runs(edges, h * (w + 1), head, *codes).tobytes()
    return (
        _SIGNATURE
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0))
        + _chunk(b"IDAT", packed)
        + _chunk(b"IEND", b"")
    )


def decode_mask_png(data: bytes) -> NDArray[np.bool_]:
    """A mask PNG of any single-channel mode as booleans.

    Raises:
        InputError: not a PNG, damaged, or not two-dimensional.

    >>> decode_mask_png(encode_mask_png(np.array([[True, False]]))).tolist()
    [[True, False]]
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            values = np.array(picture)
    except PIL.UnidentifiedImageError:
        raise InputError("mask: cannot decode: is no PNG") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"mask: cannot decode: {error}") from None
    if values.ndim != 2:
        raise InputError(f"mask: must decode to a 2D image, got shape {values.shape}")
    return np.asarray(values != 0, np.bool_)


def mask_shape(label: str, mask: Mask) -> dict[str, Any]:
    """A mask as a labelme shape.

    Args:
        label: of the instance.
        mask: not empty, inside the image.

    >>> shape = mask_shape("cat", Mask(3, 5, np.ones((2, 4), np.bool_)))
    >>> shape["shape_type"], shape["points"]  # the first and the last pixel
    ('mask', [[3.0, 5.0], [6.0, 6.0]])
    """
    x0, y0, x1, y1 = mask_xyxy(mask).tolist()
    return _shape(
        label,
        [[x0, y0], [x1 - 1, y1 - 1]],
        "mask",
        base64.b64encode(encode_mask_png(mask.crop)).decode("ascii"),
    )


def _shape(
    label: str, points: list[list[float]], kind: str, mask: str | None = None
) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }


def polygon_shape(label: str, points: list[list[float]]) -> dict[str, Any]:
    """A polygon as a labelme shape.

    Args:
        label: of the instance.
        points: at least three pairs of x and y in pixels.

    >>> shape = polygon_shape("cat", [[0, 0], [4, 0], [4, 4]])
    >>> shape["shape_type"], shape["points"]
    ('polygon', [[0, 0], [4, 0], [4, 4]])
    """
    return _shape(label, points, "polygon")


def box_shape(label: str, xyxy: Sequence[float]) -> dict[str, Any]:
    """A box as a labelme rectangle.

    Args:
        label: of the instance.
        xyxy: in pixels.

    >>> shape = box_shape("cat", [0, 0, 4.125, 3])
    >>> shape["shape_type"], shape["points"]
    ('rectangle', [[0.0, 0.0], [4.12, 3.0]])
    """
    x0, y0, x1, y1 = (round(float(value), 2) for value in xyxy)
    return _shape(label, [[x0, y0], [x1, y1]], "rectangle")


def score_keys(score: float) -> dict[str, Any]:
    """Where a shape carries its score, 0..1: in ``score``, which labelme keeps, and in
    ``description``, where labelme's own AI tools put theirs.

    >>> score_keys(0.5)
    {'description': '{"score": 0.5}', 'score': 0.5}
    """
    return {"description": json.dumps({"score": round(score, 4)}), "score": score}


def mask_of(shape: Mapping[str, Any], where: str = "shape") -> Mask:
    """The mask of a labelme shape of type ``mask``.

    Args:
        shape: the parsed JSON object.
        where: how to call it in a message, such as ``a.json: shapes[3]``.

    Raises:
        InputError: the PNG does not decode, or does not fit its inclusive box.

    >>> mask_of(mask_shape("cat", Mask(3, 5, np.ones((1, 2), np.bool_))))
    Mask(x=3, y=5, crop=array([[ True,  True]]))
    """
    try:
        data = base64.b64decode(shape["mask"])
        (x, y), (right, bottom) = ((int(a), int(b)) for a, b in shape["points"])
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise InputError(f"{where}: expected a base64 mask and two points: {error}") from None
    try:
        crop = decode_mask_png(data)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None
    if right < x or bottom < y:
        raise InputError(f"{where}.points: the corners are swapped; the upper left comes first")
    expected = (bottom - y + 1, right - x + 1)
    if crop.shape != expected:
        raise InputError(
            f"{where}.points: the inclusive box is {expected[1]}x{expected[0]}, its mask"
            f" {crop.shape[1]}x{crop.shape[0]}"
        )
    return Mask(x, y, crop)
