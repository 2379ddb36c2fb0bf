"""Which trainings were asked for, and what became of them: a SQLite file, so that a restart of the
backend loses none and starts none twice.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import ConfigError, Unavailable, disk_error
from backend.files.manifest import system_error

JOBS = "jobs.sqlite3"  # in the folder of the trainings
QUEUED = "queued"
RUNNING = "running"
CANCELLING = "cancelling"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"
STATES = (QUEUED, RUNNING, CANCELLING, DONE, FAILED, CANCELLED)
_WAIT_S = 10.0  # for another thread or process that writes

_TABLES = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    state TEXT NOT NULL,
    asked REAL NOT NULL,               -- seconds since 1970, as the other times
    started REAL,
    ended REAL,
    tries INTEGER NOT NULL DEFAULT 0,  -- processes that were started for it
    pid INTEGER,
    reason TEXT,                       -- why it failed
    result TEXT                        -- JSON
);
-- Two jobs of a project are never open at once.
CREATE UNIQUE INDEX IF NOT EXISTS one_open ON job (project)
    WHERE state IN ('queued', 'running', 'cancelling');
CREATE TABLE IF NOT EXISTS accepted (project TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS label_studio (url TEXT NOT NULL);
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training.

    Attributes:
        id: its number.
        project: of Label Studio.
        state: of ``STATES``.
        asked: when, in seconds since 1970.
        started: the same; None before.
        ended: the same; None before.
        tries: processes that were started for it.
        pid: of the last of them.
        reason: why it failed.
        result: what ``finetune --json`` printed.
    """

    id: int
    project: str
    state: str
    asked: float
    started: float | None
    ended: float | None
    tries: int
    pid: int | None
    reason: str | None
    result: Mapping[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("id", "project", "state", "asked", "started", "ended", "tries", "reason", "result")
        return {name: getattr(self, name) for name in names}


_COLUMNS = "id, project, state, asked, started, ended, tries, pid, reason, result"


def _job(row: tuple[Any, ...]) -> Job:
    *known, result = row
    values = dict(zip(_COLUMNS.split(", "), [*known, None], strict=True))
    return Job(**{**values, "result": None if result is None else json.loads(result)})


class Jobs:
    """The trainings of a backend; safe for several threads.

    Args:
        path: of the file; its folder is made if missing.

    Raises:
        Unavailable: the disk refuses, or the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.executescript(_TABLES)
        except OSError as error:
            raise disk_error(error, path) from error
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: sqlite3.Error) -> Unavailable:
        cause = system_error(error)
        if cause is not None:
            return disk_error(cause, self.path)
        return Unavailable(f"{self.path}: {error}; move it away, and trainings begin anew")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise self._fault(error) from error

    def belong_to(self, url: str) -> None:
        """Say which Label Studio the projects are of.

        Args:
            url: its address.

        Raises:
            ConfigError: they are of another, where the same numbers mean other projects.
        """
        url = url.rstrip("/")
        with self._writing() as database:
            row = database.execute("SELECT url FROM label_studio").fetchone()
            if row is None:
                database.execute("INSERT INTO label_studio VALUES (?)", (url,))
        if row is not None and row[0] != url:
            raise ConfigError(
                f"--training {self.path.parent}: holds what was trained for {row[0]}, and this"
                f" backend works for {url}; name another folder or, if both are the same Label"
                f" Studio, move {self.path.name} away"
            )

    def _rows(self, condition: str, *values: Any) -> list[Job]:
        with self._lock:
            try:
                rows = self._database.execute(
                    f"SELECT {_COLUMNS} FROM job {condition}",  # noqa: S608, no text from outside
                    values,
                ).fetchall()
            except sqlite3.Error as error:
                raise self._fault(error) from error
        return [_job(row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def ask(self, project: str) -> tuple[Job, bool]:
        """A training of a project: the one that waits or runs, else a new one.

        Returns:
            It, and whether it is new.
        """
        with self._writing() as database:
            made = database.execute(
                "INSERT INTO job (project, state, asked) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (project, QUEUED, time.time()),
            ).rowcount
            if made:  # else what was annotated since that one began is for the next
                database.execute("DELETE FROM accepted WHERE project = ?", (project,))
        return self._newest_of(project)[0], made == 1

    def _newest_of(self, project: str) -> list[Job]:
        return self._rows("WHERE project = ? ORDER BY id DESC LIMIT 1", project)

    def count(self, project: str, n: int) -> int:
        """Count annotations.

        Returns:
            How many were counted since a training was last asked for.
        """
        with self._writing() as database:
            database.execute(
                "INSERT INTO accepted VALUES (?, ?)"
                " ON CONFLICT (project) DO UPDATE SET n = n + excluded.n",
                (project, n),
            )
            (total,) = database.execute(
                "SELECT n FROM accepted WHERE project = ?", (project,)
            ).fetchone()
        return int(total)

    def cancel(self, project: str) -> Job | None:
        """Call off what waits or runs for a project; None where nothing does."""
        with self._writing() as database:
            n_waiting = database.execute(
                "UPDATE job SET state = ?, ended = ? WHERE project = ? AND state = ?",
                (CANCELLED, time.time(), project, QUEUED),
            ).rowcount
            n_running = database.execute(
                "UPDATE job SET state = ? WHERE project = ? AND state IN (?, ?)",
                (CANCELLING, project, RUNNING, CANCELLING),
            ).rowcount
        return self._newest_of(project)[0] if n_waiting or n_running else None

    def current(self) -> Job | None:
        """The one that runs, by what was written last."""
        return next(iter(self._rows("WHERE state IN (?, ?)", RUNNING, CANCELLING)), None)

    def waiting(self) -> Job | None:
        """The one that has waited longest."""
        return next(iter(self._rows("WHERE state = ? ORDER BY id LIMIT 1", QUEUED)), None)

    def newest(self, most: int = 50) -> list[Job]:
        """The newest first."""
        return self._rows("ORDER BY id DESC LIMIT ?", most)

    def n_in(self, state: str) -> int:
        """How many are in a state."""
        with self._lock:
            try:
                query = "SELECT COUNT(*) FROM job WHERE state = ?"
                (count,) = self._database.execute(query, (state,)).fetchone()
            except sqlite3.Error as error:
                raise self._fault(error) from error
        return int(count)

    def begin(self, job: Job) -> bool:
        """Take a job that waits into work.

        Returns:
            Whether it still waited.
        """
        with self._writing() as database:
            return (
                database.execute(
                    "UPDATE job SET state = ?, started = COALESCE(started, ?), tries = tries + 1,"
                    " pid = NULL WHERE id = ? AND state = ?",
                    (RUNNING, time.time(), job.id, QUEUED),
                ).rowcount
                == 1
            )

    def in_process(self, job: Job, pid: int) -> None:
        """A job has a process."""
        with self._writing() as database:
            database.execute("UPDATE job SET pid = ? WHERE id = ?", (pid, job.id))

    def again(self, job: Job, *, counts: bool) -> None:
        """Let a job wait once more.

        Args:
            job: whose process ended.
            counts: whether this was one of its tries.
        """
        with self._writing() as database:
            database.execute(
                "UPDATE job SET state = CASE state WHEN ? THEN ? ELSE ? END,"
                " tries = tries - ?, pid = NULL WHERE id = ?",
                (CANCELLING, CANCELLED, QUEUED, int(not counts), job.id),
            )

    def end(
        self, job: Job, state: str, reason: str | None, result: Mapping[str, Any] | None
    ) -> None:
        """A job is over."""
        with self._writing() as database:
            database.execute(
                "UPDATE job SET state = ?, ended = ?, reason = ?, result = ? WHERE id = ?",
                (
                    state,
                    time.time(),
                    reason,
                    None if result is None else json.dumps(result),
                    job.id,
                ),
            )
