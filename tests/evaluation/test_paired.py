"""Two model versions on the same images: what differs, by paired resampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_from_export import LEFT, RIGHT, scored
from tests.support.exports import regions, task, write

OLD = "yolo+sam-0123456789.aaaaaaaa"
NEW = "yolo+sam-9876543210.aaaaaaaa"


def two_versions(number: int, lost: int, begun: bool = False) -> dict[str, Any]:
    """A task whose old prediction lost columns of its car, and whose new one is right.

    Its annotation was drawn by hand, or began from the new one.
    """
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
    if not begun:
        (annotation,) = made["annotations"]
        annotation["result"] = regions(("car", LEFT, 0.9), ("dog", RIGHT, 0.6), salt="hand")
        del annotation["parent_prediction"]
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


def test_what_speaks_for_the_version_that_was_shown_proves_nothing(run_cli, tmp_path: Path) -> None:
    shown = [two_versions(k, 18 + k % 4, begun=True) for k in range(12)]
    path = write(tmp_path / "e.json", shown)
    made = compared(run_cli, path, OLD, NEW)
    assert made["began_from"] == [0, 12]
    assert row(made, "car")["verdict"] == "favoured"
    report = tmp_path / "r.html"
    text = run_cli("score", path, "--compare", OLD, NEW, "--report", report)[1]
    assert "0 began from old, 12 from new" in text
    assert "counts as perfect for new" in text
    assert "counts as perfect for new" in report.read_text()
    # Those drawn without either are what counts, once there are enough.
    by_hand = [two_versions(20 + k, 18 + k % 4) for k in range(10)]
    path = write(tmp_path / "e.json", [*shown, *by_hand])
    made = compared(run_cli, path, OLD, NEW)
    assert (made["images"], made["neutral"]) == (10, True)
    assert row(made, "car")["verdict"] == "better"
    # What speaks against the version that was shown is no favour.
    for one in shown:
        new, old = one["predictions"]
        old["result"] = one["annotations"][0]["result"]
        new["result"] = regions(("dog", RIGHT, 0.6))
    made = compared(run_cli, write(tmp_path / "e.json", shown), OLD, NEW)
    assert made["began_from"] == [0, 12]
    assert row(made, "car")["verdict"] == "worse"


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


def test_every_annotation_counts_once_and_versions_have_names(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [two_versions(k, 20, begun=True) for k in range(6)])
    names = ("--name", "yolo+sam-0=before", "--name", f"{NEW}=after")
    _, document = scored(run_cli, path, *names)
    assert document["model_versions"] == ["after", "before"]
    whole = document["views"][0]
    assert (whole["images"], whole["compared"], whole["effort"]["annotations"]) == (6, 6, 6)
    _, document = scored(run_cli, path, *names, "--compare", OLD, "after")
    assert document["comparison"]["versions"] == ["before", "after"]
    _, text, _ = run_cli("score", path, *names, "--no-progress", "--resamples", "0")
    assert "compared 6 images" in text
    other = run_cli("score", path, "--name", "v1=x", "--no-progress", "--resamples", "0")[1]
    assert "--name: no model version begins or ends with v1" in other
    assert made_by(run_cli, path, "--name", "yolo+sam-0123456789=before") == ["before", NEW]
    code, _, err = run_cli("score", path, "--name", "yolo+sam=one")
    assert code == 2
    assert f"{OLD} and {NEW} would both be called one" in err


def made_by(run_cli, path: Path, *options: str) -> list[str]:
    return list(scored(run_cli, path, *options)[1]["model_versions"])


def test_two_results_are_set_side_by_side(run_cli, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [two_versions(k, 18 + k % 4) for k in range(12)])
    files = []
    for version, name in ((OLD, "before.json"), (NEW, "after.json")):
        files.append(str(tmp_path / name))
        run_cli("score", path, "--model-version", version, "--json", files[-1])
    code, text, _ = run_cli("score", "--compare", *files)
    assert code == 0
    assert f"old before.json: {OLD}" in text
    assert "old on 12 images, new on 12 images" in text
    made = json.loads(run_cli("score", "--compare", *files, "--json", "-")[1])
    paired = row(compared(run_cli, path, OLD, NEW), "car")
    car = row(made, "car")
    assert [car[key] for key in ("first", "second", "verdict")] == [
        paired[key] for key in ("first", "second", "verdict")
    ]
    assert car["interval"][0] < car["difference"] < car["interval"][1]
    for wrong, said in ((str(path), "is no result"), ("none.json", "cannot read")):
        code, _, err = run_cli("score", "--compare", wrong, files[0])
        assert code == 2
        assert said in err
