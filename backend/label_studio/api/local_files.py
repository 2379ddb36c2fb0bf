"""Label Studio's local files straight from disk, where the operator mounted the same folder."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from backend.errors import InputError, Unavailable

PREFIX = "/data/local-files/"


def relative_path(target: str) -> str:
    """The path behind ``?d=``, percent-decoded once.

    Args:
        target: path and query of a local-files URL.

    Raises:
        InputError: there is none.
    """
    query = target.partition("?")[2]
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "d" and value:
            return unquote(value)
    raise InputError(f"{PREFIX}: expected ?d= with a path")


def read_local_file(
    root: Path, relative: str, max_bytes: int, into: BinaryIO | None = None
) -> bytes:
    """Read a regular file inside a folder.

    Args:
        root: a resolved folder.
        relative: a path below it; links may lead elsewhere inside it, not out of it.
        max_bytes: larger files are refused.
        into: takes the content in the place of memory; nothing is returned then.

    Raises:
        InputError: outside, missing, not a regular file, or too large. The message does not tell
            which of the first two.
        Unavailable: the disk failed.
    """
    missing = InputError(f"{PREFIX}: no such file in the local files folder")
    if "\0" in relative:
        raise missing
    try:
        real = Path(os.path.realpath(root / relative.lstrip("/")))
        if not real.is_relative_to(root):
            raise missing
        # Not following a link that took the place of the file since, and not hanging on a pipe.
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise missing from None
    try:
        status = os.fstat(handle)
        opened = f"/proc/self/fd/{handle}"
        swapped = os.path.exists(opened) and not Path(os.readlink(opened)).is_relative_to(
            root
        )  # a folder on the way is another one by now
        if not stat.S_ISREG(status.st_mode) or swapped:
            raise missing
        if status.st_size > max_bytes:
            raise InputError(f"{PREFIX}: larger than the limit of {max_bytes / (1 << 20):g} MiB")
        with open(handle, "rb", closefd=False) as file:
            if into is None:
                return file.read(max_bytes + 1)
            shutil.copyfileobj(file, into, 1 << 20)
            return b""
    except OSError as error:
        raise Unavailable(f"{PREFIX}: cannot read: {error.strerror}") from None
    finally:
        os.close(handle)
