"""Trainings that Label Studio asks for: one at a time, through restarts and kills, and what new
requests are answered by afterwards.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.config.models import Settings, load_settings
from backend.config.secret import Secret
from backend.config.service import ServiceSettings, load_service_settings
from backend.errors import ConfigError, InputError
from backend.label_studio.server.app import create_app
from backend.label_studio.server.job_process import JobProcess, command_of, environment_of
from backend.label_studio.server.jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING
from backend.label_studio.server.service import Service, Training
from backend.label_studio.server.trainer import Trainer
from backend.labeling.cascade import Cascade
from tests.label_studio.server.test_app import CONFIG, Images
from tests.support.fakes import FakeDetector, FakeSegmenter

# Stands in for ``yolosam2 finetune``: ends when it is let, and says how it was asked to.
_PROGRAM = """
import json, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
def interrupted(number, frame):
    print(json.dumps({"interrupted": True}), flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, interrupted)
with (run / "started").open("a") as stream:
    stream.write("x")
while not (run / "go").exists():
    time.sleep(0.02)
what = (run / "go").read_text()
if what == "fail":
    sys.exit("yolosam2: no picture to train on has an object")
print(json.dumps({"segmenter": {"offered": True}}))
"""
_QUICK_S = 0.03
_LOADING = "The models of this project are still loading; try again in a few seconds"


def fake(project: str, run: Path) -> JobProcess:
    return JobProcess.start([sys.executable, "-c", _PROGRAM, str(run)], run, os.environ)


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def trainers(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    made: list[Trainer] = []

    def make(take: Callable[[str, Path | None], bool] = lambda project, run: True) -> Trainer:
        made.append(Trainer(tmp_path / "runs", fake, take, look_s=_QUICK_S))
        made[-1].begin()
        return made[-1]

    yield make
    for one in made:
        if one._process is not None:
            one._process.kill()
        one.end()


def killed(trainer: Trainer) -> None:
    """As a backend that is killed: it holds no lock, and says nothing to its training."""
    trainer._stop.set()
    trainer._thread.join()
    trainer._held.release()


def state_of(trainer: Trainer) -> str:
    return trainer.jobs.newest()[0].state


def is_started(trainer: Trainer, project: str = "3", times: int = 1) -> bool:
    file = trainer.run_of(project) / "started"
    return file.exists() and len(file.read_text()) == times


def let_go(trainer: Trainer, how: str = "well", project: str = "3") -> None:
    (trainer.run_of(project) / "go").write_text(how)


def test_a_training_runs_once_however_often_it_is_asked_for(trainers: Any) -> None:
    trainer = trainers()
    first = trainer.ask("3")
    until(lambda: is_started(trainer))
    assert trainer.ask("3").id == first.id
    assert trainer.ask("4").state == QUEUED  # one after the other
    let_go(trainer)
    until(lambda: trainer.jobs.newest()[1].state == DONE)
    assert trainer.jobs.newest()[1].result == {"segmenter": {"offered": True}}
    until(lambda: is_started(trainer, "4"))
    assert is_started(trainer, "3")
    let_go(trainer, project="4")
    until(lambda: state_of(trainer) == DONE)
    assert trainer.ask("3").id not in (first.id, first.id + 1)


def test_what_a_training_says_when_it_cannot_is_the_reason(trainers: Any) -> None:
    trainer = trainers()
    trainer.ask("3")
    until(lambda: is_started(trainer))
    let_go(trainer, "fail")
    until(lambda: state_of(trainer) == FAILED)
    assert trainer.jobs.newest()[0].reason == "yolosam2: no picture to train on has an object"


def test_a_killed_training_goes_on_three_times(trainers: Any) -> None:
    trainer = trainers()
    trainer.ask("3")
    for times in (1, 2, 3):
        until(lambda times=times: is_started(trainer, times=times))
        os.kill(until(lambda: trainer.jobs.newest()[0].pid), signal.SIGKILL)
    until(lambda: state_of(trainer) == FAILED)
    assert "killed 3 times" in str(trainer.jobs.newest()[0].reason)
    assert is_started(trainer, times=3)


def test_a_training_is_called_off(trainers: Any) -> None:
    trainer = trainers()
    trainer.ask("3")
    trainer.ask("4")
    until(lambda: is_started(trainer))
    assert trainer.cancel("4").state == CANCELLED
    trainer.cancel("3")
    until(lambda: {one.state for one in trainer.jobs.newest()} == {CANCELLED})
    assert not is_started(trainer, "4")
    with pytest.raises(InputError, match="project 3: no training waits or runs"):
        trainer.cancel("3")


def test_a_killed_backend_finds_its_training_at_work(trainers: Any, tmp_path: Path) -> None:
    first = trainers()
    first.ask("3")
    until(lambda: is_started(first))
    killed(first)
    second = trainers()
    let_go(second)
    until(lambda: state_of(second) == DONE)
    assert is_started(second)
    assert second.jobs.newest()[0].tries == 1


def test_a_training_that_died_with_its_backend_begins_again(trainers: Any) -> None:
    first = trainers()
    first.ask("3")
    until(lambda: is_started(first))
    killed(first)
    os.kill(first.jobs.newest()[0].pid, signal.SIGKILL)
    second = trainers()
    until(lambda: is_started(second, times=2))
    let_go(second)
    until(lambda: state_of(second) == DONE)


def test_a_backend_that_ends_interrupts_its_training_and_goes_on_with_it(trainers: Any) -> None:
    first = trainers()
    first.ask("3")
    until(lambda: is_started(first))
    first.end()
    second = trainers()
    until(lambda: is_started(second, times=2))
    assert second.jobs.newest()[0].tries == 1  # nothing went wrong
    let_go(second)
    until(lambda: state_of(second) == DONE)


def test_two_backends_do_not_train_in_one_folder(trainers: Any, caplog: Any) -> None:
    first = trainers()
    first.ask("3")
    until(lambda: is_started(first))
    trainers()
    until(lambda: "another backend trains there" in caplog.text)
    time.sleep(5 * _QUICK_S)
    assert is_started(first)


@pytest.mark.parametrize("project", ["", "../3", "a", "3; rm", "9" * 30])
def test_only_numbers_name_projects(trainers: Any, project: str) -> None:
    with pytest.raises(InputError, match="expected its number"):
        trainers().ask(project)


class Named(FakeSegmenter):
    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version


class Backend(SimpleNamespace):
    """A server whose tuned models are called by what their run says."""

    def post(self, path: str, content: Any, **headers: str) -> Any:
        return self.app.test_client().post(path, json=content, headers=headers)

    def version(self, project: int) -> str:
        asked = {"project": f"{project}.17", "schema": CONFIG}
        answer = self.post("/setup", asked)
        return str(answer.json.get("model_version") or answer.json["error"])

    def offer(self, project: int, text: str) -> None:
        run = self.root / f"project-{project}"
        run.mkdir(parents=True, exist_ok=True)
        (run / "segmenter.json.new").write_text(text)
        (run / "segmenter.json.new").replace(run / "segmenter.json")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Callable[..., Backend]]:
    made: list[Service] = []
    root = tmp_path / "runs"

    def tuned(run: Path) -> Any:
        version = (run / "segmenter.json").read_text()

        def load(path: str | None) -> Cascade:
            if version == "no memory":
                raise RuntimeError("out of memory")
            if version == "broken":
                raise ConfigError("it was cut")
            return Cascade(FakeDetector(), Named(version))

        return load

    def make(**settings: Any) -> Backend:
        service = Service(
            lambda path: Cascade(FakeDetector(), Named("base")),
            ServiceSettings(training=root, **settings),
            training=Training(fake, tuned, lambda run: 0.25),
            fetcher=Images(),
            warm=False,
        )
        assert service.trainer is not None
        service.trainer._look_s = _QUICK_S
        made.append(service)
        app = create_app(service)
        service.inference.wait_loaded(5)
        return Backend(app=app, service=service, root=root)

    yield make
    for service in made:
        if service.trainer is not None and service.trainer._process is not None:
            service.trainer._process.kill()
        service.stop(1)


def test_what_was_trained_answers_new_requests_of_its_project(backend: Any, caplog: Any) -> None:
    one = backend()
    base = one.version(3)
    one.offer(3, "tuned")
    until(lambda: one.version(3) != base)
    tuned = one.version(3)
    assert one.version(4) == base
    one.offer(3, "broken")
    until(lambda: "cannot be used: it was cut" in caplog.text)
    assert one.version(3) == tuned
    (one.root / "project-3" / "segmenter.json").unlink()  # rolled back to the base
    until(lambda: one.version(3) == base)
    assert "yolosam2_model_swaps 2.0" in one.app.test_client().get("/metrics").text


def test_after_a_restart_a_project_waits_for_its_own_models(backend: Any) -> None:
    first = backend()
    base = first.version(3)
    first.offer(3, "tuned")
    until(lambda: first.version(3) != base)
    tuned = first.version(3)
    first.service.stop(1)
    second = backend()
    seen: set[str] = set()
    until(lambda: seen.add(second.version(3)) or second.version(3) == tuned)
    assert base not in seen


def test_no_request_fails_while_models_are_exchanged(backend: Any) -> None:
    """Requests under way finish with the models that they began with."""
    one = backend(queue_size=12, threads=32)
    base = one.version(3)
    task = {"id": 1, "data": {"image": "/data/upload/a.png"}}
    content = {"tasks": [task], "label_config": CONFIG, "project": "3.17", "params": {}}
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        client = one.app.test_client()
        while not stop.is_set():
            answer = client.post("/predict", json=content)
            found = answer.json.get("results", [{}])[0].get("model_version", "")
            seen.append((answer.status_code, found))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for k in range(5):
            before = one.service.models.n_swaps
            one.offer(3, f"tuned-{k}")
            until(lambda before=before: one.service.models.n_swaps > before)
        last = one.version(3)
        until(lambda: seen[-1][1] == last)
        until(lambda: len(seen) > 500)
    finally:
        stop.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in seen} == {200}
    versions = [version for _, version in seen]
    assert versions[0] == base
    assert len(set(versions)) >= 2
    assert "" not in versions


def test_label_studio_starts_a_training(backend: Any) -> None:
    one = backend()
    event = {"action": "START_TRAINING", "project": {"id": 3, "title": "cells"}}
    answer = one.post("/webhook", event)
    assert (answer.status_code, answer.json["job"]["state"]) in ((201, QUEUED), (201, RUNNING))
    run = one.root / "project-3"
    until(lambda: (run / "started").exists())
    (run / "segmenter-log.jsonl").write_text('{"epoch": 2, "validation": 0.5}\n')
    [job] = one.app.test_client().get("/training").json["jobs"]
    assert (job["state"], job["project"]) == (RUNNING, "3")
    assert job["progress"] == {"what": "segmenter", "epoch": 2, "validation": 0.5}
    text = one.app.test_client().get("/metrics").text
    assert 'yolosam2_training_jobs{state="running"} 1.0' in text
    assert one.post("/training", {"action": "cancel", "project": 3}).status_code == 200
    until(lambda: one.service.trainer.jobs.newest()[0].state == CANCELLED)
    assert one.post("/training", {"action": "cancel", "project": 3}).status_code == 400
    assert one.post("/training", {"action": "dance", "project": 3}).status_code == 400
    assert one.post("/training", {"action": "start"}).status_code == 400


def test_annotations_train_nothing_unless_told(backend: Any) -> None:
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 3}, "annotation": {}}
    quiet = backend()
    quiet.version(3)
    for _ in range(5):
        assert quiet.post("/webhook", event).status_code == 201
    assert not quiet.service.trainer.jobs.newest()
    quiet.service.stop(1)

    told = backend(auto_train_after=3)
    stranger = {**event, "project": {"id": 77}}
    for _ in range(5):
        told.post("/webhook", stranger)  # of a project that was never set up
    told.version(3)
    told.post("/webhook", event)
    told.post("/webhook", {**event, "action": "TASKS_CREATED"})
    assert not told.service.trainer.jobs.newest()
    for _ in range(2):
        told.post("/webhook", {**event, "action": "ANNOTATIONS_CREATED"})
    assert [one.project for one in told.service.trainer.jobs.newest()] == ["3"]
    told.post("/webhook", event)
    assert len(told.service.trainer.jobs.newest()) == 1


def test_a_password_is_asked_for_trainings_and_events(backend: Any) -> None:
    one = backend(basic_auth_user="u", basic_auth_pass=Secret("p"), auto_train_after=2)
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 3}}
    start = {"action": "START_TRAINING", "project": {"id": 3}}
    assert one.post("/webhook", event).status_code == 401
    assert one.post("/webhook", start).status_code == 401
    assert one.app.test_client().get("/training").status_code == 401
    assert not one.service.trainer.jobs.newest()
    login = base64.b64encode(b"u:p").decode()
    assert one.post("/webhook", start, Authorization=f"Basic {login}").status_code == 201


def test_without_a_folder_the_button_says_what_is_missing() -> None:
    service = Service(
        lambda path: Cascade(FakeDetector(), FakeSegmenter()),
        ServiceSettings(),
        fetcher=Images(),
        warm=False,
    )
    client = create_app(service).test_client()
    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 3}})
    assert answer.status_code == 400
    assert "--training DIR" in answer.status
    assert client.post("/webhook", json={"action": "TASKS_CREATED"}).status_code == 201
    assert client.get("/training").json == {"folder": None, "jobs": []}
    service.stop(1)


def test_how_a_training_is_called(tmp_path: Path) -> None:
    """The token is in its environment and not in the list of processes."""
    settings = load_settings({"detector": "demo", "segmenter": "demo", "device": "cpu"}, {})
    command = command_of("3", tmp_path, settings, "--minutes 5 --what segmenter")
    told = " ".join(command)
    assert "--project 3" in told
    assert "--detector demo --segmenter demo" in told
    assert told.endswith("--minutes 5 --what segmenter")
    assert "--detector" not in command_of("3", tmp_path, Settings())
    service = ServiceSettings(
        label_studio_url="http://studio:8080", label_studio_api_key=Secret("canary")
    )
    assert "canary" not in told
    environment = environment_of(service)
    assert environment["LABEL_STUDIO_API_KEY"] == "canary"
    assert environment["LABEL_STUDIO_URL"] == "http://studio:8080"


def test_what_a_server_was_told_does_not_reach_its_trainings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may mean something else there, or nothing that can work."""
    for name in ("AUTO_TRAIN_AFTER", "QUEUE_SIZE", "BASIC_AUTH_PASS"):
        monkeypatch.setenv(name, "5")
    monkeypatch.setenv("CLASS_NAMES", "cat")
    monkeypatch.setenv("ALLOWED_HOSTS", "images.example.com")
    found = environment_of(ServiceSettings())
    assert not {"AUTO_TRAIN_AFTER", "QUEUE_SIZE", "BASIC_AUTH_PASS", "CLASS_NAMES"} & set(found)
    assert found["ALLOWED_HOSTS"] == "images.example.com"
    load_service_settings({}, found)


def test_annotations_during_a_training_count_for_the_next(backend: Any) -> None:
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 3}}
    one = backend(auto_train_after=2)
    one.version(3)
    one.post("/webhook", event)
    one.post("/webhook", event)
    until(lambda: (one.root / "project-3" / "started").exists())
    for _ in range(3):
        one.post("/webhook", event)
    assert len(one.service.trainer.jobs.newest()) == 1
    (one.root / "project-3" / "go").write_text("well")
    until(lambda: len(one.service.trainer.jobs.newest()) == 2)


def test_a_model_that_does_not_fit_keeps_nobody_waiting(backend: Any, caplog: Any) -> None:
    """After a restart too: the models of the settings answer, and it is tried again."""
    first = backend()
    first.offer(3, "no memory")
    base = first.version(4)
    until(lambda: "RuntimeError: out of memory" in caplog.text)
    assert first.version(3) == base
    first.service.stop(1)
    caplog.clear()
    second = backend()
    until(lambda: second.version(3) == base)
    assert "RuntimeError: out of memory" in caplog.text  # it was tried when it was asked for


def test_a_second_backend_serves_what_another_trained(backend: Any) -> None:
    first = backend()
    base = first.version(3)
    first.offer(3, "tuned")
    second = backend()
    until(lambda: second.version(3) not in (base, _LOADING))
    until(lambda: first.version(3) == second.version(3))


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="AUTO_TRAIN_AFTER: also give --training DIR"):
        load_service_settings({}, {"AUTO_TRAIN_AFTER": "5"})
    with pytest.raises(ConfigError, match="TRAIN_OPTIONS"):
        load_service_settings({}, {"TRAIN_OPTIONS": "--minutes '5"})


def test_a_damaged_journal_of_trainings_is_said(tmp_path: Path) -> None:
    from backend.errors import Unavailable
    from backend.label_studio.server.jobs import Jobs

    (tmp_path / "jobs.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(Unavailable, match="move it away"):
        Jobs(tmp_path / "jobs.sqlite3")
