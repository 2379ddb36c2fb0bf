"""End to end: a real Label Studio server, the real backend on the embedded models, and the editor
in headless Chromium.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from backend.config.secret import Secret
from backend.config.service import ServiceSettings
from backend.core.masks import full_frame
from backend.demo.processes import PASSWORD, TOKEN, USER
from backend.demo.run import SAMPLES
from backend.errors import Unavailable
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.make_config import make_config
from backend.formats.voc.label_maps import decode_png
from backend.label_studio.api.fetch import Fetcher
from tests.support.lab import (
    CONFIG,
    NAMES,
    OUT,
    UPRIGHT,
    Lab,
    browser_page,
    needs_chromium,
    needs_studio,
)

pytestmark = [needs_studio, pytest.mark.timeout(900)]


def truth(name: str) -> list[tuple[str, np.ndarray]]:
    """Label and full mask of every object of a sample."""
    objects = decode_png((SAMPLES / "SegmentationObject" / f"{name}.png").read_bytes(), name)
    classes = decode_png((SAMPLES / "SegmentationClass" / f"{name}.png").read_bytes(), name)
    values = [v for v in np.unique(objects) if v not in (0, 255)]
    return [(NAMES[int(np.median(classes[objects == v])) - 1], objects == v) for v in values]


def regions(task: dict) -> list[tuple[str, np.ndarray]]:
    """Label and full mask of every brush region of a task's only prediction."""
    (prediction,) = task["predictions"]
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


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / max(1, np.count_nonzero(a | b))


def test_batch_predictions_are_masks_of_the_objects(lab: Lab) -> None:
    matched = []
    n_truth = 0
    n_found = 0
    for task in lab.studio.tasks(lab.project):
        if lab.names[task["id"]] == "turned":
            continue
        objects = truth(lab.names[task["id"]])
        found = regions(task)
        n_truth = n_truth + len(objects)
        n_found = n_found + len(found)
        for label, mask in objects:
            best = max((iou(mask, other) for its, other in found if its == label), default=0.0)
            matched += [best] if best >= 0.5 else []
    assert np.mean(matched) >= 0.80
    assert len(matched) >= 0.8 * n_truth
    assert len(matched) >= 0.7 * n_found


def test_stored_masks_are_read_by_the_official_sdk(lab: Lab) -> None:
    from label_studio_sdk.converter.brush import decode_rle

    task = lab.studio.tasks(lab.project)[0]
    region = task["predictions"][0]["result"][0]
    size_hw = (region["original_height"], region["original_width"])
    theirs = decode_rle(region["value"]["rle"]).reshape(*size_hw, 4)[:, :, 3] > 0
    assert (theirs == regions(task)[0][1]).all()


def test_a_turned_photograph_gets_upright_masks(lab: Lab) -> None:
    tasks = lab.studio.tasks(lab.project)
    (turned_task,) = [task for task in tasks if lab.names[task["id"]] == "turned"]
    objects = truth(UPRIGHT)
    found = regions(turned_task)
    assert found[0][1].shape == objects[0][1].shape
    best = [
        max((iou(mask, other) for its, other in found if its == label), default=0.0)
        for label, mask in objects
    ]
    assert np.mean([b for b in best if b >= 0.5]) >= 0.80
    assert sum(b >= 0.5 for b in best) >= 0.7 * len(objects)


def test_retrieving_again_asks_for_nothing_twice(lab: Lab) -> None:
    before = lab.backend_log.read_text().count("batch tasks=")
    lab.studio.retrieve_predictions(lab.project)
    assert all(len(task["predictions"]) == 1 for task in lab.studio.tasks(lab.project))
    assert lab.backend_log.read_text().count("batch tasks=") == before


def click(lab: Lab, task: int, marks: list[dict]) -> list[dict]:
    reply = lab.studio.call(
        "POST",
        f"/api/ml/{lab.connection}/interactive-annotating",
        json={"task": task, "context": {"result": marks}},
    )
    assert not reply.get("errors"), reply
    return reply["data"]["result"]


def mark(kind: str, label: str, **value: float) -> dict:
    names = {"keypointlabels": "point", "rectanglelabels": "box"}
    extra = {"width": 0.3} if kind == "keypointlabels" else {"rotation": 0}
    return {
        "type": kind,
        "from_name": names[kind],
        "to_name": "image",
        "is_positive": True,
        "value": {**extra, **value, kind: [label]},
    }


def test_a_click_and_a_box_through_label_studio(lab: Lab) -> None:
    task = next(iter(lab.names))
    by_box = []
    by_point = []
    for label, mask in truth(lab.names[task]):
        height, width = mask.shape
        y, x = np.nonzero(mask)
        (region,) = click(
            lab,
            task,
            [
                mark(
                    "rectanglelabels",
                    label,
                    x=100 * x.min() / width,
                    y=100 * y.min() / height,
                    width=100 * (np.ptp(x) + 1) / width,
                    height=100 * (np.ptp(y) + 1) / height,
                )
            ],
        )
        assert region["from_name"] == "brush"
        assert region["value"]["brushlabels"] == [label]
        by_box.append(
            iou(mask, full_frame(rle.decode_brush(region["value"]["rle"], mask.shape), mask.shape))
        )
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        cy, cx = np.unravel_index(depth.argmax(), depth.shape)
        (region,) = click(
            lab,
            task,
            [
                mark(
                    "keypointlabels", label, x=100 * (cx + 0.5) / width, y=100 * (cy + 0.5) / height
                )
            ],
        )
        by_point.append(
            iou(mask, full_frame(rle.decode_brush(region["value"]["rle"], mask.shape), mask.shape))
        )
    assert np.mean(by_box) >= 0.80
    assert np.mean(by_point) >= 0.60


def test_an_accepted_prediction_is_exported_with_its_regions(lab: Lab) -> None:
    task = lab.studio.tasks(lab.project)[1]
    prediction = task["predictions"][0]
    body = {"result": prediction["result"], "parent_prediction": prediction["id"], "lead_time": 2.5}
    lab.studio.call("POST", f"/api/tasks/{task['id']}/annotations", json=body)
    exported = lab.studio.call(
        "GET", f"/api/projects/{lab.project}/export", params={"exportType": "JSON"}
    )
    (annotation,) = exported[0]["annotations"]
    assert annotation["parent_prediction"] == prediction["id"]
    assert [(r["id"], r["value"]["rle"]) for r in annotation["result"]] == [
        (r["id"], r["value"]["rle"]) for r in prediction["result"]
    ]


def test_a_picture_that_never_works_is_not_asked_for_again_and_one_that_may_is(
    lab: Lab, tmp_path: Path
) -> None:
    project = lab.studio.create_project("faults", CONFIG)
    (tmp_path / "broken.jpg").write_bytes(
        (SAMPLES / "JPEGImages" / f"{UPRIGHT}.jpg").read_bytes()[:5000]
    )
    lab.studio.upload(project, [tmp_path / "broken.jpg", SAMPLES / "JPEGImages" / f"{UPRIGHT}.jpg"])
    lab.studio.call(
        "POST",
        f"/api/projects/{project}/import",
        json=[{"image": "https://images.example.com/not-allowed-yet.jpg"}],
    )
    lab.studio.connect(project, lab.backend_url)
    lab.studio.retrieve_predictions(project)
    broken, good, later = lab.studio.tasks(project)
    assert [len(p["result"]) for p in broken["predictions"]] == [0]
    assert broken["predictions"][0]["model_version"] == good["predictions"][0]["model_version"]
    assert len(good["predictions"][0]["result"]) == 3
    assert later["predictions"] == []
    lab.studio.retrieve_predictions(project)
    assert [
        line
        for line in lab.backend_log.read_text().splitlines()
        if f"project={project} batch tasks=1" in line and "/predict 503" in line
    ]


def test_a_personal_access_token_fetches_images(lab: Lab) -> None:
    fetcher = Fetcher(
        ServiceSettings(
            label_studio_url=lab.studio.url, label_studio_api_key=Secret(lab.personal_token)
        )
    )
    assert fetcher.http.tokens.kind == "personal"
    uri = lab.studio.tasks(lab.project)[0]["data"]["image"]
    assert fetcher.fetch(uri, 1, time.monotonic() + 30)[:2] == b"\xff\xd8"


def test_a_config_that_maps_nothing_is_explained_where_the_user_sees_it(lab: Lab) -> None:
    project = lab.studio.create_project("nothing maps", make_config(["zebra", "yak"]))
    with pytest.raises(Unavailable, match="answered 400") as refused:
        lab.studio.connect(project, lab.backend_url)
    assert "zebra, yak" in str(refused.value)
    assert "ball, box, star" in str(refused.value)


@needs_chromium
@pytest.mark.parametrize("which", [pytest.param(UPRIGHT, marks=pytest.mark.slow), "turned"])
def test_the_editor_draws_the_masks_where_the_objects_are(lab: Lab, which: str) -> None:
    tasks = {task["id"]: task for task in lab.studio.tasks(lab.project)}
    task = next(t for t, name in lab.names.items() if name == which)
    predicted = np.logical_or.reduce([mask for _, mask in regions(tasks[task])])
    objects = np.logical_or.reduce([mask for _, mask in truth(UPRIGHT)])
    with editor(lab) as page:
        opened = open_task(
            page,
            f"{lab.studio.url}/projects/{lab.project}/data?task={task}",
            len(tasks[task]["predictions"][0]["result"]),
        )
        page.screenshot(path=str(OUT / f"editor-{which}.png"))
        drawn, where, size = page.evaluate(_DRAWN)
    assert opened, "the editor stayed empty"
    shown = PIL.Image.open(io.BytesIO(bytes(drawn)))
    alpha = np.array(shown)[..., 3]
    place = np.array(
        [[predicted.shape[1] / size[0], 0, 0], [0, predicted.shape[0] / size[1], 0]]
    ) @ np.array([[1, 0, -where[0]], [0, 1, -where[1]], [0, 0, 1]])
    on_screen = (
        cv2.warpAffine(
            alpha, place, (predicted.shape[1], predicted.shape[0]), flags=cv2.INTER_LINEAR
        )
        > 100
    )
    visible = (
        cv2.warpAffine(np.full_like(alpha, 255), place, (predicted.shape[1], predicted.shape[0]))
        > 100
    )  # the photograph may reach beyond the canvas
    predicted = predicted & visible
    objects = objects & visible
    assert visible.mean() > 0.8
    assert iou(on_screen, predicted) >= 0.93
    assert iou(on_screen, objects) >= 0.75


@contextmanager
def editor(lab: Lab) -> Iterator:
    """A page of headless Chromium, logged in."""
    OUT.mkdir(exist_ok=True)
    with browser_page(viewport={"width": 1500, "height": 1200}) as page:
        page.goto(f"{lab.studio.url}/user/login")
        page.fill("input[name=email]", USER)
        page.fill("input[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_load_state("networkidle")
        yield page


def open_task(page, url: str, n_regions: int) -> bool:
    """Open the editor.

    Label Studio sometimes shows it empty although it has the predictions, and a reload helps.
    """
    ready = f"window.Htx?.annotationStore?.selected?.regionStore?.regions?.length === {n_regions}"
    for _ in range(6):
        page.goto(url)
        try:
            page.wait_for_function(ready, timeout=15_000)
        except Exception:
            continue
        page.wait_for_timeout(2_500)
        if page.evaluate(ready):
            return True
    return False


# All layers of the editor but the lowest, which is the photograph, over each other; and the
# displayed size of the photograph.
_DRAWN = """async () => {
  const picture = [...document.querySelectorAll('img')]
    .filter(i => i.src.startsWith('blob:')).pop().getBoundingClientRect();
  const layers = [...document.querySelectorAll('.konvajs-content canvas')];
  const canvas = layers[0].getBoundingClientRect(), scale = layers[0].width / canvas.width;
  const sum = document.createElement('canvas');
  sum.width = layers[0].width; sum.height = layers[0].height;
  for (const layer of layers.slice(1)) sum.getContext('2d').drawImage(layer, 0, 0);
  const blob = await new Promise(done => sum.toBlob(done, 'image/png'));
  return [[...new Uint8Array(await blob.arrayBuffer())],
    [(picture.x - canvas.x) * scale, (picture.y - canvas.y) * scale],
          [picture.width * scale, picture.height * scale]];
}"""


@needs_chromium
def test_a_click_in_the_editor_suggests_the_mask_of_the_object(lab: Lab) -> None:
    project = lab.studio.create_project("clicks", CONFIG)
    lab.studio.call(
        "PATCH", f"/api/projects/{project}/", json={"show_collab_predictions": False}
    )  # nothing is there to be selected by the click
    lab.studio.upload(project, [SAMPLES / "JPEGImages" / f"{UPRIGHT}.jpg"])
    lab.studio.connect(project, lab.backend_url)
    (task,) = lab.studio.tasks(project)
    label, mask = max(truth(UPRIGHT), key=lambda pair: np.count_nonzero(pair[1]))
    y, x = (float(np.median(values)) for values in np.nonzero(mask))
    with editor(lab) as page:
        page.goto(f"{lab.studio.url}/projects/{project}/data?task={task['id']}")
        page.wait_for_selector(".konvajs-content canvas", timeout=60_000)
        page.wait_for_timeout(3_000)
        page.get_by_text("Auto-Annotation", exact=True).click()
        page.locator(".lsf-tool_smart").first.click()
        page.evaluate("document.activeElement.blur()")  # of the switch, which would take the key
        page.keyboard.press(str(NAMES.index(label) + 1))  # its label of the smart point
        page.locator(".konvajs-content").first.scroll_into_view_if_needed()
        picture = page.evaluate(
            "JSON.stringify([...document.querySelectorAll('img')].filter(i =>"
            " i.src.startsWith('blob:')).pop().getBoundingClientRect())"
        )
        place = json.loads(picture)
        with page.expect_response(
            lambda reply: "interactive-annotating" in reply.url, timeout=30_000
        ) as caught:
            page.mouse.click(
                place["x"] + place["width"] * (x + 0.5) / mask.shape[1],
                place["y"] + place["height"] * (y + 0.5) / mask.shape[0],
            )
        page.wait_for_function("Htx.annotationStore.selected.suggestions.size > 0", timeout=15_000)
        page.wait_for_timeout(500)
        page.screenshot(path=str(OUT / "editor-click.png"))
        (region,) = caught.value.json()["data"]["result"]
    assert region["value"]["brushlabels"] == [label]
    assert (
        iou(mask, full_frame(rle.decode_brush(region["value"]["rle"], mask.shape), mask.shape))
        >= 0.6
    )


def test_the_doctor_finds_nothing_wrong(lab: Lab, run_cli) -> None:
    options = (
        "--detector",
        "demo",
        "--segmenter",
        "demo",
        "--url",
        lab.studio.url,
        "--api-key",
        TOKEN,
        "--project",
        lab.project,
    )
    code, out, _ = run_cli("doctor", *options, "--backend-url", lab.backend_url)
    assert code == 0, out
    assert "is 640x480 pixels" in out
    assert "everything that was checked works" in out


def test_no_secret_is_in_the_backend_log(lab: Lab) -> None:
    text = lab.backend_log.read_text()
    assert "POST /predict 200" in text
    assert TOKEN not in text
    assert PASSWORD not in text
    assert "brushlabels" not in json.dumps(
        [line for line in text.splitlines() if "/predict" in line]
    )
