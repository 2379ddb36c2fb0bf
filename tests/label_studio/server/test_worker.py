"""The inference thread: bounded, in order, with deadlines, and able to stop (C01, C02, C04, C05,
C09, C10).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from backend.errors import ConfigError, InputError, Unavailable
from backend.label_studio.server.worker import (
    BATCH,
    CLICK,
    DRAINING,
    FAILED,
    LOADING,
    MOST_FAILURES,
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

    def __init__(self, inference: InferenceThread) -> None:
        self.release = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=lambda: inference.run(self._work, soon()))

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
    inference = InferenceThread(lambda: None, **options)
    inference.start()
    assert inference.wait_loaded(5)
    return inference


def test_c09_requests_wait_for_the_models() -> None:
    release = threading.Event()
    inference = InferenceThread(release.wait)
    inference.start()
    assert inference.state == LOADING
    assert not inference.wait_loaded(0.01)
    with pytest.raises(DeadlineExceeded):
        inference.run(lambda: 1, soon(0.05))
    release.set()
    assert inference.wait_loaded(5)
    assert inference.state == READY
    assert inference.run(lambda: 1, soon()) == 1


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

    inference = InferenceThread(load)
    inference.start()
    assert inference.wait_loaded(5)
    assert inference.state == FAILED
    with pytest.raises(Unavailable, match=said), inference.admit():
        pass


@pytest.mark.usefixtures("without_collector")
def test_c02_more_than_the_queue_is_refused_at_once() -> None:
    inference = started(queue_size=2)
    with inference.admit(), inference.admit(), inference.admit():
        start = time.perf_counter()
        with pytest.raises(Busy, match="try again"), inference.admit():
            pass
        assert time.perf_counter() - start < 0.05
    with inference.admit():
        assert inference.waiting == 1


def test_c04_a_job_past_its_deadline_is_never_computed() -> None:
    inference = started()
    computed = []
    with Blocker(inference), pytest.raises(DeadlineExceeded):
        inference.run(lambda: computed.append(1), soon(0.05))
    inference.run(lambda: None, soon())
    assert computed == []


def test_clicks_go_first() -> None:
    inference = started()
    order: list[str] = []
    threads = []
    with Blocker(inference):
        for name, kind in (("batch", BATCH), ("click", CLICK)):
            threads.append(
                threading.Thread(
                    target=lambda name=name, kind=kind: inference.run(
                        lambda: order.append(name), soon(), kind
                    )
                )
            )
            threads[-1].start()
            until(lambda: inference._jobs.qsize() == len(threads))
    for thread in threads:
        thread.join()
    assert order == ["click", "batch"]


def test_errors_reach_the_thread_that_asked() -> None:
    inference = started()

    def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        inference.run(fail, soon())
    assert inference.run(lambda: 2, soon()) == 2, "the thread goes on"


def test_c01_everything_runs_on_one_thread() -> None:
    inference = started(queue_size=100)
    seen: set[int] = set()
    state: list[int] = []
    swaps = []

    def work(number: int) -> int:
        seen.add(threading.get_ident())
        state[:] = [number]  # a predictor with a current image
        return state[0]

    def ask(offset: int) -> None:
        swaps.extend(
            k
            for k in range(offset, offset + 1250)
            if inference.run(lambda k=k: work(k), soon(60)) != k
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
    inference = started(stuck_after_s=0.2, on_stuck=noticed.set)
    with pytest.raises(DeadlineExceeded):
        inference.run(release.wait, soon(0.05))
    assert noticed.wait(5)
    assert inference.state == STUCK
    with pytest.raises(Busy), inference.admit():
        pass
    release.set()


def test_c10_draining_refuses_new_requests_and_finishes_the_others() -> None:
    inference = started()
    finished = []
    running = threading.Event()
    release = threading.Event()

    def first_job() -> None:
        running.set()
        assert release.wait(10)

    def request() -> None:
        with inference.admit():
            inference.run(first_job, soon())
            finished.append(inference.run(lambda: "second job of the same request", soon()))

    thread = threading.Thread(target=request)
    thread.start()
    assert running.wait(10)
    inference.begin_drain()
    assert inference.state == DRAINING
    with pytest.raises(Busy, match="shutting down"), inference.admit():
        pass
    release.set()
    assert inference.drain(5)
    thread.join()
    assert finished


def test_a_process_whose_jobs_keep_failing_asks_for_a_new_one() -> None:
    inference = started()

    def fail(error: Exception) -> None:
        def work() -> None:
            raise error

        with pytest.raises(type(error)):
            inference.run(work, time.monotonic() + 5)

    for _ in range(MOST_FAILURES - 1):
        fail(Unavailable("cpu: out of memory with one of the images"))
    assert not inference.is_failing
    inference.run(lambda: None, time.monotonic() + 5)
    for _ in range(MOST_FAILURES):
        assert not inference.is_failing
        fail(Unavailable("cpu: out of memory with one of the images"))
    assert inference.is_failing
    inference.run(lambda: None, time.monotonic() + 5)
    assert not inference.is_failing, "it recovered"
    for _ in range(2 * MOST_FAILURES):
        fail(InputError("what was asked makes no sense"))
    assert not inference.is_failing


def test_models_are_tried_again_until_they_load() -> None:
    tries = []

    def load() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ConfigError("the network is down")

    inference = InferenceThread(load, load_again_s=0.02)
    inference.start()
    assert inference.wait_loaded(5)
    until(lambda: inference.state == READY)
    assert (len(tries), inference.fault, inference.is_failing) == (3, None, False)
    assert inference.run(lambda: 1, soon()) == 1


def test_models_that_never_load_ask_for_a_new_process() -> None:
    def load() -> None:
        raise ConfigError("no such weights")

    inference = InferenceThread(load, load_again_s=0.01)
    inference.start()
    until(lambda: inference.is_failing)
    assert (inference.state, inference.fault) == (FAILED, "no such weights")
    inference.begin_drain()
    until(lambda: inference.state == DRAINING)
