"""The stages of a run as workers of Ray: loaders on processors, models on GPUs, on this machine or
a cluster whose machines have this package.

This process keeps the list, reads it as the work goes on, and hands out a few batches for each
worker. What a worker had in hand when it died is done again by another; a batch that kills its
workers is done picture by picture, so that one picture costs itself.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from backend import errors
from backend.config.process import available_cores
from backend.errors import ConfigError, LabelingError, Unavailable, as_sentence, is_disk_full

K = TypeVar("K")  # what names an item
LOADER_THREADS = 4  # of a loader, which mostly waits for disks and networks
_AHEAD = 2  # batches for each worker, so that none waits for this process
_RETRIES = 1  # of a batch whose worker died
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
class Skipped:
    """What a loader gives for an item that needs no model."""

    value: Any


class Models(Protocol):
    """What a worker with models does."""

    def infer(self, loaded: Sequence[Any]) -> Sequence[Any]: ...
    def finish(self, key: Any, loaded: Any, raw: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class Outcome(Generic[K]):
    """One item is done: ``value`` is what came of it, or ``error`` says why nothing did."""

    key: K
    value: Any
    error: LabelingError | None


@dataclass(frozen=True)
class _Failure:
    """An error on its way to another process."""

    kind: str
    text: str
    disk_full: bool

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        kind = type(error).__name__ if isinstance(error, LabelingError) else "UnexpectedError"
        return cls(kind, as_sentence(error), is_disk_full(error))

    def error(self) -> LabelingError:
        made: LabelingError = getattr(errors, self.kind, Unavailable)(self.text)
        if self.disk_full:
            made.__cause__ = OSError(errno.ENOSPC, "")
        return made


class _Work:
    """A worker; one that cannot work says why, instead of dying again and again."""

    def __init__(self, make: Callable[[], Any], threads: int) -> None:
        self._failure: _Failure | None = None
        try:
            self._made = make()
        except Exception as error:
            self._failure = _Failure.of(error)
        self._threads = ThreadPoolExecutor(threads)

    def ready(self) -> _Failure | None:
        """Answers once the worker is there."""
        return self._failure


class _Loads(_Work):
    """A worker that loads; see ``run_on_ray``."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        super().__init__(make, LOADER_THREADS)

    def run(self, keys: Sequence[Any]) -> list[Any]:
        return list(self._threads.map(self._one, keys))

    def _one(self, key: Any) -> Any:
        if self._failure is not None:
            return self._failure
        try:
            return self._made(key)
        except Exception as error:
            return _Failure.of(error)


class _Predicts(_Work):
    """A worker that holds the models: while threads finish a batch, the next is with the models."""

    def __init__(self, make: Callable[[], Models]) -> None:
        super().__init__(make, available_cores())
        self._lock = threading.Lock()

    def run(self, keys: Sequence[Any], loaded: Sequence[Any]) -> list[Any]:
        good = [k for k, one in enumerate(loaded) if not isinstance(one, _Failure | Skipped)]
        raws = []
        if good:  # else nobody waits for the models
            with self._lock:
                raws = self._answers([loaded[k] for k in good])
        values = [one.value if isinstance(one, Skipped) else one for one in loaded]
        finished = self._threads.map(
            self._finished, [keys[k] for k in good], [loaded[k] for k in good], raws
        )
        for k, value in zip(good, finished, strict=True):
            values[k] = value
        return values

    def _finished(self, key: Any, loaded: Any, raw: Any) -> Any:
        if isinstance(raw, _Failure):
            return raw
        try:
            return self._made.finish(key, loaded, raw)
        except Exception as error:
            return _Failure.of(error)

    def _answers(self, loaded: list[Any]) -> list[Any]:
        """If a batch fails, its items go one by one, so that one bad picture is one failure."""
        if not loaded:
            return []
        if self._failure is not None:
            return [self._failure] * len(loaded)
        try:
            return list(self._made.infer(loaded))
        except Exception as error:
            if len(loaded) == 1:
                return [_Failure.of(error)]
        return [answer for one in loaded for answer in self._answers([one])]


@contextmanager
def _started(address: str | None) -> Iterator[Any]:
    """Ray, started unless it runs already, with this program's own handling of signals."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--engine ray: Ray is not installed; pip install -c constraints.txt '.[ray]'"
        ) from None
    quiet: dict[str, Any] = {
        "logging_level": "ERROR",
        "log_to_driver": False,
        "include_dashboard": False,
    }
    started = not ray.is_initialized()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if started:
            try:
                ray.init(address=address, **({} if address else quiet))
            except (ValueError, RuntimeError, ConnectionError) as error:
                raise ConfigError(f"--ray-address {address}: {str(error)[:200]}") from None
        if threading.current_thread() is threading.main_thread():
            # Ray ends the program on a signal; ours finishes what is in flight.
            for number, handler in handlers.items():
                signal.signal(number, handler)
        yield ray
    except ray.exceptions.RayError as error:
        raise Unavailable(f"Ray: {_last_line(error)}") from None
    finally:
        if started:
            ray.shutdown()


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@dataclass(eq=False)
class _Worker:
    actor: Any
    in_hand: int = 0


@dataclass(eq=False)
class _Pool:
    """Workers of one kind: those that are ready, and those on their way."""

    ready: list[_Worker] = field(default_factory=list)
    coming: dict[Any, _Worker] = field(default_factory=dict)  # by the answer that is waited for

    @classmethod
    def of(cls, actors: Iterable[Any]) -> _Pool:
        return cls(coming={actor.ready.remote(): _Worker(actor) for actor in actors})

    def next(self) -> _Worker:
        """The one with the least in hand."""
        return min(self.ready, key=lambda worker: worker.in_hand)


@dataclass(frozen=True, eq=False)
class _Batch:
    keys: tuple[Any, ...]
    workers: tuple[_Worker, _Worker]
    alone: bool  # nothing else was with the workers


class _Run(Generic[K]):
    """Hands out batches; see ``run_on_ray``."""

    def __init__(
        self,
        ray: Any,
        make_loader: Callable[[], Callable[[K], Any]],
        make_models: Callable[[], Models],
        options: RayOptions,
    ) -> None:
        kept = {"max_restarts": -1, "max_task_retries": _RETRIES, "max_concurrency": 2}
        loader = ray.remote(num_cpus=0.5, **kept)(_Loads)
        models = ray.remote(
            num_cpus=0 if options.gpus else 0.5, num_gpus=options.gpus or None, **kept
        )(_Predicts)
        self._ray = ray
        self._batch = options.batch
        self._loaders = _Pool.of(loader.remote(make_loader) for _ in range(options.loaders))
        self._models = _Pool.of(models.remote(make_models) for _ in range(options.actors))
        self._in_flight: dict[Any, _Batch] = {}
        self._suspects: list[K] = []  # of batches whose workers died

    def outcomes(self, keys: Iterator[K], stop: threading.Event) -> Iterator[Outcome[K]]:
        while True:
            if not stop.is_set():
                self._hand_out(keys)
            # Workers that are only on their way are waited for as long as there is work for them.
            waited = [*self._in_flight, *self._loaders.coming, *self._models.coming]
            if not self._in_flight and (stop.is_set() or self._both_ready()):
                return  # also where workers that are not needed are on their way
            done, _ = self._ray.wait(waited, num_returns=1, timeout=_LOOK_S)
            for answer in done:
                if answer in self._in_flight:
                    yield from self._taken(answer)
                else:
                    self._arrived(answer)

    def _both_ready(self) -> bool:
        return bool(self._loaders.ready and self._models.ready)

    def _hand_out(self, keys: Iterator[K]) -> None:
        if not self._both_ready():
            return
        if self._suspects:  # one after the other, or the innocent would die with the guilty
            if not self._in_flight:
                self._send((self._suspects.pop(0),), alone=True)
            return
        most = _AHEAD * (len(self._loaders.ready) + len(self._models.ready))
        while len(self._in_flight) < most:
            batch = tuple(itertools.islice(keys, self._batch))
            if not batch:
                return
            self._send(batch, alone=False)

    def _send(self, keys: tuple[K, ...], *, alone: bool) -> None:
        workers = (self._loaders.next(), self._models.next())
        for worker in workers:
            worker.in_hand += 1
        loaded = workers[0].actor.run.remote(keys)
        answer = workers[1].actor.run.remote(keys, loaded)
        self._in_flight[answer] = _Batch(keys, workers, alone)

    def _arrived(self, answer: Any) -> None:
        pool = self._loaders if answer in self._loaders.coming else self._models
        worker = pool.coming.pop(answer)
        failure = self._ray.get(answer)
        if failure is not None:
            raise failure.error()
        pool.ready.append(worker)

    def _taken(self, answer: Any) -> Iterator[Outcome[K]]:
        batch = self._in_flight.pop(answer)
        for worker in batch.workers:
            worker.in_hand -= 1
        try:
            values = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            if not batch.alone:
                self._suspects += batch.keys
                return
            told = f"the workers that had it in hand died: {_last_line(error)}"
            values = [_Failure("UnexpectedError", told, False)]
        for key, value in zip(batch.keys, values, strict=True):
            failed = value.error() if isinstance(value, _Failure) else None
            yield Outcome(key, None if failed else value, failed)


def run_on_ray(
    keys: Iterable[K],
    make_loader: Callable[[], Callable[[K], Any]],
    make_models: Callable[[], Models],
    options: RayOptions,
    stop: threading.Event,
) -> Iterator[Outcome[K]]:
    """Push items through loaders and models, and yield what came of them as they are done.

    Args:
        keys: what to work on, read as the work goes on; they and all that is loaded and made can
            be pickled.
        make_loader: makes what loads an item, in every loader; that gives ``Skipped`` for an item
            without need of a model.
        make_models: makes what holds the models, in every worker that does.
        options: workers and batches.
        stop: when set, no further batch is handed out; those in flight are finished and yielded.

    Raises:
        ConfigError: Ray is not there, or a worker finds that something cannot work.
        Unavailable: Ray ends.
    """
    with _started(options.address) as ray:
        yield from _Run(ray, make_loader, make_models, options).outcomes(iter(keys), stop)
