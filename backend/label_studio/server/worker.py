"""The inference thread: it alone uses the models; a few requests may wait for it, none for ever.

``admit`` lets in a limited number of requests and refuses others at once. ``run`` computes for a
request in small jobs, so that a click does not wait for a thousand images. A job whose deadline has
passed is never started.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from backend.errors import InputError, LabelingError, Unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOADING = "LOADING"
READY = "READY"
FAILED = "FAILED"
DRAINING = "DRAINING"
STUCK = "STUCK"
# order in the queue
CLICK = 0
BATCH = 1
STOP = 2
CLICK_PLACES = 2
MOST_FAILURES = 10  # of jobs in a row, before a new process is asked for
MOST_LOADS = 10  # tries to load the models, before a new process is asked for


class Busy(Unavailable):
    """Refused without trying; ask again after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(Unavailable):
    """The answer would have come too late, so it was not computed or not waited for."""


@dataclass(order=True)
class _Job:
    order: int
    number: int
    work: Callable[[], Any] = field(compare=False)
    deadline: float = field(compare=False)
    future: Future[Any] = field(compare=False)


class InferenceThread:
    """A thread that does all inference.

    Args:
        load: loads the models and warms them up, on this thread; until it returns the state is
            LOADING.
        queue_size: requests that may wait beside the one that runs.
        stuck_after_s: a job that runs longer makes the state STUCK.
        load_again_s: seconds until another try where the models could not be loaded; the network
            they come from may be back by then.
        on_stuck: called once then, on the watchdog's thread; a server ends its process there, for a
            supervisor to start it again.
    """

    def __init__(
        self,
        load: Callable[[], object],
        *,
        queue_size: int = 4,
        stuck_after_s: float = 120.0,
        load_again_s: float = 30.0,
        on_stuck: Callable[[], None] | None = None,
    ) -> None:
        self._load_again_s = load_again_s
        self._n_loads = 0  # that failed
        self._load = load
        self._queue_size = queue_size
        self._stuck_after_s = stuck_after_s
        self._on_stuck = on_stuck
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._admitted = 0
        self._state = LOADING
        self._loaded = threading.Event()
        self._since: float | None = None  # when the running job started
        self.fault: str | None = None  # why loading failed
        self._n_failed = 0  # jobs in a row
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._stop_watching = threading.Event()

    @property
    def state(self) -> str:
        """LOADING, READY, FAILED, DRAINING or STUCK."""
        return self._state

    @property
    def is_failing(self) -> bool:
        """Whether so many jobs failed in a row, none of them for what was in the request, that a
        new process is the better one: memory may have run out for good.
        """
        return self._n_failed >= MOST_FAILURES or self._n_loads >= MOST_LOADS

    @property
    def waiting(self) -> int:
        """Requests that are admitted, the running one included."""
        return self._admitted

    def start(self) -> None:
        """Start loading, and the watchdog."""
        self._thread.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def wait_loaded(self, timeout_s: float) -> bool:
        """Wait until the models are there or failed; False if neither happened in time."""
        return self._loaded.wait(timeout_s)

    def _try_load(self) -> None:
        try:
            self._load()
        except LabelingError as error:
            self.fault = str(error)
            logger.error("the models cannot be loaded: %s", error)
        except Exception as error:  # whatever a model library raises; the server stays up to say so
            self.fault = f"the models cannot be loaded: {type(error).__name__}"
            logger.exception("the models cannot be loaded")
        else:
            if self._state in (LOADING, FAILED):
                self._state = READY
            self.fault = None
            self._n_loads = 0
            return
        if self._state == LOADING:
            self._state = FAILED
        self._n_loads += 1

    def _work(self) -> None:
        self._try_load()
        self._loaded.set()
        while True:
            try:
                job = self._jobs.get(timeout=self._load_again_s if self._state == FAILED else None)
            except queue.Empty:
                self._try_load()
                continue
            if job.order == STOP:
                return
            if not job.future.set_running_or_notify_cancel():
                del job
                continue
            if time.monotonic() >= job.deadline:
                job.future.set_exception(
                    DeadlineExceeded("waited for the model until the deadline")
                )
                del job
                continue
            self._since = time.monotonic()
            try:
                job.future.set_result(job.work())
                self._n_failed = 0
            except BaseException as error:  # handed to the thread that asked
                self._n_failed += not isinstance(error, InputError)
                job.future.set_exception(error)
            finally:
                self._since = None
                del job  # or an idle thread would keep the last batch's images

    def _watch(self) -> None:
        while not self._stop_watching.wait(min(1.0, self._stuck_after_s / 4)):
            since = self._since
            if (
                since is not None
                and time.monotonic() - since > self._stuck_after_s
                and self._state != STUCK
            ):
                self._state = STUCK
                logger.critical(
                    "inference has been stuck for %.0f s; giving up", self._stuck_after_s
                )
                if self._on_stuck is not None:
                    self._on_stuck()
                return

    def check(self) -> None:
        """Refuse what cannot be served now.

        Raises:
            Busy: draining or stuck.
            Unavailable: the models could not be loaded.
        """
        if self._state == FAILED:
            raise Unavailable(self.fault or "the models cannot be loaded")
        if self._state in (DRAINING, STUCK):
            raise Busy("the server is shutting down", 10)

    @contextmanager
    def admit(self, order: int = BATCH) -> Iterator[None]:
        """Count one request in for as long as the block runs.

        Args:
            order: of its work; a few places are kept for clicks, so that long batches do not shut
                annotators out.

        Raises:
            Busy: as many as allowed are in already, or the server is shutting down.
            Unavailable: the models could not be loaded.
        """
        with self._lock:
            self.check()
            if self._admitted > self._queue_size + (CLICK_PLACES if order == CLICK else 0):
                raise Busy(
                    f"busy: {self._admitted} requests are in work, try again in a few seconds"
                )
            self._admitted += 1
        try:
            yield
        finally:
            with self._lock:
                self._admitted -= 1
                self._idle.notify_all()

    def run(
        self,
        work: Callable[[], T],
        deadline: float,
        order: int = BATCH,
        late: Callable[[T], object] | None = None,
    ) -> T:
        """Compute something on the inference thread and wait for it.

        Args:
            work: uses the models; whatever it raises is raised here.
            deadline: of ``time.monotonic``.
            order: CLICK goes before BATCH.
            late: called with the result, on the inference thread, if nobody waits for it any more.

        Raises:
            DeadlineExceeded: it was not ready in time; if it had not started, it never will.
        """
        job = _Job(order, next(self._numbers), work, deadline, Future())
        self._jobs.put(job)
        try:
            result: T = job.future.result(max(0.0, deadline - time.monotonic()))
            return result
        except TimeoutError as error:
            if job.future.done() and job.future.exception() is error:
                raise
            if not job.future.cancel() and late is not None:
                job.future.add_done_callback(
                    lambda future: None if future.exception() else late(future.result())
                )
            raise DeadlineExceeded("the model had no answer before the deadline") from None

    def call(self, work: Callable[[], T], patience_s: float) -> T:
        """Compute something on the inference thread, from that thread or from another.

        Args:
            work: uses the models.
            patience_s: seconds that it may wait for its turn.

        Raises:
            DeadlineExceeded: it was not ready in time.
        """
        if threading.current_thread() is self._thread:
            return work()
        return self.run(work, time.monotonic() + patience_s)

    def begin_drain(self) -> None:
        """Take no new requests; the admitted ones go on. Safe in a signal handler."""
        if self._state != STUCK:
            self._state = DRAINING

    def drain(self, timeout_s: float) -> bool:
        """Wait for admitted requests to finish, then stop the thread.

        Returns:
            Whether all of them finished in time.
        """
        self.begin_drain()
        with self._idle:
            done = self._idle.wait_for(lambda: self._admitted == 0, timeout_s)
        self._stop_watching.set()
        self._jobs.put(_Job(STOP, next(self._numbers), lambda: None, 0.0, Future()))
        return done
