"""Checking the shapes of a labelme file."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from backend.errors import InputError, json_kind, told
from backend.files.images import DEFAULT_LIMITS

_FAR = 1e9  # pixels; nan and infinity are not below it either
# How many points each type of shape has: least and most.
_POINTS = {
    "mask": (2, 2),
    "rectangle": (2, 2),
    "circle": (2, 2),
    "line": (2, 2),
    "point": (1, 1),
    "linestrip": (2, None),
    "polygon": (3, None),
    "oriented_rectangle": (4, 4),
}


class _Remark(str):
    """A sentence that is no fault."""


_MAY_REACH_OUT = ("circle", "oriented_rectangle")  # labelme's own AI tools make such
_Found = Iterator[tuple[str, str]]  # field and sentence


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _FAR


def _flags(holder: Mapping[str, Any], key: str, required: bool = True) -> _Found:
    flags = holder.get(key, {})
    if flags is None:
        if required:
            yield (
                key,
                _Remark(
                    "is null, on which the window of labelme 5.5 crashes, though labelme 6 writes"
                    " it; {} is right"
                ),
            )
    elif not isinstance(flags, dict) or not all(
        isinstance(value, bool) for value in flags.values()
    ):
        yield key, "expected names with true or false; labelme 6 and later refuse anything else"


def _shape(shape: Any, size_hw: tuple[int, int] | None, labels: Sequence[str] | None) -> _Found:
    if not isinstance(shape, dict):
        yield "", f"expected an object, got {json_kind(shape)}"
        return
    label = shape.get("label")
    if not isinstance(label, str):
        yield "label", f"expected a text, got {json_kind(label)}; labelme 6 and later refuse it"
    elif not label.strip():
        yield "label", "is empty"
    elif label != label.strip():
        yield "label", f"{label[:60]!r} has blanks around it, which makes it another class"
    elif labels is not None and label not in labels:
        yield "label", f"{label[:60]!r} is not in labels.txt, at which labelme2voc stops"
    yield from _flags(shape, "flags")
    if shape.get("group_id") is not None and not _is_int(shape["group_id"]):
        yield (
            "group_id",
            (
                f"expected a whole number or null, got {told(shape['group_id'])}; labelme 6 and"
                " later refuse it"
            ),
        )
    if shape.get("description") is not None and not isinstance(shape["description"], str):
        yield (
            "description",
            (
                f"expected a text or null, got {json_kind(shape['description'])}; labelme 6 and"
                " later refuse it"
            ),
        )
    kind = shape.get("shape_type")
    if "shape_type" not in shape:
        yield "shape_type", "is missing, which labelme 6 and later refuse"
    elif not isinstance(kind, str) or kind not in _POINTS:
        yield "shape_type", f"{str(kind)[:40]!r} is none of {', '.join(_POINTS)}"
    found = list(_points(shape, kind if isinstance(kind, str) else "polygon"))
    yield from found
    if kind == "mask":
        yield from _mask(shape, size_hw, not found)
    elif shape.get("mask") is not None:
        yield "mask", f"a {kind} has no mask; labelme 7 refuses it"
    elif not found and size_hw is not None and kind not in _MAY_REACH_OUT:
        far = [
            point
            for point in shape["points"]
            if not (-1 <= point[0] <= size_hw[1] + 1 and -1 <= point[1] <= size_hw[0] + 1)
        ]
        if far:
            yield (
                "points",
                _Remark(f"{far[0]} lies outside of the image of {size_hw[1]}x{size_hw[0]}"),
            )


def _points(shape: Mapping[str, Any], kind: str) -> _Found:
    points = shape.get("points")
    if not isinstance(points, list) or not points:
        yield (
            "points",
            (
                "expected a list of points, got"
                f" {'an empty list' if points == [] else json_kind(points)}"
            ),
        )
        return
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
            yield "points", f"expected pairs of finite numbers, got {told(point)}"
            return
    least, most = _POINTS.get(kind, (1, None))
    if len(points) < least or (most is not None and len(points) > most):
        wanted = str(least) if least == most else f"at least {least}"
        yield "points", f"a {kind} has {wanted} points, this one {len(points)}"


def _mask(shape: Mapping[str, Any], size_hw: tuple[int, int] | None, has_points: bool) -> _Found:
    text = shape.get("mask")
    if not isinstance(text, str) or not text:
        yield (
            "mask",
            f"expected a PNG in base64, got {json_kind(text) if text != '' else 'an empty text'}",
        )
        return
    if text.startswith("data:"):
        yield (
            "mask",
            "begins with data:, which no labelme can read; only the base64 text belongs here",
        )
        return
    try:
        values = _decode(text)
    except InputError as error:
        yield "mask", str(error)
        return
    if values.ndim != 2:
        yield (
            "mask",
            f"has {values.shape[2]} channels; a mask has one, and labelme 7 refuses the file",
        )
        return
    if not values.any():
        yield "mask", "has no foreground pixel"
    elif len(levels := np.unique(values)) > 2:
        yield (
            "mask",
            (
                f"has {len(levels)} grey levels; everything but 0 is foreground, so that soft edges"
                " make it larger"
            ),
        )
    if has_points:
        yield from _box(shape["points"], values.shape, size_hw)


def _decode(text: str) -> np.ndarray:
    try:
        data = base64.b64decode(text)
    except (ValueError, binascii.Error) as error:
        raise InputError(f"is no base64 text: {error}") from None
    if data.startswith(b"\xff\xd8"):
        raise InputError("is a JPEG, which changes pixels at the edges; a PNG is right")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.width * picture.height > DEFAULT_LIMITS.max_pixels:
                raise InputError(f"has {picture.width}x{picture.height} pixels, which is too large")
            return np.array(picture)
    except PIL.UnidentifiedImageError:
        raise InputError("is no PNG") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"cannot decode: {error}") from None


def _box(
    points: Sequence[Sequence[float]], shape: tuple[int, ...], size_hw: tuple[int, int] | None
) -> _Found:
    """Whether the box is the inclusive one of the mask: from its first to its last pixel."""
    (x0, y0), (x1, y1) = points
    height, width = shape
    if any(v != int(v) for v in (x0, y0, x1, y1)):
        yield (
            "points",
            _Remark("has fractions of pixels, which versions of labelme round differently"),
        )
    left, top, right, bottom = (int(v) for v in (x0, y0, x1, y1))
    mistakes: list[tuple[Callable[[], bool], str]] = [
        (
            lambda: right < left or bottom < top,
            "the corners are swapped; the upper left comes first",
        ),
        (
            lambda: (right - left, bottom - top) == (width, height),
            "the box is exclusive; it must end at the last pixel of the mask, one less",
        ),
        (
            lambda: (
                size_hw is not None
                and (height, width) == size_hw
                and (bottom - top + 1, right - left + 1) != (height, width)
            ),
            "the mask is as large as the image; it must be cut to the box",
        ),
        (
            lambda: (bottom - top + 1, right - left + 1) != (height, width),
            (
                f"the inclusive box is {right - left + 1}x{bottom - top + 1}, its mask"
                f" {width}x{height}"
            ),
        ),
    ]
    wrong = next((sentence for test, sentence in mistakes if test()), None)
    if wrong is not None:
        yield "points", wrong + "; labelme opens it, and its exports stop or take other pixels"
    elif (width, height) == (1, 1):
        yield (
            "points",
            "the mask is a single pixel, whose second corner labelme 5.5 loses on saving",
        )
    if size_hw is not None and (left < 0 or top < 0 or right >= size_hw[1] or bottom >= size_hw[0]):
        yield "points", f"the box reaches beyond the image of {size_hw[1]}x{size_hw[0]}"
