"""Predictions on their way to Label Studio: in chunks, each written down before it is sent and
after it was confirmed, none twice.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from backend.errors import AuthError, InputError, LabelingError, Unavailable
from backend.label_studio.api.answers import Ambiguous
from backend.label_studio.api.retry import Pauses, Waits
from backend.label_studio.prelabel.journal import Journal

logger = logging.getLogger(__name__)

# of one request; Label Studio takes 250 MB
CHUNK_TASKS = 100
CHUNK_BYTES = 16 << 20
_OLDEST_S = 30.0  # what is finished does not wait longer than this to be sent
_WAITS = Waits(jitter=0.0)
_LAST_PATIENCE_S = 10.0
_POISONED = 3  # times that a chunk fails while Label Studio answers otherwise, before it is divided
_GIVE_UP = 5  # single tasks in a row
# What may wait for the uploader before everything before it waits: a request's worth while another
# is under way, however large masks are.
_QUEUED = 2 * CHUNK_TASKS
_QUEUED_BYTES = 4 * CHUNK_BYTES


class Destination(Protocol):
    """What the uploader needs of ``client.Client``."""

    def send(self, project: int, texts: Sequence[str]) -> None: ...
    def having(self, project: int, tasks: Sequence[int], model_version: str) -> set[int]: ...


@dataclass(frozen=True)
class Finished:
    """A prediction as JSON text."""

    task: int
    text: str


@dataclass(eq=False)
class Uploader:
    """One thread that sends what is finished.

    Args:
        target: Label Studio.
        project: its number.
        model_version: of all predictions.
        journal: open.
        on_done: called with the tasks that Label Studio has now.
        on_failed: called with a task that it does not take, and why.
        sleep: waits between tries; on ``stop`` if None.
        stop: when set, what is finished is still sent, but nobody waits long for a silent Label
            Studio.
        patience_s: how long Label Studio may be silent before the run ends.
        chunk_tasks: most predictions of a request.
    """

    target: Destination
    project: int
    model_version: str
    journal: Journal
    on_done: Callable[[Sequence[int]], None]
    on_failed: Callable[[int, LabelingError], None]
    sleep: Callable[[float], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    patience_s: float = 600.0
    chunk_tasks: int = CHUNK_TASKS
    error: LabelingError | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    n_bytes: int = 0
    _queue: queue.Queue[Finished | None] = field(default_factory=lambda: queue.Queue(_QUEUED))
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _in_a_row: int = 0  # single tasks that failed, with nothing taken in between
    _held: int = 0  # bytes that wait

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many finished predictions wait."""
        return self._queue.qsize()

    def put(self, finished: Finished) -> None:
        """Hand over a prediction; waits while many are waiting.

        Raises:
            LabelingError: what ended the uploader.
        """
        while not self.stopped.is_set():
            if self._held > _QUEUED_BYTES:
                time.sleep(0.02)
                continue
            try:
                self._queue.put(finished, timeout=0.2)
            except queue.Full:
                continue
            with self._lock:
                self._held += len(finished.text)
            return
        raise self.error or Unavailable("the uploader has ended")

    def close(self) -> None:
        """Send the rest and end."""
        while self._thread is not None and self._thread.is_alive():
            try:
                self._queue.put(None, timeout=0.2)
                break
            except queue.Full:
                continue
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            ended = False
            while not ended:
                chunk, ended = self._chunk()
                if chunk:
                    self._deliver(chunk)
        except LabelingError as error:
            self.error = error
        except Exception as error:
            logger.exception("the uploader failed")
            self.error = Unavailable(f"unexpected {type(error).__name__} while sending: {error}")
        finally:
            self.stopped.set()

    def _chunk(self) -> tuple[list[Finished], bool]:
        """What to send next, and whether it is the last."""
        chunk: list[Finished] = []
        size = 0
        deadline = float("inf")
        while len(chunk) < self.chunk_tasks and size < CHUNK_BYTES:
            try:
                one = self._queue.get(timeout=max(0.0, min(deadline - time.monotonic(), 3600.0)))
            except queue.Empty:
                break
            if one is None:
                return chunk, True
            if not chunk:
                deadline = time.monotonic() + _OLDEST_S
            chunk.append(one)
            size += len(one.text)
            with self._lock:
                self._held -= len(one.text)
        return chunk, False

    def _deliver(self, chunk: Sequence[Finished]) -> None:
        """Send a chunk until Label Studio has all of it, or refused what it refuses."""
        self.journal.sending([one.task for one in chunk])
        pauses = Pauses(_WAITS)
        looked = 0
        while chunk:
            tasks = [one.task for one in chunk]
            try:
                self.target.send(self.project, [one.text for one in chunk])
            except InputError as error:
                self._narrow(chunk, error)
                return
            except AuthError:
                self.journal.refused(tasks)
                raise
            except Unavailable as error:
                unclear = isinstance(error, Ambiguous)
                if unclear:
                    self.journal.doubt(tasks)
                self._wait(pauses, error, "looking what came of it" if unclear else "trying again")
                if unclear:
                    chunk = self._look(chunk)
                    looked += 1
                    # It answers when it is asked, and fails on what it is given.
                    if looked >= _POISONED and chunk:
                        self._narrow(chunk, error)
                        return
            else:
                self._confirm(chunk)
                return

    def _wait(self, pauses: Pauses, error: Unavailable, then: str) -> None:
        """Wait after a failure; raises it where Label Studio was silent for too long."""
        patience_s = self.patience_s
        if self.stop.is_set():
            patience_s = min(patience_s, _LAST_PATIENCE_S)
        pause = pauses.after(error, patience_s)
        if pause is None:
            raise error
        logger.info("%s; %s in %.1f s", error, then, pause)
        self._pause(pause)

    def _look(self, chunk: Sequence[Finished]) -> list[Finished]:
        """Confirm what is there; gives what is not."""
        there = self.target.having(self.project, [one.task for one in chunk], self.model_version)
        self._confirm([one for one in chunk if one.task in there])
        return [one for one in chunk if one.task not in there]

    def _pause(self, seconds: float) -> None:
        if self.sleep is not None:
            self.sleep(seconds)
        elif self.stop.is_set():
            time.sleep(min(seconds, 1.0))
        else:
            self.stop.wait(seconds)

    def _narrow(self, chunk: Sequence[Finished], error: LabelingError) -> None:
        """Find by halves what Label Studio refuses; a chunk is taken as a whole or not at all."""
        if self.stop.is_set() and not isinstance(error, InputError):
            raise error
        if len(chunk) > 1:
            middle = len(chunk) // 2
            self._deliver(chunk[:middle])
            self._deliver(chunk[middle:])
            return
        if not isinstance(error, InputError):
            self._in_a_row += 1
            if self._in_a_row >= _GIVE_UP or self.stop.is_set():
                raise error  # it is not the tasks: Label Studio takes nothing
        self.journal.refused([chunk[0].task])
        self.on_failed(chunk[0].task, error)

    def _confirm(self, chunk: Sequence[Finished]) -> None:
        tasks = [one.task for one in chunk]
        self._in_a_row = 0 if tasks else self._in_a_row
        self.journal.confirmed(tasks)
        self.n_bytes += sum(len(one.text) for one in chunk)
        if tasks:
            self.on_done(tasks)
