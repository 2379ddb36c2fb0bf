"""Videos of tasks as files: fetched once, kept while somebody works on them and a while after."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from backend.files.addresses import suffix_of

logger = logging.getLogger(__name__)
_KEPT = 8  # files
Save = Callable[[str, int | None, float, BinaryIO], None]  # address, task, deadline and file


class VideoFiles:
    """A folder of videos; safe for many threads.

    Args:
        save: writes the video of an address into a file.
        most: files that are kept when nobody uses them.
    """

    def __init__(self, save: Save, most: int = _KEPT) -> None:
        self._save = save
        self._most = most
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._kept: OrderedDict[str, Path] = OrderedDict()
        self._users: dict[str, int] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @contextmanager
    def open(self, uri: str, task_id: int | None, deadline: float) -> Iterator[Path]:
        """The file of a video, for as long as the block runs.

        Raises:
            InputError: this address will never work.
            AuthError: refused.
            Unavailable: it may work later.
        """
        key = sha256(f"{task_id}|{uri}".encode("utf-8", "surrogatepass")).hexdigest()
        with self._lock:
            self._users[key] = self._users.get(key, 0) + 1
            own = self._locks.setdefault(key, threading.Lock())
        try:
            with own:  # two who want the same wait for one download
                path = self._kept.get(key) or self._fetch(key, uri, task_id, deadline)
                with self._lock:
                    self._kept.move_to_end(key)
            yield path
        finally:
            with self._lock:
                self._users[key] -= 1
                self._sweep()

    def place(self) -> Path:
        """The folder, for what is kept beside the videos."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="yolosam2-videos-")
            return Path(self._folder.name)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None
            self._kept.clear()

    def _fetch(self, key: str, uri: str, task_id: int | None, deadline: float) -> Path:
        path = self.place() / f"{key[:32]}{suffix_of(uri)}"
        try:
            with path.open("wb") as file:
                self._save(uri, task_id, deadline, file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._kept[key] = path
        return path

    def _sweep(self) -> None:
        """Remove the oldest files that nobody uses; the lock is held."""
        idle = [key for key in self._kept if not self._users.get(key)]
        for key in idle[: max(0, len(self._kept) - self._most)]:
            path = self._kept.pop(key)
            for beside in path.parent.glob(f"{path.stem}*"):  # the work on it as well
                beside.unlink(missing_ok=True)
        for key in [key for key, users in self._users.items() if not users]:
            del self._users[key]
            if key not in self._kept:
                self._locks.pop(key, None)
