"""The streaming pipeline of this process as an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from backend.label_studio.prelabel.stages import Labeller, LoadedTask, Loader, TaskWork
from backend.label_studio.prelabel.uploads import Finished
from backend.labeling import pipeline


class LocalEngine:
    """The streaming pipeline of this process.

    Args:
        loader: runs on ``workers`` threads.
        labeller: ``infer`` on one thread, ``finish`` on ``workers``.
        batch: tasks per model call.
        workers: threads.
    """

    def __init__(self, loader: Loader, labeller: Labeller, batch: int, workers: int) -> None:
        self._loader = loader
        self._labeller = labeller
        self._batch = batch
        self._workers = workers

    def run(
        self,
        work: Iterable[TaskWork],
        put: Callable[[Finished], None],
        fail: Callable[[int, Exception], None],
        stop: threading.Event,
    ) -> None:
        """See ``Engine``."""
        stages = pipeline.Stages[TaskWork, LoadedTask, list[Any], str](
            load=self._loader,
            infer=self._labeller.infer,
            finish=lambda one, loaded, raws: self._labeller.finish(int(one.task.id or 0), raws),
            write=lambda one, text: put(Finished(int(one.task.id or 0), text)),
        )
        for outcome in pipeline.run(
            work, stages, batch=self._batch, workers=self._workers, stop=stop
        ):
            if outcome.error is not None:
                fail(int(outcome.key.task.id or 0), outcome.error)
