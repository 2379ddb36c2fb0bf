"""``yolosam2 bench --models``: what the models on this machine take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_embedded_models_are_measured(run_cli, tmp_path: Path) -> None:
    """Weights in MODEL_ROOT would be measured as well; this one has none."""
    code, out, err = run_cli(
        "bench", "--models", "--repeats", "2", "--json", "--model-root", tmp_path, "--device", "cpu"
    )
    found = json.loads(out)
    assert (code, found["failed"]) == (0, [])
    detector, segmenter = found["models"]
    assert (detector["kind"], detector["name"], detector["first_click_s"]) == (
        "detector",
        "demo",
        None,
    )
    assert (segmenter["kind"], segmenter["name"]) == ("segmenter", "demo")
    assert 0 < segmenter["later_click_s"] < segmenter["first_click_s"]
    assert all(one["picture_s"] > 0 and one["memory_bytes"] > 50 << 20 for one in found["models"])
    assert "measuring segmenter demo" in err


def test_what_cannot_be_measured_is_told(run_cli, tmp_path: Path) -> None:
    code, out, _ = run_cli("bench", "--models", "--segmenter", tmp_path / "no.pt", "--repeats", "1")
    assert code == 1
    assert "failed: segmenter" in out
    assert "no such file" in out
    code, _, err = run_cli("bench", "--models", "--images", tmp_path)
    assert code == 2
    assert "no pictures there" in err
