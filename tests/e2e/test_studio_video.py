"""Videos in a real Label Studio: followed objects in its editor, a drawn box through its API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from backend.cli.main import main
from backend.demo.moving import CLIP
from backend.demo.run import SAMPLES
from backend.formats.label_studio.make_config import make_video_config
from backend.formats.tracks.video_rectangle import between, from_region
from backend.formats.tracks.youtube_vis import from_youtube_vis
from tests.conftest import ROOT
from tests.e2e.test_studio import editor
from tests.support.boxes import overlap
from tests.support.lab import NAMES, OUT, Lab, needs_chromium, needs_studio

pytestmark = [needs_studio, pytest.mark.timeout(900)]
OPOSSUM = ROOT.parent / "shared" / "data" / "clips" / "opossum_snow_short.mp4"
ANIMAL = [540, 285, 655, 435]  # in its first frame
_SHAPES = """frames => window.Htx.annotationStore.selected.regionStore.regions.map(
  region => frames.map(frame => region.isInLifespan(frame) ? region.getShape(frame) : null))"""
_FRAME = "() => [...window.Htx.annotationStore.selected.names.values()].find(t => t.frame).frame"


@pytest.fixture(scope="module")
def project(lab: Lab) -> tuple[int, int, int]:
    """A project with the sample clip and its predictions: its number, the backend's, the task."""
    number = lab.studio.create_project("videos", make_video_config(NAMES, 25.0))
    lab.studio.upload(number, [CLIP])
    connection = lab.studio.connect(number, lab.backend_url)
    lab.studio.retrieve_predictions(number)
    (task,) = lab.studio.tasks(number)
    return number, connection, task["id"]


def truth() -> tuple[tuple[int, int], list[dict[int, np.ndarray]]]:
    """Size of the sample clip, and boxes of its objects by frame."""
    document = json.loads((SAMPLES / "video" / "moving.json").read_text())
    ((video,), _) = from_youtube_vis(document)
    return video.size_hw, [{f: one.xyxy for f, one in t.seen.items()} for t in video.tracks]


def test_tasks_come_with_followed_objects(lab: Lab, project: tuple[int, int, int]) -> None:
    (task,) = lab.studio.tasks(project[0])
    (prediction,) = task["predictions"]
    size_hw, objects = truth()
    found = [between(from_region(one, size_hw, "r"), 72) for one in prediction["result"]]
    assert len(found) == len(objects)
    for boxes in objects:
        best = max(
            np.mean([overlap(box, one[f]) if f in one else 0.0 for f, box in boxes.items()])
            for one in found
        )
        assert best > 0.6


def test_a_drawn_box_is_followed_through_label_studio(
    lab: Lab, project: tuple[int, int, int]
) -> None:
    size_hw, objects = truth()
    boxes = max(objects, key=len)
    x0, y0, x1, y1 = boxes[0] / np.array([size_hw[1], size_hw[0]] * 2) * 100
    shape = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
    value = {
        "framesCount": 72,
        "duration": 2.88,
        "labels": [NAMES[0]],
        "sequence": [{**{k: float(v) for k, v in shape.items()}, "frame": 1, "enabled": True}],
    }
    region = {
        "id": "by hand",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": value,
    }
    reply = lab.studio.call(
        "POST",
        f"/api/ml/{project[1]}/interactive-annotating",
        json={"task": project[2], "context": {"result": [region]}},
    )
    assert not reply.get("errors"), reply
    (made,) = reply["data"]["result"]
    assert made["id"] == "by hand"
    followed = between(from_region(made, size_hw, "r"), 72)
    assert np.mean([overlap(box, followed.get(f, np.zeros(4))) for f, box in boxes.items()]) > 0.6


@needs_chromium
def test_the_editor_shows_the_boxes_and_plays(lab: Lab, project: tuple[int, int, int]) -> None:
    (task,) = lab.studio.tasks(project[0])
    result = task["predictions"][0]["result"]
    check_in_the_editor(lab, project[0], project[2], result, (240, 320), 72, "video")


def check_in_the_editor(
    lab: Lab, project: int, task: int, result: list, size_hw: tuple[int, int], n: int, name: str
) -> None:
    """The editor has the same boxes in the same frames, and plays."""
    frames = [1, n // 4, n // 2]
    with editor(lab) as page:
        page.goto(f"{lab.studio.url}/projects/{project}/data?task={task}")
        ready = (
            f"window.Htx?.annotationStore?.selected?.regionStore?.regions?.length === {len(result)}"
        )
        page.wait_for_function(ready, timeout=60_000)
        page.wait_for_timeout(3_000)
        page.screenshot(path=str(OUT / f"{name}-1.png"))
        shown = page.evaluate(_SHAPES, frames)
        before = page.evaluate(_FRAME)
        page.evaluate(
            "() => [...window.Htx.annotationStore.selected.names.values()]"
            ".find(t => t.frame).ref.current.play()"
        )
        page.wait_for_function(f"({_FRAME})() > {before} + 5", timeout=20_000)
        page.screenshot(path=str(OUT / f"{name}-2.png"))
    own = [between(from_region(one, size_hw, "r"), n) for one in result]
    assert len(shown) == len(own)
    height, width = size_hw
    seen = 0
    for boxes, shapes in zip(own, shown, strict=True):
        for frame, shape in zip(frames, shapes, strict=True):
            assert (shape is None) == (frame - 1 not in boxes)
            if shape is not None:
                x0, y0, x1, y1 = boxes[frame - 1]
                told = [shape["x"] * width, shape["y"] * height]
                told += [shape["width"] * width, shape["height"] * height]
                np.testing.assert_allclose(
                    np.array(told) / 100, [x0, y0, x1 - x0, y1 - y0], atol=0.1
                )
                seen += 1
    assert seen >= 2


@needs_chromium
@pytest.mark.skipif(not OPOSSUM.is_file(), reason="the shared data is not on this machine")
def test_a_real_video_goes_into_label_studio(lab: Lab, tmp_path: Path) -> None:
    """From one box in its first frame through ``yolosam2 video`` into the editor."""
    prompts = tmp_path / "boxes.json"
    row = {"image_id": f"{OPOSSUM.stem}/00000", "category_id": 0, "bbox": ANIMAL, "score": 1.0}
    prompts.write_text(json.dumps([row]))
    out = tmp_path / "out"
    options = ["--prompts", str(prompts), "--classes", "animal", "--segmenter", "demo"]
    options += ["--min-part", "0.3", "--format", "label-studio", "--no-progress"]
    assert main(["video", str(OPOSSUM), "--out", str(out), *options]) == 0
    written = out / "label-studio" / OPOSSUM.stem
    (task,) = json.loads(written.with_suffix(".json").read_text())
    number = lab.studio.create_project("opossum", written.with_suffix(".xml").read_text())
    lab.studio.upload(number, [OPOSSUM])
    (there,) = lab.studio.tasks(number)
    (prediction,) = task["predictions"]
    lab.studio.call("POST", "/api/predictions", json={**prediction, "task": there["id"]})
    result = prediction["result"]
    boxes = between(from_region(result[0], (720, 1280), "r"), 35)
    assert set(range(12)) <= set(boxes)
    assert overlap(boxes[0], np.array(ANIMAL, float)) > 0.6
    check_in_the_editor(lab, number, there["id"], result, (720, 1280), 35, "opossum")
