"""Every error this package raises on purpose.

    LabelingError
    ├── ConfigError     settings, arguments or installed files are wrong; nothing was started
    ├── InputError      this image, file or task never works as it is
    │   └── UnexpectedError   nobody knows whether it does
    ├── Unavailable     it may work later: memory, disk, network
    ├── AuthError       refused by Label Studio
    └── Stopped         a person ended it before there was anything to show

The class decides whether to retry, the HTTP status and the exit code. A message says what is wrong,
in which file, task or field, what was expected and what was found; never a token.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


class LabelingError(Exception):
    """Base of all expected errors; ``str()`` of it is a sentence for the user."""

    exit_code = 1


class ConfigError(LabelingError):
    """The settings, the arguments or the files they name cannot work."""

    exit_code = 2


class InputError(LabelingError):
    """One image, file or task is unusable; others are not affected."""


class UnexpectedError(InputError):
    """Something nobody expected happened to one item.

    It is logged in full, and may not happen again.
    """


class Unavailable(LabelingError):
    """Something outside the input failed and may work later."""


class AuthError(LabelingError):
    """Label Studio refused the credentials."""

    exit_code = 3


class Stopped(LabelingError):
    """A person ended the work before there was anything to show."""

    exit_code = 130


def as_sentence(error: BaseException) -> str:
    """What went wrong with one item, in words for people.

    What nobody expected is logged in full.
    """
    if isinstance(error, LabelingError):
        return str(error)
    logger.error("unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {str(error)[:200]}"


def told(value: object, most: int = 60) -> str:
    """A value as a message shows it: text in quotes, so that "0.9" is not taken for 0.9.

    >>> told("0.9"), told(0.9), told(None)
    ("'0.9'", '0.9', 'nothing')
    """
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the singular where there is one.

    >>> counted(1, "task"), counted(2, "class"), counted(1200, "image")
    ('1 task', '2 classes', '1200 images')
    """
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'ch')) else 's'}"


def json_kind(value: object) -> str:
    """What a parsed JSON value is, in words for people."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }
    return kinds.get(type(value), type(value).__name__)


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def is_disk_full(error: BaseException | None) -> bool:
    """True for an error that every further file would meet as well."""
    cause = getattr(error, "__cause__", None)
    return isinstance(cause, OSError) and cause.errno in _DISK_FULL


def system_reason(error: OSError) -> str:
    """What the operating system says of an error, such as "no such file or directory"."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def disk_error(error: OSError, path: Path) -> Unavailable:
    """An operating system error about ``path`` as a sentence.

    Args:
        error: what the system reported.
        path: the file or folder it was about.

    Returns:
        An ``Unavailable`` that names the path and the system's reason.
    """
    return Unavailable(f"{path}: cannot write: {system_reason(error)}")


def how_it_ended(failed: Sequence[tuple[str, str]], stopped: str | None) -> list[str]:
    """The last lines of a summary for people.

    Args:
        failed: what, and a sentence why.
        stopped: why the run ended early; None where it did not.

    >>> how_it_ended([("a.jpg", "a.jpg: is no picture")], "interrupted")[1]
    '  a.jpg: is no picture'
    """
    lines = [f"failed {len(failed)}:", *(f"  {reason}" for _, reason in failed)] if failed else []
    if stopped:
        lines.append(f"stopped early: {stopped}; run the same command again to go on")
    return lines
