"""Safe decoding of untrusted image bytes into upright RGB arrays.

Limits are checked on the header, before any pixel is decoded; Pillow's own global limit is never
changed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.TiffImagePlugin
import simplejpeg
from numpy.typing import NDArray

from backend.core.types import Image
from backend.errors import InputError, Unavailable, system_reason, told
from backend.files.find import is_regular_file, is_there
from backend.files.stores import is_stored, read_stored

logger = logging.getLogger(__name__)

# The decoders that may run at all. HEIF is there where pillow-heif is installed (extra ``heic``).
IMAGE_FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
SUFFIXES: tuple[str, ...] = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".jpe",
    ".png",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".avif",
)
HEIC_SUFFIXES = (".heic", ".heif")
with contextlib.suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()
    IMAGE_FORMATS = (*IMAGE_FORMATS, "HEIF")
    SUFFIXES = (*SUFFIXES, *HEIC_SUFFIXES)
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")
_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 258  # TIFF tags
_SAMPLES_PER_PIXEL = 277
_SAMPLE_FORMAT = 339
_FLOAT = 3


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before decoding; sides in pixels."""

    max_pixels: int = 50_000_000
    max_side: int = 1 << 20
    min_side: int = 8
    max_bytes: int = 256 << 20
    max_scans: int = 500  # of a JPEG


DEFAULT_LIMITS = ImageLimits()
# Of what is not decoded. Masks are numbered by 32 bits in many programs, pycocotools among them.
MOST_SIDE = 1 << 20
MOST_DECLARED = 1 << 30
UNDECODED = ImageLimits(max_pixels=MOST_DECLARED, max_side=MOST_SIDE, min_side=1, max_bytes=1 << 40)


def _not_an_image(data: bytes, name: str) -> InputError:
    head = data[:512].lstrip().lower()
    if not data:
        return InputError(f"{name}: the file is empty")
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")) or b"<html" in head:
        return InputError(f"{name}: got text/html instead of an image; a login page?")
    if head.startswith((b"{", b"[")):
        return InputError(f"{name}: got JSON text instead of an image")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS and "HEIF" not in IMAGE_FORMATS:
        return InputError(
            f"{name}: is a HEIC picture, which is read once pillow-heif is installed (extra heic)"
        )
    if head.startswith(b"version https://git-lfs"):
        return InputError(f"{name}: is a Git LFS pointer; the image itself was not checked out")
    return InputError(f"{name}: is not one of {', '.join(IMAGE_FORMATS)}")


def _foreign_tiff(data: bytes | Path) -> str | None:
    """What kind of TIFF it is that Pillow cannot show; None for anything else."""
    try:
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as stream:
            head = stream.read(8)
            if head[:4] not in (b"II*\0", b"MM\0*"):
                return None
            tags = PIL.TiffImagePlugin.ImageFileDirectory_v2(head)
            stream.seek(tags.next)
            tags.load(stream)
    except Exception:  # damaged headers raise nearly anything
        return None
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    kind = "floating-point numbers" if _FLOAT in tags.get(_SAMPLE_FORMAT, (1,)) else "whole numbers"
    channels = tags.get(_SAMPLES_PER_PIXEL, 1)
    return (
        f"is a TIFF of {bits[0]}-bit {kind} in {channels} channels, which cannot be shown; save it"
        " with 8 bits a channel, or as grey with 16"
    )


def _check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise InputError(
            f"{name}: {width}x{height} is {width * height / 1e6:.1f} megapixels, the limit is"
            f" {limits.max_pixels / 1e6:g} (MAX_IMAGE_PIXELS sets another)"
        )
    if max(width, height) > limits.max_side:
        raise InputError(f"{name}: {width}x{height} has a side over {limits.max_side} pixels")
    if min(width, height) < limits.min_side:
        raise InputError(f"{name}: {width}x{height} has a side under {limits.min_side} pixels")


def _whole(side: object) -> int | None:
    """A side as a whole number; some programs write numbers as text. None for anything else."""
    if isinstance(side, str):
        try:
            side = float(side)
        except ValueError:
            return None
    if isinstance(side, float):
        return int(side) if math.isfinite(side) and side == int(side) else None
    return side if isinstance(side, int) and not isinstance(side, bool) else None


def side_or_none(height: object, width: object) -> tuple[int, int] | None:
    """A declared size, or None where a file does not tell it: missing, empty, zero or no number."""
    rows = _whole(height)
    columns = _whole(width)
    if rows is None or columns is None or rows < 1 or columns < 1:
        return None
    return rows, columns


def declared_size(
    height: object, width: object, where: str, names: tuple[str, str]
) -> tuple[int, int]:
    """The size of an image as a file declares it.

    No pixels are decoded for it, so that it has no limit but that of the numbers of its pixels.

    Args:
        height: as the file has it, a number or the text of one.
        width: likewise.
        where: for messages.
        names: what the file calls them.

    Returns:
        Height and width.

    Raises:
        InputError: no whole numbers above 0, or too large.
    """
    sides = []
    for name, given in zip(names, (height, width), strict=True):
        side = _whole(given)
        if side is None or side < 1:
            shown = told(given)
            raise InputError(f"{where}{name}: expected a number of pixels above 0, got {shown}")
        sides.append(side)
    if max(sides) > MOST_SIDE or sides[0] * sides[1] > MOST_DECLARED:
        raise InputError(
            f"{where.rstrip('.: ')}: an image of {told(sides[1])}x{told(sides[0])} pixels is too"
            " large: at most"
            f" {MOST_SIDE} pixels a side and {MOST_DECLARED >> 20} million of them can be numbered"
        )
    return sides[0], sides[1]


def _scaled(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Deep greys as 8-bit, from the darkest to the brightest pixel, as labelme shows them; cameras
    often use 12 of 16 bits. Floats that stay within 0..1 are taken by that range.
    """
    values = np.asarray(picture)
    if not np.isfinite(values).all():
        raise InputError(f"{name}: holds pixels that are not finite numbers")
    low = float(values.min())
    high = float(values.max())
    if picture.mode == "F" and low >= 0 and high <= 1:
        low = 0.0
        high = 1.0
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
        if (told := _foreign_tiff(data)) is not None:
            raise InputError(f"{name}: {told}") from None
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


def jpeg_scans(data: bytes) -> int:
    """How many times a decoder goes over the pixels of a JPEG; 1 for other formats.

    A progressive JPEG has about ten scans; nothing but this limit keeps a small file from having
    thousands (ITU T.81, B.2.3: each begins with the marker FF DA, which no coded data holds).
    """
    return max(1, data.count(b"\xff\xda")) if data.startswith(b"\xff\xd8") else 1


def _plain_jpeg(data: bytes, picture: PIL.Image.Image) -> Image | None:
    """The pixels of an upright JPEG without a fault; None for any other, which Pillow is asked.

    Both use the same decoder and give the same pixels, but Pillow holds the interpreter's lock
    while it copies them.
    """
    if picture.format != "JPEG" or picture.mode not in ("RGB", "L"):
        return None
    try:
        if picture.getexif().get(_ORIENTATION, 1) != 1:
            return None
        pixels: Image = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        return pixels
    except Exception:  # broken EXIF raises nearly anything; Pillow says what else is wrong
        return None


def decode_image(data: bytes, name: str = "image", limits: ImageLimits = DEFAULT_LIMITS) -> Image:
    """Decode image bytes.

    Args:
        data: the whole file, in one of ``IMAGE_FORMATS``.
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
        if (scans := jpeg_scans(data)) > limits.max_scans:
            raise InputError(
                f"{name}: is a JPEG of {scans} scans, the limit is {limits.max_scans}; nothing but"
                " an attack needs more"
            )
        if getattr(picture, "is_animated", False):
            logger.info("%s: animated, the first frame is used", name)
        if (plain := _plain_jpeg(data, picture)) is not None:
            return plain
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
    if is_stored(path):
        return decode_image(read_stored(path, limits.max_bytes), str(path), limits)
    try:
        if not is_regular_file(path):
            raise InputError(
                f"{path}: {'is not a regular file' if is_there(path) else 'no such file'}"
            )
        if (size := path.stat().st_size) > limits.max_bytes:
            raise InputError(f"{path}: {size} bytes, the limit is {limits.max_bytes}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {system_reason(error)}") from None
    return decode_image(data, str(path), limits)
