"""What a pre-labelling run has done, on disk, so that it can be killed at any moment and go on.

One JSON line per event with a checksum before it; a line that was cut off by a crash is ignored,
and so is everything that follows from it. Label Studio is the truth about what exists; the journal
tells what was on its way there, and what failed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from backend.errors import ConfigError, disk_error

logger = logging.getLogger(__name__)
FORMAT = 1


def _line(event: Mapping[str, Any]) -> bytes:
    text = json.dumps(event, ensure_ascii=True, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line, or None where the line is damaged."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


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
        self.done: set[int] = set()
        self.failed: dict[int, str] = {}
        self.sent: dict[
            int, float
        ] = {}  # on their way when the last run ended; when they were sent, in seconds since 1970
        self.unclear: set[int] = (
            set()
        )  # for which a request may have been carried out twice; until they were looked at
        self.replaced: set[int] = set()  # whose older predictions are gone
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open(
                "a+b", buffering=0
            )  # what could not be written must not be tried again on closing
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self._holder()
            self._file.close()
            raise ConfigError(
                f"{path}: another run is using this journal{holder}; wait for it to end, or end it"
            ) from None
        try:
            self._read(project, model_version)
        except ConfigError:
            self._file.close()
            raise
        self._write(
            {
                "run": os.getpid(),
                "format": FORMAT,
                "project": project,
                "model_version": model_version,
            }
        )

    def _holder(self) -> str:
        pids = [
            event["run"]
            for line in self.path.read_bytes().splitlines()
            if (event := _event(line)) is not None and "run" in event
        ]
        return f" (process {pids[-1]})" if pids else ""

    def _read(self, project: str, model_version: str) -> None:
        damaged = 0
        whole = True
        with self.path.open("rb") as lines:
            events = []
            for line in lines:
                whole = line.endswith(b"\n")
                event = _event(line) if whole else None
                damaged += event is None
                events += [] if event is None else [event]
        for event in events:
            if "run" in event and (event.get("project"), event.get("model_version")) != (
                project,
                model_version,
            ):
                raise ConfigError(
                    f"{self.path}: is the journal of {event.get('project')} with"
                    f" {event.get('model_version')}; name another with --journal"
                )
            self._apply(event)
        if damaged:
            logger.warning(
                "%s: %d damaged lines ignored; Label Studio is asked what it has",
                self.path,
                damaged,
            )
        self._ragged = not whole  # what was cut off must not swallow the next line

    def _apply(self, event: Mapping[str, Any]) -> None:
        for task in event.get("sending", ()):
            self.sent[task] = float(event.get("at", 0.0))
        for task in event.get("done", ()):
            self.done.add(task)
            self.sent.pop(task, None)
            self.failed.pop(task, None)
        for task in event.get("not_sent", ()):
            self.sent.pop(task, None)
        self.unclear |= set(event.get("unclear", ()))
        self.unclear -= set(event.get("checked", ()))
        self.replaced |= set(event.get("replaced", ()))
        if "failed" in event:
            self.failed[event["failed"]] = str(event.get("reason"))
            self.sent.pop(event["failed"], None)

    def _write(self, event: Mapping[str, Any]) -> None:
        with self._lock:  # the uploader writes, and whoever finds a task that fails
            line = (b"\n" if self._ragged else b"") + _line(event)
            self._ragged = True
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
                self._ragged = False
            except OSError as error:
                raise disk_error(error, self.path) from error
            self._apply(event)

    def sending(self, tasks: Iterable[int]) -> None:
        """Before predictions of these tasks are sent."""
        self._write({"sending": list(tasks), "at": round(time.time(), 3)})

    def confirmed(self, tasks: Iterable[int]) -> None:
        """After Label Studio confirmed them, or was seen to have them."""
        if tasks := list(tasks):
            self._write({"done": tasks})

    def refused(self, tasks: Iterable[int]) -> None:
        """They were surely not taken, and may be sent again."""
        if tasks := list(tasks):
            self._write({"not_sent": tasks})

    def doubt(self, tasks: Iterable[int]) -> None:
        """Nobody knows yet how often these were taken."""
        if tasks := sorted(set(tasks) - self.unclear):
            self._write({"unclear": tasks})

    def checked(self, tasks: Iterable[int]) -> None:
        """They were seen to be there once."""
        if tasks := list(tasks):
            self._write({"checked": tasks})

    def replace(self, tasks: Iterable[int]) -> None:
        """Their older predictions are gone."""
        if tasks := list(tasks):
            self._write({"replaced": tasks})

    def fail(self, task: int, reason: str) -> None:
        """A task that will not work as it is."""
        self._write({"failed": task, "reason": reason[:500]})

    def close(self) -> None:
        """Let others have it."""
        self._file.close()
