"""Names of files: what may be one, and names for outputs that never collide."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath, PurePosixPath, PureWindowsPath

from backend.errors import InputError


def unique_stems(relatives: Sequence[PurePath]) -> list[str]:
    """A name without suffix for each relative path, such that no two outputs collide, on no file
    system.

    ``a.jpg`` and ``a.png`` in one folder, ``A.jpg`` and ``a.jpg``, or the same path from two
    sources keep their suffix or get a number.

    Args:
        relatives: relative paths of inputs; the same path may come twice.

    Returns:
        Output stems in the same order, with forward slashes.
    """
    plain = [path.with_suffix("").as_posix() for path in relatives]
    counts = Counter(stem.casefold() for stem in plain)
    taken = {stem for stem, count in counts.items() if count == 1}
    stems = []
    for path, stem in zip(relatives, plain, strict=True):
        if counts[stem.casefold()] > 1:
            base = stem = f"{stem}_{path.suffix.lstrip('.').lower()}"
            number = 2
            while stem.casefold() in taken:
                stem = f"{base}_{number}"
                number = number + 1
            taken.add(stem.casefold())
        stems.append(stem)
    return stems


_CONTROL = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")
_LONGEST_NAME = 200  # bytes of a file's name, so that suffixes and numbers still fit


def listable(text: str, where: str, kind: str = "label") -> str:
    """A label, or a name, that can stand in a list with a line each, and in XML.

    Args:
        text: the label.
        where: for messages.
        kind: what it is, for messages.

    Raises:
        InputError: empty, with blanks around it, line breaks or other control characters in it, or
            not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: the {kind} {text!r} holds half a character: it is not UTF-8"
        ) from None
    if not text or text != text.strip() or len(text.splitlines()) != 1 or _CONTROL.search(text):
        raise InputError(
            f"{where}: the {kind} {text[:60]!r} cannot be in a list: it is empty, has blanks around"
            " it, or line breaks or control characters in it"
        )
    return text


def safe_name(text: str, where: str) -> PurePosixPath:
    """The relative path a file names its picture by, with forward slashes.

    Raises:
        InputError: empty, absolute, leading outside, or longer than file systems allow.
    """
    name = PurePosixPath(text.replace("\\", "/"))
    if (
        not name.name
        or "\0" in text
        or name.is_absolute()
        or PureWindowsPath(text).drive
        or ".." in name.parts
    ):
        raise InputError(f"{where}: {text[:80]!r} does not name a picture below a folder")
    if any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in name.parts):
        raise InputError(f"{where}: {text[:80]!r} is longer than the name of a file can be")
    return name
