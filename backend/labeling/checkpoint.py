"""The work on a video that is not done yet, on disk, so that it can be killed at any moment and go
on where it was.

A checkpoint is a SQLite database: a row for each object in each frame, and one for all else. Only
what may have changed since the last time is written.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from backend.core.masks import PackedMask
from backend.core.tracks import PackedInstances
from backend.errors import disk_error
from backend.files.manifest import system_error

logger = logging.getLogger(__name__)
EVERY = 250  # frames
_STATE = "state 2"  # of what is kept; the work of a version that kept something else is begun anew
_TABLES = """
CREATE TABLE state (made TEXT, number INTEGER, session BLOB, rest TEXT);
CREATE TABLE seen (
    object INTEGER, frame INTEGER, score REAL,
    x INTEGER, y INTEGER, height INTEGER, width INTEGER, mask BLOB,
    PRIMARY KEY (object, frame)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """What following a video has come to.

    Attributes:
        number: of the next frame.
        n_looks: frames that the detector looked at.
        session: by ``VideoSession.saved``.
        identities: by ``Identities.saved``.
        missing: for how many frames an object is out of sight.
        anchors: how often an object was set right.
        alive: the objects that are followed.
        seen: where each object was seen.
    """

    number: int
    n_looks: int
    session: bytes
    identities: Mapping[str, Any]
    missing: Mapping[int, int]
    anchors: Mapping[int, int]
    alive: Sequence[int]
    seen: Mapping[int, PackedInstances]


class Checkpoint:
    """The checkpoint of one video.

    Args:
        path: of the file; its folder is made if missing.
        made: identifies the video, the models and the settings; the work of others is not taken up.
        every: frames from one time to the next.
    """

    def __init__(self, path: Path, made: str, every: int = EVERY) -> None:
        self._path = path
        self._made = f"{made} {_STATE}"
        self._every = every
        self._whole: set[int] = set()  # objects that are on disk up to the last time
        self._last = 0  # the next frame at the last time

    def is_due(self, number: int) -> bool:
        """Whether the state is to be saved before a frame."""
        return number % self._every == 0

    def load(self) -> State | None:
        """What an earlier run came to; None for nothing that can be used."""
        if not self._path.is_file():
            return None
        try:
            with closing(sqlite3.connect(self._path)) as database:
                row = database.execute("SELECT made, number, session, rest FROM state").fetchone()
                if row is None or row[0] != self._made:
                    return None
                seen: dict[int, PackedInstances] = {}
                for known in database.execute("SELECT * FROM seen ORDER BY object, frame"):
                    object_id, frame, score, x, y, height, width, data = known
                    own = seen.setdefault(object_id, PackedInstances())
                    own.put(frame, PackedMask(x, y, (height, width), data), score)
            _, number, session, text = row
            rest = json.loads(text)
            self._whole = set(seen)
            self._last = number
            return State(
                number=number,
                n_looks=rest["n_looks"],
                session=session,
                identities=rest["identities"],
                missing=_by_number(rest["missing"]),
                anchors=_by_number(rest["anchors"]),
                alive=rest["alive"],
                seen=seen,
            )
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: cannot be read, the video is begun anew: %s", self._path, error)
            return None

    def save(self, state: State, back: int) -> None:
        """Keep a state in the place of the one before.

        Args:
            state: what was come to.
            back: how many frames objects are followed backwards.

        Raises:
            Unavailable: the disk refuses.
        """
        rest = {
            "n_looks": state.n_looks,
            "identities": state.identities,
            "missing": state.missing,
            "anchors": state.anchors,
            "alive": state.alive,
        }
        with self._writing() as database:
            if self._whole - set(state.seen):
                self._whole = set()  # one may have become part of another, long ago
            if not self._whole:
                database.execute("DELETE FROM seen")
            for object_id, seen in state.seen.items():
                from_here = self._last - back if object_id in self._whole else 0
                database.executemany(
                    "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        (object_id, frame, score, mask.x, mask.y, *mask.shape, mask.data)
                        for frame, mask, score in seen.rows(from_here)
                    ),
                )
            database.execute("DELETE FROM state")
            database.execute(
                "INSERT INTO state VALUES (?, ?, ?, ?)",
                (self._made, state.number, state.session, json.dumps(rest)),
            )
        self._whole = set(state.seen)
        self._last = state.number

    def clear(self) -> None:
        """The video is done."""
        for path in self._path.parent.glob(f"{escape(self._path.name)}*"):
            with suppress(OSError):
                path.unlink()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as database, database:
                yield database
        except OSError as error:
            raise disk_error(error, self._path) from error
        except sqlite3.Error as error:
            raise disk_error(system_error(error) or OSError(str(error)), self._path) from error

    def _open(self) -> sqlite3.Connection:
        """The database; one that is damaged is begun anew."""
        for again in (True, False):
            database = sqlite3.connect(self._path)
            try:
                if not database.execute("SELECT 1 FROM sqlite_master").fetchall():
                    database.executescript(_TABLES)
                return database
            except sqlite3.DatabaseError as error:
                database.close()
                if not again or system_error(error) is not None:
                    raise
                self.clear()
                self._whole = set()
        raise AssertionError


def _by_number(told: Mapping[str, int]) -> dict[int, int]:
    return {int(key): value for key, value in told.items()}
