"""The model class under label-studio-ml itself: 1.0.9 from the package index, and a 2.x checkout
where LABEL_STUDIO_ML_SRC names one.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from backend.demo.processes import TOKEN, free_port, running, wait_for
from backend.demo.run import SAMPLES
from backend.formats.label_studio.make_config import make_config
from tests.conftest import ROOT
from tests.support.servers import http_server

# Beside the project's own environment, because 1.0.9 pins a Flask of 2021 and does not declare what
# it imports.
PACKAGES = [
    "label-studio-ml==1.0.9",
    "label-studio-tools==0.0.4",
    "redis==8.1.0",
    "rq==2.12.0",
    "colorama==0.4.6",
]
OVERLAY = ROOT / ".venv-label-studio-ml"
NAMES = [
    name for name in (SAMPLES / "class_names.txt").read_text().split() if name != "_background_"
]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def overlay() -> Path:
    if not (OVERLAY / "label_studio_ml").is_dir():
        command = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(OVERLAY),
            *PACKAGES,
        ]
        subprocess.run(command, check=True)
    return OVERLAY


@contextmanager
def label_studio_ml(folder: Path, path: list[Path], script: str, images: str) -> Iterator[str]:
    """``_wsgi.py`` as label-studio-ml makes it, reduced to what its options default to."""
    line = "from backend.label_studio.server.ml_backend import YoloSam2\n"
    (folder / "model.py").write_text(line)
    (folder / "_wsgi.py").write_text(script)
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])),
        "DETECTOR": "demo",
        "SEGMENTER": "demo",
        "DEVICE": "cpu",
    }
    environment |= {
        "LABEL_STUDIO_URL": images,
        "LABEL_STUDIO_API_KEY": TOKEN,
        "MODEL_DIR": str(folder),
        "PORT": str(port),
        "PATH": str(Path(sys.executable).parent),
        "TRAINING_DIR": str(folder / "trainings"),
        "TRAIN_OPTIONS": "--no-such-option",  # a training that ends at once
    }
    log = folder / "log"
    with running([sys.executable, str(folder / "_wsgi.py")], environment, log) as process:
        wait_for(f"http://127.0.0.1:{port}/health", process, log, 120)
        yield f"http://127.0.0.1:{port}"


WSGI_1 = """
import os
from label_studio_ml.api import init_app
from model import YoloSam2
app = init_app(model_class=YoloSam2, model_dir=os.path.dirname(os.path.abspath(__file__)))
app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
"""
WSGI_2 = WSGI_1.replace(", model_dir=os.path.dirname(os.path.abspath(__file__))", "")


def exercise(url: str) -> None:
    """The calls Label Studio makes; the first picture's predictions must be its objects."""
    config = make_config(NAMES)
    setup = {
        "project": "1.5",
        "schema": config,
        "hostname": "http://127.0.0.1:1",
        "access_token": "x",
        "extra_params": None,
    }
    for _ in range(30):
        version = requests.post(f"{url}/setup", json=setup, timeout=30).json().get("model_version")
        if str(version).startswith("demo_yolov8+demo_sam2.1-"):
            break
    assert str(version).startswith("demo_yolov8+demo_sam2.1-")
    tasks = [{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}}, {"id": 2, "data": {}}]
    body = {
        "tasks": tasks,
        "project": "1.5",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }
    results = requests.post(f"{url}/predict", json=body, timeout=60).json()["results"]
    assert [item["model_version"] for item in results] == [version, version]
    assert {region["value"]["brushlabels"][0] for region in results[0]["result"]} == {
        "ball",
        "box",
        "cup",
    }
    assert results[1]["result"] == []
    mark = {
        "type": "keypointlabels",
        "from_name": "point",
        "is_positive": True,
        "value": {"x": 25, "y": 70, "width": 1, "keypointlabels": ["ball"]},
    }
    body |= {"tasks": tasks[:1], "params": {"context": {"result": [mark]}}}
    (item,) = requests.post(f"{url}/predict", json=body, timeout=60).json()["results"]
    assert item["result"][0]["value"]["brushlabels"] == ["ball"]
    assert requests.post(
        f"{url}/webhook", json={"action": "PROJECT_UPDATED", "project": {"id": 1}}, timeout=5
    ).status_code in (200, 201)
    start = {"action": "START_TRAINING", "project": {"id": 1}}
    assert requests.post(f"{url}/webhook", json=start, timeout=5).status_code in (200, 201)


@pytest.fixture
def images() -> Iterator[str]:
    picture = (SAMPLES / "JPEGImages" / "3000002.jpg").read_bytes()
    with http_server(lambda *_: (200, {}, picture)) as server:
        yield server.url


def test_under_label_studio_ml_1(tmp_path: Path, overlay: Path, images: str) -> None:
    with label_studio_ml(tmp_path, [overlay], WSGI_1, images) as url:
        exercise(url)
        assert (
            requests.get(f"{url}/versions", timeout=5)
            .json()["versions"][0]
            .startswith("demo_yolov8")
        )
    assert not [p for p in tmp_path.iterdir() if p.is_dir() and p.name.isdigit()], (
        "no job was started by the webhook"
    )
    assert trainings(tmp_path) == [("1",)]


def trainings(folder: Path) -> list[tuple[str]]:
    """The projects that a training was asked for."""
    with closing(sqlite3.connect(folder / "trainings" / "jobs.sqlite3")) as database:
        return database.execute("SELECT project FROM job").fetchall()


@pytest.mark.skipif(
    "LABEL_STUDIO_ML_SRC" not in os.environ,
    reason="LABEL_STUDIO_ML_SRC does not point to a checkout of label-studio-ml-backend 2.x",
)
def test_under_label_studio_ml_2(tmp_path: Path, overlay: Path, images: str) -> None:
    with label_studio_ml(
        tmp_path, [Path(os.environ["LABEL_STUDIO_ML_SRC"]), overlay], WSGI_2, images
    ) as url:
        exercise(url)
