"""What a tuned detector showed of how often it is right goes along with its weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from backend.config.models import Settings
from backend.core.calibrator import Calibrator, Curve
from backend.core.effort import expected_effort
from backend.demo.scenes.compose import generate
from backend.labeling.load import build_cascade, calibrator_of
from backend.models.tuned import describe_tuned
from backend.models.weights import DEMO_YOLO

DEMO = Settings(detector="demo", segmenter="demo", device="cpu")
KNOWN = Calibrator(Curve((0.0, 1.0), (0.25, 0.25)))


def test_task_scores_follow_what_was_accepted(tmp_path: Path) -> None:
    shutil.copy(DEMO_YOLO, tmp_path / "detector-1.pt")
    segmenter = build_cascade(DEMO).segmenter
    assert segmenter is not None
    about = {"calibration": {**KNOWN.as_dict(), "segmenter": segmenter.version}}
    describe_tuned(tmp_path, "detector", tmp_path / "detector-1.pt", "demo", None, about)
    settings = replace(DEMO, detector=str(tmp_path))
    assert calibrator_of(settings, segmenter) == KNOWN
    assert calibrator_of(settings, None) is None  # it was judged with its outlines
    cascade = build_cascade(settings)
    [found] = cascade.predict([generate(8_600_000).image])
    assert len(found.instances) > 2
    assert {one.chance for one in found.instances} == {0.25}
    assert expected_effort(found.instances) == pytest.approx(0.75 * len(found.instances))
    about = {"calibration": {"every": "damaged"}}
    describe_tuned(tmp_path, "detector", tmp_path / "detector-1.pt", "demo", None, about)
    plain = build_cascade(settings)
    assert plain.model_version != cascade.model_version
    assert {one.chance for one in plain.predict([generate(8_600_000).image])[0].instances} == {None}
