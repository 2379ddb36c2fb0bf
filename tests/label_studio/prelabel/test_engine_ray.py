"""The Ray engine: the same predictions as the local one, and an actor that is killed changes
nothing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from backend.drawing.overlays import encode_picture
from backend.label_studio.prelabel.engine_ray import RayEngine
from backend.label_studio.prelabel.run import Choice
from backend.labeling.engine_ray import RayOptions
from tests.support.fake_studio import FakeStudio, serving
from tests.support.prelabel_program import (
    CONFIG,
    VERSION,
    dying_labeller,
    local_engine,
    prepared,
    stub_labeller,
    stub_loader,
)

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FEW = RayOptions(batch=4, loaders=1)


def studio() -> FakeStudio:
    made = FakeStudio(CONFIG, encode_picture(np.full((48, 64, 3), 120, np.uint8)))
    made.add(30)
    made.tasks[4]["data"] = {"text": "no image"}
    return made


def predictions(made: FakeStudio) -> dict[int, tuple]:
    return {
        one["task"]: (one["score"], one["model_version"], str(one["result"]))
        for one in made.predictions.values()
    }


def run(made: FakeStudio, journal: Path, engine) -> tuple[int, dict[int, str]]:
    with serving(made) as server:
        one = prepared(server.url, journal, settle_s=0.0)
        summary = one.run(engine(server.url), Choice())
        one.journal.close()
        one.client.close()
    assert summary.error is None
    return summary.n_done, summary.failed


@pytest.mark.slow
def test_both_engines_give_the_same_and_a_killed_actor_changes_nothing(tmp_path: Path) -> None:
    local = studio()
    ray = studio()
    killed = studio()
    here = run(local, tmp_path / "a", local_engine)
    there = run(
        ray,
        tmp_path / "b",
        lambda url: RayEngine(partial(stub_loader, url), stub_labeller, FEW),
    )
    marker = tmp_path / "marker"
    again = run(
        killed,
        tmp_path / "c",
        lambda url: RayEngine(partial(stub_loader, url), partial(dying_labeller, marker), FEW),
    )
    assert marker.read_text() == "killed"
    assert here == there == again == (29, {4: here[1][4]})
    assert predictions(local) == predictions(ray) == predictions(killed)
    assert all(
        len(made.of(task, VERSION)) == 1
        for made in (local, ray, killed)
        for task in made.tasks
        if task != 4
    )
