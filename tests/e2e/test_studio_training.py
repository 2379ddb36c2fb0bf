"""The loop in a real Label Studio: two kinds of things that no model knows, accepted on half of the
pictures; *Start Training*; and the other half is predicted by what was learned.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance, Prediction
from backend.demo.processes import backend, free_port
from backend.demo.scenes.compose import Scene, generate
from backend.demo.scenes.objects import NOVEL_NAMES
from backend.drawing.overlays import encode_picture
from backend.formats.label_studio.make_config import make_config
from backend.formats.label_studio.region_masks import masks_of
from backend.formats.label_studio.regions import read_regions
from backend.formats.label_studio.results import plain_outputs, result_of
from tests.support.lab import ROOT, Lab, needs_studio

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), needs_studio]
SEED = 8_300_000
COUNT = 40
ACCEPTED = 20
SIZE_HW = (240, 320)
CONFIG = make_config(NOVEL_NAMES)
TRAINING = "--epochs 60 --minutes 4 --share 0.25 --seed 1"


def truth_of(scene: Scene) -> Prediction:
    """What a person would accept."""
    instances = []
    for k, class_id in enumerate(scene.class_ids):
        mask = mask_from_full(scene.objects == k + 1)
        if mask is not None:
            label = NOVEL_NAMES[class_id]
            instances.append(Instance(label, class_id, 1.0, mask_xyxy(mask), mask))
    return Prediction(tuple(instances), SIZE_HW, "truth")


def map_of(pairs: Sequence[tuple[str, Any]]) -> np.ndarray:
    """Labels and masks as a map of classes, 0 for nothing."""
    found = np.zeros(SIZE_HW, np.uint8)
    for label, mask in pairs:
        h, w = mask.crop.shape
        part = found[mask.y : mask.y + h, mask.x : mask.x + w]
        part[mask.crop] = NOVEL_NAMES.index(label) + 1
    return found


def mean_iou(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Over the classes, all pictures together."""
    ious = []
    for k in range(1, len(NOVEL_NAMES) + 1):
        common = sum(int(((a == k) & (b == k)).sum()) for a, b in zip(found, truth, strict=True))
        union = sum(int(((a == k) | (b == k)).sum()) for a, b in zip(found, truth, strict=True))
        ious.append(common / union)
    return float(np.mean(ious))


@dataclass
class Loop:
    """A project of which half was accepted, and a backend that can be killed and started again."""

    lab: Lab
    scenes: list[Scene]
    runs: Path
    project: int
    port: int
    log: Path
    server: Any = None
    url: str = ""
    connection: int = 0
    open_tasks: list[dict[str, Any]] = field(default_factory=list)

    def start(self) -> None:
        options = ["--training", str(self.runs), "--train-options", TRAINING]
        self.server = backend(self.lab.studio.url, self.port, self.log, options=options)
        self.url = self.server.__enter__()

    def kill(self) -> None:
        """At once, and nothing else with it: a training is a process of its own."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "serve" in words and str(self.port) in words:
                with suppress(psutil.Error):
                    process.kill()
        with suppress(Exception):
            self.server.__exit__(None, None, None)

    def jobs(self) -> list[dict[str, Any]]:
        return requests.get(f"{self.url}/training", timeout=5).json()["jobs"]

    def predicted(self) -> list[np.ndarray]:
        """What Label Studio has for the open half, from a batch that it asks for now."""
        self.lab.studio.retrieve_predictions(self.project)
        maps = []
        for task in self.lab.studio.tasks(self.project)[ACCEPTED:]:
            newest = max(task["predictions"], key=lambda one: one["id"], default={"result": []})
            regions = read_regions(newest["result"], "prediction").regions
            brushes = [one for one in regions if one.kind == "brush"]
            faults: list[str] = []
            masks = [(one.label, mask) for one, mask in masks_of(brushes, faults) if mask]
            assert not faults
            maps.append(map_of(masks))
        return maps

    def ask(self, task: dict[str, Any], *, click: bool) -> tuple[int, str]:
        """A request as Label Studio sends it: its status, and which models answered."""
        context = None
        if click:
            mark = {"x": 50, "y": 50, "width": 1, "keypointlabels": [NOVEL_NAMES[0]]}
            one = {"type": "keypointlabels", "from_name": "point", "to_name": "image"}
            context = {"result": [{**one, "is_positive": True, "value": mark}]}
        content = {
            "tasks": [{"id": task["id"], "data": task["data"]}],
            "project": f"{self.project}.17",
            "label_config": CONFIG,
            "params": {"context": context},
        }
        answer = requests.post(f"{self.url}/predict", json=content, timeout=100)
        found = answer.json().get("results", [{}])[0].get("model_version", "")
        return answer.status_code, found


@pytest.fixture
def loop(lab: Lab, tmp_path: Path) -> Iterator[Loop]:
    scenes = [generate(SEED + k, SIZE_HW, NOVEL_NAMES) for k in range(COUNT)]
    paths = []
    for k, scene in enumerate(scenes):
        paths.append(tmp_path / f"things_{k:02d}.png")
        paths[-1].write_bytes(encode_picture(scene.image, ".png"))
    project = lab.studio.create_project("two new kinds", CONFIG)
    lab.studio.upload(project, paths)
    tasks = lab.studio.tasks(project)
    for scene, task in zip(scenes[:ACCEPTED], tasks, strict=False):
        truth = truth_of(scene)
        result = json.loads(f"[{result_of(truth, plain_outputs(truth)).regions}]")
        path = f"/api/tasks/{task['id']}/annotations"
        lab.studio.call("POST", path, body={"result": result})
    found = Loop(lab, scenes, tmp_path / "runs", project, free_port(), tmp_path / "backend.log")
    found.open_tasks = tasks[ACCEPTED:]
    found.start()
    try:
        found.connection = lab.studio.connect(project, found.url)
        yield found
    finally:
        with suppress(Exception):
            for job in found.jobs():
                if job["state"] in ("queued", "running"):
                    body = {"action": "cancel", "project": project}
                    requests.post(f"{found.url}/training", json=body, timeout=5)
        found.server.__exit__(None, None, None)


def until(condition: Any, seconds: float, every: float = 0.5) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(requests.RequestException):
            if found := condition():
                return found
        time.sleep(every)
    raise AssertionError("it did not happen in time")


def test_what_was_accepted_is_learned_and_answers_the_rest(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    truths = [map_of([(i.label, i.mask) for i in truth_of(s).instances]) for s in loop.scenes]
    before = mean_iou(loop.predicted(), truths[ACCEPTED:])
    assert before < 0.1, "they are kinds that nobody learned"
    base = loop.ask(loop.open_tasks[0], click=True)[1]

    loop.lab.studio.call("POST", f"/api/ml/{loop.connection}/train")
    loop.lab.studio.call("POST", f"/api/ml/{loop.connection}/train")  # a second click
    until(lambda: loop.jobs()[0].get("progress"), 300)
    [job] = loop.jobs()
    assert job["state"] == "running"

    loop.kill()
    loop.start()
    [job] = loop.jobs()
    assert (job["state"], job["tries"]) == ("running", 1), "it goes on, once"

    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def annotate(click: bool) -> None:
        for task in itertools.cycle(loop.open_tasks[:5]):
            if stop.is_set():
                return
            seen.append(loop.ask(task, click=click))
            stop.wait(0.8)

    people = [threading.Thread(target=annotate, args=(k % 2 == 0,)) for k in range(2)]
    for person in people:
        person.start()
    try:
        until(lambda: loop.jobs()[0]["state"] not in ("queued", "running"), 900, every=2)
        until(lambda: seen[-1][1] not in (base, ""), 60)
        swapped = len(seen)
        until(lambda: len(seen) > max(500, swapped + 50), 300)
    finally:
        stop.set()
        for person in people:
            person.join()
    [job] = loop.jobs()
    assert job["state"] == "done", job
    assert job["tries"] == 1
    assert [status for status, _ in seen if status != 200] == []
    tuned = loop.ask(loop.open_tasks[0], click=False)[1]
    assert {base, tuned} <= {version for _, version in seen}
    assert tuned not in (base, "")

    after = mean_iou(loop.predicted(), truths[ACCEPTED:])
    with capsys.disabled():
        sys.stderr.write(
            f"\nmean IoU of two new kinds on {COUNT - ACCEPTED} pictures: {before:.3f} before,"
            f" {after:.3f} after; {len(seen)} requests meanwhile\n"
        )
    assert after > before + 0.3

    run = loop.runs / f"project-{loop.project}"
    command = [sys.executable, "-m", "backend", "models", str(run), "--rollback"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    until(lambda: loop.ask(loop.open_tasks[0], click=False)[1] != tuned, 60)
