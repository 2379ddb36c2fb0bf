"""What a pre-labelling run has done, on disk, so that it can be killed at any moment and go on.

The journal is a SQLite database with a row for each task. Label Studio is the truth about what
exists; the journal tells what was on its way there, and what failed.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backend.errors import ConfigError, Unavailable, disk_error
from backend.files.manifest import system_error

logger = logging.getLogger(__name__)
VERSION = 2  # of the tables; 1 was a text file

_TABLES = """
CREATE TABLE IF NOT EXISTS run (project TEXT NOT NULL, model_version TEXT NOT NULL, pid INTEGER);
CREATE TABLE IF NOT EXISTS task (
    id INTEGER PRIMARY KEY,
    sent REAL,                            -- when its prediction was sent, in seconds since 1970
    done INTEGER NOT NULL DEFAULT 0,
    failed TEXT,                          -- why it will not work as it is
    unclear INTEGER NOT NULL DEFAULT 0,   -- a request may have been carried out twice
    replaced INTEGER NOT NULL DEFAULT 0   -- its older predictions are gone
);
"""


class Journal:
    """The journal of one project and model version; only one run can hold it.

    Args:
        path: of the file; its folder is made if missing.
        project: Label Studio's address and the project's number.
        model_version: of the predictions.

    Raises:
        ConfigError: another run holds it, or it is of another project or version.
        Unavailable: the disk refuses.
    """

    def __init__(self, path: Path, project: str, model_version: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        self._held = FileLock(path.with_name(f"{path.name}.lock"), timeout=0)
        self._hold()
        try:
            before = _events_of_older_versions(path)
            self._database = self._open()
            self._check(before, project, model_version)
            self._take_over(before)
            with self._writing() as database:
                database.execute("DELETE FROM run")
                database.execute(
                    "INSERT INTO run VALUES (?, ?, ?)", (project, model_version, os.getpid())
                )
        except BaseException:
            self._held.release()
            raise

    def _hold(self) -> None:
        try:
            self._held.acquire()
        except Timeout:
            raise ConfigError(
                f"{self.path}: another run is using this journal{self._holder()}; wait for it to"
                " end, or end it"
            ) from None
        except OSError as error:
            raise disk_error(error, self.path) from error

    def _holder(self) -> str:
        with suppress(sqlite3.Error):
            database = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
            (pid,) = database.execute("SELECT pid FROM run").fetchone() or ("",)
            database.close()
            return f" (process {pid})" if pid else ""
        return ""

    def _open(self) -> sqlite3.Connection:
        """The database; one that is damaged is set aside, as Label Studio knows what it has."""
        for again in (True, False):
            database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=FULL")
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version not in (0, VERSION):
                    database.close()
                    raise ConfigError(
                        f"{self.path}: written by another version of yolosam2 (its tables have"
                        f" version {version}, this one knows {VERSION}); finish the run with that"
                        " version, or move the file away"
                    )
                database.executescript(f"{_TABLES}PRAGMA user_version = {VERSION};")
                (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
                if state != "ok":
                    raise sqlite3.DatabaseError(state)
                return database
            except sqlite3.DatabaseError as error:
                database.close()
                cause = system_error(error)
                if cause is not None or not again:
                    raise disk_error(cause or OSError(0, str(error)), self.path) from error
                aside = self.path.with_name(f"{self.path.name}.damaged")
                os.replace(self.path, aside)
                logger.warning(
                    "%s: damaged, and set aside as %s; Label Studio is asked what it has",
                    self.path,
                    aside.name,
                )
        raise Unavailable(f"{self.path}: cannot be opened")

    def _check(self, before: list[dict[str, Any]], project: str, model_version: str) -> None:
        """Refuse the journal of another project or version.

        Raises:
            ConfigError: naming both.
        """
        rows = [(e.get("project"), e.get("model_version")) for e in before if "run" in e]
        rows += self._database.execute("SELECT project, model_version FROM run").fetchall()
        for theirs in rows:
            if theirs != (project, model_version):
                raise ConfigError(
                    f"{self.path}: is the journal of {theirs[0]} with {theirs[1]}; name another"
                    " with --journal"
                )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; it is on the disk when the block has ended."""
        with self._lock:  # the uploader writes, and whoever finds a task that fails
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                cause = system_error(error) or OSError(0, str(error))
                raise disk_error(cause, self.path) from cause

    def _set(self, tasks: Iterable[int], assignments: str, *values: Any) -> None:
        """Change the rows of tasks, which are made if missing."""
        ids = [(task,) for task in tasks]
        if not ids:
            return
        with self._writing() as database:
            database.executemany("INSERT OR IGNORE INTO task (id) VALUES (?)", ids)
            database.executemany(
                f"UPDATE task SET {assignments} WHERE id = ?",  # noqa: S608 - our own words
                [(*values, *one) for one in ids],
            )

    def _ids(self, condition: str) -> set[int]:
        query = f"SELECT id FROM task WHERE {condition}"  # noqa: S608 - our own words
        with self._lock:
            return {task for (task,) in self._database.execute(query)}

    @property
    def done(self) -> set[int]:
        """Tasks whose prediction Label Studio has."""
        return self._ids("done")

    @property
    def failed(self) -> dict[int, str]:
        """Tasks that will not work as they are, and why."""
        query = "SELECT id, failed FROM task WHERE failed IS NOT NULL"
        with self._lock:
            return dict(self._database.execute(query).fetchall())

    @property
    def sent(self) -> dict[int, float]:
        """Tasks on their way when the last run ended, and when they were sent."""
        query = "SELECT id, sent FROM task WHERE sent IS NOT NULL"
        with self._lock:
            return dict(self._database.execute(query).fetchall())

    @property
    def unclear(self) -> set[int]:
        """Tasks for which a request may have been carried out twice."""
        return self._ids("unclear")

    @property
    def replaced(self) -> set[int]:
        """Tasks whose older predictions are gone."""
        return self._ids("replaced")

    def has_failed(self, task: int) -> bool:
        """Whether a task will not work as it is."""
        return self._has(task, "failed IS NOT NULL")

    def was_replaced(self, task: int) -> bool:
        """Whether the older predictions of a task are gone."""
        return self._has(task, "replaced")

    def _has(self, task: int, condition: str) -> bool:
        query = f"SELECT 1 FROM task WHERE id = ? AND {condition}"  # noqa: S608 - our own words
        with self._lock:
            return self._database.execute(query, (task,)).fetchone() is not None

    def sending(self, tasks: Iterable[int]) -> None:
        """Before predictions of these tasks are sent."""
        self._set(tasks, "sent = ?", round(time.time(), 3))

    def confirmed(self, tasks: Iterable[int]) -> None:
        """After Label Studio confirmed them, or was seen to have them."""
        self._set(tasks, "done = 1, sent = NULL, failed = NULL")

    def refused(self, tasks: Iterable[int]) -> None:
        """They were surely not taken, and may be sent again."""
        self._set(tasks, "sent = NULL")

    def doubt(self, tasks: Iterable[int]) -> None:
        """Nobody knows yet how often these were taken."""
        self._set(sorted(set(tasks) - self.unclear), "unclear = 1")

    def checked(self, tasks: Iterable[int]) -> None:
        """They were seen to be there once."""
        self._set(tasks, "unclear = 0")

    def replace(self, tasks: Iterable[int]) -> None:
        """Their older predictions are gone."""
        self._set(tasks, "replaced = 1")

    def fail(self, task: int, reason: str) -> None:
        """A task that will not work as it is."""
        self._set([task], "failed = ?, sent = NULL", reason[:500])

    def close(self) -> None:
        """Let others have it."""
        with suppress(sqlite3.Error):
            self._database.close()
        self._held.release()

    def _take_over(self, events: Iterable[Mapping[str, Any]]) -> None:
        """What a journal of an older version tells, in its order."""
        for event in events:
            if "sending" in event:
                self._set(event["sending"], "sent = ?", float(event.get("at", 0.0)))
            self.confirmed(event.get("done", ()))
            self.refused(event.get("not_sent", ()))
            self.doubt(event.get("unclear", ()))
            self.checked(event.get("checked", ()))
            self.replace(event.get("replaced", ()))
            if "failed" in event:
                self.fail(int(event["failed"]), str(event.get("reason")))


def _events_of_older_versions(path: Path) -> list[dict[str, Any]]:
    """The events of a journal that is text, which is moved aside.

    It has a JSON object a line, after its CRC-32.
    """
    try:
        data = path.read_bytes() if path.is_file() else b""
        if not data or data.startswith(b"SQLite format 3\0"):
            return []
        events = [event for line in data.splitlines() if (event := _event(line)) is not None]
        if not events:
            return []
        os.replace(path, path.with_name(f"{path.name}.old"))
    except OSError as error:
        raise disk_error(error, path) from error
    return events


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line, or None where the line is damaged."""
    checksum, _, text = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
