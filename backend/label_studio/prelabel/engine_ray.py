"""Tasks on workers of Ray; finished predictions come to this process, which uploads them, so that
nothing comes twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from backend.label_studio.prelabel.stages import Labeller, LoadedTask, Loader, TaskWork
from backend.label_studio.prelabel.uploads import Finished
from backend.labeling.engine_ray import RayOptions, run_on_ray
from backend.labeling.ray_workers import Loaded


class _Loader:
    """A loader of tasks as one of Ray's."""

    def __init__(self, make: Callable[[], Loader]) -> None:
        self._load = make()

    def __call__(self, key: TaskWork, found: object) -> Loaded:
        return Loaded(self._load(key))


class _Models:
    """A labeller as a worker's models."""

    def __init__(self, make: Callable[[], Labeller]) -> None:
        self._labeller = make()

    def infer(self, loaded: Sequence[LoadedTask]) -> Sequence[Any]:
        return self._labeller.infer(loaded)

    def finish(self, key: TaskWork, loaded: LoadedTask, raw: Any) -> str:
        return self._labeller.finish(int(key.task.id or 0), raw)


@dataclass(eq=False)
class RayEngine:
    """Ray over the tasks.

    Args:
        make_loader: on every loader.
        make_labeller: where the models are.
        options: workers and batches.
    """

    make_loader: Callable[[], Loader]
    make_labeller: Callable[[], Labeller]
    options: RayOptions = field(default_factory=RayOptions)

    def run(
        self,
        work: Iterable[TaskWork],
        put: Callable[[Finished], None],
        fail: Callable[[int, Exception], None],
        stop: threading.Event,
    ) -> None:
        """See ``Engine``."""
        loader = partial(_Loader, self.make_loader)
        models = partial(_Models, self.make_labeller)
        for outcome in run_on_ray(work, loader, models, self.options, stop):
            task = int(outcome.key.task.id or 0)
            if outcome.error is not None:
                fail(task, outcome.error)
            else:
                put(Finished(task, outcome.value))
