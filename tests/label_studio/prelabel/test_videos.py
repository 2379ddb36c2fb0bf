"""``yolosam2 prelabel`` on a project of videos, against the stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.demo.dataset import write_film
from backend.formats.label_studio.make_config import make_video_config
from backend.formats.tracks.video_rectangle import between, from_region
from tests.label_studio.prelabel.test_command import options
from tests.support.boxes import overlap, true_box
from tests.support.fake_studio import FakeStudio, serving
from tests.support.lab import NAMES
from tests.support.servers import Recorder

SEED = 3_000_004
N_FRAMES = 14
SIZE = (240, 320)


@pytest.fixture
def studio(tmp_path: Path) -> FakeStudio:
    film = tmp_path / "film.mp4"
    write_film(film, SEED, N_FRAMES)
    made = FakeStudio(make_video_config(NAMES, 25.0), film.read_bytes())
    made.add(3)
    for number, task in made.tasks.items():
        task["data"] = {"video": f"/data/upload/1/0123abcd-{number}.mp4"}
    return made


@pytest.fixture
def server(studio: FakeStudio) -> Iterator[Recorder]:
    with serving(studio) as recorder:
        yield recorder


def test_objects_are_followed(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.tasks[2]["data"] = {"text": "none"}
    code, out, _ = run_cli(*options(server, tmp_path, "--json", tmp_path / "r.json"))
    assert code == 1
    assert "predicted 2 tasks" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert [one["task"] for one in report["failed"]] == [2]
    assert sum(report["objects"].values()) == 2 * len(studio.of(1)[0]["result"])
    regions = studio.of(1)[0]["result"]
    assert len(regions) >= 2
    assert regions == studio.of(3)[0]["result"]
    best = max(
        np.mean([overlap(box, true_box(SEED, frame, 2)) for frame, box in boxes.items()])
        for one in regions
        if (boxes := between(from_region(one, SIZE, "r"), N_FRAMES))
    )
    assert best > 0.7
    # The backend gives the same version, so that nothing is asked for twice.
    assert studio.about["model_version"] == report["model_version"]


def test_a_dry_run_follows_nothing(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    code, out, _ = run_cli(*options(server, tmp_path, "--dry-run"))
    assert code == 0
    assert "3 tasks to predict as demo" in out
    assert "box: ball becomes ball from 0.25" in out
    assert "seconds and" not in out


def test_boxes_that_people_drew_are_followed(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    x0, y0, x1, y1 = true_box(SEED, 3, 2) / np.array([320, 240, 320, 240]) * 100
    box = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
    sequence = [{**box, "frame": 4, "enabled": True, "time": 0.12}]
    head = {"id": "mine", "type": "videorectangle", "from_name": "box", "to_name": "video"}
    value = {"sequence": sequence, "framesCount": N_FRAMES, "duration": 0.56, "labels": ["star"]}
    studio.tasks[1]["annotations"] = [
        {"id": 1, "result": [], "was_cancelled": True},
        {"id": 2, "result": [{**head, "value": value}]},
    ]
    code, out, _ = run_cli(*options(server, tmp_path, "--from-boxes", "annotations"))
    assert code == 1
    assert "no annotation with boxes on its video yet" in out
    (region,) = studio.of(1)[0]["result"]
    assert (region["id"], region["value"]["labels"]) == ("mine", ["star"])
    boxes = between(from_region(region, SIZE, "r"), N_FRAMES)
    assert set(boxes) == set(range(3, N_FRAMES))
    assert np.mean([overlap(one, true_box(SEED, frame, 2)) for frame, one in boxes.items()]) > 0.7


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--engine", "ray"], "--engine ray: videos are followed on one machine"),
        (["--prompts", "boxes.json"], "--prompts: names pictures"),
    ],
)
def test_what_cannot_be_with_videos(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path, more: list[str], said: str
) -> None:
    (tmp_path / "boxes.json").write_text(
        '[{"image_id": "a", "category_id": 0, "bbox": [1, 1, 9, 9], "score": 1}]'
    )
    more = [str(tmp_path / one) if one.endswith(".json") else one for one in more]
    code, _, err = run_cli(*options(server, tmp_path, *more))
    assert code == 2
    assert said in err
    assert not studio.predictions
