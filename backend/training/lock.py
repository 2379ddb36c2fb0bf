"""One training at a time in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from backend.errors import ConfigError
from backend.models.tuned import RUN_LOCK
from backend.training.tune_segmenter import VIEWS


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile; what a killed run left is removed.

    Raises:
        ConfigError: somebody does.
    """
    lock = FileLock(out / RUN_LOCK, timeout=0, is_singleton=True)  # may be held twice by one run
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{out}: another training runs there; wait for its end") from None
    try:
        for left in out.glob(f"{VIEWS}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
