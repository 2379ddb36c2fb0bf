"""What turns tasks into finished predictions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from backend.label_studio.prelabel.stages import TaskWork
from backend.label_studio.prelabel.uploads import Finished


class Engine(Protocol):
    """Turns work into finished predictions."""

    def run(
        self,
        work: Iterable[TaskWork],
        put: Callable[[Finished], None],
        fail: Callable[[int, Exception], None],
        stop: threading.Event,
    ) -> None:
        """Work through everything.

        ``put`` and ``fail`` are called from one thread at a time, and ``put`` may raise to end it.
        """
