"""Safe decoding of untrusted image bytes into upright RGB arrays.

Limits are checked on the header, before any pixel is decoded; Pillow's own global limit is never
changed.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from backend.core.types import Image
from backend.errors import InputError, Unavailable, system_reason

logger = logging.getLogger(__name__)

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # the decoders that may run at all
_ORIENTATION = 0x0112  # EXIF tag
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before decoding; sides in pixels."""

    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 8
    max_bytes: int = 256 << 20


DEFAULT_LIMITS = ImageLimits()


def _not_an_image(data: bytes, name: str) -> InputError:
    head = data[:512].lstrip().lower()
    if not data:
        return InputError(f"{name}: the file is empty")
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")) or b"<html" in head:
        return InputError(f"{name}: got text/html instead of an image; a login page?")
    if head.startswith((b"{", b"[")):
        return InputError(f"{name}: got JSON text instead of an image")
    if head.startswith(b"version https://git-lfs"):
        return InputError(f"{name}: is a Git LFS pointer; the image itself was not checked out")
    return InputError(f"{name}: is not one of {', '.join(IMAGE_FORMATS)}")


def _check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise InputError(
            f"{name}: {width}x{height} is {width * height / 1e6:.1f} megapixels, the limit is"
            f" {limits.max_pixels / 1e6:g}"
        )
    if max(width, height) > limits.max_side:
        raise InputError(f"{name}: {width}x{height} has a side over {limits.max_side} pixels")
    if min(width, height) < limits.min_side:
        raise InputError(f"{name}: {width}x{height} has a side under {limits.min_side} pixels")


def declared_size(
    height: object,
    width: object,
    where: str,
    names: tuple[str, str],
    limits: ImageLimits = DEFAULT_LIMITS,
) -> tuple[int, int]:
    """The size of an image as a file declares it.

    Nothing is allocated for one that is beyond the limits.

    Args:
        height: as the file has it.
        width: likewise.
        where: for messages.
        names: what the file calls them.
        limits: what is refused.

    Returns:
        Height and width.

    Raises:
        InputError: no whole numbers above 0, or too large.
    """
    sides = []
    for name, side in zip(names, (height, width), strict=True):
        if (
            isinstance(side, bool)
            or not isinstance(side, int | float)
            or not 1 <= side <= limits.max_side
            or side != int(side)
        ):
            raise InputError(
                f"{where}{name}: expected a number of pixels, got"
                f" {'nothing' if side is None else str(side)[:40]}"
            )
        sides.append(int(side))
    if sides[0] * sides[1] > limits.max_pixels:
        raise InputError(
            f"{where}an image of {sides[1]}x{sides[0]} pixels is too large, the limit is"
            f" {limits.max_pixels / 1e6:g} megapixels"
        )
    return sides[0], sides[1]


def _scaled(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Deep greys as 8-bit: by the full declared range (16 bits, or 0..1 for floats that stay
    there), never clipped.
    """
    values = np.asarray(picture)
    if picture.mode == "F":
        if not np.isfinite(values).all():
            raise InputError(f"{name}: holds pixels that are not finite numbers")
        low = float(values.min())
        high = float(values.max())
        if low >= 0 and high <= 1:
            low = 0.0
            high = 1.0
    else:
        low = min(0.0, float(values.min()))
        high = max(65535.0, float(values.max()))
    grey = (values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    return PIL.Image.fromarray(np.rint(grey).astype(np.uint8))


def _to_rgb(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    mode = picture.mode
    if mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return _scaled(picture, name).convert("RGB")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(white, layered).convert("RGB")
    if mode == "RGB":
        return picture
    if mode in ("1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        return picture.convert("RGB")
    raise InputError(f"{name}: pixel mode {mode} is not supported")


def _open(data: bytes | Path, name: str) -> PIL.Image.Image:
    try:
        return PIL.Image.open(
            io.BytesIO(data) if isinstance(data, bytes) else data, formats=IMAGE_FORMATS
        )
    except PIL.UnidentifiedImageError:
        if isinstance(data, Path):
            with data.open("rb") as stream:
                data = stream.read(512)
        raise _not_an_image(data, name) from None
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise InputError(f"{name}: far too many pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, OverflowError) as error:
        raise InputError(f"{name}: damaged header: {error}") from None


def _upright(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(picture)
    except (
        Exception
    ) as error:  # broken EXIF raises nearly anything, and says nothing about the pixels
        logger.warning("%s: unreadable EXIF ignored: %s", name, error)
        return picture


@dataclass(frozen=True)
class Header:
    """What a picture's header tells."""

    size_hw: tuple[int, int]  # upright
    turned: bool  # whether the pixels are stored otherwise, and EXIF says how
    format: str  # of IMAGE_FORMATS
    mode: str  # of Pillow
    stored_hw: tuple[int, int]  # without regard to EXIF


def read_header(
    picture: bytes | Path, name: str = "image", limits: ImageLimits = DEFAULT_LIMITS
) -> Header:
    """Look at a picture without decoding it.

    Args:
        picture: the whole file, or where it lies.
        name: how to call it in messages.
        limits: what to refuse.

    Raises:
        InputError: not an image, damaged, or too large or small.
        OSError: the file cannot be read.
    """
    with _open(picture, name) as opened:
        width, height = opened.size
        _check_size(width, height, name, limits)
        try:
            orientation = opened.getexif().get(_ORIENTATION, 1)
        except Exception:  # as in _upright
            orientation = 1
        turned = isinstance(orientation, int) and 2 <= orientation <= 8
        lies = turned and orientation >= 5
        stored = (
            (height, width) if not lies or opened.format != "TIFF" else (width, height)
        )  # Pillow tells the upright size of a TIFF
        return Header(
            stored[::-1] if lies else stored, turned, opened.format or "", opened.mode, stored
        )


def decode_image(data: bytes, name: str = "image", limits: ImageLimits = DEFAULT_LIMITS) -> Image:
    """Decode image bytes.

    Args:
        data: the whole file; JPEG, PNG, WebP, BMP, TIFF or GIF.
        name: how to call it in messages.
        limits: what to refuse on sight of the header.

    Returns:
        (H, W, 3) uint8 RGB with EXIF orientation applied, alpha composited on white, 16-bit greys
        scaled, and the first frame of an animation.

    Raises:
        InputError: not an image, too large or small, truncated, or in an unknown pixel mode.
    """
    picture = _open(data, name)
    with picture:
        _check_size(*picture.size, name, limits)
        if getattr(picture, "is_animated", False):
            logger.info("%s: animated, the first frame is used", name)
        try:
            picture.load()
            pixels: NDArray[np.uint8] = np.array(_to_rgb(_upright(picture, name), name), np.uint8)
        except InputError:
            raise
        except (
            OSError,
            SyntaxError,
            ValueError,
            EOFError,
            IndexError,
            TypeError,
            OverflowError,
            Warning,
        ) as error:
            raise InputError(f"{name}: truncated or damaged: {error}") from None
        except MemoryError:
            raise Unavailable(
                f"{name}: not enough memory to decode {picture.size[0]}x{picture.size[1]} pixels"
            ) from None
    return pixels


def read_image(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> Image:
    """Read and decode an image file; see ``decode_image``.

    Raises:
        InputError: also for a file that is missing, unreadable, not a regular file, or too large.
    """
    try:
        if not path.is_file():
            raise InputError(
                f"{path}: {'is not a regular file' if path.exists() else 'no such file'}"
            )
        if (size := path.stat().st_size) > limits.max_bytes:
            raise InputError(f"{path}: {size} bytes, the limit is {limits.max_bytes}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {system_reason(error)}") from None
    return decode_image(data, str(path), limits)
