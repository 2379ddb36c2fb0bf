"""Pre-labelling against a stand-in for Label Studio that fails on command: every task gets one
prediction of a version, whatever happens.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.config.secret import Secret
from backend.core.holdout import is_held_out
from backend.errors import AuthError, ConfigError, Unavailable
from backend.label_studio.api.client import Client
from backend.label_studio.prelabel.journal import Journal
from backend.label_studio.prelabel.run import Choice
from backend.label_studio.prelabel.summary import PrelabelSummary, general
from tests.conftest import PYTHON, ROOT
from tests.support.fake_studio import LEGACY, FakeStudio, serving
from tests.support.prelabel_program import CONFIG, VERSION, local_engine, prepared
from tests.support.servers import Recorder

ALL = Choice()


@pytest.fixture(scope="module")
def picture() -> bytes:
    import numpy as np

    from backend.drawing.overlays import encode_picture

    return encode_picture(np.full((48, 64, 3), 120, np.uint8))


@pytest.fixture
def studio(picture: bytes) -> FakeStudio:
    made = FakeStudio(CONFIG, picture)
    made.add(40)
    return made


@pytest.fixture
def server(studio: FakeStudio) -> Iterator[Recorder]:
    with serving(studio) as recorder:
        yield recorder


def go(
    server: Recorder, journal: Path, choice: Choice = ALL, key: str = LEGACY, **options: object
) -> PrelabelSummary:
    run = prepared(server.url, journal, key, settle_s=0.0, **options)
    try:
        return run.run(local_engine(server.url, key), choice)
    finally:
        run.journal.close()
        run.client.close()


def test_every_task_gets_a_prediction(studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    summary = go(server, tmp_path / "j")
    assert (summary.n_done, summary.failed, summary.later, summary.error) == (40, {}, {}, None)
    assert studio.once(VERSION)
    one = studio.of(7)[0]
    assert [region["value"]["brushlabels"] for region in one["result"]] == [["cat"]]
    assert 0 < one["score"] <= 1
    assert {path for _, path in studio.written} == {"/api/projects/1/import/predictions"}
    assert studio.n_imports == 4


def test_a_second_run_has_nothing_to_do_and_new_tasks_are_done(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    go(server, tmp_path / "j")
    assert go(server, tmp_path / "j").n_done == 0
    studio.add(5)
    assert (
        go(server, tmp_path / "another journal").n_done == 5
    )  # Label Studio is the truth, not the journal
    assert studio.once(VERSION)


@pytest.mark.parametrize(
    "fault", ["drop", "lose answer", "bad gateway after", "502", "503", "slow down"]
)
def test_faults_on_the_way_neither_lose_nor_double(
    studio: FakeStudio, server: Recorder, tmp_path: Path, fault: str
) -> None:
    rng = random.Random(1)
    studio.fault = lambda method, path, number: (
        fault if rng.random() < 0.4 and not path.startswith("/data") else None
    )
    summary = go(server, tmp_path / "j")
    assert summary.error is None
    assert summary.n_done == 40
    assert studio.once(VERSION)


def test_the_answer_to_every_import_is_lost(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.fault = lambda method, path, number: (
        "lose answer" if path.endswith("import/predictions") else None
    )
    assert go(server, tmp_path / "j").n_done == 40
    assert studio.once(VERSION)
    assert studio.n_imports == 4  # looked at, and not sent again


def test_access_tokens_that_end_every_third_call(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.calls_per_access = 3
    assert go(server, tmp_path / "j", key=studio.personal).n_done == 40
    assert studio.once(VERSION)
    assert all(
        studio.personal not in " ".join(headers.values())
        for _, path, headers, _ in server.requests
        if "refresh" not in path
    )


def test_a_refused_token_stops_the_run(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.fault = lambda method, path, number: "403" if number > 30 and method == "POST" else None
    summary = go(server, tmp_path / "j")
    assert isinstance(summary.error, AuthError)
    assert summary.error.exit_code == 3
    studio.fault = lambda method, path, number: None
    assert go(server, tmp_path / "j").error is None
    assert studio.once(VERSION)
    other = Client(server.url, Secret("f" * 40), sleep=lambda seconds: None)
    with pytest.raises(AuthError):
        other.project(1)
    other.close()


def test_tasks_deleted_during_the_run(studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    def fault(method: str, path: str, number: int) -> None:
        if method == "POST" and path.endswith("predictions") and 13 in studio.tasks:
            del studio.tasks[13], studio.tasks[38]

    studio.fault = fault
    summary = go(server, tmp_path / "j")
    assert set(summary.failed) <= {13, 38}
    assert 13 in summary.failed
    assert "answered 400" in summary.failed[13]
    assert summary.n_done == 38
    assert studio.once(VERSION)


def test_pictures_that_never_work_and_those_that_may(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.tasks[5]["data"] = {"image": "/data/upload/1/none.gif"}
    studio.tasks[6]["data"] = {"text": "no image"}
    studio.tasks[7]["data"] = {"image": "http://127.0.0.1:1/x.jpg"}
    route = studio._route

    def routed(method: str, path: str, query: dict, body: bytes) -> tuple[int, object]:
        return (404, {}) if path.endswith("none.gif") else route(method, path, query, body)

    studio._route = routed
    summary = go(server, tmp_path / "j")
    assert summary.n_done == 37
    assert "answered 404" in summary.failed[5]
    assert "data.image: expected the address of an image, got nothing" in summary.failed[6]
    assert set(summary.failed) | set(summary.later) == {5, 6, 7}
    again = go(server, tmp_path / "j")
    assert (again.n_done, again.n_skipped) == (0, len(summary.failed))
    studio.tasks[6]["data"] = {"image": "/data/upload/1/0123abcd-6.jpg"}
    assert go(server, tmp_path / "j", Choice(retry_failed=True)).n_done == 1


def test_choices(studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    studio.tasks[2]["total_annotations"] = 1
    assert go(server, tmp_path / "j", Choice(ids=(1, 2, 3), only_unlabelled=True)).n_done == 2
    assert go(server, tmp_path / "j", Choice(limit=5)).n_done == 5
    assert go(server, tmp_path / "j").n_done == 33
    assert studio.once(VERSION)


def test_replace_deletes_only_what_this_program_made(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    older = VERSION[:-1] + ("0" if VERSION[-1] != "0" else "1")
    for k, version in enumerate((older, "yolo-by-hand", "v1")):
        studio.predictions[1000 + k] = {
            "id": 1000 + k,
            "task": 3,
            "model_version": version,
            "result": [],
        }
    assert go(server, tmp_path / "j").n_deleted == 0
    assert len(studio.of(3)) == 4
    for one in list(studio.predictions.values()):
        if one["model_version"] == VERSION:
            del studio.predictions[one["id"]]
    studio._next = 2000
    summary = go(server, tmp_path / "j", replace=True)
    assert (summary.n_done, summary.n_deleted) == (40, 1)
    assert sorted(one["model_version"] for one in studio.of(3)) == sorted(
        [VERSION, "yolo-by-hand", "v1"]
    )
    assert {method for method, _ in studio.written} == {"POST", "DELETE"}
    assert not [path for _, path in studio.written if "annotation" in path or "draft" in path]


def test_an_interrupted_run_uploads_what_is_finished(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    run = prepared(server.url, tmp_path / "j", settle_s=0.0, chunk=3)
    run.on_progress = lambda summary, waiting: run.stop.set()
    summary = run.run(local_engine(server.url), Choice())
    run.journal.close()
    run.client.close()
    assert summary.stopped == "interrupted"
    assert 0 < summary.n_done < 40
    assert sum(len(studio.of(task)) for task in studio.tasks) == summary.n_done
    assert go(server, tmp_path / "j").n_done == 40 - summary.n_done
    assert studio.once(VERSION)


def test_label_studio_restarts(studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    down = threading.Event()

    def fault(method: str, path: str, number: int) -> str | None:
        if number == 20:
            down.set()
        if (
            down.is_set() and number > 31
        ):  # few enough that patience, which does not really wait here, outlasts them
            down.clear()
        return "drop" if down.is_set() else None

    studio.fault = fault
    summary = go(server, tmp_path / "j")
    assert summary.error is None
    for _ in range(3):  # pictures that could not be fetched meanwhile
        go(server, tmp_path / "j", Choice(retry_failed=True))
    assert studio.once(VERSION)


@pytest.mark.slow
def test_a_label_studio_that_is_gone_ends_the_run(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    waited: list[float] = []
    run = prepared(server.url, tmp_path / "j", settle_s=0.0, sleep=waited.append)
    studio.fault = lambda method, path, number: "502" if number > 30 else None
    summary = run.run(local_engine(server.url), Choice())
    run.journal.close()
    run.client.close()
    assert summary.error is not None
    assert "run the same command again" in summary.as_text()
    assert 300 < sum(waited) < 3000
    studio.fault = lambda method, path, number: None
    assert go(server, tmp_path / "j").n_done > 0
    assert studio.once(VERSION)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_fifty_times(studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    """kill -9 at random moments, some of them with answers that are lost.

    In the end every task has exactly one prediction.
    """
    rng = random.Random(7)
    studio.add(160)
    studio.fault = lambda method, path, number: (
        rng.choice(["lose answer", "drop", "502", None, None, None, None])
        if "import" in path
        else None
    )
    command = [PYTHON, "-m", "tests.support.prelabel_program", server.url, str(tmp_path / "j")]
    kills = 0
    while kills < 50:
        before = studio.n_requests
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while (
            studio.n_requests == before and time.monotonic() < deadline and process.poll() is None
        ):
            time.sleep(0.005)  # it has begun to work
        time.sleep(rng.uniform(0, 0.25))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if all(studio.of(task) for task in studio.tasks):
            studio.add(40)  # there is always something to be killed at
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {task: len(studio.of(task, VERSION)) for task in studio.tasks}
    assert set(counts.values()) == {1}, {task: n for task, n in counts.items() if n != 1}
    assert len(studio.tasks) >= 200


def test_a_full_disk_after_a_confirmed_upload_doubles_nothing(
    studio: FakeStudio, server: Recorder, tmp_path: Path, monkeypatch
) -> None:
    confirmed = Journal.confirmed
    calls = []

    def fails(self: Journal, tasks) -> None:
        calls.append(list(tasks))
        if len(calls) == 2:
            raise Unavailable("no space left on device")
        confirmed(self, tasks)

    monkeypatch.setattr(Journal, "confirmed", fails)
    summary = go(server, tmp_path / "j")
    assert "no space left" in str(summary.error)
    monkeypatch.undo()
    assert go(server, tmp_path / "j").error is None
    assert studio.once(VERSION)


def test_a_commit_that_comes_late_is_found_and_undone(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    """The proxy gives up, Label Studio carries the request out after it was looked for and
    repeated.
    """
    late: list[bytes] = []

    def fault(method: str, path: str, number: int) -> str | None:
        if path.endswith("import/predictions") and not late:
            late.append(b"")
            return "504 late"
        if late and late[0] and method == "POST":
            studio._import(late[0])
            late[0] = b""
        return None

    route = studio._answer

    def answer(method: str, target: str, headers: dict[str, str], body: bytes):
        first = not late
        found = route(method, target, headers, body)
        if first and late:
            late[0] = body
            return 504, {}, b""
        return found

    studio._answer = answer
    studio.fault = lambda method, path, number: "504" if fault(method, path, number) else None
    summary = go(server, tmp_path / "j")
    assert summary.error is None
    assert [path for method, path in studio.written if method == "DELETE"]
    assert studio.once(VERSION)


def test_doubt_outlives_a_second_kill(studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", f"{server.url}#1", VERSION)
    journal.sending([1, 2, 3])  # killed; nothing was there yet
    journal.close()
    run = prepared(server.url, tmp_path / "j", settle_s=0.0)
    run.settle()  # killed again, before anything else
    run.journal.close()
    run.client.close()
    for task in (1, 2):  # what the first run had sent comes now, twice with what was repeated
        for _ in range(2):
            studio._import(
                json.dumps(
                    [{"task": task, "model_version": VERSION, "result": [], "score": 0}]
                ).encode()
            )
    assert go(server, tmp_path / "j").error is None
    assert studio.once(VERSION)
    again = Journal(tmp_path / "j", f"{server.url}#1", VERSION)
    assert (again.unclear, again.sent) == (set(), {})
    again.close()


def test_one_picture_that_is_refused_does_not_end_the_run(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.fault = lambda method, path, number: "403" if path.endswith("0123abcd-5.jpg") else None
    summary = go(server, tmp_path / "j")
    assert (summary.error, set(summary.later), summary.n_done) == (None, {5}, 39)


def test_renewal_that_is_answered_by_a_proxy_is_tried_again(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.calls_per_access = 3
    route = studio._answer
    refused = []

    def answer(method: str, target: str, headers: dict[str, str], body: bytes):
        if "token/refresh" in target and len(refused) < 6 and studio.n_requests % 3 == 0:
            refused.append(target)
            return 502, {"Content-Type": "text/html"}, b"<html>502"
        return route(method, target, headers, body)

    studio._answer = answer
    for _ in range(3):
        summary = go(server, tmp_path / "j", Choice(retry_failed=True), key=studio.personal)
        assert summary.error is None
    assert refused
    assert studio.once(VERSION)


def test_an_import_that_is_not_acknowledged_is_looked_up(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    route = studio._answer
    told = []

    def answer(method: str, target: str, headers: dict[str, str], body: bytes):
        if target.endswith("import/predictions") and not told:
            told.append(target)
            return 200, {"Content-Type": "text/html"}, b"<html>maintenance"
        return route(method, target, headers, body)

    studio._answer = answer
    assert go(server, tmp_path / "j").n_done == 40
    assert studio.once(VERSION)


def test_what_nobody_expected_is_tried_again(
    studio: FakeStudio, server: Recorder, tmp_path: Path, monkeypatch
) -> None:
    from backend.label_studio.prelabel.stages import Labeller

    def fails(self: Labeller, task: int, raws: object) -> str:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(Labeller, "finish", fails)
    summary = go(server, tmp_path / "j")
    assert (len(summary.later), summary.failed, summary.n_done) == (40, {}, 0)
    monkeypatch.undo()
    assert go(server, tmp_path / "j").n_done == 40


def test_a_task_that_label_studio_chokes_on_costs_only_itself(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    route = studio._answer

    def answer(method: str, target: str, headers: dict[str, str], body: bytes):
        if target.endswith("import/predictions") and b'"task":17,' in body:
            return 500, {}, b"{}"
        return route(method, target, headers, body)

    studio._answer = answer
    summary = go(server, tmp_path / "j")
    assert (summary.error, set(summary.later), summary.n_done) == (None, {17}, 39)


def test_replacing_goes_on_where_it_stopped(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    older = VERSION[:-1] + ("0" if VERSION[-1] != "0" else "1")
    for task in studio.tasks:
        studio._import(json.dumps([{"task": task, "model_version": older, "result": []}]).encode())
    studio.fault = lambda method, path, number: (
        "403" if method == "DELETE" and number > 200 else None
    )
    studio.tasks[5]["total_annotations"] = 1  # so that they go one by one
    studio.n_requests = 120
    assert isinstance(go(server, tmp_path / "j", replace=True).error, AuthError)
    assert 0 < sum(len(studio.of(task, older)) for task in studio.tasks) < 40
    studio.fault = lambda method, path, number: None
    assert go(server, tmp_path / "j", replace=True).error is None
    left = [one["task"] for one in studio.predictions.values() if one["model_version"] == older]
    assert left == [5], "what a person began with stays"
    assert studio.once(VERSION)
    assert go(server, tmp_path / "j", replace=True, replace_annotated=True).n_deleted == 1
    assert not [one for one in studio.predictions.values() if one["model_version"] == older]


def test_a_version_that_nobody_needs_goes_in_one_request(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    older = VERSION[:-1] + ("0" if VERSION[-1] != "0" else "1")
    for task in studio.tasks:
        studio._import(json.dumps([{"task": task, "model_version": older, "result": []}]).encode())
    studio.written.clear()
    assert go(server, tmp_path / "j", replace=True).n_deleted == 40
    assert [path for method, path in studio.written if method == "DELETE"] == [
        "/api/projects/1/model-versions/"
    ]
    assert studio.once(VERSION)


def test_a_version_that_came_later_is_not_replaced(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    go(server, tmp_path / "j")
    later = VERSION[:-1] + ("0" if VERSION[-1] != "0" else "1")
    for task in studio.tasks:
        studio._import(json.dumps([{"task": task, "model_version": later, "result": []}]).encode())
    assert go(server, tmp_path / "j", replace=True).n_deleted == 0
    assert all(len(studio.of(task, later)) == 1 for task in studio.tasks)


def test_the_summary_counts_what_was_found(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    summary = go(server, tmp_path / "j")
    assert summary.per_class == {"cat": 40}
    assert summary.n_empty == 0
    assert "40  cat" in summary.as_text()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_of_what_is_sent_ends_the_run_and_loses_nothing(
    studio: FakeStudio, server: Recorder, tmp_path: Path, status: int
) -> None:
    route = studio._answer
    on = [True]

    def answer(method: str, target: str, headers: dict[str, str], body: bytes):
        if on[0] and target.endswith("/import/predictions"):
            return status, {"Location": f"{server.url}{target}?again"}, b""
        return route(method, target, headers, body)

    studio._answer = answer
    summary = go(server, tmp_path / "j")
    assert isinstance(summary.error, ConfigError)
    assert "give the address that this leads to as --url" in str(summary.error)
    assert (summary.failed, studio.predictions) == ({}, {})
    on[0] = False
    assert go(server, tmp_path / "j").n_done == 40
    assert studio.once(VERSION)


def test_imports_that_never_work_end_the_run(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.fault = lambda method, path, number: "500" if method == "POST" else None
    summary = go(server, tmp_path / "j")
    assert summary.error is not None
    assert summary.halted or summary.stopped
    assert len(summary.later) < 10
    assert studio.predictions == {}


def test_a_page_in_the_place_of_an_answer_does_not_end_a_doubt(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "j", f"{server.url}#1", VERSION)
    journal.doubt([1])
    journal.close()
    for _ in range(2):
        studio._import(
            json.dumps([{"task": 1, "model_version": VERSION, "result": [], "score": 0}]).encode()
        )
    route = studio._answer

    def answer(method: str, target: str, headers: dict[str, str], body: bytes):
        if target.startswith("/api/predictions?"):
            return 200, {"Content-Type": "text/html"}, b"<html>maintenance"
        return route(method, target, headers, body)

    studio._answer = answer
    assert go(server, tmp_path / "j").error is not None
    studio._answer = route
    assert go(server, tmp_path / "j").error is None
    assert studio.once(VERSION)


def test_many_ids_fit_into_addresses(studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    studio.add(400)
    assert go(server, tmp_path / "j", Choice(ids=tuple(range(1, 441, 2))), chunk=100).n_done == 220
    assert max(len(path) for _, path, _, _ in server.requests) < 4000


def test_equal_faults_count_together() -> None:
    reasons = {general(f"task {k}: http://h:1/data/{k}.jpg: answered 404") for k in range(5)}
    assert reasons == {"* answered 404"}
    summary = PrelabelSummary(
        failed={1: "task 1: a/b.jpg: is not an image", 2: "task 2: c/d.jpg: is not an image"}
    )
    assert list(summary.reasons().values()) == [2]
    assert json.dumps(summary.as_dict())


def test_a_control_group_stays_without(
    studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    held = {task for task in studio.tasks if is_held_out(task, 0.2)}
    summary = go(server, tmp_path / "j", Choice(holdout=0.2))
    assert 0 < len(held) < 20
    assert (summary.n_done, summary.n_held_out) == (40 - len(held), len(held))
    assert {task for task in studio.tasks if not studio.of(task)} == held
    assert "as a control group" in summary.as_text()
