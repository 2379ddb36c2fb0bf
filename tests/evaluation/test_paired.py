"""Two model versions on the same images: what differs, by paired resampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_from_export import LEFT, RIGHT, scored
from tests.support.exports import regions, task, write

OLD = "yolo+sam-0123456789.aaaaaaaa"
NEW = "yolo+sam-9876543210.aaaaaaaa"


def two_versions(number: int, lost: int) -> dict[str, Any]:
    """A task whose old prediction lost columns of its car, and whose new one is right."""
    part = LEFT.copy()
    part[:, :lost] = False
    truth = regions(("car", LEFT, 0.9), ("dog", RIGHT, 0.6))
    made = task(number, truth, truth)
    old = {
        "id": 500 + number,
        "model_version": OLD,
        "score": 0.5,
        "result": regions(("car", part, 0.9), ("dog", RIGHT, 0.6), salt="old"),
    }
    made["predictions"][0]["model_version"] = NEW
    made["predictions"].append(old)
    return made


def compared(run_cli, path: Path, *versions: str) -> dict[str, Any]:
    _, document = scored(run_cli, path, "--compare", *versions)
    return dict(document["comparison"])


def row(comparison: dict[str, Any], name: str) -> dict[str, Any]:
    rows = [*comparison["figures"], *comparison["iou_by_class"]]
    return next(dict(one) for one in rows if one["name"] == name)


def test_what_is_better_is_said(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [two_versions(k, 18 + k % 4) for k in range(12)])
    made = compared(run_cli, path, OLD, NEW)
    assert (made["versions"], made["images"], made["left_out"]) == ([OLD, NEW], 12, [0, 0])
    car = row(made, "car")
    lost = [LEFT[:, : 18 + k % 4].sum() for k in range(12)]
    assert car["first"] == pytest.approx(1 - np.sum(lost) / (12 * LEFT.sum()), abs=1e-6)
    assert (car["second"], car["verdict"]) == (1.0, "better")
    low, high = car["interval"]
    assert 0 < low < car["difference"] < high
    assert row(made, "dog")["verdict"] == "the same"
    assert row(compared(run_cli, path, NEW, OLD), "car")["verdict"] == "worse"


def test_equal_versions_differ_by_chance_alone(run_cli, tmp_path: Path) -> None:
    tasks = [two_versions(k, 22) for k in range(10)]
    for k, one in enumerate(tasks):
        if k % 2:  # each is right on every other image
            first, second = one["predictions"]
            first["result"], second["result"] = second["result"], first["result"]
    made = compared(run_cli, write(tmp_path / "e.json", tasks), "0123456789.aaaaaaaa", NEW)
    assert row(made, "car")["verdict"] == "could be chance"
    assert row(made, "car")["difference"] == pytest.approx(0, abs=1e-9)


def test_names_that_mean_none_or_several(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [two_versions(1, 20), two_versions(2, 20)])
    for wrong, told in (("yolo", "it could be"), ("v7", "there are")):
        code, _, err = run_cli("score", path, "--compare", wrong, NEW)
        assert code == 2
        assert f"--compare {wrong}: {told} " in err


def test_only_images_that_both_have_count(run_cli, tmp_path: Path) -> None:
    tasks = [two_versions(k, 20) for k in range(6)]
    del tasks[0]["predictions"][1]
    path = write(tmp_path / "e.json", tasks)
    made = compared(run_cli, path, OLD, NEW)
    assert (made["images"], made["left_out"]) == (5, [0, 1])
    report = tmp_path / "r.html"
    code, text, _ = run_cli("score", path, "--compare", OLD, NEW, "--report", report)
    assert code == 0
    assert f"old {OLD}" in text
    assert "on 5 images that both have" in text
    assert "better" in text
    assert "Side by side" in report.read_text()
