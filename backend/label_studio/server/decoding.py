"""Decoding pictures for a server: within a budget of memory, and where it can be given up.

Pillow cannot be interrupted. A picture that may take long is decoded in a process of its own kind,
which is killed when its time is over; the others are decoded at once, where they are.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager

from pebble import ProcessExpired, ProcessPool

from backend.core.types import Image
from backend.errors import InputError, Unavailable
from backend.files.images import ImageLimits, decode_image, jpeg_scans, read_header
from backend.label_studio.server.worker import DeadlineExceeded

_QUICK = 100_000_000  # pixels times passes over them that are decoded in about a second
_MOST_S = 20.0  # for one picture
_BUDGET = 1 << 30  # bytes of pictures that are being decoded
_BYTES_PER_PIXEL = 8  # while it is being decoded: as stored, and as RGB


class Budget:
    """So many bytes at once; who wants more waits.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._left = total
        self._changed = threading.Condition()

    @contextmanager
    def spend(self, n_bytes: int, deadline: float) -> Iterator[None]:
        """Hold bytes for as long as the block runs; more than there are count as all of them.

        Args:
            n_bytes: wanted.
            deadline: of ``time.monotonic``.

        Raises:
            DeadlineExceeded: they were not free in time.
        """
        wanted = min(n_bytes, self._total)
        with self._changed:
            left = max(0.0, deadline - time.monotonic())
            if not self._changed.wait_for(lambda: self._left >= wanted, left):
                raise DeadlineExceeded("no memory was free for it in time; try again")
            self._left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted
                self._changed.notify_all()


class Decoder:
    """Decodes pictures; safe for many threads.

    Args:
        limits: what pictures are refused.
        workers: processes for pictures that may take long; started when the first one comes.
        most_s: seconds for one picture.
    """

    def __init__(
        self, limits: ImageLimits | None = None, workers: int = 2, most_s: float = _MOST_S
    ) -> None:
        self.limits = limits or ImageLimits()
        self._workers = workers
        self._most_s = most_s
        self._budget = Budget(_BUDGET)
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()

    def __call__(self, data: bytes, name: str, deadline: float) -> Image:
        """See ``files.images.decode_image``.

        Args:
            data: the whole file.
            name: for messages.
            deadline: of ``time.monotonic``.

        Raises:
            InputError: also for a picture that takes too long.
            Unavailable: there was no time or memory left for it.
        """
        height, width = read_header(data, name, self.limits).size_hw
        with self._budget.spend(_BYTES_PER_PIXEL * height * width, deadline):
            if height * width * jpeg_scans(data) <= _QUICK:
                return decode_image(data, name, self.limits)
            return self._apart(data, name, deadline)

    def _apart(self, data: bytes, name: str, deadline: float) -> Image:
        most = min(self._most_s, deadline - time.monotonic())
        if most <= 0:
            raise DeadlineExceeded("not decoded before the deadline")
        future = self._processes().schedule(
            decode_image, args=(data, name, self.limits), timeout=most
        )
        try:
            image: Image = future.result(max(0.0, deadline - time.monotonic()) + 1)
        except FutureTimeout:
            future.cancel()
            if time.monotonic() < deadline:
                raise InputError(
                    f"{name}: takes more than {most:.0f} s to decode, and was given up"
                ) from None
            raise DeadlineExceeded(f"{name}: was not decoded before the deadline") from None
        except ProcessExpired:
            raise Unavailable(f"{name}: the process that decoded it ended") from None
        return image

    def _processes(self) -> ProcessPool:
        with self._lock:
            if self._pool is None:
                # Spawned, because neither threads nor CUDA survive a fork.
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPool(self._workers, max_tasks=100, context=context)
            return self._pool

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            if self._pool is not None:
                self._pool.stop()
                self._pool.join(5)
                self._pool = None
