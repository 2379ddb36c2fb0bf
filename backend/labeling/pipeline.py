"""Streaming batch work: load threads -> batches -> model -> finish threads -> writer, in order,
with bounded queues.

Every stage runs while the others do, so the whole takes as long as its slowest stage. At most four
batches are in flight (two loading or with the model, one or two being finished and written), or
one for each loading thread where that is more, so memory does not grow with the number of items.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from backend.config.process import threads_of
from backend.errors import InputError, LabelingError, UnexpectedError, as_sentence

logger = logging.getLogger(__name__)

K = TypeVar("K")  # key of an item: cheap, such as a path
L = TypeVar("L")  # loaded item
R = TypeVar("R")  # model answer
F = TypeVar("F")  # finished item, ready to be written


@dataclass(frozen=True)
class Stages(Generic[K, L, R, F]):
    """The work itself.

    ``load`` and ``finish`` run on threads, ``infer`` and ``write`` on one thread each, in order.
    """

    load: Callable[[K], L]
    infer: Callable[[Sequence[L]], Sequence[R]]
    finish: Callable[[K, L, R], F]
    write: Callable[[K, F], None]


@dataclass(frozen=True)
class Outcome(Generic[K]):
    """One item is done: ``error`` is None, or why it failed."""

    key: K
    error: LabelingError | None


def _as_failure(error: BaseException) -> LabelingError:
    """An expected error as it is.

    Anything else (a bug, a broken codec) as this one item's failure, logged in full.
    """
    if isinstance(error, LabelingError):
        return error
    return UnexpectedError(as_sentence(error))


class _Run(Generic[K, L, R, F]):
    def __init__(
        self, stages: Stages[K, L, R, F], batch: int, workers: int, stop: threading.Event
    ) -> None:
        self._stages = stages
        self._batch = batch
        self._stop = stop
        self._abandoned = threading.Event()  # nobody takes the outcomes any more
        self._finishing: queue.Queue[tuple[K, Future[F]] | None] = queue.Queue(batch)
        self._outcomes: queue.Queue[Outcome[K] | BaseException | None] = queue.Queue()
        self._loaders = ThreadPoolExecutor(workers, "load")
        self._finishers = ThreadPoolExecutor(workers, "finish")
        self._error: BaseException | None = None
        # While the model works on a batch, every thread can load, and at least the next batch.
        self._ahead = batch + max(batch, workers)

    def _infer(self, items: list[tuple[K, Future[L]]]) -> None:
        """Run the model on what could be loaded and hand everything, failures too, to the writer in
        order.
        """
        loaded: deque[tuple[K, L | _Failure]] = deque()
        while (
            items
        ):  # emptied on the way, so that nothing holds on to an image longer than its own stages do
            key, pending = items.pop(0)
            try:
                loaded.append((key, pending.result()))
            except Exception as error:
                loaded.append((key, _Failure(error)))
            del pending
        answers = deque(
            self._answers([item for _, item in loaded if not isinstance(item, _Failure)])
        )
        while loaded:
            key, item = loaded.popleft()
            answer = item if isinstance(item, _Failure) else answers.popleft()
            if isinstance(item, _Failure) or isinstance(answer, _Failure):
                future: Future[F] = Future()
                future.set_exception(answer.error)  # type: ignore[union-attr]
            else:
                future = self._finishers.submit(self._stages.finish, key, item, answer)
            del item, answer
            self._finishing.put((key, future))

    def _answers(self, items: list[L]) -> list[R | _Failure]:
        """The model's answers.

        If a batch fails, its items go one by one, so that one bad image is one failure.
        """
        if not items:
            return []
        try:
            answers = list(self._stages.infer(items))
            if len(answers) != len(items):
                raise InputError(f"the model gave {len(answers)} answers for {len(items)} images")
            return [*answers]
        except Exception as error:
            if len(items) == 1:
                return [_Failure(error)]
            logger.warning(
                "a batch of %d failed (%s); trying its images one by one", len(items), error
            )
        return [answer for item in items for answer in self._answers([item])]

    def model_thread(self, keys: Iterator[K]) -> None:
        """Keep loads in flight, batch them, run the model, hand over to the finishers."""
        pending: deque[tuple[K, Future[L]]] = deque()
        try:
            while not (self._stop.is_set() or self._abandoned.is_set()):
                while len(pending) < self._ahead and (key := next(keys, _END)) is not _END:
                    future = self._loaders.submit(self._stages.load, key)  # type: ignore[arg-type]
                    pending.append((key, future))  # type: ignore[arg-type]
                if not pending:
                    break
                self._infer([pending.popleft() for _ in range(min(self._batch, len(pending)))])
        except (
            BaseException
        ) as error:  # the caller's thread must hear of it, after everything that was finished
            self._error = error
        finally:
            self._loaders.shutdown(
                wait=False, cancel_futures=True
            )  # after a stop: loaded ahead, but never with the model
            self._finishing.put(None)

    def writer_thread(self) -> None:
        """Write finished items in order and report each."""
        while (entry := self._finishing.get()) is not None:
            key, future = entry
            try:
                self._stages.write(key, future.result())
                self._outcomes.put(Outcome(key, None))
            except Exception as error:
                self._outcomes.put(Outcome(key, _as_failure(error)))
        self._outcomes.put(self._error)

    def outcomes(self, keys: Iterable[K]) -> Iterator[Outcome[K]]:
        threads = [
            threading.Thread(
                target=self.model_thread, args=(iter(keys),), name="model", daemon=True
            ),
            threading.Thread(target=self.writer_thread, name="writer", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while (outcome := self._outcomes.get()) is not None:
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            self._abandoned.set()
            # If the caller was interrupted, the interpreter would wait at its exit for everything
            # that is queued here.
            for pool in (self._loaders, self._finishers):
                pool.shutdown(wait=False, cancel_futures=True)


_END = object()


@dataclass(frozen=True)
class _Failure:
    """Takes the place of an item or an answer that there is not."""

    error: Exception


def run(
    keys: Iterable[K],
    stages: Stages[K, L, R, F],
    *,
    batch: int,
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Outcome[K]]:
    """Push items through all stages and yield their outcomes in the order of ``keys``.

    Args:
        keys: what to work on; read as the work goes on.
        stages: the work.
        batch: items per model call.
        workers: threads for loading, and as many again for finishing; None for one a core.
        stop: when set, no further batch goes to the model; the one that is there is finished,
            written and yielded.

    Yields:
        One outcome per item begun. A failed item does not stop the others.
    """
    run = _Run(stages, batch, threads_of(workers), stop or threading.Event())
    yield from run.outcomes(keys)
