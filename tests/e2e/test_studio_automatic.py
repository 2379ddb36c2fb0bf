"""Masks of everything in a real Label Studio: named by the labels of a project, in an editor that
stays usable at the default limit of regions.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from backend.config.models import Settings
from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance, Prediction
from backend.demo.run import SAMPLES
from backend.drawing.overlays import encode_picture
from backend.errors import Unavailable
from backend.formats.label_studio.make_config import make_config
from backend.formats.label_studio.results import plain_outputs, result_of
from tests.e2e.test_studio import editor, open_task
from tests.support.lab import NAMES, OUT, UPRIGHT, Lab, needs_chromium, needs_studio

pytestmark = [pytest.mark.slow, needs_studio, needs_chromium]
# Labels of the regions that the editor holds.
_LABELS = """() => window.Htx.annotationStore.selected.regionStore.regions
  .map(region => region.labeling?.mainValue?.[0] ?? null)"""
_SELECTED = "() => window.Htx.annotationStore.selected.regionStore.selection.size"


def test_a_project_is_filled_with_masks_of_everything(lab: Lab) -> None:
    project = lab.studio.create_project("everything", make_config(NAMES, "automatic"))
    lab.studio.upload(project, [SAMPLES / "JPEGImages" / f"{UPRIGHT}.jpg"])
    connected(lab, project)
    lab.studio.retrieve_predictions(project)
    (task,) = lab.studio.tasks(project)
    (prediction,) = task["predictions"]
    assert "automatic" in prediction["model_version"]
    labels = [region["value"]["brushlabels"][0] for region in prediction["result"]]
    assert len(labels) >= 2
    assert set(labels) <= {*NAMES, "unsure"}
    with editor(lab) as page:
        address = f"{lab.studio.url}/projects/{project}/data?task={task['id']}"
        assert open_task(page, address, len(labels))
        page.screenshot(path=str(OUT / "everything.png"))
        assert sorted(page.evaluate(_LABELS)) == sorted(labels)


def connected(lab: Lab, project: int) -> None:
    """As a person does who is told that the namer is still loading: once more."""
    for _ in range(30):
        try:
            lab.studio.connect(project, lab.backend_url)
            return
        except Unavailable as error:
            if "still loading" not in str(error):
                raise
            time.sleep(2)
    pytest.fail("the namer did not load")


def many_masks(side: int = 10, size_hw: tuple[int, int] = (1000, 1000)) -> Prediction:
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    step = size_hw[0] // side
    instances = []
    for k in range(side * side):
        y, x = (k // side + 0.5) * step, (k % side + 0.5) * step
        mask = mask_from_full(np.hypot(rows - y, columns - x) < 0.4 * step)
        assert mask is not None
        label = NAMES[k % len(NAMES)]
        instances.append(Instance(label, k % len(NAMES), 0.9, mask_xyxy(mask), mask))
    return Prediction(tuple(instances), size_hw, "many")


def test_the_editor_stays_usable_at_the_default_limit_of_regions(lab: Lab, tmp_path: Path) -> None:
    limit = Settings().max_regions
    prediction = many_masks()
    assert len(prediction.instances) == limit
    project = lab.studio.create_project("many", make_config(NAMES, "automatic"))
    picture = np.full((1000, 1000, 3), 90, np.uint8)
    (tmp_path / "many.png").write_bytes(encode_picture(picture, ".png"))
    lab.studio.upload(project, [tmp_path / "many.png"])
    (task,) = lab.studio.tasks(project)
    result = json.loads(f"[{result_of(prediction, plain_outputs(prediction)).regions}]")
    body = {"task": task["id"], "result": result, "model_version": "many", "score": 0.9}
    lab.studio.call("POST", "/api/predictions", json=body)
    with editor(lab) as page:
        address = f"{lab.studio.url}/projects/{project}/data?task={task['id']}"
        assert open_task(page, address, limit)
        page.screenshot(path=str(OUT / "many-regions.png"))
        rows = page.locator(".lsf-outliner-item__title, [class*=outliner-item] [class*=title]")
        start = time.monotonic()
        rows.nth(3).click()
        page.wait_for_function(f"({_SELECTED})() === 1", timeout=10_000)
        took = time.monotonic() - start
        page.screenshot(path=str(OUT / "many-regions-selected.png"))
    assert took < 10, "selecting a region is answered at once"
