"""PNG files whose pixels are numbers and no colours: written with our mark, and read with a
sentence for whatever is wrong with them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import PIL.PngImagePlugin

from backend.errors import InputError, system_reason

_MARK = "yolosam2"


def marked_png(picture: PIL.Image.Image) -> bytes:
    """A picture as PNG that carries our mark; see ``made_by_us``."""
    stream = io.BytesIO()
    mark = PIL.PngImagePlugin.PngInfo()
    mark.add_text("Software", _MARK)
    picture.save(stream, "PNG", compress_level=3, pnginfo=mark)
    return stream.getvalue()


def made_by_us(path: Path) -> bool:
    """True for a file that ``marked_png`` made.

    Editors and other programs drop or replace its mark.
    """
    try:
        with path.open("rb") as stream, PIL.Image.open(stream, formats=("PNG",)) as picture:
            return picture.info.get("Software") == _MARK
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
        return False


def read_png(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: it is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read: {system_reason(error)}") from None
    except ValueError as error:  # a zero byte in the name
        raise InputError(f"{str(path)!r}: cannot read: {error}") from None


@contextmanager
def opened_png(
    data: bytes, name: str, size_hw: tuple[int, int] | None = None
) -> Iterator[PIL.Image.Image]:
    """A PNG with all its pixels loaded.

    Args:
        data: the file.
        name: for messages.
        size_hw: that it must have; None for any. Another one is found out before any pixel is read.

    Raises:
        InputError: not a PNG, damaged, or of another size.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if size_hw is not None and picture.size != size_hw[::-1]:
                raise InputError(
                    f"{name}: is {picture.width}x{picture.height}, its picture"
                    f" {size_hw[1]}x{size_hw[0]}"
                )
            picture.load()
            yield picture
    except PIL.UnidentifiedImageError:
        raise InputError(f"{name}: cannot read: is no PNG") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{name}: cannot read: {error}") from None
