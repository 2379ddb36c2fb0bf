"""Text files in whatever encoding they are: UTF-8, UTF-16 with its mark, or one that the user
names.
"""

from __future__ import annotations

import codecs
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from backend.errors import ConfigError, InputError, system_reason

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GUESSES = ("gb18030", "shift_jis", "euc_kr", "big5", "cp1251", "cp1252")


def check_encoding(name: str | None) -> str | None:
    """The name of an encoding, as Python knows it.

    Raises:
        ConfigError: there is none of that name.

    >>> check_encoding("GBK")
    'gbk'
    """
    if name is None:
        return None
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ConfigError(
            f"--encoding: there is no encoding {name[:40]!r}; gbk, shift_jis, utf-16 and latin-1"
            " are some"
        ) from None


def decode_text(data: bytes, where: str, encoding: str | None = None) -> str:
    """The text of a file; a mark at its beginning counts more than what the user names.

    Raises:
        InputError: it is in another encoding, naming those it may be in.

    >>> decode_text("é".encode("utf-16"), "a.txt"), decode_text(b"\\xc4\\xe3", "a.txt", "gbk")
    ('é', '你')
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    chosen = marked or encoding or "utf-8"
    try:
        return data.decode(chosen)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: {_not_in(data, chosen, error)}") from None


def _not_in(data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    if b"\0" in data[:4096]:
        return "is not text"
    sample = data[max(0, error.start - 64) : error.start + 64]
    fitting = [name for name in _GUESSES if _fits(sample, name)]
    may_be = f"; it may be in {' or '.join(fitting[:3])}" if fitting else ""
    return f"is not in {encoding.upper()}{may_be}: --encoding names the one it is in"


def _fits(data: bytes, encoding: str) -> bool:
    try:
        return "".join(data.decode(encoding).split()).isprintable()
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4  # the sample may end within a character


def read_text(path: Path, encoding: str | None = None) -> str:
    """The text of a file; see ``decode_text``.

    Raises:
        InputError: also where it cannot be read.
    """
    try:
        return decode_text(path.read_bytes(), str(path), encoding)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {system_reason(error)}") from None


def open_utf8(path: Path, encoding: str | None = None) -> BinaryIO:
    """A file as a stream of UTF-8, for readers of large files; one in another encoding is copied to
    a temporary file.

    Args:
        path: of the file.
        encoding: that it is in, where it has no mark; None takes it for UTF-8.

    Raises:
        InputError: it is not in that encoding.
        OSError: it cannot be read.
    """
    stream = path.open("rb")
    head = stream.read(4)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    stream.seek(0)
    chosen = marked or encoding or "utf-8"
    if chosen in ("utf-8", "utf-8-sig"):
        return stream
    copied = cast(BinaryIO, tempfile.TemporaryFile("w+b", prefix="yolosam2-"))  # noqa: SIM115
    try:
        with stream:
            reader = codecs.getreader(chosen)(stream)
            shutil.copyfileobj(reader, codecs.getwriter("utf-8")(copied))
    except UnicodeError:
        copied.close()
        raise InputError(f"{path}: is not in {chosen.upper()}, which --encoding names") from None
    copied.seek(0)
    return copied
