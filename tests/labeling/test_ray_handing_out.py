"""How batches are handed out to workers that die, with a stand-in for Ray that is told who dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import ConfigError, Unavailable
from backend.labeling import engine_ray
from backend.labeling.engine_ray import RayOptions, RayOutcome
from backend.labeling.ray_workers import Failure, Load, Loaded, Skipped

OPTIONS = RayOptions(batch=2, loaders=1, actors=1)


class Died(Exception):
    """Ray says that a worker is not there."""


class Answer:
    """What a call will have given, when it is its turn."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.is_done = False
        self._value: Any = None

    def fail(self) -> None:
        if not self.is_done:
            self.is_done, self._value = True, Died("lost")

    def get(self) -> Any:
        if not self.is_done:
            try:
                self._value = self._work()
            except Died as error:
                self._value = error
            self.is_done = True
        if isinstance(self._value, Died):
            raise self._value
        return self._value


class Actor:
    """A worker in this process; when it dies, all that it had in hand is lost."""

    def __init__(self, ray: FakeRay, kind: type, make: Callable[[], Any]) -> None:
        self._ray = ray
        self._kind = kind
        self._made = kind(make, "")
        self._in_hand: list[Answer] = []
        self.ready = SimpleNamespace(remote=self._ready)
        self.run = SimpleNamespace(remote=self._predict, options=self._options)

    def _ready(self) -> Answer:
        def ready() -> Failure | None:
            begins = self._ray.begins[self._kind.__name__]
            found = begins.pop(0) if begins else self._made.ready()
            if isinstance(found, Died):
                raise found
            return found

        return Answer(ready)

    def _options(self, num_returns: int) -> SimpleNamespace:
        def load(keys: Sequence[int], found: Sequence[Any]) -> list[Answer]:
            both = Answer(lambda: self._made.run(keys, found))
            return [Answer(lambda k=k: both.get()[k]) for k in range(num_returns)]

        return SimpleNamespace(remote=load)

    def _predict(self, keys: Sequence[int], loaded: Answer) -> Answer:
        def predict() -> Any:
            found = loaded.get()
            if self._ray.killers.intersection(keys):
                for one in self._in_hand:
                    one.fail()
                raise Died("killed")
            return self._made.run(keys, found)

        answer = Answer(predict)
        self._in_hand = [one for one in self._in_hand if not one.is_done]
        self._in_hand.append(answer)
        self._ray.beside.append((len(keys), len(self._in_hand) - 1))
        return answer


class FakeRay:
    """As much of Ray as the engine asks for. Every second question ends without an answer."""

    exceptions = SimpleNamespace(RayError=Died)

    def __init__(self, killers: Sequence[int] = ()) -> None:
        self.killers = set(killers)
        self.begins: dict[str, list[Any]] = {"Loads": [], "Predicts": []}
        self.killed = 0
        self.beside: list[tuple[int, int]] = []  # items of each batch, and batches in hand then
        self._asked = 0

    def remote(self, **options: Any) -> Callable[[type], Any]:
        return lambda kind: SimpleNamespace(remote=lambda make, folder: Actor(self, kind, make))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def available_resources(self) -> dict[str, float]:
        return {}

    def wait(self, answers: list[Answer], **options: Any) -> tuple[list[Answer], list[Answer]]:
        self._asked += 1
        if self._asked % 2:
            return [], answers
        turn = self._asked // 2 % len(answers)
        return [answers[turn]], [*answers[:turn], *answers[turn + 1 :]]

    def get(self, answer: Answer, timeout: float | None = None) -> Any:
        return answer.get()

    def kill(self, actor: Actor, *, no_restart: bool) -> None:
        self.killed += 1


class Models:
    def infer(self, loaded: Sequence[int]) -> list[int]:
        return list(loaded)

    def finish(self, key: int, loaded: int, raw: int) -> int:
        return raw


def load_number() -> Load[int]:
    return lambda key, found: Loaded(key)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds go by with each look."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 10
        return now[0]

    monkeypatch.setattr(
        engine_ray, "time", SimpleNamespace(monotonic=monotonic, sleep=lambda seconds: None)
    )


def outcomes_of(
    ray: FakeRay, count: int, make_loader: Callable[[], Load[int]] = load_number
) -> list[RayOutcome[int]]:
    run = engine_ray._Run(ray, make_loader, Models, OPTIONS)
    return list(run.outcomes(iter(range(count)), threading.Event()))


@pytest.mark.parametrize("killers", [(), (3,), (19,), (3, 9), (3, 4), (18, 19), (0, 7, 8, 19)])
def test_only_those_that_kill_fail(killers: tuple[int, ...]) -> None:
    ray = FakeRay(killers)
    found = outcomes_of(ray, 20)
    assert sorted(one.key for one in found) == list(range(20))
    failed = [one for one in found if one.error is not None]
    assert sorted(one.key for one in failed) == sorted(killers)
    assert all("that had it in hand died" in str(one.error) for one in failed)
    assert all(one.value == one.key for one in found if one.error is None)
    alone = [k for k, (items, _) in enumerate(ray.beside) if items == 1]
    assert bool(alone) is bool(killers)
    assert all(ray.beside[k][1] == 0 for k in alone), "sent when others were in hand"
    after = [k + 1 for k in alone if k + 1 < len(ray.beside)]
    assert all(ray.beside[k][1] == 0 for k in after), "others were sent meanwhile"


def test_what_was_found_first_goes_with_what_is_loaded_again() -> None:
    given: list[tuple[int, Any]] = []

    def make() -> Load[int]:
        def load(key: int, found: Any) -> Loaded | Skipped:
            given.append((key, found))
            return Skipped("done before") if key == 0 else Loaded(key, found or f"first {key}")

        return load

    found = outcomes_of(FakeRay([1]), 2, make)
    assert [(one.key, one.value) for one in found if one.error is None] == [(0, "done before")]
    assert [one.key for one in found if one.error is not None] == [1]
    again = [(1, "first 1")] * 3  # in a batch, and twice alone
    assert given == [(0, None), (1, None), *again]


def test_workers_that_never_come_back_are_told_and_end_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ray = FakeRay([0])
    ray.begins["Predicts"] = [None, *[Died("restarting")] * 1000]
    with pytest.raises(Unavailable, match="no worker with models for 6.. s"):
        outcomes_of(ray, 4)
    assert caplog.text.count("no worker") == 1


def test_a_worker_that_cannot_begin_again_at_once_may_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ray = FakeRay([0])
    full = Failure("ConfigError", "no memory", False)
    ray.begins["Predicts"] = [None, full, full, None]
    found = outcomes_of(ray, 4)
    assert [one.key for one in found if one.error is not None] == [0]
    assert ray.killed == 2
    assert caplog.text.count("a worker could not begin again: no memory") == 1


def test_a_worker_that_cannot_begin_at_all_ends_the_run() -> None:
    ray = FakeRay()
    ray.begins["Predicts"] = [Failure("ConfigError", "not these weights", False)]
    with pytest.raises(ConfigError, match="not these weights"):
        outcomes_of(ray, 4)
