"""``yolosam2 score`` on two folders of labelme JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backend.demo.run import SAMPLES
from backend.formats.voc.label_maps import read_label_map

DEMO = (
    "--detector",
    "demo",
    "--segmenter",
    "demo",
    "--device",
    "cpu",
    "--box-margin",
    "0.04",
    "--min-part",
    "0.02",
    "--no-progress",
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples as ``annotate`` labels them."""
    from backend.cli.main import main

    out = tmp_path_factory.mktemp("labelled")
    assert main(["annotate", str(SAMPLES / "JPEGImages"), "--out", str(out), *DEMO]) == 0
    return out


@pytest.fixture
def accepted(labelled: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "accepted"
    shutil.copytree(labelled, folder)
    return folder


def scored(
    run_cli, accepted: Path, predicted: Path, *options: object
) -> tuple[int, dict[str, Any]]:
    code, out, err = run_cli(
        "score",
        accepted,
        "--predictions",
        predicted,
        "--json",
        "-",
        "--no-progress",
        "--resamples",
        20,
        *options,
    )
    assert out, err
    return code, json.loads(out)


def change(path: Path, edit) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_a_copy_is_untouched(run_cli, labelled: Path, accepted: Path) -> None:
    code, document = scored(run_cli, accepted, labelled)
    assert code == 0
    view = document["views"][0]
    assert view["images"] == 12
    assert {one["value"] for one in view["figures"].values()} == {1.0}
    assert view["effort"]["untouched"] == view["effort"]["predicted"] > 30
    assert document["model_versions"][0].startswith("demo")


def test_edits_are_counted_as_they_were_made(run_cli, labelled: Path, accepted: Path) -> None:
    first, second, third = sorted(accepted.glob("*.json"))[:3]
    before = {path: len(json.loads(path.read_text())["shapes"]) for path in (first, second, third)}

    def relabel(document: dict[str, Any]) -> None:
        document["shapes"][0]["label"] = (
            "star" if document["shapes"][0]["label"] != "star" else "ball"
        )

    def add(document: dict[str, Any]) -> None:
        document["shapes"].append(
            {
                "label": "cup",
                "points": [[1, 1], [9, 1], [9, 9]],
                "shape_type": "polygon",
                "group_id": None,
                "flags": {},
            }
        )

    change(first, relabel)
    change(second, lambda document: document["shapes"].clear())
    change(third, add)
    code, document = scored(run_cli, accepted, labelled)
    assert code == 0
    effort = document["views"][0]["effort"]
    assert (effort["relabelled"], effort["deleted"], effort["added"], effort["reshaped"]) == (
        1,
        before[second],
        1,
        0,
    )
    assert effort["untouched"] == effort["predicted"] - 1 - before[second]


def test_folders_the_wrong_way_round_are_pointed_out(
    run_cli, labelled: Path, accepted: Path
) -> None:
    change(sorted(accepted.glob("*.json"))[0], lambda document: document["shapes"].clear())
    assert scored(run_cli, accepted, labelled)[1]["settings"]["remarks"] == []
    (remark,) = scored(run_cli, labelled, accepted)[1]["settings"]["remarks"]
    assert "1 files in" in remark
    assert "are the folders the other way round?" in remark


def test_names_that_no_system_and_no_encoding_knows(
    run_cli, labelled: Path, accepted: Path, tmp_path: Path
) -> None:
    paths = sorted(accepted.glob("*.json"))
    change(paths[0], lambda document: document.update(imagePath="a\0b.jpg"))
    change(paths[1], lambda document: document.update(imagePath="x" * 300 + ".jpg"))
    paths[2].write_text(paths[2].read_text().replace('"label": "', '"label": "caf\\ud83d', 1))
    options = ("--report", tmp_path / "r.html", "--no-progress", "--resamples", 0)
    code, _, err = run_cli(
        "score", accepted, "--predictions", labelled, "--json", tmp_path / "r.json", *options
    )
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "r.json").read_text())["views"][0]["images"] == 12


def test_faults_are_named_by_file(run_cli, labelled: Path, accepted: Path) -> None:
    paths = sorted(accepted.glob("*.json"))
    paths[0].write_text("{")
    change(paths[1], lambda document: document["shapes"][0].update(points=[[0, 0], [5, 5]]))
    change(paths[3], lambda document: [one.update(points=[]) for one in document["shapes"]])
    change(paths[2], lambda document: document.update(imageWidth=7))
    (accepted / "more.json").write_text(paths[5].read_text())
    code, document = scored(run_cli, accepted, labelled)
    assert code == 1
    reasons = {one["where"]: one["reason"] for one in document["failed"]}
    assert "is not valid JSON" in reasons[paths[0].name]
    assert "shapes[0].points: the inclusive box is 6x6" in reasons[paths[1].name]
    assert (
        "reaches beyond the image of 7x" in reasons[paths[2].name]
        or "is 7x" in reasons[paths[2].name]
    )
    assert "so nothing to compare it with; --missing counts it" in reasons["more.json"]
    assert "shapes[0]: expected a base64 mask and two points" in reasons[paths[3].name]
    assert document["views"][0]["images"] == 9
    code, document = scored(run_cli, accepted, labelled, "--missing")
    assert document["views"][0]["images"] == 10


def test_a_folder_is_not_compared_with_itself(run_cli, labelled: Path, tmp_path: Path) -> None:
    assert "compared with itself" in run_cli("score", labelled, "--predictions", labelled)[2]
    assert "no such folder" in run_cli("score", labelled, "--predictions", tmp_path / "none")[2]
    (tmp_path / "empty").mkdir()
    assert (
        "no labelme JSON there"
        in run_cli("score", tmp_path / "empty", "--predictions", labelled)[2]
    )


def test_a_file_cannot_make_the_page_show_a_picture_from_elsewhere(
    run_cli, labelled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "accepted"
    shutil.copytree(labelled, folder)
    for path in folder.glob("*.json"):
        change(
            path,
            lambda document: document.update(
                imagePath=str(SAMPLES / "JPEGImages" / "3000000.jpg"), shapes=document["shapes"][1:]
            ),
        )
    report = tmp_path / "deep" / "r.html"
    assert (
        run_cli(
            "score",
            folder,
            "--predictions",
            labelled,
            "--report",
            report,
            "--no-progress",
            "--resamples",
            0,
        )[0]
        == 0
    )
    assert "the picture is not at hand" in report.read_text()


def test_polygons_of_real_photographs_against_their_label_maps(
    run_cli, shared_data: Path, tmp_path: Path
) -> None:
    """The polygons of labelme's example, scored against themselves.

    Regions to be ignored are no class.
    """
    folder = shared_data / "labelme-voc"
    accepted = tmp_path / "accepted"
    predicted = tmp_path / "predicted"
    for target in (accepted, predicted):
        target.mkdir()
        for path in folder.glob("*.json"):
            shutil.copy(path, target)
    code, document = scored(run_cli, accepted, predicted)
    assert code == 0
    assert {
        one["value"]
        for name, one in document["views"][0]["figures"].items()
        if not name.startswith("AP")
    } == {1.0}
    assert (
        document["views"][0]["figures"]["AP"]["value"] is None
    )  # polygons of a person have no scores
    assert set(document["classes"]) == {"person", "bottle", "sofa", "chair", "bus", "car"}
    total = sum(row["pixels"]["true"] for row in document["views"][0]["classes"])
    kept = sum(
        int((read_label_map(path) != 255).sum())
        for path in (folder / "reference" / "SegmentationClass").glob("*.png")
    )
    assert abs(total - kept) <= 1
