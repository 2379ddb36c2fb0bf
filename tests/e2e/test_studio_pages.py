"""Tasks with several pictures in a real Label Studio: a list under one tag, and a Repeater."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.demo.processes import TOKEN
from tests.e2e.test_studio import editor, open_task
from tests.support.lab import NAMES, OUT, Lab, needs_chromium, needs_studio

pytestmark = [pytest.mark.slow, needs_studio]
_LABELS = "".join(f'<Label value="{name}"/>' for name in NAMES)
LIST = f"""<View><Image name="image" valueList="$pages"/>
  <BrushLabels name="brush" toName="image">{_LABELS}</BrushLabels></View>"""
REPEATER = f"""<View><Repeater on="$doc" indexFlag="{{{{idx}}}}" mode="pagination">
  <Image name="page_{{{{idx}}}}" value="$doc[{{{{idx}}}}].page"/>
  <BrushLabels name="tag_{{{{idx}}}}" toName="page_{{{{idx}}}}">{_LABELS}</BrushLabels>
  </Repeater></View>"""


def project_of(lab: Lab, config: str, data: dict[str, Any]) -> int:
    project = lab.studio.create_project("pages", config)
    lab.studio.call("POST", f"/api/projects/{project}/import", json=[data])
    return project


def data_for(lab: Lab, config: str) -> dict[str, Any]:
    addresses = [task["data"]["image"] for task in lab.studio.tasks(lab.project)][:3]
    if config == LIST:
        return {"pages": addresses}
    return {"doc": [{"page": address} for address in addresses]}


def where(region: dict[str, Any], config: str) -> object:
    return region["item_index"] if config == LIST else int(region["to_name"].rpartition("_")[2])


@needs_chromium
@pytest.mark.parametrize("config", [LIST, REPEATER], ids=["valueList", "Repeater"])
def test_pages_are_filled_and_shown(lab: Lab, config: str) -> None:
    project = project_of(lab, config, data_for(lab, config))
    lab.studio.connect(project, lab.backend_url)
    lab.studio.retrieve_predictions(project)
    (task,) = lab.studio.tasks(project)
    (prediction,) = task["predictions"]
    regions = prediction["result"]
    assert {where(one, config) for one in regions} == {0, 1, 2}
    of_page = {
        name: len(t["predictions"][0]["result"])
        for t, name in zip(lab.studio.tasks(lab.project)[:3], "abc", strict=True)
    }
    assert len(regions) == sum(of_page.values()), "as many as the pictures have alone"
    with editor(lab) as page:
        opened = open_task(
            page, f"{lab.studio.url}/projects/{project}/data?task={task['id']}", len(regions)
        )
        page.screenshot(path=str(OUT / f"pages-{'list' if config == LIST else 'repeater'}.png"))
    assert opened, "the editor stayed empty"


def test_prelabel_fills_pages(
    lab: Lab, run_cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    project = project_of(lab, LIST, data_for(lab, LIST))
    code, out, err = run_cli(
        "prelabel",
        "--url",
        lab.studio.url,
        "--api-key",
        TOKEN,
        "--project",
        project,
        "--detector",
        "demo",
        "--segmenter",
        "demo",
        "--journal",
        tmp_path / "journal",
        "--json",
        "-",
    )
    assert code == 0, err
    assert json.loads(out)["predicted"] == 1
    (task,) = lab.studio.tasks(project)
    assert {one["item_index"] for one in task["predictions"][0]["result"]} == {0, 1, 2}
