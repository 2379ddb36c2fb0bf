"""Images of tasks, fetched and decoded ahead of their use: so many at once, and never more than so
many bytes.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

from backend.core.types import Image
from backend.errors import LabelingError
from backend.formats.label_studio.pages import Place
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.worker import DeadlineExceeded

logger = logging.getLogger(__name__)
R = TypeVar("R")
Fetch = Callable[[str, int | None, float], bytes]
Decode = Callable[[bytes, str, float], Image]
Phase = Callable[[str], AbstractContextManager[None]]  # measures a step of that name
_FIRST_GUESS = 64 << 20
HELD_BYTES = 256 << 20  # of decoded images that one request may hold before the models see them


@dataclass(frozen=True)
class Unit:
    """One image of one task for one group of tags."""

    task: int
    group: int
    uri: str
    place: Place


@dataclass(frozen=True, eq=False)
class Fetched(Generic[R]):
    """A unit after fetching: what is known of it already, or an image to look at."""

    digest: str
    known: R | None
    image: Image | None

    @property
    def n_bytes(self) -> int:
        """Of the decoded image."""
        return 0 if self.image is None else self.image.nbytes


class Ahead(Generic[R]):
    """Fetches and decodes on threads of its own, shared by all requests.

    Args:
        fetch: address, task id and deadline to image bytes.
        workers: threads.
        at_once: units of one request that are on their way.
        decode: data, name and deadline to an image.
        phase: measures a step.
    """

    def __init__(
        self,
        fetch: Fetch,
        workers: int,
        at_once: int,
        decode: Decode,
        phase: Phase = lambda name: nullcontext(),
    ) -> None:
        self._phase = phase
        self._fetch = fetch
        self._decode = decode
        # one request leaves threads to the others
        self._at_once = max(at_once, workers)
        self._running = max(2, workers // 2)
        self._largest = float(_FIRST_GUESS)  # bytes of a decoded image, the largest of late
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")

    def close(self) -> None:
        """Stop fetching."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(
        self, task: Task, unit: Unit, known: Callable[[str, Unit], R | None], deadline: float
    ) -> Fetched[R]:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("not reached before the deadline")
        with self._phase("fetch"):
            data = self._fetch(unit.uri, task.id, deadline)
        digest = sha256(data).hexdigest()
        result = known(digest, unit)
        if result is not None:
            return Fetched(digest, result, None)
        with self._phase("decode"):
            image = self._decode(data, shown(unit.uri), deadline)
        self._largest = max(float(image.nbytes), 0.8 * self._largest)
        return Fetched(digest, None, image)

    def _room(self, pending: Sequence[tuple[Unit, Future[Fetched[R]]]]) -> int:
        """How many more units may start, by count and by the bytes that are there and to be
        expected.
        """
        done = [future for _, future in pending if future.done()]
        held = sum(
            future.result().n_bytes
            for future in done
            if not future.cancelled() and not future.exception()
        )
        running = len(pending) - len(done)
        left = int((HELD_BYTES - held) / max(self._largest, 1.0)) - running
        return max(
            int(not pending), min(self._at_once - len(pending), self._running - running, left)
        )

    def __call__(
        self,
        tasks: Sequence[Task],
        units: Sequence[Unit],
        known: Callable[[str, Unit], R | None],
        deadline: float,
    ) -> Iterator[tuple[Unit, Fetched[R] | BaseException]]:
        """Units with their images, or why there is none, in order.

        Args:
            tasks: of the request.
            units: what to fetch.
            known: digest of the bytes and unit to what is remembered; such images are not decoded.
            deadline: of ``time.monotonic``.
        """
        pending: list[tuple[Unit, Future[Fetched[R]]]] = []
        queue = iter(units)
        try:
            while True:
                for unit in itertools.islice(queue, self._room(pending)):
                    pending.append(
                        (
                            unit,
                            self.pool.submit(
                                self._prepare, tasks[unit.task], unit, known, deadline
                            ),
                        )
                    )
                if not pending:
                    return
                unit, future = pending.pop(0)
                yield unit, _outcome(future, deadline)
        finally:
            for _, future in pending:
                future.cancel()


def _outcome(future: Future[Fetched[R]], deadline: float) -> Fetched[R] | BaseException:
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        future.cancel()
        return DeadlineExceeded("the image was not there before the deadline")
    except Exception as error:
        if not isinstance(error, LabelingError):
            logger.error("fetching or decoding failed", exc_info=error)
        return error
