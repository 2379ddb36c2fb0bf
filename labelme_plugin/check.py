"""Checking labelme files: what each version refuses, and what it opens without complaint and
stumbles over later.

What is known of labelme 5.5 to 7.9: 5.5 crashes on null flags, on backslashes in imagePath, and
loses the second corner of a mask of one pixel; 6 and later refuse sizes that are not those of the
picture, and shapes without a type; none looks whether a mask fits its box, so that its own exports
stop (6) or silently take other pixels (7).
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from backend.errors import InputError, as_sentence, json_kind
from backend.files.find import is_inside
from backend.files.images import DEFAULT_LIMITS, ImageLimits
from backend.files.pictures import Pictures, header_of

_MOST_BYTES = 128 << 20
_FAR = 1e9  # pixels; nan and infinity are not below it either
_LIMITS = ImageLimits(max_pixels=1 << 30, max_side=1 << 20, min_side=1)  # labelme has none
_SHOWN_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # of Pillow, that labelme displays
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


@dataclass(frozen=True)
class Problem:
    """One fault of a file, or a remark on it: something that only old versions mind, or that could
    not be looked at.
    """

    file: str
    field: str  # such as shapes[3].mask; empty for the file as a whole
    sentence: str
    is_remark: bool = False

    def as_text(self) -> str:
        """One line."""
        return ": ".join(
            text
            for text in (self.file, self.field, "remark" if self.is_remark else "", self.sentence)
            if text
        )

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return {
            "file": self.file,
            "field": self.field,
            "level": "remark" if self.is_remark else "fault",
            "sentence": self.sentence,
        }


class _Remark(str):
    """A sentence that is no fault."""


_MAY_REACH_OUT = ("circle", "oriented_rectangle")  # labelme's own AI tools make such
_Found = Iterator[tuple[str, str]]  # field and sentence


def check_file(
    path: Path, pictures: Pictures, labels: Sequence[str] | None = None
) -> list[Problem]:
    """Everything that is wrong with a labelme file.

    Args:
        path: of the file.
        pictures: where pictures may be looked at.
        labels: all there may be; None allows any.
    """
    problems = []
    try:
        for field, sentence in _check(path, pictures, labels):
            problems.append(Problem(str(path), field, str(sentence), isinstance(sentence, _Remark)))
    except Exception as error:  # whatever a file holds, it costs only itself
        problems.append(Problem(str(path), "", as_sentence(error)))
    return problems


def _check(path: Path, pictures: Pictures, labels: Sequence[str] | None) -> _Found:
    try:
        if not path.is_file():
            yield "", "is no regular file"
            return
        if (size := path.stat().st_size) > _MOST_BYTES:
            yield "", f"{size >> 20} MiB, the limit is {_MOST_BYTES >> 20}"
            return
        data = path.read_bytes()
        if data.startswith(b"\xef\xbb\xbf"):
            yield "", "begins with a byte order mark, which no labelme can read"
        document = json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        yield "", f"cannot read: {(error.strerror or str(error)).lower()}"
        return
    except (ValueError, RecursionError) as error:
        yield "", f"is not valid JSON: {str(error)[:120]}"
        return
    if not isinstance(document, dict) or not {"shapes", "imagePath", "imageData"} & set(document):
        yield "", _Remark("is no labelme file, and was not checked")
        return
    if "shapes" not in document:
        yield "shapes", "is missing; every labelme refuses the file"
        return
    yield from _top(document, path, pictures)
    size_hw = _size(document)
    shapes = document["shapes"]
    if not isinstance(shapes, list):
        yield "shapes", f"expected a list, got {json_kind(shapes)}"
        return
    for k, shape in enumerate(shapes):
        for field, sentence in _shape(shape, size_hw, labels):
            yield f"shapes[{k}]{'.' if field else ''}{field}", sentence


def _size(document: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = document.get("imageHeight"), document.get("imageWidth")
    return sides if all(_is_int(side) and side > 0 for side in sides) else None  # type: ignore[return-value, operator]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _FAR


def _top(document: Mapping[str, Any], path: Path, pictures: Pictures) -> _Found:
    for key in ("imagePath", "imageData"):
        if key not in document:
            yield (
                key,
                "is missing; every labelme refuses the file"
                + (" (it may be null)" if key == "imageData" else ""),
            )
    yield from _flags(document, "flags", required=False)
    for key in ("imageHeight", "imageWidth"):
        if key not in document:
            yield key, _Remark("is missing; without it the size has to be read from the picture")
        elif not _is_int(document[key]) or not 0 < document[key] <= _LIMITS.max_side:
            yield key, f"expected a number of pixels, got {str(document[key])[:40]}"
    named = document.get("imagePath")
    if "imagePath" in document and (not isinstance(named, str) or not named):
        yield "imagePath", f"expected a path, got {json_kind(named)}"
        named = None
    if isinstance(named, str) and "\\" in named:
        yield "imagePath", _Remark("has backslashes, which labelme 5.5 finds only on Windows")
    yield from _picture(document, named, path, pictures)


def _picture(
    document: Mapping[str, Any], named: str | None, path: Path, pictures: Pictures
) -> _Found:
    """Whether the picture is there and as large as the file says."""
    picture: Path | bytes
    if document.get("imageData") is not None:
        try:
            picture = base64.b64decode(document["imageData"])
        except (TypeError, ValueError, binascii.Error) as error:
            yield "imageData", f"is no base64 text: {error}"
            return
        field = "imageData"
    elif named is None:
        return
    else:
        picture = path.parent / named.replace("\\", "/")
        field = "imagePath"
        if not pictures.inside(picture):
            outside = "\0" not in named and not any(
                is_inside(picture, root) for root in pictures.roots
            )
            missing = "there is no such picture, and no labelme opens the file"
            elsewhere = _Remark(
                f"{named[:80]!r}: lies outside of the folders given, so it was not looked at"
                " (--images names another)"
            )
            yield field, elsewhere if outside else f"{named[:80]!r}: {missing}"
            return
    try:
        header = header_of(picture, field, _LIMITS)
    except InputError as error:
        yield field, str(error).removeprefix(f"{field}: ")
        return
    if header.mode not in _SHOWN_MODES and header.format != "TIFF" and field == "imagePath":
        yield (
            field,
            f"labelme cannot show pictures of mode {header.mode}, and does not open the file",
        )
    size_hw = _size(document)
    actual = (
        header.stored_hw if field == "imageData" else header.size_hw
    )  # labelme does not look at the EXIF of embedded pictures
    if size_hw is not None and actual != size_hw:
        turned = (
            "; EXIF turns the picture, and labelme shows it turned"
            if header.turned and actual == size_hw[::-1] and field == "imagePath"
            else ""
        )
        shown = (
            f"is {size_hw[1]}x{size_hw[0]} by the file, but the picture is {actual[1]}x{actual[0]}"
        )
        yield "imageHeight", f"{shown}{turned}; labelme 6 and later refuse it"


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
                f"expected a whole number or null, got {str(shape['group_id'])[:40]}; labelme 6 and"
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
            yield "points", f"expected pairs of finite numbers, got {str(point)[:60]}"
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
