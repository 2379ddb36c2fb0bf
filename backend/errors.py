"""Every error this package raises on purpose.

    LabelingError
    ├── ConfigError     settings, arguments or installed files are wrong; nothing was started
    ├── InputError      this image, file or task never works as it is
    ├── Unavailable     it may work later: memory, disk, network
    └── AuthError       refused by Label Studio

The class decides whether to retry, the HTTP status and the exit code. A message says what is wrong, in which file, task or
field, what was expected and what was found; never a token.
"""

from __future__ import annotations

from pathlib import Path


class LabelingError(Exception):
    """Base of all expected errors; ``str()`` of it is a sentence for the user."""

    exit_code = 1


class ConfigError(LabelingError):
    """The settings, the arguments or the files they name cannot work."""

    exit_code = 2


class InputError(LabelingError):
    """One image, file or task is unusable; others are not affected."""


class Unavailable(LabelingError):
    """Something outside the input failed and may work later."""


class AuthError(LabelingError):
    """Label Studio refused the credentials."""

    exit_code = 3


def disk_error(error: OSError, path: Path) -> Unavailable:
    """An operating system error about ``path`` as a sentence.

    Args:
        error: what the system reported.
        path: the file or folder it was about.

    Returns:
        An ``Unavailable`` that names the path and the system's reason.
    """
    reason = (error.strerror or type(error).__name__).lower()
    return Unavailable(f"{path}: cannot write: {reason}")
