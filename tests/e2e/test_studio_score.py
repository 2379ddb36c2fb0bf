"""The loop closes: predicted by the backend, edited in a real Label Studio, exported, scored.

The edits found are exactly the edits made.
"""

from __future__ import annotations

import copy
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.core.masks import full_frame, mask_from_full
from backend.demo.processes import TOKEN
from backend.demo.run import SAMPLES
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.label_config import parse_label_config
from tests.support.lab import (
    CONFIG,
    NAMES,
    OUT,
    Lab,
    browser_page,
    needs_chromium,
    needs_studio,
    sample_names,
)

pytestmark = [needs_studio, pytest.mark.timeout(900)]


@dataclass
class Made:
    """A project whose predictions were edited, and what was done."""

    project: int
    tasks: dict[int, str]
    edits: dict[str, int]
    changed: int  # pixels
    either: int  # pixels
    snapshot: Path
    plain: Path


def mask_of(region: dict[str, Any]) -> np.ndarray:
    size_hw = (region["original_height"], region["original_width"])
    return full_frame(rle.decode_brush(region["value"]["rle"], size_hw), size_hw)


def reshaped(region: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
    """The region without its upper half, as an eraser would leave it, and how many pixels differ of
    how many.
    """
    frame = mask_of(region)
    rows = np.flatnonzero(frame.any(1))
    kept = frame.copy()
    kept[: int(rows.mean())] = False
    made = copy.deepcopy(region)
    made["value"]["rle"] = list(rle.encode_brush(mask_from_full(kept), frame.shape))
    made["origin"] = "prediction-changed"
    return made, int((frame & ~kept).sum()), int(frame.sum())


def relabelled(region: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(region)
    label = made["value"]["brushlabels"][0]
    made["value"]["brushlabels"] = [NAMES[(NAMES.index(label) + 1) % len(NAMES)]]
    return made


def added(beside: dict[str, Any]) -> dict[str, Any]:
    height = beside["original_height"]
    width = beside["original_width"]
    frame = np.zeros((height, width), bool)
    frame[5:25, 5:25] = True
    value = {
        "format": "rle",
        "rle": list(rle.encode_brush(mask_from_full(frame), frame.shape)),
        "brushlabels": [NAMES[0]],
    }
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    return {
        "id": "by-hand",
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "origin": "manual",
        "value": value,
        **size,
    }


def accept(lab: Lab, task: dict[str, Any], result: list[dict[str, Any]], **more: Any) -> None:
    """What the Submit button sends."""
    body = {
        "result": result,
        "parent_prediction": task["predictions"][0]["id"],
        "lead_time": 3.0,
        **more,
    }
    lab.studio.call("POST", f"/api/tasks/{task['id']}/annotations", json=body)


def export_snapshot(lab: Lab, project: int, path: Path) -> Path:
    """As docs/scoring.md says: a snapshot with full predictions."""
    made = lab.studio.call(
        "POST",
        f"/api/projects/{project}/exports/",
        json={"serialization_options": {"predictions": {"only_id": False}}},
    )
    for _ in range(120):
        if (
            lab.studio.call("GET", f"/api/projects/{project}/exports/{made['id']}")["status"]
            == "completed"
        ):
            break
        time.sleep(0.5)
    content = lab.studio.call(
        "GET",
        f"/api/projects/{project}/exports/{made['id']}/download",
        params={"exportType": "JSON"},
    )
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def made(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("score")
    project = lab.studio.create_project("scored", CONFIG)
    lab.studio.upload(project, sorted((SAMPLES / "JPEGImages").glob("*.jpg"))[:8])
    lab.studio.connect(project, lab.backend_url)
    lab.studio.retrieve_predictions(project)
    tasks = lab.studio.tasks(project)
    results = [task["predictions"][0]["result"] for task in tasks]
    assert all(len(result) >= 2 for result in results[:5])
    accept(lab, tasks[0], results[0])
    accept(lab, tasks[1], results[1][1:])  # one deleted
    smaller, changed, either = reshaped(results[2][0])
    accept(lab, tasks[2], [smaller, *results[2][1:], added(results[2][0])])
    accept(lab, tasks[3], [relabelled(results[3][0]), *results[3][1:]])
    both, changed2, either2 = reshaped(relabelled(results[4][0]))
    accept(lab, tasks[4], [both, *results[4][1:]])
    accept(lab, tasks[5], [])  # all deleted
    accept(lab, tasks[6], results[6], was_cancelled=True)  # skipped: no annotation
    # nobody opened task 7
    total = sum(len(result) for result in results[:6])
    edits = {
        "reshaped": 1,
        "relabelled": 1,
        "relabelled_and_reshaped": 1,
        "deleted": 1 + len(results[5]),
        "added": 1,
    }
    edits["untouched"] = total - 4 - len(results[5])
    plain = folder / "plain.json"
    plain.write_text(
        json.dumps(
            lab.studio.call("GET", f"/api/projects/{project}/export", params={"exportType": "JSON"})
        )
    )
    snapshot = export_snapshot(lab, project, folder / "snapshot.json")
    return Made(
        project,
        sample_names(lab.studio, project),
        edits,
        changed + changed2,
        either + either2,
        snapshot,
        plain,
    )


def scored(run_cli, path: Path, *options: object) -> tuple[int, dict[str, Any]]:
    code, out, err = run_cli(
        "score", path, "--json", "-", "--no-progress", "--resamples", 50, *options
    )
    assert out, err
    return code, json.loads(out)


def test_the_edits_found_are_the_edits_made(run_cli, made: Made) -> None:
    code, document = scored(run_cli, made.snapshot)
    assert code == 0, document["failed"]
    effort = document["views"][0]["effort"]
    assert {name: effort[name] for name in made.edits} == made.edits
    assert effort["changed_share_of_reshaped"] == pytest.approx(
        made.changed / made.either, abs=1e-6
    )
    assert effort["annotations"] == document["views"][0]["images"] == 6
    assert document["settings"]["tasks_without_annotation"] == 2
    assert 0 < document["views"][0]["figures"]["mean_iou"]["value"] < 1
    rows = {row["name"]: row for row in document["views"][0]["classes"] if row["value"]}
    assert sum(row["effort"]["deleted"] for row in rows.values()) == made.edits["deleted"]


def test_a_plain_export_with_fetched_predictions_gives_the_same(
    run_cli, lab: Lab, made: Made
) -> None:
    assert all(
        isinstance(one, int)
        for task in json.loads(made.plain.read_text())
        for one in task["predictions"]
    )
    code, _, err = run_cli("score", made.plain, "--no-progress")
    assert code == 2
    assert "predictions: holds only their ids; give --url, --api-key and --project" in err
    _, full = scored(run_cli, made.snapshot)
    for token in (TOKEN, lab.personal_token):
        code, document = scored(
            run_cli,
            made.plain,
            "--url",
            lab.studio.url,
            "--api-key",
            token,
            "--project",
            made.project,
        )
        assert code == 0, document["failed"]
        assert document["views"] == full["views"]


@needs_chromium
def test_the_page_shows_the_pictures_of_label_studio(
    run_cli, lab: Lab, made: Made, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    options = (
        "--url",
        lab.studio.url,
        "--api-key",
        TOKEN,
        "--project",
        made.project,
        "--report",
        report,
        "--no-progress",
        "--suggest-thresholds",
    )
    code, out, _ = run_cli("score", made.snapshot, *options)
    assert code == 0
    assert f"wrote {report}" in out
    OUT.mkdir(exist_ok=True)
    with browser_page(viewport={"width": 1280, "height": 900}) as page:
        faults: list[str] = []
        page.on(
            "console",
            lambda message: (
                faults.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(report.as_uri())
        page.wait_for_selector("#chart-effort .bars path")
        shown = page.locator("#gallery button")
        assert shown.count() >= 4
        assert not any("not at hand" in text for text in shown.all_text_contents())
        shown.first.click()
        link = page.locator("#viewer-task")
        assert f"/projects/{made.project}/data?task=" in str(link.get_attribute("href"))
        page.keyboard.press("Escape")
        page.screenshot(path=str(OUT / "report-label-studio.png"), full_page=True)
    assert faults == []


def test_thresholds_are_put_into_the_project(run_cli, lab: Lab, made: Made, tmp_path: Path) -> None:
    options = ("--url", lab.studio.url, "--api-key", TOKEN, "--project", made.project)
    address = f"/api/projects/{made.project}/"
    before = lab.studio.call("GET", address)["label_config"]
    code, out, err = run_cli("score", *options, "--suggest-thresholds", "--no-progress")
    assert code == 0, err
    suggested = set(
        re.findall(r'^<Label value="(\w+)" background="\S+" model_score', out, re.MULTILINE)
    )
    assert suggested
    assert lab.studio.call("GET", address)["label_config"] == before
    code, out, err = run_cli("score", *options, "--apply-thresholds", "--no-progress")
    assert code == 0, err
    assert f"in the labeling config of project {made.project}" in out
    tags = parse_label_config(lab.studio.call("GET", address)["label_config"]).tags
    brush = next(tag for tag in tags if tag.kind == "brushlabels")
    assert {one.value for one in brush.labels if one.threshold is not None} == suggested
    assert [one.value for one in brush.labels] == NAMES
    lab.studio.call("PATCH", address, json={"label_config": before})
