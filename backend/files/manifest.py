"""What this program wrote into a folder, remembered in the folder itself."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from backend.errors import ConfigError, disk_error

_SQLITE = b"SQLite format 3\0"  # how its files begin
_SYSTEM_ERRORS = {
    "disk is full": errno.ENOSPC,
    "readonly": errno.EROFS,
    "disk I/O": errno.EIO,
    "unable to open": errno.EACCES,
}


def system_error(error: sqlite3.Error) -> OSError | None:
    """What the system said, where SQLite only tells its own words for it; None where it did not."""
    found = next((code for words, code in _SYSTEM_ERRORS.items() if words in str(error)), None)
    return None if found is None else OSError(found, os.strerror(found))


class Manifest:
    """What this program wrote into a folder: the digests of every file it ever wrote there.

    It lies in ``.yolosam2-<format>`` as SQLite; what an older version left there as the text of
    ``sha256sum`` is taken over. Only one run holds it at a time.

    Args:
        root: the folder; exists.
        kind: format of what is written, as a folder may hold several.

    Raises:
        ConfigError: another run holds it, or it is a link.
        Unavailable: the disk refuses.
    """

    def __init__(self, root: Path, kind: str) -> None:
        self._root = root
        self.path = root / f".yolosam2-{kind}"
        self._older = root / f".yolosam2-{kind}.old"
        if self.path.is_symlink():
            raise ConfigError(f"{self.path}: is a link; remove it")
        self._lock = FileLock(root / f".yolosam2.{kind}.lock", timeout=0)
        self._acquire()
        try:
            with self._disk():
                before = self._lines_of_older_versions()
                self._database = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False
                )
                # A killed program loses nothing by it; only a machine that stops could.
                self._database.execute("PRAGMA synchronous=OFF")
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS file"
                    " (name BLOB, digest TEXT, PRIMARY KEY (name, digest)) WITHOUT ROWID"
                )
                self._add(before)
                self._older.unlink(missing_ok=True)
        except BaseException:
            self._lock.release()
            raise

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise ConfigError(
                f"{self._root}: another run is writing there; wait for it to end, or choose"
                " another OUT"
            ) from None
        except NotImplementedError:  # a file system without locks
            return
        except OSError as error:
            raise disk_error(error, self.path) from error

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            cause = system_error(error) or OSError(0, str(error))
            raise disk_error(cause, self.path) from cause
        except OSError as error:
            raise disk_error(error, self.path) from error

    def _lines_of_older_versions(self) -> list[tuple[bytes, str]]:
        """The entries of a manifest that is text.

        It is set aside until they are taken over, so that a program that is killed loses none.
        """
        if self.path.is_file():
            with self.path.open("rb") as stream:
                start = stream.read(len(_SQLITE))
            if start and start != _SQLITE:
                os.replace(self.path, self._older)
        if not self._older.is_file():
            return []
        data = self._older.read_bytes()
        lines = (line.partition(b"  ") for line in data.split(b"\n"))
        return [(name, digest.decode("ascii", "replace")) for digest, sign, name in lines if sign]

    def _add(self, rows: Iterable[tuple[bytes, str]]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO file VALUES (?, ?)", rows)

    def add(self, name: str, digest: str) -> None:
        """Remember what a file is about to hold; whatever ends the program then, it is known."""
        with self._disk():
            self._add([(os.fsencode(name), digest)])

    def knows(self, name: str, digest: str) -> bool:
        """Whether this program wrote a file with this content."""
        query = "SELECT 1 FROM file WHERE name = ? AND digest = ?"
        with self._disk():
            row = self._database.execute(query, (os.fsencode(name), digest)).fetchone()
        return row is not None

    def names_file(self, name: str) -> bool:
        """Whether this program ever wrote a file of this name."""
        query = "SELECT 1 FROM file WHERE name = ? LIMIT 1"
        with self._disk():
            row = self._database.execute(query, (os.fsencode(name),)).fetchone()
        return row is not None

    def names(self) -> list[str]:
        """All files that were ever written, sorted."""
        with self._disk():
            rows = self._database.execute("SELECT DISTINCT name FROM file").fetchall()
        return sorted(os.fsdecode(name) for (name,) in rows)

    def close(self) -> None:
        """Let others have it."""
        with suppress(sqlite3.Error):
            self._database.close()
        self._lock.release()
