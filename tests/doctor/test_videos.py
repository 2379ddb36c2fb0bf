"""``yolosam2 doctor`` on the first video of a project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from backend.config.service import ServiceSettings
from backend.demo.moving import CLIP
from backend.doctor.checks import FAULT, NOTE, OK, REFUSED
from backend.doctor.videos import check_video
from backend.errors import AuthError, InputError
from backend.formats.label_studio.label_config import VideoTag
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.tasks import Task


class Hands(Fetcher):
    def __init__(self, given: Path | Exception) -> None:
        super().__init__(ServiceSettings())
        self._given = given

    def download(self, uri: str, task_id: Any, deadline: float, file: Any, max_bytes: int) -> None:
        if isinstance(self._given, Exception):
            raise self._given
        with self._given.open("rb") as source:
            shutil.copyfileobj(source, file)


@pytest.mark.parametrize(
    ("given", "rate", "level", "said"),
    [
        (CLIP, 25.0, OK, "has 72 frames, 25 a second, as its tag says"),
        (CLIP, 24.0, NOTE, 'it has 25 frames a second, its tag says frameRate="24"'),
        (Path(__file__), 25.0, FAULT, "is no video that FFmpeg can read"),
        (InputError("/data/a.mp4: answered 404"), 25.0, FAULT, "task 7: /data/a.mp4: answered 404"),
        (AuthError("/data/a.mp4: answered 403"), 25.0, REFUSED, "answered 403"),
    ],
)
def test_the_first_video(given: Path | Exception, rate: float, level: Any, said: str) -> None:
    tag = VideoTag("box", "video", "video", rate, ())
    found = check_video(Hands(given), Task(7, {"video": "/data/a.mp4"}), tag, "make a token")
    assert found.status == level
    assert said in found.found


def test_a_task_without_a_video() -> None:
    tag = VideoTag("box", "video", "video", 25.0, ())
    found = check_video(Hands(CLIP), Task(7, {"text": "none"}), tag, "make a token")
    assert found.status == FAULT
    assert "data.video" in found.found
