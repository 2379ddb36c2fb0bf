"""The faults that people report most (rows 1, 2, 7, 8, 9 of the complaints), each with the advice
that ends it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.demo.run import SAMPLES
from backend.doctor import machine, studio
from backend.formats.label_studio.make_config import make_config
from tests.support.servers import Recorder, http_server

NAMES = ["ball", "box", "star", "cup", "leaf", "ring"]
PICTURE = (SAMPLES / "JPEGImages" / "3000000.jpg").read_bytes()
# As Label Studio 1.23.2 says it.
BLOCKED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
DISABLED = (
    "Authentication token no longer valid: legacy token authentication has been disabled for this"
    " organization"
)


class LabelStudio:
    """Answers as Label Studio 1.23.2 does to the few calls of the doctor."""

    def __init__(self) -> None:
        connection = {
            "url": "http://127.0.0.1:9090",
            "state": "CO",
            "is_interactive": True,
            "error_message": None,
        }
        self.answers: dict[str, tuple[int, Any]] = {
            "/api/version": (200, {"release": "1.23.2"}),
            "/api/current-user/whoami": (200, {"email": "ann@example.com"}),
            "POST /api/ml": (400, {"validation_errors": {"project": ["This field is required."]}}),
            "POST /api/webhooks/": (400, {"validation_errors": {"project": ["Invalid pk"]}}),
            "/api/projects/7/": (
                200,
                {
                    "label_config": make_config(NAMES),
                    "show_collab_predictions": True,
                    "model_version": "v1",
                },
            ),
            "/api/projects/7/model-versions/": (200, {"v1": 3, "v0": 9}),
            "/api/ml": (200, [connection]),
            "/api/tasks": (200, {"tasks": [{"id": 3, "data": {"image": "/data/upload/7/a.jpg"}}]}),
            "/data/upload/7/a.jpg": (200, PICTURE),
        }

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes):
        bare = path.split("?")[0]
        status, content = self.answers.get(f"{method} {bare}", self.answers.get(bare, (404, {})))
        return status, {}, content if isinstance(content, bytes) else json.dumps(content).encode()


@pytest.fixture
def fake() -> LabelStudio:
    return LabelStudio()


@pytest.fixture
def server(fake: LabelStudio) -> Iterator[Recorder]:
    with http_server(fake) as recorder:
        yield recorder


@pytest.fixture
def doctor(server: Recorder, run_cli):
    def run(*arguments: str, key: str = "0123456789abcdef", project: str = "7") -> tuple[int, str]:
        options = (
            "--detector",
            "demo",
            "--segmenter",
            "demo",
            "--url",
            server.url,
            "--api-key",
            key,
            "--project",
            project,
        )
        code, out, _ = run_cli("doctor", *options, *arguments)
        assert key not in out
        return code, out

    return run


def test_all_is_well(doctor) -> None:
    code, out = doctor()
    assert code == 0, out
    assert "everything that was checked works" in out
    assert "task 3: /data/upload/7/a.jpg is 640x480 pixels" in out


def test_nothing_is_changed_in_label_studio(doctor, server: Recorder) -> None:
    doctor()
    changing = [
        (path, json.loads(body)) for method, path, _, body in server.requests if method != "GET"
    ]
    assert changing == [
        ("/api/ml", {"url": "http://127.0.0.1:1/"}),
        ("/api/webhooks/", {"url": "http://127.0.0.1:1/", "project": 999_999_999}),
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [("POST /api/ml", "ML_BLOCK_LOCAL_IP"), ("POST /api/webhooks/", "SSRF_PROTECTION_ENABLED")],
)
def test_private_backends_are_blocked(doctor, fake: LabelStudio, path: str, name: str) -> None:
    fake.answers[path] = (403, {"detail": BLOCKED})
    code, out = doctor()
    assert code == 1
    assert f"{name} is on" in out
    assert "ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false" in out


def test_row_1_labels_that_match_nothing(doctor, fake: LabelStudio) -> None:
    fake.answers["/api/projects/7/"] = (200, {"label_config": make_config(["zebra", "yak"])})
    code, out = doctor()
    assert code == 1
    assert "Labels: zebra, yak. Classes: ball, box, star" in out
    assert "make-config" in out


def test_row_1_tools_and_switches(doctor, fake: LabelStudio) -> None:
    plain = (
        '<View><Image name="image" value="$image"/><BrushLabels name="b" toName="image"><Label'
        ' value="ball"/></BrushLabels></View>'
    )
    fake.answers["/api/projects/7/"] = (
        200,
        {"label_config": plain, "show_collab_predictions": False},
    )
    fake.answers["/api/ml"] = (200, [{"url": "http://h", "state": "CO", "is_interactive": False}])
    code, out = doctor()
    assert code == 1
    assert 'smart="true"' in out
    assert "predictions are hidden" in out
    assert "Interactive preannotations" in out


@pytest.mark.parametrize(
    ("connections", "said"),
    [
        ([], "Connect Model"),
        ([{"url": "http://h:9090", "state": "DI"}], "not localhost across containers"),
        ([{"url": "h", "state": "ER", "error_message": "422 oh"}], "422 oh"),
    ],
)
def test_row_1_9_how_label_studio_sees_the_backend(
    doctor, fake: LabelStudio, connections: list[dict], said: str
) -> None:
    fake.answers["/api/ml"] = (200, connections)
    assert said in doctor()[1]


def test_row_2_a_checkpoint_that_is_none(doctor, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"no checkpoint")
    code, out = doctor(
        "--segmenter",
        str(tmp_path / "mine.pt"),
        "--segmenter-config",
        "configs/sam2.1/sam2.1_hiera_t.yaml",
    )
    assert code == 1
    assert "mine.pt: is no file of weights of PyTorch" in out


def test_row_2_weights_that_are_not_here_are_not_fetched(doctor, tmp_path: Path) -> None:
    code, out = doctor(
        "--detector", "yolov8n", "--segmenter", "sam2.1_hiera_tiny", "--model-root", str(tmp_path)
    )
    assert code == 0
    assert "fetched on first use" in out
    assert list(tmp_path.iterdir()) == []


def test_row_2_packages_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"opencv-python": "5.0", "opencv-python-headless": "4.12"}
    monkeypatch.setattr(machine, "_version", lambda name: versions.get(name))
    found = list(machine.check_packages())
    assert "missing: torch" in found[0].found
    assert "share one folder" in found[1].found


def test_row_7_tokens(doctor, fake: LabelStudio) -> None:
    fake.answers["/api/current-user/whoami"] = (401, {"detail": DISABLED})
    code, out = doctor()
    assert code == 3
    assert "legacy tokens switched off" in out
    fake.answers["/api/token/refresh/"] = (401, {})
    code, out = doctor(key="ca.na.ry")
    assert code == 3
    assert "refused the personal access token" in out


def test_row_7_no_token(server: Recorder, run_cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    code, out, _ = run_cli(
        "doctor", "--detector", "demo", "--segmenter", "demo", "--url", server.url
    )
    assert code == 1
    assert "LABEL_STUDIO_API_KEY is not set" in out


@pytest.mark.parametrize(
    ("uri", "status", "said"),
    [
        ("https://elsewhere.example/x.jpg", 200, "ALLOWED_HOSTS"),
        ("/data/local-files/?d=x.jpg", 404, "LOCAL_FILES_SERVING_ENABLED"),
        ("/etc/passwd", 200, "import it again"),
        ("/data/upload/7/b.jpg", 404, "correct the task or its storage"),
    ],
)
def test_row_8_images_that_cannot_be_reached(
    doctor, fake: LabelStudio, uri: str, status: int, said: str
) -> None:
    fake.answers["/api/tasks"] = (200, {"tasks": [{"id": 3, "data": {"image": uri}}]})
    code, out = doctor()
    assert code == 1
    assert said in out


def test_row_9_localhost_inside_a_container(
    doctor, server: Recorder, run_cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "_in_container", lambda: True)
    code, out, _ = run_cli(
        "doctor",
        "--detector",
        "demo",
        "--segmenter",
        "demo",
        "--url",
        "http://127.0.0.1:1",
        "--api-key",
        "x",
    )
    assert code == 1
    assert "host.docker.internal" in out


def test_row_8_one_picture_of_every_place_is_looked_at(doctor, fake: LabelStudio) -> None:
    uris = ["/data/upload/7/a.jpg"] * 3 + [
        "https://elsewhere.example/x.jpg",
        "s3://bucket/a.jpg",
        "https://elsewhere.example/y.jpg",
    ]
    fake.answers["/api/tasks"] = (
        200,
        {"tasks": [{"id": k, "data": {"image": uri}} for k, uri in enumerate(uris)]},
    )
    code, out = doctor()
    assert code == 1
    assert out.count("ALLOWED_HOSTS=elsewhere.example") == 1
    assert "/tasks/4/presign/" in out
    assert out.count("is 640x480 pixels") == 1


def test_another_project(doctor) -> None:
    code, out = doctor(project="8")
    assert code == 1
    assert out.count("is 8 the project's id") == 1


def test_as_json(doctor) -> None:
    code, out = doctor("--json")
    assert code == 0
    assert {check["status"] for check in json.loads(out)} == {"ok"}


def test_a_score_column_that_stays_blank_is_told(doctor, fake: LabelStudio) -> None:
    assert "Prediction score is that of v1, 3 predictions" in doctor()[1]
    fake.answers["/api/projects/7/model-versions/"] = (200, {"v0": 9})
    _, out = doctor()
    assert "the column Prediction score stays blank: the project shows 'v1'" in out
    assert "choose v0 under Settings" in out


def test_whether_labelme_can_open_its_window(run_cli, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ("--detector", "demo", "--segmenter", "demo", "--labelme")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert "can open its window here" in run_cli("doctor", *models)[1]
    monkeypatch.delenv("QT_QPA_PLATFORM")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    code, out, _ = run_cli("doctor", *models)
    assert code == 1
    assert "there is no display here" in out
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("labelme_plugin.display.missing_libraries", lambda: ["libxcb-icccm.so.4"])
    code, out, _ = run_cli("doctor", *models)
    assert code == 1
    assert "-> apt-get install libxcb-icccm4" in out


def test_a_project_that_is_not_there_is_told_with_where_its_number_stands(doctor) -> None:
    code, text = doctor(project="99")
    assert code == 1
    assert "there is no project 99 that the token's user may see" in text
    assert "-> the number is in the project's address" in text
