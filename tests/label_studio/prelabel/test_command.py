"""``yolosam2 prelabel`` on the embedded models: against the stand-in, and once against a real Label
Studio that is restarted under it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend.core.masks import full_frame
from backend.demo.processes import TOKEN, free_port, label_studio
from backend.demo.run import SAMPLES
from backend.demo.studio import Studio
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.make_config import make_config
from backend.formats.voc.label_maps import instances_of, read_label_map
from tests.conftest import PYTHON, ROOT
from tests.support.fake_studio import LEGACY, FakeStudio, serving
from tests.support.lab import CONFIG, NAMES, PROGRAM, needs_studio, new_studio
from tests.support.servers import Recorder

MODELS = (
    "--detector",
    "demo",
    "--segmenter",
    "demo",
    "--device",
    "cpu",
    "--box-margin",
    "0.04",
    "--min-part",
    "0.02",
)
NAME = "3000002"


@pytest.fixture
def studio() -> FakeStudio:
    made = FakeStudio(CONFIG, (SAMPLES / "JPEGImages" / f"{NAME}.jpg").read_bytes())
    made.add(12)
    return made


@pytest.fixture
def server(studio: FakeStudio) -> Iterator[Recorder]:
    with serving(studio) as recorder:
        yield recorder


def options(server: Recorder, tmp_path: Path, *more: object) -> list[object]:
    return [
        "prelabel",
        "--url",
        server.url,
        "--api-key",
        LEGACY,
        "--project",
        1,
        "--journal",
        tmp_path / "journal",
        "--no-progress",
        *MODELS,
        *more,
    ]


def masks(prediction: dict) -> list[tuple[str, object]]:
    found = []
    for region in prediction["result"]:
        size_hw = (region["original_height"], region["original_width"])
        found.append(
            (
                region["value"]["brushlabels"][0],
                full_frame(rle.decode_brush(region["value"]["rle"], size_hw), size_hw),
            )
        )
    return found


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    code, out, err = run_cli(*options(server, tmp_path, "--dry-run"))
    assert code == 0, err
    assert "12 tasks to predict as demo" in out
    assert "brush: ball becomes ball from 0.25" in out
    assert "seconds and" in out
    assert "nothing was uploaded" in out
    assert (studio.written, studio.predictions, (tmp_path / "journal").exists()) == ([], {}, False)


def test_a_run_and_its_report(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.tasks[3]["data"] = {"text": "none"}
    code, out, _ = run_cli(*options(server, tmp_path, "--json", tmp_path / "r.json"))
    assert code == 1
    assert "predicted 11 tasks" in out
    assert "task 3: task 3: data.image" in out or "task 3: data.image" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["predicted"], [one["task"] for one in report["failed"]]) == (11, [3])
    version = report["model_version"]
    assert {one["model_version"] for one in studio.predictions.values()} == {version}
    assert Counter(one["task"] for one in studio.predictions.values()) == dict.fromkeys(
        set(range(1, 13)) - {3}, 1
    )
    objects = read_label_map(SAMPLES / "SegmentationObject" / f"{NAME}.png")
    for _, mask in masks(studio.of(1)[0]):
        assert (
            max(
                (mask & (objects == v)).sum() / (mask | (objects == v)).sum()
                for v in range(1, objects.max() + 1)
            )
            > 0.7
        )
    assert len(masks(studio.of(1)[0])) == 3
    assert studio.about["model_version"] == version, "the project sorts by these predictions"
    _, tab = studio.views
    assert tab["data"]["ordering"] == ["tasks:predictions_score"]
    assert report["address"].endswith("/projects/1/data?tab=2")
    assert f"open {report['address']}" in out
    assert sum(report["objects"].values()) == 33
    assert run_cli(*options(server, tmp_path))[0] == 0  # nothing is left but what failed
    assert len(studio.views) == 2
    studio.about["model_version"] = "mine"
    assert run_cli(*options(server, tmp_path, "--no-present", "--instructions"))[0] == 0
    assert "Smart point" in studio.about["expert_instruction"]
    studio.about["expert_instruction"] = "ours"
    assert run_cli(*options(server, tmp_path, "--no-present", "--instructions"))[0] == 0
    assert studio.about["expert_instruction"] == "ours"
    assert studio.about["model_version"] == "mine"


def test_the_backend_and_prelabel_have_the_same_version(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    from backend.config.models import Settings
    from backend.label_studio.server.cascade_loader import CascadeLoader
    from backend.label_studio.server.projects import Predictors

    predictors = Predictors(
        CascadeLoader(
            Settings(
                detector="demo", segmenter="demo", device="cpu", box_margin=0.04, min_part=0.02
            )
        ),
        threshold=0.25,
    )
    predictors.load_default()
    from backend.formats.label_studio.label_config import DEFAULT_MODELS, parse_label_config

    run_cli(*options(server, tmp_path, "--limit", 1))
    assert (
        predictors._bound(
            parse_label_config(CONFIG), {DEFAULT_MODELS: predictors.default()}
        ).model_version
        == studio.of(1)[0]["model_version"]
    )


def test_rectangles_that_people_drew_become_masks(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    classes, objects = (
        read_label_map(SAMPLES / folder / f"{NAME}.png")
        for folder in ("SegmentationClass", "SegmentationObject")
    )
    truth = instances_of(classes, objects, NAMES, NAME)
    height, width = classes.shape
    boxes = []
    for k, one in enumerate(truth):
        x0, y0, x1, y1 = one.xyxy.tolist()
        value = {
            "x": 100 * x0 / width,
            "y": 100 * y0 / height,
            "width": 100 * (x1 - x0) / width,
            "height": 100 * (y1 - y0) / height,
            "rotation": 0,
        }
        head = {
            "id": f"b{k}",
            "type": "rectanglelabels",
            "from_name": "box",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
        }
        boxes.append({**head, "value": {**value, "rectanglelabels": [one.label]}})
    for task in studio.tasks.values():
        task["annotations"] = [
            {"id": 1, "result": [], "was_cancelled": True},
            {"id": 2, "result": boxes},
        ]
    studio.tasks[2]["annotations"] = []
    code, out, _ = run_cli(
        *options(server, tmp_path, "--from-boxes", "annotations")[:-2],
        "--from-boxes",
        "annotations",
    )
    assert code == 1
    assert "task 2: no annotation with rectangles yet" in out
    found = masks(studio.of(1)[0])
    assert sorted(label for label, _ in found) == sorted(one.label for one in truth)
    for one in truth:
        mask = full_frame(one.mask, classes.shape)
        assert (
            max(
                (mask & other).sum() / (mask | other).sum()
                for label, other in found
                if label == one.label
            )
            > 0.7
        )
    assert not [path for _, path in studio.written if "annotation" in path]


def test_boxes_from_a_prompt_file(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    rows = [
        {"image_id": f"{k}", "category_id": 0, "bbox": [100, 100, 200, 200], "score": 0.9}
        for k in range(1, 13)
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    code, out, err = run_cli(
        *options(server, tmp_path, "--prompts", tmp_path / "p.json", "--limit", 2)
    )
    assert code == 0, out + err
    assert [label for label, _ in masks(studio.of(1)[0])] == [NAMES[0]]
    (tmp_path / "other.json").write_text(json.dumps([{**rows[0], "image_id": "elsewhere"}]))
    code, out, err = run_cli(
        *options(
            server, tmp_path, "--journal", tmp_path / "k", "--prompts", tmp_path / "other.json"
        )
    )
    assert code == 2
    assert (
        "has boxes for none of the tasks' pictures; it names for example 'elsewhere'" in out + err
    )
    assert not [one for one in studio.predictions.values() if not one["result"]]
    assert studio.of(1)[0]["model_version"].startswith("prompts+demo")


def test_refusals(run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        code, _, err = run_cli(*arguments)
        assert code in (2, 3)
        return f"{code} {err}"

    assert said("prelabel", "--project", 1).startswith("2 ")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").write_text("\n")
    for ids in (
        "a,b",
        "",
        ",".join(["x" * 9] * 60),
        tmp_path / "binary",
        tmp_path / "empty",
        tmp_path / "none",
    ):
        assert "2 yolosam2: --ids: expected task numbers" in said(
            *options(server, tmp_path, "--ids", ids)
        )
    assert "cannot write results there" in said(
        *options(server, tmp_path, "--json", "/proc/none/r.json")
    )
    assert "both say where boxes come from" in said(
        *options(server, tmp_path, "--prompts", __file__, "--from-boxes", "annotations")
    )
    wrong = options(server, tmp_path)
    wrong[wrong.index(LEGACY)] = "f" * 40
    assert said(*wrong).startswith("3 ")
    other = options(server, tmp_path)
    other[other.index(1)] = 7
    assert "--project 7: Label Studio answered 404" in said(*other)
    studio.label_config = make_config(["zebra"])
    assert "No label is a class of the model" in said(*options(server, tmp_path))


@pytest.mark.slow
@needs_studio
@pytest.mark.timeout(900)
def test_two_hundred_tasks_a_kill_and_a_restart_of_the_real_label_studio(tmp_path: Path) -> None:
    port = free_port()
    command = [
        PYTHON,
        "-m",
        "backend",
        "prelabel",
        "--api-key",
        TOKEN,
        "--journal",
        str(tmp_path / "j"),
        "--no-progress",
        *MODELS,
        "--device",
        "cpu",
    ]
    with (
        new_studio(tmp_path / "data", port) as url,
        closing(Studio(url)) as studio,
    ):
        project = studio.create_project("two hundred", CONFIG)
        studio.upload(project, sorted((SAMPLES / "JPEGImages").glob("*.jpg")))
        uploaded = [task["data"]["image"] for task in studio.tasks(project)]
        studio.call(
            "POST",
            f"/api/projects/{project}/import",
            json=[{"image": uploaded[k % 12]} for k in range(188)],
        )
        command += ["--url", url, "--project", str(project)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 240
        while not stored(studio, project) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        half = len(stored(studio, project))
        assert 0 < half < 200
    with (
        label_studio(PROGRAM, tmp_path / "data", port) as url,
        closing(Studio(url)) as studio,
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found = stored(studio, project)
        assert len(found) == 200
        assert set(Counter(one["task"] for one in found).values()) == {1}
        assert len({one["model_version"] for one in found}) == 1
        assert f"predicted {200 - half} tasks" in done.stdout
        view = studio.call(
            "POST",
            "/api/dm/views/",
            json={
                "project": project,
                "data": {
                    "filters": {
                        "conjunction": "and",
                        "items": [
                            {
                                "filter": "filter:tasks:id",
                                "operator": "less",
                                "type": "Number",
                                "value": studio.tasks(project)[5]["id"],
                            }
                        ],
                    }
                },
            },
        )
        listing = [
            *command,
            "--view",
            str(view["id"]),
            "--dry-run",
            "--conf",
            "0.4",
        ]  # another version, so that there is something to do
        told = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "5 tasks to predict" in told.stdout, told.stdout + told.stderr


def stored(studio: Studio, project: int) -> list[dict]:
    return list(studio.call("GET", "/api/predictions", params={"project": project}))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(400)
def test_ray_gives_what_this_process_gives(
    run_cli, studio: FakeStudio, server: Recorder, tmp_path: Path
) -> None:
    studio.tasks[3]["data"] = {"text": "none"}
    assert run_cli(*options(server, tmp_path))[0] == 1
    here = {
        one["task"]: (one["model_version"], one["score"], json.dumps(one["result"]))
        for one in studio.predictions.values()
    }
    studio.predictions.clear()
    command = [
        PYTHON,
        "-m",
        "backend",
        *(
            str(one)
            for one in options(server, tmp_path, "--engine", "ray", "--journal", tmp_path / "r")
        ),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "predicted 11 tasks" in done.stdout
    assert "task 3: data.image" in done.stdout
    there = {
        one["task"]: (one["model_version"], one["score"], json.dumps(one["result"]))
        for one in studio.predictions.values()
    }
    assert there == here
