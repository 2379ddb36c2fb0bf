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
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import InputError, as_sentence, json_kind, system_reason, told
from backend.files.find import is_inside
from backend.files.images import ImageLimits
from backend.files.picture_data import header_of
from backend.files.pictures import Pictures
from backend.files.text import decode_text
from labelme_plugin.check_shapes import _flags, _Found, _is_int, _Remark, _shape

_MOST_BYTES = 128 << 20
_LIMITS = ImageLimits(max_pixels=1 << 30, max_side=1 << 20, min_side=1)  # labelme has none
_SHOWN_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # of Pillow, that labelme displays


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
        document = json.loads(_decoded(data))
    except OSError as error:
        yield "", f"cannot read: {system_reason(error)}"
        return
    except InputError as error:
        yield "", str(error)
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


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            decode_text(data, "")
        except InputError as error:
            may_be = str(error).removeprefix(": ").partition(": --encoding")[0]
            raise InputError(f"{may_be}, and labelme reads nothing else than UTF-8") from None
        raise InputError("is in UTF-16, and labelme reads nothing else than UTF-8") from None


def _size(document: Mapping[str, Any]) -> tuple[int, int] | None:
    height: Any = document.get("imageHeight")
    width: Any = document.get("imageWidth")
    if _is_int(height) and _is_int(width) and height > 0 and width > 0:
        return height, width
    return None


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
            yield key, f"expected a number of pixels, got {told(document[key])}"
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
