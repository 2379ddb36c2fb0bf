"""The stages of a run as workers of Ray: loaders on processors, models on GPUs, on this machine or
a cluster whose machines have this package.

This process keeps the list, reads it as the work goes on, and hands out a few batches for each
worker. What a worker had in hand when it died is handed out again; a batch that kills its workers
is done picture by picture, so that one picture costs itself.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from backend.errors import LabelingError, Unavailable
from backend.labeling.ray_session import last_line, started
from backend.labeling.ray_workers import Failure, Load, Loads, Models, Predicts, Skipped

logger = logging.getLogger(__name__)
K = TypeVar("K")  # what names an item
_AHEAD = 2  # batches for each worker, so that none waits for this process
_TRIES = 2  # of a batch whose workers die; then each of its items is tried alone
_TOLD_S = 30.0  # after which a person hears what is waited for
_PATIENCE_S = 600.0  # for the first worker of a kind, or for another where all died
_RESTART_S = 0.2  # between questions to a worker that is being started again
_LOOK_S = 1.0  # how soon a person who interrupts is heard


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """How Ray is used.

    Attributes:
        batch: items per model call.
        loaders: workers that read and decode.
        actors: workers that hold the models.
        gpus: of each of those; 0 for the CPU.
        address: of a cluster; None for this machine.
    """

    batch: int = 8
    loaders: int = 2
    actors: int = 1
    gpus: float = 0
    address: str | None = None


@dataclass(frozen=True, eq=False)
class RayOutcome(Generic[K]):
    """One item is done: ``value`` is what came of it, or ``error`` says why nothing did."""

    key: K
    value: Any
    error: LabelingError | None


@dataclass(eq=False)
class _Worker:
    actor: Any
    in_hand: int = 0


@dataclass(eq=False)
class _Pool:
    """Workers of one kind: those that are ready, and those on their way."""

    has_begun: bool = False  # whether one was ready at any time
    ready: list[_Worker] = field(default_factory=list)
    coming: dict[Any, _Worker] = field(default_factory=dict)  # by the answer that is waited for

    def expect(self, worker: _Worker) -> None:
        """Wait for a worker that is new, or that may have died."""
        if worker in self.ready:
            self.ready.remove(worker)
        if worker not in self.coming.values():
            self.coming[worker.actor.ready.remote()] = worker

    def next(self) -> _Worker:
        """The one with the least in hand."""
        return min(self.ready, key=lambda worker: worker.in_hand)


@dataclass(frozen=True, eq=False)
class _Batch:
    keys: tuple[Any, ...]
    found: tuple[Any, ...]  # of each, see ``ray_workers.Loaded``
    tries: int = 0  # before this one
    alone: bool = False  # nothing else is with the workers


@dataclass(frozen=True, eq=False)
class _InFlight:
    """A batch, the workers that have it in hand, and what its loader says of it."""

    batch: _Batch
    loader: _Worker
    models: _Worker
    told: Any


class _Run(Generic[K]):
    """Hands out batches; see ``run_on_ray``."""

    def __init__(
        self,
        ray: Any,
        make_loader: Callable[[], Load[K]],
        make_models: Callable[[], Models],
        options: RayOptions,
    ) -> None:
        # What a dead worker had in hand is handed out again here, to others.
        kept = {"max_restarts": -1, "max_task_retries": 0, "max_concurrency": 2}
        cpus = 1 if options.gpus else _cpus_of_actor(ray, options.actors)
        models = ray.remote(num_cpus=cpus, num_gpus=options.gpus or None, **kept)(Predicts)
        loader = ray.remote(num_cpus=0, **kept)(Loads)  # they mostly wait
        self._ray = ray
        self._batch = options.batch
        self._models = _Pool()
        self._loaders = _Pool()
        for _ in range(options.actors):
            self._models.expect(_Worker(models.remote(make_models, os.getcwd())))
        for _ in range(options.loaders):
            self._loaders.expect(_Worker(loader.remote(make_loader, os.getcwd())))
        self._in_flight: dict[Any, _InFlight] = {}
        self._again: deque[_Batch] = deque()
        self._lacking: float | None = None  # since when there are no workers of a kind
        self._told: set[str] = set()

    def outcomes(self, keys: Iterator[K], stop: threading.Event) -> Iterator[RayOutcome[K]]:
        while True:
            if not stop.is_set():
                self._hand_out(keys)
            if not self._in_flight and (stop.is_set() or self._both_ready()):
                return  # also where workers that are not needed are on their way
            waited = [*self._in_flight, *self._loaders.coming, *self._models.coming]
            done, _ = self._ray.wait(waited, num_returns=1, timeout=_LOOK_S)
            self._look_at_the_clock()
            for answer in done:
                if answer in self._in_flight:
                    yield from self._taken(answer)
                else:
                    self._arrived(answer)

    def _both_ready(self) -> bool:
        return bool(self._loaders.ready and self._models.ready)

    def _look_at_the_clock(self) -> None:
        """Tell what is waited for, and do not wait for ever for what does not come."""
        if self._both_ready():
            self._lacking = None
            return
        if self._lacking is None:
            self._lacking = time.monotonic()
        waited = time.monotonic() - self._lacking
        if waited < _TOLD_S:
            return
        free = self._ray.available_resources()
        told = (
            f"no worker {'with models' if self._loaders.ready else 'yet'} for {waited:.0f} s; free"
            f" are {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"
        )
        if waited > _PATIENCE_S:
            raise Unavailable(f"Ray: {told}")
        self._warn_once("waits", told)

    def _warn_once(self, about: str, told: str) -> None:
        if about not in self._told:
            self._told.add(about)
            logger.warning("Ray: %s", told)

    def _hand_out(self, keys: Iterator[K]) -> None:
        if not self._both_ready() or any(one.batch.alone for one in self._in_flight.values()):
            return
        most = _AHEAD * (len(self._loaders.ready) + len(self._models.ready))
        while len(self._in_flight) < most:
            if self._again and self._again[0].alone:  # or the innocent would die with the guilty
                if not self._in_flight:
                    self._send(self._again.popleft())
                return
            if self._again:
                batch = self._again.popleft()
            else:
                some = tuple(itertools.islice(keys, self._batch))
                batch = _Batch(some, (None,) * len(some))
            if not batch.keys:
                return
            self._send(batch)

    def _send(self, batch: _Batch) -> None:
        loader = self._loaders.next()
        models = self._models.next()
        for worker in (loader, models):
            worker.in_hand += 1
        loaded, told = loader.actor.run.options(num_returns=2).remote(batch.keys, batch.found)
        answer = models.actor.run.remote(batch.keys, loaded)
        self._in_flight[answer] = _InFlight(batch, loader, models, told)

    def _arrived(self, answer: Any) -> None:
        pool = self._loaders if answer in self._loaders.coming else self._models
        worker = pool.coming.pop(answer)
        try:
            failure = self._ray.get(answer)
        except self._ray.exceptions.RayError:  # it is being started again
            time.sleep(_RESTART_S)
            pool.expect(worker)
            return
        if failure is None:
            pool.has_begun = True
            pool.ready.append(worker)
            return
        if not pool.has_begun:
            raise failure.error()
        # Others could begin, so that what is in its way may pass, such as memory that is not free.
        self._warn_once(failure.text, f"a worker could not begin again: {failure.text}")
        time.sleep(_RESTART_S)
        self._ray.kill(worker.actor, no_restart=False)
        pool.expect(worker)

    def _taken(self, answer: Any) -> Iterator[RayOutcome[K]]:
        flight = self._in_flight.pop(answer)
        batch = flight.batch
        for worker in (flight.loader, flight.models):
            worker.in_hand -= 1
        try:
            values = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._loaders.expect(flight.loader)
            self._models.expect(flight.models)
            if not (batch.alone and batch.tries + 1 >= _TRIES):
                told = self._told_of(flight)
                for key, one in zip(batch.keys, told, strict=True):
                    if isinstance(one, Skipped):
                        yield RayOutcome(key, one.value, None)
                self._again += _next_try(batch, told)
                return
            why = f"the workers that had it in hand died: {last_line(error)}"
            values = [Failure("UnexpectedError", why, False)]
        for key, value in zip(batch.keys, values, strict=True):
            failed = value.error() if isinstance(value, Failure) else None
            yield RayOutcome(key, None if failed else value, failed)

    def _told_of(self, flight: _InFlight) -> list[Any]:
        """What the loader of a lost batch said of its items, see ``Loads.run``."""
        try:
            told: list[Any] = self._ray.get(flight.told, timeout=_LOOK_S)
        except self._ray.exceptions.RayError:  # the loader died as well
            return [None] * len(flight.batch.keys)
        return told


def _next_try(batch: _Batch, told: Sequence[Any]) -> list[_Batch]:
    """How a batch whose workers died is tried again: together, then item by item, and alone."""
    left = [
        (key, before if one is None else one)
        for key, before, one in zip(batch.keys, batch.found, told, strict=True)
        if not isinstance(one, Skipped)
    ]
    if batch.tries + 1 >= _TRIES:
        return [_Batch((key,), (found,), alone=True) for key, found in left]
    keys, found = zip(*left, strict=True) if left else ((), ())
    return [_Batch(keys, found, batch.tries + 1, batch.alone)] if left else []


def _cpus_of_actor(ray: Any, actors: int) -> int:
    """Cores for the models of each worker: its share of all, as far as every machine has them."""
    of_nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return max(1, int(min(sum(of_nodes) // actors, min(of_nodes, default=1))))


def run_on_ray(
    keys: Iterable[K],
    make_loader: Callable[[], Load[K]],
    make_models: Callable[[], Models],
    options: RayOptions,
    stop: threading.Event,
) -> Iterator[RayOutcome[K]]:
    """Push items through loaders and models, and yield what came of them as they are done.

    Args:
        keys: what to work on, read as the work goes on; they and all that is loaded and made can
            be pickled.
        make_loader: makes what loads an item, in every loader. It gives ``Skipped`` for an item
            that needs no model; such an item is done.
        make_models: makes what holds the models, in every worker that does.
        options: workers and batches.
        stop: when set, no further batch is handed out; those in flight are finished and yielded.

    Raises:
        ConfigError: Ray is not there, or a worker finds that something cannot work.
        Unavailable: Ray ends.
    """
    with started(options.address) as ray:
        yield from _Run(ray, make_loader, make_models, options).outcomes(iter(keys), stop)
