"""A file that is written piece by piece, so that a whole dataset never has to be in memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from backend.errors import disk_error
from backend.files.atomic import temporary_beside


class Spool:
    """A temporary file beside its target; nobody sees the target half written.

    Args:
        folder: made if missing; what a killed run leaves there is swept up by the next
            (``files.atomic.sweep_stale``).

    Raises:
        Unavailable: the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.path = temporary_beside(folder / "spool")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("w+b")
        except OSError as error:
            raise disk_error(error, self.path) from error
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add to the end."""
        try:
            self._stream.write(data)
        except OSError as error:
            raise disk_error(error, self.path) from error
        self.size += len(data)

    def append(self, other: Spool) -> None:
        """Add all that another spool holds, which is dropped."""
        try:
            other._stream.seek(0)  # writes what is left
            while block := other._stream.read(1 << 22):
                self.write(block)
        except OSError as error:
            raise disk_error(error, other.path) from error
        other.discard()

    def finish(self) -> Path:
        """Everything is on the disk, and the file is to be renamed; harmless if done already."""
        if self._stream.closed:
            return self.path
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        except OSError as error:
            raise disk_error(error, self.path) from error
        return self.path

    def discard(self) -> None:
        """Drop it; harmless if done already or renamed."""
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            self.path.unlink()
