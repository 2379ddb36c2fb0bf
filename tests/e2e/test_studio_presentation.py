"""Which predictions a real Label Studio shows and sorts by: the score column, the tab with the
hardest tasks first, and replacing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.core.holdout import is_held_out
from backend.demo.processes import TOKEN, backend, free_port
from backend.demo.run import SAMPLES
from backend.label_studio.api.presentation import data_manager, make_hardest_first, show_version
from tests.e2e.test_studio import editor, open_task
from tests.support.lab import CONFIG, NAMES, OUT, Lab, needs_chromium, needs_studio

pytestmark = [pytest.mark.slow, needs_studio]
MODELS = ("--detector", "demo", "--segmenter", "demo", "--device", "cpu")

# Of each row of the Data Manager that is drawn: the texts of its cells that look like a score.
_SCORES = r"""() => [...document.querySelectorAll('[class*=table-row], tr')]
  .map(row => (row.innerText.match(/\b[01]\.\d{2,3}\b/) || [null])[0])
  .filter(one => one !== null)"""

# Labels that are beyond the lower edge of the window.
_BELOW = """() => [...document.querySelectorAll('[class*=label]')]
  .filter(one => one.children.length <= 2 && /^(ball|box|star|cup|leaf|ring)/.test(one.innerText))
  .filter(one => one.getBoundingClientRect().bottom > window.innerHeight)
  .map(one => one.innerText)"""


def new_project(lab: Lab) -> int:
    project = lab.studio.create_project("presentation", CONFIG)
    lab.studio.upload(project, sorted((SAMPLES / "JPEGImages").glob("*.jpg"))[:6])
    return project


def prelabel(run_cli: Callable[..., tuple[int, str, str]], lab: Lab, project: int, *more: object):
    return run_cli(
        "prelabel", "--url", lab.studio.url, "--api-key", TOKEN, "--project", project, *MODELS,
        "--no-progress", *more,
    )  # fmt: skip


def scores_shown(lab: Lab, project: int, tab: int, name: str) -> list[float]:
    """The score column as Chromium shows it."""
    with editor(lab) as page:
        page.goto(data_manager(lab.studio.url, project, tab))
        page.wait_for_function(f"({_SCORES})().length > 0", timeout=30_000)
        page.wait_for_timeout(500)
        page.screenshot(path=str(OUT / f"{name}.png"))
        return [float(one) for one in page.evaluate(_SCORES)]


def tab_of(lab: Lab, project: int) -> int:
    views = lab.studio.call("GET", "/api/dm/views/", params={"project": project})
    (tab,) = [view["id"] for view in views if view["data"]["title"] == "Hardest first"]
    return int(tab)


@needs_chromium
def test_a_project_is_made_with_everything_in_it(
    lab: Lab, run_cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    (folder / "sub ü").mkdir(parents=True)
    for k, path in enumerate(sorted((SAMPLES / "JPEGImages").glob("*.jpg"))[:4]):
        shutil.copy(path, folder / ("sub ü" if k % 2 else "") / path.name)
    code, out, err = run_cli(
        "create-project", "--url", lab.studio.url, "--api-key", TOKEN, "--title", "Made",
        "--images", folder, "--backend-url", lab.backend_url, *MODELS[:2], "--json",
        "--no-progress",
    )  # fmt: skip
    assert code == 0, err
    made = json.loads(out)
    project = made["project"]
    assert (made["tasks"], made["classes"], made["failed"]) == (4, NAMES, [])
    info = lab.studio.call("GET", f"/api/projects/{project}/")
    assert "Smart point" in info["expert_instruction"]
    assert info["show_instruction"]
    (backend,) = lab.studio.call("GET", "/api/ml", params={"project": project})
    assert (backend["state"], backend["is_interactive"]) == ("CO", True)
    code, _, err = prelabel(run_cli, lab, project, "--journal", tmp_path / "j")
    assert code == 0, err
    assert len(scores_shown(lab, project, tab_of(lab, project), "made-project")) == 4
    task = lab.studio.tasks(project)[0]
    n_regions = len(task["predictions"][0]["result"])
    with editor(lab) as page:
        address = data_manager(lab.studio.url, project, tab_of(lab, project))
        assert open_task(page, f"{address}&task={task['id']}", n_regions)
        page.screenshot(path=str(OUT / "made-project-editor.png"))
        shown = page.evaluate(_BELOW)
    assert shown == [], "every label is on the screen"


@needs_chromium
def test_prelabel_fills_and_sorts_the_score_column(
    lab: Lab, run_cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    project = new_project(lab)
    code, out, _ = prelabel(run_cli, lab, project, "--journal", tmp_path / "a")
    assert code == 0
    tab = tab_of(lab, project)
    assert f"open {data_manager(lab.studio.url, project, tab)}" in out
    shown = scores_shown(lab, project, tab, "score-column")
    assert len(shown) == 6
    assert shown == sorted(shown)
    # Scored without a file, and nothing of it stays behind.
    task = lab.studio.tasks(project)[0]
    prediction = task["predictions"][0]
    body = {
        "result": prediction["result"],
        "parent_prediction": prediction["id"],
        "lead_time": 3.5,
    }
    lab.studio.call("POST", f"/api/tasks/{task['id']}/annotations/", body=body)
    where = ("--url", lab.studio.url, "--api-key", TOKEN, "--project", project)
    code, out, _ = run_cli("score", *where, "--json", "-", "--no-progress")
    document = json.loads(out)
    assert code == 0
    assert document["views"][0]["images"] == 1
    assert document["time"]["with_prelabels"]["median_seconds"] == 3.5
    assert lab.studio.call("GET", f"/api/projects/{project}/exports/") == []
    # Another version takes the place of the first, also where the first is deleted.
    code, out, _ = prelabel(
        run_cli, lab, project, "--journal", tmp_path / "b", "--conf", "0.5", "--replace"
    )
    assert (code, "deleted 5 older predictions" in out) == (0, True), "one is annotated"
    versions = lab.studio.call("GET", f"/api/projects/{project}/model-versions/")
    info = lab.studio.call("GET", f"/api/projects/{project}/")
    assert sorted(versions.values()) == [1, 6]
    assert versions[info["model_version"]] == 6
    assert len(scores_shown(lab, project, tab, "score-column-replaced")) == 5


@needs_chromium
def test_a_connected_backend_and_the_score_column_go_together(lab: Lab) -> None:
    project = new_project(lab)
    lab.studio.connect(project, lab.backend_url)
    lab.studio.retrieve_predictions(project)
    (backend,) = lab.studio.call("GET", "/api/ml", params={"project": project})
    assert show_version(lab.studio, project, backend["model_version"])
    assert not show_version(lab.studio, project, backend["model_version"])
    tab = make_hardest_first(lab.studio, project)
    assert make_hardest_first(lab.studio, project) == tab
    shown = scores_shown(lab, project, tab, "score-column-backend")
    assert len(shown) == 6
    assert shown == sorted(shown)
    # The label stream still asks the backend for what is missing.
    lab.studio.upload(project, [SAMPLES / "JPEGImages" / "3000007.jpg"])
    new = max(task["id"] for task in lab.studio.tasks(project))
    for _ in range(8):
        task = lab.studio.call("GET", f"/api/projects/{project}/next")
        if task["id"] == new:
            break
        result = task["predictions"][0]["result"]
        body = {"result": result, "was_cancelled": False}
        lab.studio.call("POST", f"/api/tasks/{task['id']}/annotations/", body=body)
    assert task["id"] == new
    assert len(task["predictions"]) == 1


def test_a_control_group_stays_one_with_a_backend(run_cli, lab: Lab, tmp_path: Path) -> None:
    project = lab.studio.create_project("control group", CONFIG)
    lab.studio.upload(project, sorted((SAMPLES / "JPEGImages").glob("*.jpg")))
    tasks = {task["id"] for task in lab.studio.tasks(project)}
    held = {task for task in tasks if is_held_out(task, 0.5)}
    assert 0 < len(held) < len(tasks)
    code, text, err = prelabel(run_cli, lab, project, "--holdout", "50%", "--dry-run")
    assert code == 0, err
    assert f"{len(tasks) - len(held)} tasks to predict" in text
    assert f"{len(held)} tasks left without pre-labels" in text
    log = tmp_path / "log"
    with backend(lab.studio.url, free_port(), log, options=("--holdout", "50%")) as url:
        lab.studio.connect(project, url)
        lab.studio.retrieve_predictions(project)
        without = {t["id"] for t in lab.studio.tasks(project) if not t["predictions"]}
        assert without == held
        code, text, err = prelabel(run_cli, lab, project, "--holdout", "50%", "--conf", "0.3")
        assert code == 0, err
        assert "a backend is connected, and Label Studio asks it when a task is opened" in text
        without = {t["id"] for t in lab.studio.tasks(project) if not t["predictions"]}
        assert without == held
