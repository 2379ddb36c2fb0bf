"""Models of projects are loaded when they are asked for, and put away when others are."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from backend.config.models import Settings
from backend.errors import ConfigError
from backend.label_studio.server import tuned_models
from backend.label_studio.server.cascade_loader import CascadeLoader
from backend.label_studio.server.jobs import Jobs
from backend.label_studio.server.projects import Predictors, StillLoading
from backend.label_studio.server.tuned_models import TunedModels
from backend.label_studio.server.worker import InferenceThread
from backend.labeling.cascade import Cascade
from tests.label_studio.server.test_app import CONFIG
from tests.support.fakes import FakeDetector, FakeSegmenter

DEMO = Settings(detector="demo", segmenter="demo", device="cpu")


class Shelf:
    """Counts what is loaded, and how often."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.broken: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def make(self, project: str) -> Predictors:
        return Predictors(lambda path: self._load(project))

    def _load(self, project: str) -> Cascade:
        self.gate.wait(10)
        self.loads.append(project)
        if project in self.broken:
            raise ConfigError("it was cut")
        return Cascade(FakeDetector(), FakeSegmenter())

    def models(self, *projects: str) -> TunedModels:
        default = self.make("default")
        default.load_default()
        self.loads.clear()
        return TunedModels(default, {one: partial(self.make, one) for one in projects}, most=2)


def test_models_are_loaded_when_they_are_asked_for_and_put_away() -> None:
    shelf = Shelf()
    models = shelf.models("1", "2", "3")
    assert shelf.loads == []
    first = models.of("1", 5)
    assert models.of("1", 0) is first
    models.of("2", 5)
    models.of("1", 0)
    models.of("3", 5)  # the second is put away: nobody asked for it as long as for the first
    assert shelf.loads == ["1", "2", "3"]
    assert models.of("1", 0) is first
    models.of("2", 5)
    assert shelf.loads == ["1", "2", "3", "2"]
    assert models.of("4", 0) is models.of("5", 0)


def test_many_requests_load_once_and_do_not_wait_for_ever() -> None:
    shelf = Shelf()
    models = shelf.models("1")
    shelf.gate.clear()
    with pytest.raises(StillLoading, match="models of this project are still loading"):
        models.of("1", 0.01)
    found: list[Predictors] = []
    threads = [threading.Thread(target=lambda: found.append(models.of("1", 10))) for _ in range(5)]
    for thread in threads:
        thread.start()
    shelf.gate.set()
    for thread in threads:
        thread.join()
    assert shelf.loads == ["1"]
    assert len(set(map(id, found))) == 1


def test_what_does_not_load_is_answered_for_by_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shelf = Shelf()
    models = shelf.models("1")
    shelf.broken.add("1")
    default = models.of("other", 0)
    assert models.of("1", 5) is default
    assert models.of("1", 5) is default
    assert shelf.loads == ["1"]  # not tried again at once
    shelf.broken.clear()
    monkeypatch.setattr(tuned_models, "_REFUSED_S", 0.0)
    assert models.of("1", 5) is not default
    shelf.broken.add("1")
    kept = models.of("1", 0)
    assert not models.take("1", partial(shelf.make, "1"))
    assert models.of("1", 0) is kept
    assert models.take("1", None)
    assert models.of("1", 0) is default


def test_what_is_put_away_is_freed_at_once() -> None:
    """Without a collector, which memory of a GPU does not wake."""
    shelf = Shelf()
    models = shelf.models("1", "2", "3")
    inference = InferenceThread(lambda: None)
    inference.start()
    assert inference.wait_loaded(5)
    first = models.of("1", 5)
    first.project(CONFIG, inference, 5, time.monotonic() + 5)
    gone = weakref.ref(first.default())
    del first
    gc.disable()
    try:
        models.of("2", 5)
        assert gone() is not None
        models.of("3", 5)
        assert gone() is None
    finally:
        gc.enable()
        inference.drain(1)


def test_what_was_taken_meanwhile_answers() -> None:
    """Also where it was put away again before the old ones were loaded."""
    shelf = Shelf()
    models = shelf.models("1", "2", "3")
    shelf.gate.clear()
    with pytest.raises(StillLoading):
        models.of("1", 0.0)
    shelf.gate.set()
    newer = shelf.make("1")
    assert models.take("1", lambda: newer)
    assert models.of("1", 5) is newer


def test_what_did_not_change_is_loaded_once() -> None:
    base = CascadeLoader(DEMO)
    first = base(None)
    changed = CascadeLoader(replace(DEMO, detector="demo", classes=("ball",)), base)(None)
    assert changed.segmenter is first.segmenter
    assert changed.detector is not first.detector
    same = CascadeLoader(DEMO, base)(None)
    assert (same.detector, same.segmenter) == (first.detector, first.segmenter)


def test_a_folder_of_trainings_is_of_one_label_studio(tmp_path: Path) -> None:
    Jobs(tmp_path / "jobs.sqlite3").belong_to("http://one:8080/")
    Jobs(tmp_path / "jobs.sqlite3").belong_to("http://one:8080")
    said = "holds what was trained for http://one:8080, and this backend works for http://two"
    with pytest.raises(ConfigError, match=said):
        Jobs(tmp_path / "jobs.sqlite3").belong_to("http://two")
