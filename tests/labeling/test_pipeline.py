"""The streaming pipeline: order, failures, stopping, bounds."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from backend.errors import InputError, Unavailable
from backend.labeling.pipeline import Outcome, Stages, run
from tests.conftest import PYTHON, ROOT


def echo(**changes: object) -> Stages[int, int, int, int]:
    parts = {
        "load": lambda key: key,
        "infer": list,
        "finish": lambda key, item, answer: answer,
        "write": lambda key, item: None,
    }
    return Stages(**{**parts, **changes})  # type: ignore[arg-type]


def failures(outcomes: list[Outcome[int]]) -> dict[int, str]:
    return {o.key: str(o.error) for o in outcomes if o.error is not None}


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_order_is_kept(count: int, workers: int) -> None:
    written: list[int] = []

    def slow_load(key: int) -> int:
        time.sleep(0.002 * (key % 3))
        return key

    outcomes = list(
        run(
            range(count),
            echo(load=slow_load, write=lambda key, item: written.append(item)),
            batch=8,
            workers=workers,
        )
    )
    assert [o.key for o in outcomes] == written == list(range(count))
    assert failures(outcomes) == {}


def test_one_bad_item_per_stage_is_one_failure() -> None:
    def raising(at: int, kind: type[Exception]) -> object:
        def stage(key: int, *rest: object) -> int:
            if key == at:
                raise kind(f"bad {at}")
            return key

        return stage

    def infer(items: Sequence[int]) -> list[int]:
        if 11 in items:
            raise InputError("bad 11")
        return list(items)

    stages = echo(
        load=raising(3, InputError),
        infer=infer,
        finish=raising(17, ZeroDivisionError),
        write=raising(20, Unavailable),
    )
    found = failures(list(run(range(30), stages, batch=4, workers=2)))
    assert sorted(found) == [3, 11, 17, 20]
    assert "unexpected ZeroDivisionError" in found[17]


def test_stop_finishes_what_is_in_flight_and_begins_nothing() -> None:
    stop = threading.Event()
    begun = []
    written = []

    def load(key: int) -> int:
        begun.append(key)
        if key == 20:
            stop.set()
        return key

    inferred: list[int] = []

    def infer(items: Sequence[int]) -> list[int]:
        inferred.extend(items)
        return list(items)

    outcomes = list(
        run(
            range(10_000),
            echo(load=load, infer=infer, write=lambda key, item: written.append(item)),
            batch=4,
            workers=2,
            stop=stop,
        )
    )
    assert [o.key for o in outcomes] == written == inferred == list(range(len(written)))
    assert 8 <= len(written) <= 24
    assert len(begun) <= 40


def test_keys_are_read_as_the_work_goes_on() -> None:
    written = [0]
    ahead = []

    def keys() -> Iterator[int]:
        for key in range(200):
            ahead.append(key - written[0])
            yield key

    def write(key: int, item: int) -> None:
        time.sleep(0.0005)
        written[0] += 1

    assert sum(1 for _ in run(keys(), echo(write=write), batch=5, workers=2)) == 200
    assert max(ahead) <= 5 * 5  # batches loading, with the model, being finished and written


def test_loaded_items_in_flight_are_bounded() -> None:
    alive = [0]
    most = [0]
    lock = threading.Lock()

    class Item:
        def __init__(self) -> None:
            with lock:
                alive[0] += 1
                most[0] = max(most[0], alive[0])

        def __del__(self) -> None:
            with lock:
                alive[0] -= 1

    stages = echo(
        load=lambda key: Item(),
        infer=lambda items: [0] * len(items),
        write=lambda key, item: time.sleep(0.001),
    )
    assert sum(1 for _ in run(range(300), stages, batch=4, workers=2)) == 300
    assert most[0] <= 4 * 4 + 4


def test_an_error_in_the_source_reaches_the_caller() -> None:
    def keys() -> Iterator[int]:
        yield 1
        raise OSError("listing broke")

    with pytest.raises(OSError, match="listing broke"):
        list(run(keys(), echo(), batch=4, workers=1))


def test_a_model_that_answers_too_little_is_a_failure_of_the_images() -> None:
    found = failures(
        list(run(range(6), echo(infer=lambda items: list(items)[1:]), batch=3, workers=1))
    )
    assert len(found) == 6
    assert "0 answers for 1 images" in found[0]


def test_stages_overlap() -> None:
    """Not a timing test: load of a later item must begin before the write of an earlier one is
    over.
    """
    events: list[tuple[str, int]] = []

    def note(kind: str, result: int) -> int:
        events.append((kind, result))
        return result

    list(
        run(
            range(12),
            echo(load=lambda key: note("load", key), write=lambda key, item: note("write", key)),
            batch=2,
            workers=1,
        )
    )
    assert events.index(("load", 5)) < events.index(("write", 4))


def test_an_abandoned_run_ends_without_working_off_its_queues() -> None:
    """The caller is interrupted (a second Ctrl-C): what is queued is dropped, and the interpreter
    does not wait for it.
    """
    code = """
import time
from backend.labeling.pipeline import Stages, run
load = lambda k: time.sleep(0.5) or k
stages = Stages(load, list, lambda k, i, a: time.sleep(0.5), lambda k, i: None)
for outcome in run(range(1000), stages, batch=16, workers=2):
    raise KeyboardInterrupt
"""
    start = time.monotonic()
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "KeyboardInterrupt" in done.stderr
    assert (
        time.monotonic() - start < 9
    )  # 32 loads by two workers would take 8 s, and as many finishes another 8 s
