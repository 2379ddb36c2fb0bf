"""The inference thread: bounded, in order, with deadlines, and able to stop (C01, C02, C04, C05,
C09, C10).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from backend.errors import ConfigError, Unavailable
from backend.label_studio.server.worker import (
    BATCH,
    CLICK,
    DRAINING,
    FAILED,
    LOADING,
    READY,
    STUCK,
    Busy,
    DeadlineExceeded,
    InferenceThread,
)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def until(is_so: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere that it tells nobody of."""
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.001)


class Blocker:
    """A job that is under way from ``with`` on, and ends when it is released or at the end."""

    def __init__(self, gate: InferenceThread) -> None:
        self.release = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=lambda: gate.run(self._work, soon()))

    def _work(self) -> None:
        self._running.set()
        assert self.release.wait(10)

    def __enter__(self) -> Blocker:
        self._thread.start()
        assert self._running.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._thread.join()


def started(**options) -> InferenceThread:
    gate = InferenceThread(lambda: None, **options)
    gate.start()
    assert gate.wait_loaded(5)
    return gate


def test_c09_requests_wait_for_the_models() -> None:
    release = threading.Event()
    gate = InferenceThread(release.wait)
    gate.start()
    assert gate.state == LOADING
    assert not gate.wait_loaded(0.01)
    with pytest.raises(DeadlineExceeded):
        gate.run(lambda: 1, soon(0.05))
    release.set()
    assert gate.wait_loaded(5)
    assert gate.state == READY
    assert gate.run(lambda: 1, soon()) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("no such weights"), "no such weights"),
        (RuntimeError("secret detail"), "RuntimeError"),
    ],
)
def test_models_that_do_not_load_are_reported(error: Exception, said: str) -> None:
    def load() -> None:
        raise error

    gate = InferenceThread(load)
    gate.start()
    assert gate.wait_loaded(5)
    assert gate.state == FAILED
    with pytest.raises(Unavailable, match=said), gate.admit():
        pass


def test_c02_more_than_the_queue_is_refused_at_once() -> None:
    gate = started(queue_size=2)
    with gate.admit(), gate.admit(), gate.admit():
        start = time.perf_counter()
        with pytest.raises(Busy, match="try again"), gate.admit():
            pass
        assert time.perf_counter() - start < 0.05
    with gate.admit():
        assert gate.waiting == 1


def test_c04_a_job_past_its_deadline_is_never_computed() -> None:
    gate = started()
    computed = []
    with Blocker(gate), pytest.raises(DeadlineExceeded):
        gate.run(lambda: computed.append(1), soon(0.05))
    gate.run(lambda: None, soon())
    assert computed == []


def test_clicks_go_first() -> None:
    gate = started()
    order: list[str] = []
    threads = []
    with Blocker(gate):
        for name, kind in (("batch", BATCH), ("click", CLICK)):
            threads.append(
                threading.Thread(
                    target=lambda name=name, kind=kind: gate.run(
                        lambda: order.append(name), soon(), kind
                    )
                )
            )
            threads[-1].start()
            until(lambda: gate._jobs.qsize() == len(threads))
    for thread in threads:
        thread.join()
    assert order == ["click", "batch"]


def test_errors_reach_the_thread_that_asked() -> None:
    gate = started()

    def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        gate.run(fail, soon())
    assert gate.run(lambda: 2, soon()) == 2, "the thread goes on"


def test_c01_everything_runs_on_one_thread() -> None:
    gate = started(queue_size=100)
    seen: set[int] = set()
    state: list[int] = []
    swaps = []

    def work(number: int) -> int:
        seen.add(threading.get_ident())
        state[:] = [number]  # a predictor with a current image
        return state[0]

    def ask(offset: int) -> None:
        swaps.extend(
            k for k in range(offset, offset + 1250) if gate.run(lambda k=k: work(k), soon(60)) != k
        )

    threads = [threading.Thread(target=ask, args=(10_000 * t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert swaps == []
    assert len(seen) == 1


def test_c05_a_job_that_hangs_is_noticed() -> None:
    noticed = threading.Event()
    release = threading.Event()
    gate = started(stuck_after_s=0.2, on_stuck=noticed.set)
    with pytest.raises(DeadlineExceeded):
        gate.run(release.wait, soon(0.05))
    assert noticed.wait(5)
    assert gate.state == STUCK
    with pytest.raises(Busy), gate.admit():
        pass
    release.set()


def test_c10_draining_refuses_new_requests_and_finishes_the_others() -> None:
    gate = started()
    finished = []
    running = threading.Event()
    release = threading.Event()

    def first_job() -> None:
        running.set()
        assert release.wait(10)

    def request() -> None:
        with gate.admit():
            gate.run(first_job, soon())
            finished.append(gate.run(lambda: "second job of the same request", soon()))

    thread = threading.Thread(target=request)
    thread.start()
    assert running.wait(10)
    gate.begin_drain()
    assert gate.state == DRAINING
    with pytest.raises(Busy, match="shutting down"), gate.admit():
        pass
    release.set()
    assert gate.drain(5)
    thread.join()
    assert finished
