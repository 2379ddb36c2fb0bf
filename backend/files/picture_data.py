"""The header and the bytes of a picture, in a file or in memory: upright, or without its EXIF."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import PIL.ImageOps

from backend.errors import InputError, system_reason
from backend.files.images import (
    IMAGE_FORMATS,
    UNDECODED,
    Header,
    ImageLimits,
    read_header,
)

_QUALITY = 95  # of a JPEG that is turned upright
_JPEG = b"\xff\xd8"
_APP1 = 0xE1


def header_of(picture: Path | bytes, where: str, limits: ImageLimits = UNDECODED) -> Header:
    """Upright size, format and whether the picture is stored turned, from its header alone.

    Args:
        picture: a file, or the bytes of one.
        where: for messages about bytes.
        limits: of what is accepted.

    Raises:
        InputError: unreadable, no picture, or too large.
    """
    try:
        return read_header(picture, where if isinstance(picture, bytes) else str(picture), limits)
    except OSError as error:
        raise InputError(
            f"{where if isinstance(picture, bytes) else picture}: cannot read:"
            f" {system_reason(error)}"
        ) from None


def upright_bytes(picture: Path | bytes, where: str) -> bytes:
    """The picture turned as its EXIF orientation says, in its own format.

    A JPEG is encoded anew with quality 95.

    Args:
        picture: a file, or the bytes of one.
        where: for messages.

    Raises:
        InputError: it cannot be decoded.
    """
    # From memory also where it is a file: Pillow maps an uncompressed grey TIFF into memory in the
    # size it has once it is turned, which mixes up its rows.
    source = io.BytesIO(picture_bytes(picture, where))
    try:
        with PIL.Image.open(source, formats=IMAGE_FORMATS) as opened:
            turned = PIL.ImageOps.exif_transpose(opened)
            return _encoded(turned, opened)
    except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{where}: cannot turn the picture upright: {error}") from None


def _encoded(image: PIL.Image.Image, original: PIL.Image.Image, **options: bytes) -> bytes:
    """An image in the format of the one it was made of."""
    stream = io.BytesIO()
    kind = original.format or "PNG"
    quality = {"quality": _QUALITY} if kind in ("JPEG", "WEBP") else {}
    image.save(stream, kind, icc_profile=original.info.get("icc_profile"), **quality, **options)
    return stream.getvalue()


def _without_segments(jpeg: bytes) -> bytes:
    """A JPEG without its APP1 segments, in which EXIF lies (ITU T.81, B.1.1: a marker, then the
    length of what follows, itself included).
    """
    kept = [jpeg[:2]]
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] not in (
        b"\xda",
        b"",
    ):  # up to the start of the scan
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += [jpeg[at:end]] if jpeg[at + 1] != _APP1 else []
        at = end
    return b"".join([*kept, jpeg[at:]])


def without_exif(picture: bytes, where: str) -> bytes:
    """The picture as it is stored, without the EXIF that would turn it; of a JPEG no pixel changes.

    Args:
        picture: its bytes.
        where: for messages.

    Raises:
        InputError: it cannot be decoded.
    """
    if picture.startswith(_JPEG):
        return _without_segments(picture)
    try:
        with PIL.Image.open(io.BytesIO(picture), formats=IMAGE_FORMATS) as opened:
            return _encoded(opened, opened, exif=b"")
    except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{where}: cannot read the picture in imageData: {error}") from None


def picture_bytes(picture: Path | bytes, where: str) -> bytes:
    """The picture's own bytes.

    Raises:
        InputError: unreadable.
    """
    if isinstance(picture, bytes):
        return picture
    try:
        return picture.read_bytes()
    except OSError as error:
        raise InputError(f"{picture}: cannot read: {system_reason(error)}") from None
