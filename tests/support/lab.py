"""One real Label Studio with the backend beside it, for all end-to-end tests."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import PIL.Image
import pytest
import requests

from backend.demo.processes import PASSWORD, TOKEN, USER, backend, free_port, label_studio
from backend.demo.run import SAMPLES
from backend.demo.studio import Studio
from backend.formats.label_studio.make_config import make_config

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(
    os.environ.get("LABEL_STUDIO_PROGRAM", ROOT / ".venv-studio" / "bin" / "label-studio")
)
CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
NAMES = [
    name for name in (SAMPLES / "class_names.txt").read_text().split() if name != "_background_"
]
CONFIG = make_config(NAMES)
UPRIGHT = (  # the sample that is also there on its side, and that the embedded models get right
    "3000002"
)
OUT = Path(os.environ.get("STUDIO_OUT", ROOT / "studio-out"))

needs_studio = pytest.mark.skipif(
    not PROGRAM.is_file(),
    reason=f"Label Studio is not installed at {PROGRAM}; `make .venv-studio/.installed` does it",
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@dataclass
class Lab:
    """Everything that runs, and one project with predictions."""

    studio: Studio
    backend_url: str
    backend_log: Path
    project: int
    connection: int
    names: dict[int, str]  # task id to sample name

    @cached_property
    def personal_token(self) -> str:
        """A personal access token, made as a person makes one.

        Label Studio gives a user only one.
        """
        session = requests.Session()
        session.trust_env = False
        session.get(f"{self.studio.url}/user/login")
        form = {
            "email": USER,
            "password": PASSWORD,
            "csrfmiddlewaretoken": session.cookies["csrftoken"],
        }
        session.post(
            f"{self.studio.url}/user/login", data=form, headers={"Referer": self.studio.url}
        )
        headers = {"X-CSRFToken": session.cookies["csrftoken"], "Referer": self.studio.url}
        return str(session.post(f"{self.studio.url}/api/token/", headers=headers).json()["token"])


_DATABASE = "label_studio.sqlite3"
_MADE_BY = f"{PROGRAM} {USER} {PASSWORD} {TOKEN} {(ROOT / 'docker/label-studio.txt').read_text()}"
# Of a Label Studio that started once, without projects.
_TABLES = ROOT / ".venv-studio" / f"{sha256(_MADE_BY.encode()).hexdigest()[:16]}.sqlite3"


@contextmanager
def new_studio(data: Path, port: int) -> Iterator[str]:
    """A running Label Studio without projects; gives its URL.

    The first one makes its tables, which takes longer than anything else it does; those after it
    begin with a copy of them.
    """
    data.mkdir(parents=True)
    has_tables = _TABLES.is_file()
    if has_tables:
        shutil.copy(_TABLES, data / _DATABASE)
    with label_studio(PROGRAM, data, port) as url:
        if not has_tables:
            _TABLES.parent.mkdir(exist_ok=True)
            part = _TABLES.with_suffix(f".{os.getpid()}")
            with (
                closing(sqlite3.connect(data / _DATABASE)) as source,
                closing(sqlite3.connect(part)) as target,
            ):
                source.backup(target)
            part.replace(_TABLES)
        yield url


def turned(source: Path, target: Path) -> None:
    """The same picture with its pixels on their side, and EXIF that says how to turn them back."""
    picture = PIL.Image.open(source).transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    picture.save(target, quality=95, exif=exif)


def sample_names(studio: Studio, project: int) -> dict[int, str]:
    """Task id to the name of its picture, without what Label Studio puts before it."""
    return {
        task["id"]: re.sub(r"^[0-9a-f]{8}-", "", Path(task["data"]["image"]).stem)
        for task in studio.tasks(project)
    }


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("studio")
    pictures = sorted((SAMPLES / "JPEGImages").glob("*.jpg"))
    turned(SAMPLES / "JPEGImages" / f"{UPRIGHT}.jpg", folder / "turned.jpg")
    log = folder / "backend.log"
    with ExitStack() as stack:
        url = stack.enter_context(new_studio(folder / "data", free_port()))
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MODEL_RUNTIME")  # models run as a user's do
            backend_url = stack.enter_context(backend(url, free_port(), log))
        studio = stack.enter_context(closing(Studio(url)))
        project = studio.create_project("end to end", CONFIG)
        studio.upload(project, [*pictures, folder / "turned.jpg"])
        connection = studio.connect(project, backend_url)
        studio.retrieve_predictions(project)
        yield Lab(studio, backend_url, log, project, connection, sample_names(studio, project))


@contextmanager
def browser_page(**options: object) -> Iterator:
    """A page of headless Chromium that reaches nothing but this machine."""
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        context = browser.new_context(**options)
        context.set_default_timeout(90_000)  # of what is no test by itself, on a busy machine
        yield context.new_page()
        browser.close()
