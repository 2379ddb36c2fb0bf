"""What a whole process is set to: its log lines and its memory allocator."""

from __future__ import annotations

import ctypes
import json
import logging
import math
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

_M_ARENA_MAX = -8  # of glibc's malloc.h
FORMAT = "%(levelname)s %(name)s: %(message)s"
SERVER_FORMAT = f"%(asctime)s {FORMAT}"


class OneLine(logging.Formatter):
    """Escapes control characters in messages, as names and paths in them come from others.

    Tracebacks are our own and stay.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without what could end it or move the cursor."""
        line = super().formatMessage(record)
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line
        )


class JsonLines(logging.Formatter):
    """A JSON object a line, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC, level, logger, message, ``fields`` of the record, and the traceback where
        there is one.
        """
        made: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        made |= getattr(record, "fields", {})
        if record.exc_info:
            made["traceback"] = self.formatException(record.exc_info)
        return json.dumps(made)


def log_to_stderr(level: int, kind: str = "plain") -> None:
    """Send all logs of this process to standard error.

    Args:
        level: the lowest that is shown.
        kind: ``plain`` for a command, ``text`` with the time for a server, or ``json``.
    """
    handler = logging.StreamHandler(sys.stderr)
    formatters: dict[str, logging.Formatter] = {
        "plain": OneLine(FORMAT),
        "text": OneLine(SERVER_FORMAT),
        "json": JsonLines(),
    }
    handler.setFormatter(formatters[kind])
    logging.basicConfig(level=level, handlers=[handler], force=True)


def available_cores() -> int:
    """How many cores this process may use: those of the machine, or fewer where it is bound to
    some, or where a container has a share of the time.
    """
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            n = min(n, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no Linux, or the older kind of control groups
    return max(1, n)


def threads_of(workers: int | None, most: int = 32) -> int:
    """How many threads do a kind of work: as many as somebody asked for, else one a core.

    Args:
        workers: what was asked for; None for nothing.
        most: by themselves, because each holds a decoded picture or as much.
    """
    return workers or min(most, available_cores())


def limit_arenas(count: int = 2) -> bool:
    """Let all threads share a few allocation arenas.

    glibc gives every thread an arena of its own and keeps freed memory in it, so a pipeline of
    threads that hand large arrays to each other grows for a long time before it levels off. Call it
    first thing in a program.

    Args:
        count: most arenas.

    Returns:
        True where the allocator has the setting; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count))
    except (OSError, AttributeError):  # another C library
        return False
