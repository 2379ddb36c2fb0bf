"""``yolosam2 convert`` as a user types it: damage, foreign files, paths that lead outside,
strictness, resumption, memory.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml

from backend.files.ownership import OutputFolder
from backend.formats.voc.label_maps import encode_png, read_label_map
from labelme_plugin.document import read_document
from tests.conftest import PYTHON, ROOT
from tests.support.dataset_scenes import objects, shape, write_picture, write_scenes
from tests.support.exports import disc, regions, task
from tests.support.exports import write as write_export

FORMATS = ("labelme", "label-studio", "coco", "coco-panoptic", "yolo", "voc")


@pytest.fixture
def source(tmp_path: Path, rng: np.random.Generator) -> Path:
    write_scenes(tmp_path / "source", rng)
    return tmp_path / "source"


def simple(path: Path, frame: np.ndarray | None = None, **more: Any) -> Path:
    """A labelme file with one object, and its picture."""
    frame = np.pad(np.ones((6, 8), bool), 4) if frame is None else frame
    write_picture(path.with_suffix(".jpg"), *frame.shape)
    document = {
        "shapes": [shape("cat", frame)],
        "imagePath": f"{path.stem}.jpg",
        "imageData": None,
        "imageHeight": frame.shape[0],
        "imageWidth": frame.shape[1],
    }
    path.write_text(json.dumps({**document, **more}))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name[0] != "."
    }


@pytest.mark.parametrize("target", FORMATS)
def test_the_same_command_again_changes_nothing(
    run_cli, source: Path, tmp_path: Path, target: str
) -> None:
    out = tmp_path / "out"
    n_held = {"yolo": 27, "coco-panoptic": 30}  # no crowds; none that others cover completely
    code, text, err = run_cli("convert", source, out, "--to", target)
    assert code == 0, text
    assert (
        f"converted 5 images with {n_held.get(target, 35)} instances from labelme to"
        f" {target}" in text
    )
    assert "100%" in err
    before = content(out)
    stamps = {
        path: path.stat().st_mtime_ns
        for path in out.rglob("*")
        if path.is_file() and path.name[0] != "." and path.suffix in (".txt", ".png", ".jpg")
    }
    assert run_cli("convert", source, out, "--to", target, "--no-progress")[0] == 0
    assert content(out) == before
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("labelme", "sub/deep/*.json"),
        ("yolo", "labels/train/plain.txt"),
        ("voc", "SegmentationClass/plain.png"),
    ],
)
def test_what_a_person_changed_is_kept(
    run_cli, source: Path, tmp_path: Path, target: str, file: str
) -> None:
    out = tmp_path / "out"
    run_cli("convert", source, out, "--to", target, "--no-progress")
    (changed,) = out.glob(file)
    changed.write_bytes(changed.read_bytes() + b"\n")
    mine = changed.read_bytes()
    code, text, _ = run_cli("convert", source, out, "--to", target, "--no-progress")
    assert code == 1
    assert (
        "kept 1 files that somebody else wrote, or changed since (--overwrite replaces them, with"
        f" a .bak copy):\n  {changed}" in text
    )
    assert changed.read_bytes() == mine
    code, text, _ = run_cli("convert", source, out, "--to", target, "--no-progress", "--overwrite")
    assert code == 0, text
    assert changed.read_bytes() != mine
    assert changed.with_name(changed.name + ".bak").read_bytes() == mine


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("label-studio", "import.json"),
        ("coco", "annotations/instances_train.json"),
        ("yolo", "data.yaml"),
        ("voc", "class_names.txt"),
    ],
)
def test_a_folder_whose_list_of_classes_is_somebody_elses_is_refused(
    run_cli, source: Path, tmp_path: Path, target: str, file: str
) -> None:
    theirs = tmp_path / "out" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text("cat\n")
    code, _, err = run_cli("convert", source, tmp_path / "out", "--to", target, "--no-progress")
    assert (code, "was not written by this program" in err) == (2, True)
    assert [
        path
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    ] == [theirs]
    assert (
        run_cli(
            "convert", source, tmp_path / "out", "--to", target, "--no-progress", "--overwrite"
        )[0]
        == 0
    )
    assert theirs.with_name(theirs.name + ".bak").read_text() == "cat\n"
    assert theirs.read_text() != "cat\n"
    other = "coco" if target != "coco" else "yolo"
    assert (
        run_cli("convert", source, tmp_path / "out", "--to", other, "--no-progress")[0] == 0
    )  # two formats side by side
    assert (
        "earlier conversion"
        not in run_cli("convert", source, tmp_path / "out", "--to", target, "--no-progress")[1]
    )


def test_a_changed_source_is_converted_again_and_leftovers_go(run_cli, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    simple(tmp_path / "source/a.json")
    simple(tmp_path / "source/b.json")
    run_cli("convert", tmp_path / "source", tmp_path / "out", "--to", "yolo", "--no-progress")
    before = (tmp_path / "out/labels/train/a.txt").read_text()
    simple(tmp_path / "source/a.json", np.pad(np.ones((2, 2), bool), 7))
    (tmp_path / "source/b.json").unlink()
    code, text, _ = run_cli(
        "convert", tmp_path / "source", tmp_path / "out", "--to", "yolo", "--no-progress"
    )
    assert code == 0
    assert (tmp_path / "out/labels/train/a.txt").read_text() != before
    assert (
        "removed 2 files of an earlier conversion that are no part of this one, and that nobody"
        " changed" in text
    )
    assert [path.name for path in (tmp_path / "out").rglob("b.*")] == []


def test_damaged_foreign_and_huge_files_are_named_and_do_not_stop_the_rest(
    run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    simple(folder / "good.json")
    simple(folder / "wrong_box.json")
    document = json.loads((folder / "wrong_box.json").read_text())
    document["shapes"][0]["points"][1][0] += 1
    (folder / "wrong_box.json").write_text(json.dumps(document))
    (folder / "cut_off.json").write_text((folder / "good.json").read_text()[:-40])
    (folder / "foreign.json").write_text('{"images": [], "note": "of another program"}')
    (folder / "list.json").write_text("[1, 2]")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "binary.json").write_bytes(bytes(range(256)))
    (folder / "no_size.json").write_text('{"shapes": [], "imagePath": "x.jpg", "imageData": null}')
    (folder / "vast.json").write_text(
        '{"shapes": [], "imagePath": "x.jpg", "imageData": null, "imageHeight": 160000,'
        ' "imageWidth": 160000}'
    )
    simple(folder / "other_size.json", imageHeight=99)
    simple(folder / "label.json", shapes=[{**shape("x", np.ones((9, 9), bool)), "label": None}])
    (folder / "locked.json").symlink_to(tmp_path / "nowhere.json")
    with (folder / "huge.json").open("wb") as stream:
        stream.truncate(200 << 20)
    code, text, _ = run_cli("convert", folder, tmp_path / "out", "--to", "coco", "--no-progress")
    assert code == 1
    assert "converted 1 images" in text
    for name, sentence in {
        "wrong_box": "shapes[0].points: the inclusive box is 9x6, its mask 8x6",
        "cut_off": "is not valid JSON",
        "foreign": "is not a labelme file: no list of shapes",
        "list": "is not a labelme file",
        "deep": "is not valid JSON",
        "binary": "is not text",
        "no_size": "imageHeight and imageWidth are missing, and its picture",
        "vast": "an image of 160000x160000 pixels is too large",
        "other_size": "imageHeight and imageWidth say 16x99, but",
        "label": "shapes[0].label: expected a text, got nothing",
        "huge": "200 MiB, the limit for a labelme file is 128",
    }.items():
        assert any(f"{name}.json" in line and sentence in line for line in text.splitlines()), (
            name,
            text,
        )
    assert (
        "1 links that lead out of the folder, or nowhere, were not followed, such as"
        f" {folder / 'locked.json'}" in text
    )
    assert (
        len(json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["images"])
        == 1
    )


def test_two_conversions_do_not_write_into_one_folder(
    run_cli, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    place = OutputFolder(tmp_path / "out", "coco", overwrite=False)
    code, _, err = run_cli("convert", source, tmp_path / "out", "--to", "coco")
    assert (code, "another run is writing there" in err) == (2, True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".yolosam2-coco",
        ".yolosam2.coco.lock",
    }
    place.close()
    assert run_cli("convert", source, tmp_path / "out", "--to", "coco")[0] == 0


def test_turned_pictures_of_files_without_regard_to_exif_are_explained(
    run_cli, tmp_path: Path
) -> None:
    write_picture(tmp_path / "s/a.jpg", 30, 20, 6)
    (tmp_path / "s/a.json").write_text(
        '{"shapes": [], "imagePath": "a.jpg", "imageData": null, "imageHeight": 20,'
        ' "imageWidth": 30}'
    )
    code, text, _ = run_cli(
        "convert", tmp_path / "s", tmp_path / "out", "--to", "coco", "--no-progress"
    )
    assert code == 1
    assert "is 20x30; its EXIF orientation turns it, and labelme shows it turned" in text


def test_paths_in_files_lead_nowhere_else(run_cli, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    write_picture(secret / "s.jpg", 20, 20)
    folder = tmp_path / "source"
    folder.mkdir()
    mask = [shape("cat", np.pad(np.ones((4, 4), bool), 8))]
    size = {"imageData": None, "imageHeight": 20, "imageWidth": 20}
    (folder / "up.json").write_text(
        json.dumps({"shapes": mask, "imagePath": "../secret/s.jpg", **size})
    )
    (folder / "absolute.json").write_text(
        json.dumps({"shapes": mask, "imagePath": str(secret / "s.jpg"), **size})
    )
    (folder / "link.jpg").symlink_to(secret / "s.jpg")
    (folder / "linked.json").write_text(
        json.dumps({"shapes": mask, "imagePath": "link.jpg", **size})
    )
    code, text, _ = run_cli("convert", folder, tmp_path / "out", "--to", "voc", "--no-progress")
    assert code == 0
    assert "to be looked after:\n  3 pictures that are not at hand" in text
    code, text, _ = run_cli("convert", folder, tmp_path / "out", "--to", "yolo", "--no-progress")
    assert (code, text.count("its picture is not at hand, and nothing can be trained without")) == (
        1,
        3,
    )
    assert not list((tmp_path / "out").rglob("*.jpg"))
    # Only where the user names the folder are its pictures read.
    run_cli(
        "convert", folder, tmp_path / "named", "--to", "yolo", "--no-progress", "--images", secret
    )
    assert len(list((tmp_path / "named").rglob("*.jpg"))) == 3


EVIL = [
    "../../evil.jpg",
    "/etc/evil.jpg",
    "a/../../../evil.jpg",
    "C:\\evil.jpg",
    "..\\..\\evil.jpg",
    "",
    "x\0y.jpg",
    "n" * 300 + ".jpg",
]


@pytest.mark.parametrize("name", EVIL)
def test_names_in_coco_and_label_studio_write_nothing_outside(
    run_cli, tmp_path: Path, name: str
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    document = {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [
            {"id": 1, "file_name": name, "height": 9, "width": 9},
            {"id": 2, "file_name": "good.jpg", "height": 9, "width": 9},
        ],
        "annotations": [
            {
                "id": k,
                "image_id": k,
                "category_id": 1,
                "segmentation": [[1, 1, 5, 1, 5, 5]],
                "iscrowd": 0,
            }
            for k in (1, 2)
        ],
    }
    (inner / "c.json").write_text(json.dumps(document))
    for target in FORMATS:
        out = inner / "deep" / target
        none = ("--copy", "none") if target == "yolo" else ()
        code, text, _ = run_cli(
            "convert", inner / "c.json", out, "--to", target, "--no-progress", *none
        )
        assert (code, "converted 1 images" in text) == (1, True)
        assert "images[0].file_name" in text
    made = task(1, regions(("car", disc(30, 30, 9), 0.5)), None)
    made["data"] = {"image": "/data/local-files/?d=" + name}
    (inner / "ls.json").write_text(json.dumps([made]))
    run_cli("convert", inner / "ls.json", inner / "deep" / "ls", "--to", "labelme", "--no-progress")
    assert not [
        path
        for path in tmp_path.rglob("*")
        if "evil" in path.name and not path.is_relative_to(inner / "deep")
    ]
    assert not Path("/etc/evil.jpg").exists()


def test_a_link_in_the_output_leads_nothing_outside(run_cli, source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").symlink_to(tmp_path / "elsewhere")
    code, text, _ = run_cli("convert", source, tmp_path / "out", "--to", "labelme", "--no-progress")
    assert code == 1
    assert "leads outside of" in text
    assert not list((tmp_path / "elsewhere").iterdir())


def test_splits_outside_of_a_yolo_dataset_are_refused(run_cli, tmp_path: Path) -> None:
    write_picture(tmp_path / "other/images/a.jpg", 20, 20)
    (tmp_path / "data").mkdir()
    for root, entry in (
        ("..", "other/images"),
        (str(tmp_path / "other"), "images"),
        ("", "../other/images"),
        ("", str(tmp_path / "other/images")),
    ):
        (tmp_path / "data/data.yaml").write_text(
            yaml.safe_dump(
                {"names": ["cat"], "train": entry, "val": entry, **({"path": root} if root else {})}
            )
        )
        code, _, err = run_cli(
            "convert", tmp_path / "data", tmp_path / "out", "--to", "coco", "--no-progress"
        )
        assert (
            code,
            "outside of the folders that were given" in err or "no such file or folder" in err,
        ) == (2, True), err
    assert (
        run_cli(
            "convert",
            tmp_path / "data",
            tmp_path / "out",
            "--to",
            "coco",
            "--no-progress",
            "--images",
            tmp_path / "other",
        )[0]
        == 0
    )


def test_strict_refuses_what_the_target_cannot_hold(run_cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    simple(tmp_path / "s/plain.json")
    parts = np.zeros((20, 30), bool)
    parts[2:6, 2:6] = parts[12:18, 20:28] = True
    simple(tmp_path / "s/parts.json", parts)
    simple(
        tmp_path / "s/score.json",
        shapes=[{**shape("cat", np.pad(np.ones((6, 8), bool), 4)), "score": 0.5}],
    )
    code, text, _ = run_cli(
        "convert", tmp_path / "s", tmp_path / "out", "--to", "yolo", "--no-progress", "--strict"
    )
    assert code == 1
    assert "converted 1 images" in text
    assert (
        "parts.json: cannot be held without loss: 1 instances whose parts are joined by a line"
        in text
    )
    assert "score.json: cannot be held without loss: 1 scores" in text
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.txt")) == ["plain.txt"]
    code, text, _ = run_cli(
        "convert", tmp_path / "s", tmp_path / "loose", "--to", "yolo", "--no-progress", "--json"
    )
    summary = json.loads(text)
    assert code == 0
    assert {
        key: summary["not_held_by_target"][key]
        for key in ("scores", "instances whose parts are joined by a line")
    } == {
        "scores": 1,
        "instances whose parts are joined by a line": 1,
    }
    assert summary["examples"]["scores"] == ["score.jpg"]


def test_classes_choose_and_order(run_cli, source: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("_background_\ntraffic light\nperson\nunicorn\n")
    code, text, _ = run_cli(
        "convert",
        source,
        tmp_path / "out",
        "--to",
        "yolo",
        "--no-progress",
        "--classes",
        tmp_path / "names.txt",
    )
    assert code == 0
    assert list(yaml.safe_load((tmp_path / "out/data.yaml").read_text())["names"].values()) == [
        "traffic light",
        "person",
        "unicorn",
    ]
    assert "instances of classes that --classes leaves out" in text
    rows = (tmp_path / "out/labels/train/plain.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["0", "1", "1"]


def test_splits_divide_always_the_same_way(run_cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for k in range(40):
        simple(tmp_path / f"s/{k}.json")
    code, text, _ = run_cli(
        "convert",
        tmp_path / "s",
        tmp_path / "out",
        "--to",
        "yolo",
        "--no-progress",
        "--split",
        "train=0.75,val=0.25",
    )
    assert code == 0
    val = {path.name for path in (tmp_path / "out/labels/val").iterdir()}
    assert 3 <= len(val) <= 18
    assert (
        f"(train {40 - len(val)}, val {len(val)})" in text
        or f"(val {len(val)}, train {40 - len(val)})" in text
    )
    for k in range(40, 60):
        simple(tmp_path / f"s/{k}.json")
    run_cli(
        "convert",
        tmp_path / "s",
        tmp_path / "more",
        "--to",
        "yolo",
        "--no-progress",
        "--split",
        "train=3,val=1",
    )
    assert val == {path.name for path in (tmp_path / "more/labels/val").iterdir()} & {
        f"{k}.txt" for k in range(40)
    }
    for wrong in ("train=x", "train=-1", "=1", "../x", "a/b=1"):
        assert (
            "--split: expected"
            in run_cli(
                "convert", tmp_path / "s", tmp_path / "out2", "--to", "yolo", "--split", wrong
            )[2]
        )


def test_one_list_of_a_dataset(run_cli, tmp_path: Path) -> None:
    samples = ROOT / "backend/demo/samples"
    code, _, err = run_cli(
        "convert", samples, tmp_path / "out", "--to", "coco", "--no-progress", "--split", "nosuch"
    )
    assert (code, "no such list" in err) == (2, True)
    assert (
        run_cli(
            "convert", samples, tmp_path / "out", "--to", "coco", "--no-progress", "--split", "val"
        )[0]
        == 0
    )
    assert (
        run_cli(
            "convert",
            tmp_path / "out",
            tmp_path / "y",
            "--to",
            "yolo",
            "--no-progress",
            "--images",
            samples,
            "--copy",
            "link",
        )[0]
        == 0
    )
    pictures = list((tmp_path / "y/images/val").iterdir())
    assert len(pictures) == 12
    assert all(path.is_symlink() and path.is_file() for path in pictures)
    assert (
        run_cli(
            "convert",
            tmp_path / "y",
            tmp_path / "back",
            "--to",
            "voc",
            "--no-progress",
            "--images",
            samples,
        )[0]
        == 0
    )
    assert (tmp_path / "back/ImageSets/Segmentation/val.txt").read_text() == (
        samples / "ImageSets/Segmentation/val.txt"
    ).read_text()


def test_what_of_label_studio(run_cli, tmp_path: Path) -> None:
    old = regions(("car", disc(30, 30, 9), 0.5))
    new = regions(("dog", disc(30, 30, 12), 0.5))
    several = task(1, old, old)
    several["annotations"] = [
        {"result": old, "updated_at": "2026-01-02"},
        {"result": new, "updated_at": "2026-01-03"},
        {"result": old, "updated_at": "2026-01-04", "was_cancelled": True},
    ]
    truth = task(2, old, new)
    truth["annotations"].append({"result": new, "created_at": "2030-01-01"})
    truth["annotations"][0]["ground_truth"] = True
    versions = task(3, None, old)
    versions["predictions"].append({"model_version": "v2", "result": new})
    ids = {**task(4, old, None), "predictions": [17]}
    export = write_export(
        tmp_path / "export.json",
        [several, truth, versions, ids, {"id": 5, "data": {"image": "/x.jpg"}}, 7],
    )

    def labels(*more: object) -> tuple[dict[str, list[str]], str]:
        out = tmp_path / "-".join(["out", *map(str, more)]).replace("=", "_")
        _, text, _ = run_cli("convert", export, out, "--to", "labelme", "--no-progress", *more)
        return {
            path.stem: [one["label"] for one in json.loads(path.read_text())["shapes"]]
            for path in out.glob("*.json")
        }, text

    found, text = labels()
    assert found == {"1": ["dog"], "2": ["car"], "4": ["car"]}
    assert "2 tasks have several annotations: the ground truth is taken, else the newest" in text
    assert "1 tasks without annotations left out" in text
    assert "item 5: expected a task with data, got a number" in text
    assert "task 5: annotations: expected a list, got nothing" in text
    found, text = labels("--what", "predictions")
    assert found == {"1": ["car"], "2": ["dog"], "3": ["dog"]}
    assert "task 4: predictions: holds only their ids" in text
    assert labels("--what", "model_version=v1")[0] == {"1": ["car"], "2": ["dog"], "3": ["car"]}
    assert labels("--what", "best")[0] == {"1": ["dog"], "2": ["car"], "3": ["dog"], "4": ["car"]}
    code, text, _ = run_cli(
        "convert",
        export,
        tmp_path / "none",
        "--to",
        "labelme",
        "--no-progress",
        "--what",
        "model_version=nope",
    )
    assert (code, "tasks without predictions of nope left out; there are v1, v2" in text) == (
        1,
        True,
    )
    assert "of them have predictions: --what predictions takes those" in labels()[1]
    assert (
        "--what: expected annotations, predictions, best or model_version="
        in run_cli("convert", export, tmp_path / "x", "--to", "coco", "--what", "x")[2]
    )


def test_tasks_without_a_region_need_their_picture(run_cli, tmp_path: Path) -> None:
    export = write_export(
        tmp_path / "export.json",
        [task(1, [], None), task(2, regions(("car", disc(30, 30, 9), 0.5)), None)],
    )
    code, text, _ = run_cli("convert", export, tmp_path / "out", "--to", "coco", "--no-progress")
    assert code == 1
    assert (
        "task 1: how large the picture is nobody says; name the folder of the pictures with"
        " --images" in text
    )
    write_picture(tmp_path / "pictures/1.jpg", 60, 80)
    write_picture(tmp_path / "pictures/2.jpg", 61, 80)
    code, text, _ = run_cli(
        "convert",
        export,
        tmp_path / "again",
        "--to",
        "coco",
        "--no-progress",
        "--images",
        tmp_path / "pictures",
    )
    assert "task 2: annotations[0]: regions are of 80x60, but its picture is 80x61" in text
    assert [
        row["file_name"]
        for row in json.loads((tmp_path / "again/annotations/instances_train.json").read_text())[
            "images"
        ]
    ] == ["1.jpg"]
    assert (
        run_cli(
            "convert", export, tmp_path / "yolo", "--to", "yolo", "--no-progress", "--copy", "none"
        )[0]
        == 0
    )  # an empty label file needs no size
    assert (tmp_path / "yolo/labels/train/1.txt").read_text() == ""


def test_pictures_embedded_in_labelme_files_are_written_where_they_are_needed(
    run_cli, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    path = simple(tmp_path / "s/a.json")
    data = (tmp_path / "s/a.jpg").read_bytes()
    (tmp_path / "s/a.jpg").unlink()
    document = {
        **json.loads(path.read_text()),
        "imageData": base64.b64encode(data).decode(),
        "imagePath": "a.json",
    }
    path.write_text(json.dumps(document))
    for target, place in (
        ("yolo", "images/train/a.jpeg"),
        ("voc", "JPEGImages/a.jpeg"),
        ("labelme", "a.jpeg"),
    ):
        assert (
            run_cli("convert", tmp_path / "s", tmp_path / target, "--to", target, "--no-progress")[
                0
            ]
            == 0
        )
        assert (tmp_path / target / place).read_bytes() == data
    assert json.loads((tmp_path / "labelme/a.json").read_text())["imagePath"] == "a.jpeg"
    path.write_text(json.dumps({**document, "imageData": "%%%"}))
    assert (
        "a.json"
        in run_cli("convert", tmp_path / "s", tmp_path / "bad", "--to", "yolo", "--no-progress")[1]
    )


def test_names_that_collide_get_numbers(run_cli, tmp_path: Path) -> None:
    mask = regions(("car", disc(30, 30, 9), 0.5))
    tasks = [
        {**task(k, mask, None), "data": {"image": url}}
        for k, url in enumerate(
            ("/data/upload/1/00000000-a.jpg", "/data/upload/2/11111111-A.jpg", "s3://b/a.png")
        )
    ]
    assert (
        run_cli(
            "convert",
            write_export(tmp_path / "e.json", tasks),
            tmp_path / "out",
            "--to",
            "voc",
            "--no-progress",
        )[0]
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "out/SegmentationClass").iterdir()) == [
        "A_jpg.png",
        "a.png",
        "a_png.png",
    ]


def test_mistakes_are_answered_before_any_work(run_cli, source: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        ((source, tmp_path / "out"), "--to missing"),
        ((source,), "OUT, --to missing"),
        ((tmp_path / "nosuch", tmp_path / "out", "--to", "coco"), "no such file or folder"),
        ((source, source, "--to", "labelme"), "is where the annotations come from"),
        ((source, source / "plain.json", "--to", "coco"), "is a file; name a folder"),
        ((source, tmp_path, "--to", "yolo"), "choose a folder beside or inside of it"),
        ((source, tmp_path / "out", "--to", "coco", "--images", tmp_path / "nosuch"), "--images: "),
        (
            (source, tmp_path / "out", "--to", "coco", "--simplify", "-1"),
            "--simplify: expected 0 or more",
        ),
        ((source, tmp_path / "out", "--to", "coco", "--from", "voc"), "no label maps"),
        (
            (source, tmp_path / "out", "--to", "coco", "--from", "yolo"),
            "no data.yaml or classes.txt",
        ),
        (
            (source / "plain.jpg", tmp_path / "out", "--to", "coco"),
            "is neither a folder nor a JSON file",
        ),
        ((source, "--check", source), "--check: only looks"),
    ):
        code, _, err = run_cli("convert", *arguments)
        assert (code, sentence in err) == (2, True), err
    (tmp_path / "nothing").mkdir()
    assert (
        "say which it is with --from"
        in run_cli("convert", tmp_path / "nothing", tmp_path / "out", "--to", "coco")[2]
    )


def test_voc_without_objects_takes_connected_parts(run_cli, tmp_path: Path) -> None:
    root = tmp_path / "voc"
    (root / "SegmentationClass").mkdir(parents=True)
    classes = np.zeros((20, 30), np.uint8)
    classes[2:8, 2:8] = classes[12:18, 20:28] = 1
    classes[3:6, 15:19] = 2
    classes[0, :] = 255
    (root / "SegmentationClass/a.png").write_bytes(encode_png(classes))
    assert (
        "name its classes with --classes"
        in run_cli("convert", root, tmp_path / "o", "--to", "labelme")[2]
    )
    code, text, _ = run_cli(
        "convert",
        root,
        tmp_path / "out",
        "--to",
        "labelme",
        "--classes",
        "cat,dog",
        "--no-progress",
    )
    assert (code, "every connected part of a class is taken for one object" in text) == (0, True)
    assert [one[0] for one in objects(tmp_path / "out/a.json")] == [
        "cat",
        "cat",
        "dog",
        "__ignore__",
    ]
    run_cli("convert", tmp_path / "out", tmp_path / "back", "--to", "voc", "--no-progress")
    assert np.array_equal(
        np.array(PIL.Image.open(tmp_path / "back/SegmentationClass/a.png")), classes
    )
    (root / "SegmentationClass/a.png").write_bytes(encode_png(classes + 2))
    assert (
        "beyond the 2 classes"
        in run_cli(
            "convert",
            root,
            tmp_path / "o2",
            "--to",
            "labelme",
            "--classes",
            "cat,dog",
            "--no-progress",
        )[1]
    )


def test_a_full_disk_stops_and_keeps_what_was_there(
    run_cli, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    out = tmp_path / "out"
    assert run_cli("convert", source, out, "--to", "coco", "--no-progress")[0] == 0
    before = content(out)
    simple(source / "zz.json")

    def full(stream: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, text, err = run_cli("convert", source, out, "--to", "coco", "--no-progress")
    assert code == 1
    assert "no space left on device" in (text + err).lower()
    assert content(out) == before
    assert not list(out.rglob(".yolosam2.*.tmp"))


def test_an_interrupted_run_ends_with_130_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    simple(folder / "0.json", np.pad(np.ones((600, 800), bool), 4))
    for k in range(1, 400):
        shutil.copy(folder / "0.json", folder / f"{k}.json")
    command = [
        PYTHON,
        "-m",
        "backend",
        "convert",
        str(folder),
        str(tmp_path / "out"),
        "--to",
        "voc",
        "--no-progress",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "out").rglob("*.png")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "stopped early: interrupted; run the same command again" in out
    assert not (tmp_path / "out/class_names.txt").exists()
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0
    assert len((tmp_path / "out/ImageSets/Segmentation/train.txt").read_text().split()) == 400
    assert all(
        read_label_map(path).any() for path in (tmp_path / "out/SegmentationClass").iterdir()
    )


_PEAK = """
import sys
from pathlib import Path
from backend.cli.main import main
code = main(["convert", sys.argv[1], sys.argv[2], "--to", sys.argv[3]])
status = Path("/proc/self/status").read_text()
print(code, next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
"""


def many(folder: Path, count: int, rng: np.random.Generator) -> Path:
    """A folder of labelme files with four masks each, all of one picture."""
    folder.mkdir()
    write_picture(folder / "picture.jpg", 240, 320)
    rows, columns = np.mgrid[:240, :320]
    shapes = [
        shape(
            f"class {k % 3}",
            np.hypot(rows - rng.integers(30, 200), columns - rng.integers(30, 280)) < 25 + k,
        )
        for k in range(4)
    ]
    text = json.dumps(
        {
            "shapes": shapes,
            "imagePath": "picture.jpg",
            "imageData": None,
            "imageHeight": 240,
            "imageWidth": 320,
        }
    )
    for number in range(count):
        (folder / f"{number:05d}.json").write_text(text)
    return folder


def peak(source: Path, out: Path, target: str) -> tuple[int, str, str]:
    """Peak memory in KiB, stdout and stderr."""
    done = subprocess.run(
        [PYTHON, "-c", _PEAK, str(source), str(out), target],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    code, used = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stdout
    return int(used), done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_thousand_files_in_bounded_memory(tmp_path: Path, rng: np.random.Generator) -> None:
    """To COCO and to Label Studio, whose files hold all images, and from them back to labelme."""
    few = many(tmp_path / "few", 250, rng)
    lots = many(tmp_path / "lots", 5000, rng)
    for target in ("coco", "label-studio"):
        small, _, _ = peak(few, tmp_path / f"few-{target}", target)
        large, said, progress = peak(lots, tmp_path / f"lots-{target}", target)
        assert "converted 5000 images with 20000 instances" in said
        assert "5000/5000" in progress
        assert large - small < 40 << 10, (small, large)
        small, _, _ = peak(tmp_path / f"few-{target}", tmp_path / f"few-{target}-back", "labelme")
        large, said, _ = peak(
            tmp_path / f"lots-{target}", tmp_path / f"lots-{target}-back", "labelme"
        )
        assert "converted 5000 images with 20000 instances" in said
        assert large - small < 40 << 10, (small, large)
        assert len(list((tmp_path / f"lots-{target}-back").rglob("*.json"))) == 5000


def test_the_window_of_the_summary(run_cli, tmp_path: Path) -> None:
    """Sixty failures, all different: fifty lines are shown; then all the same: one line.

    The JSON has all.
    """
    (tmp_path / "s").mkdir()
    for k in range(60):
        (tmp_path / f"s/{k}.json").write_text(
            json.dumps({"shapes": [], "imageHeight": -k, "imageWidth": 9})
        )
    code, text, _ = run_cli(
        "convert", tmp_path / "s", tmp_path / "out", "--to", "coco", "--no-progress"
    )
    assert (code, "... and 10 more lines; --json lists all" in text) == (1, True)
    for k in range(60):
        (tmp_path / f"s/{k}.json").write_text('{"shapes": []}')
    code, text, _ = run_cli(
        "convert", tmp_path / "s", tmp_path / "out", "--to", "coco", "--no-progress"
    )
    assert (
        code,
        "60 times: imageHeight and imageWidth are missing, and its picture, which would tell them,"
        " is not at hand (--images names its folder) (such as"
        f" {tmp_path / 's/0.json'}, " in text,
    ) == (1, True)
    assert (
        len(
            json.loads(
                run_cli(
                    "convert",
                    tmp_path / "s",
                    tmp_path / "out",
                    "--to",
                    "coco",
                    "--no-progress",
                    "--json",
                )[1]
            )["failed"]
        )
        == 60
    )


def test_a_picture_of_one_pixel_goes_everywhere(run_cli, tmp_path: Path) -> None:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (1, 1)).save(stream, "PNG")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/a.png").write_bytes(stream.getvalue())
    document = {
        "shapes": [shape("cat", np.ones((1, 1), bool))],
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 1,
        "imageWidth": 1,
    }
    (tmp_path / "s/a.json").write_text(json.dumps(document))
    for target in FORMATS:
        code, text, _ = run_cli(
            "convert", tmp_path / "s", tmp_path / target, "--to", target, "--no-progress"
        )
        assert code == 0, text
        code, text, _ = run_cli(
            "convert",
            tmp_path / target,
            tmp_path / f"{target}-back",
            "--to",
            "labelme",
            "--no-progress",
            "--images",
            tmp_path / "s",
        )
        assert code == 0, text
        assert objects(tmp_path / f"{target}-back/a.json")[0][:2] == ("cat", b"\x01")


def numbered(out: Path) -> list[str]:
    return list(yaml.safe_load((out / "data.yaml").read_text())["names"].values())


def labelled(path: Path, *labels: str) -> Path:
    """A labelme file with a square of every label."""
    frames = [
        np.pad(np.ones((3, 3), bool), ((4, 9), (2 + 4 * k, 11 - 4 * k))) for k in range(len(labels))
    ]
    return simple(
        path,
        frames[0],
        shapes=[shape(label, frame) for label, frame in zip(labels, frames, strict=True)],
    )


@pytest.mark.parametrize("target", ["yolo", "voc", "coco"])
def test_classes_keep_their_numbers_in_a_folder(run_cli, tmp_path: Path, target: str) -> None:
    """A file that a person changed stays, and what its numbers mean must stay too."""
    folder = tmp_path / "s"
    out = tmp_path / "out"
    labelled(folder / "b.json", "cat")
    labelled(folder / "c.json", "dog")
    assert run_cli("convert", folder, out, "--to", target, "--no-progress")[0] == 0
    if target == "yolo":
        mine = (out / "labels/train/b.txt").read_text() * 2
        (out / "labels/train/b.txt").write_text(mine)
    labelled(folder / "a.json", "ant", "dog")
    run_cli("convert", folder, out, "--to", target, "--no-progress")
    if target == "yolo":
        assert numbered(out) == ["cat", "dog", "ant"]
        assert (out / "labels/train/b.txt").read_text() == mine
    elif target == "voc":
        assert (out / "class_names.txt").read_text().split() == [
            "_background_",
            "cat",
            "dog",
            "ant",
        ]
    else:
        assert [
            row["name"]
            for row in json.loads((out / "annotations/instances_train.json").read_text())[
                "categories"
            ]
        ] == ["cat", "dog", "ant"]
    code, _, err = run_cli(
        "convert", folder, out, "--to", target, "--no-progress", "--classes", "ant,cat,dog"
    )
    assert (code, "holds a conversion that numbers them otherwise: cat, dog, ant" in err) == (
        2,
        True,
    )


def test_a_class_may_be_called_background(run_cli, tmp_path: Path) -> None:
    labelled(tmp_path / "s/a.json", "background", "cat", "dog")
    for number, target in enumerate(("voc", "labelme", "coco", "yolo", "voc", "labelme")):
        source = tmp_path / (f"{number - 1}" if number else "s")
        assert (
            run_cli(
                "convert",
                source,
                tmp_path / str(number),
                "--to",
                target,
                "--no-progress",
                "--images",
                tmp_path / "s",
            )[0]
            == 0
        )
    assert [one[0] for one in objects(tmp_path / "5/a.json")] == ["background", "cat", "dog"]
    assert numbered(tmp_path / "3") == ["background", "cat", "dog"]


@pytest.mark.parametrize("label", ["a\nb", "\ud800"])
def test_labels_that_no_list_can_hold_cost_their_image(run_cli, tmp_path: Path, label: str) -> None:
    labelled(tmp_path / "s/a.json", label)
    labelled(tmp_path / "s/b.json", "dog")
    for target in ("voc", "yolo", "label-studio"):
        code, text, _ = run_cli(
            "convert", tmp_path / "s", tmp_path / target, "--to", target, "--no-progress"
        )
        assert (code, "converted 1 images" in text, "a.json: the label" in text) == (
            1,
            True,
            True,
        ), text
    assert (
        run_cli(
            "convert", tmp_path / "s", tmp_path / "labelme", "--to", "labelme", "--no-progress"
        )[0]
        == 0
    )
    assert (tmp_path / "labelme/labels.txt").read_text().split() == [
        "__ignore__",
        "_background_",
        "dog",
    ]


def test_tasks_with_several_pictures(run_cli, tmp_path: Path) -> None:
    left, right, other = (
        regions((label, disc(30, 30, 9), 0.5), salt=label) for label in ("car", "dog", "cat")
    )
    for one in right:
        one["to_name"] = "second"
    for one in other:
        one.update(to_name="pages", item_index=1)
    two = {
        "image": "/data/left.jpg",
        "second": "/data/right.jpg",
        "pages": ["/data/p0.jpg", "/data/p1.jpg"],
    }
    tasks = [
        {**task(1, [*left, *right, *other], None), "data": two},
        {
            **task(2, right, None),
            "data": {"image": "/data/left2.jpg", "image2": "/data/right2.jpg"},
        },
    ]
    code, text, _ = run_cli(
        "convert",
        write_export(tmp_path / "e.json", tasks),
        tmp_path / "out",
        "--to",
        "labelme",
        "--no-progress",
    )
    assert code == 1
    found = {
        path.stem: [one["label"] for one in json.loads(path.read_text())["shapes"]]
        for path in (tmp_path / "out").glob("*.json")
    }
    assert found == {"left": ["car"], "right": ["dog"], "p1": ["cat"]}
    assert (
        "task 2: data: has several pictures, image, image2, and none by the name of the tag"
        " 'second'" in text
    )


def test_a_picture_belongs_to_the_name_it_has(run_cli, tmp_path: Path) -> None:
    """labelme's imagePath goes before the name of its JSON.

    Two uploads of one name are not the same picture.
    """
    path = simple(tmp_path / "s/1.json", imagePath="../raw/photo.jpg")
    (tmp_path / "s/1.jpg").unlink()
    for name, size in (("photo.jpg", (14, 16)), ("1.jpg", (14, 16))):
        write_picture(tmp_path / "p" / name, *size)
    (tmp_path / "p/photo.jpg").write_bytes((tmp_path / "p/1.jpg").read_bytes() + b"photo")
    assert path.exists()
    run_cli(
        "convert",
        tmp_path / "s",
        tmp_path / "out",
        "--to",
        "yolo",
        "--no-progress",
        "--images",
        tmp_path / "p",
    )
    assert (tmp_path / "out/images/train/1.jpg").read_bytes().endswith(b"photo")
    write_picture(tmp_path / "q/cat.jpg", 60, 80)
    mask = regions(("car", disc(30, 30, 9), 0.5))
    tasks = [
        {**task(k, mask, None), "data": {"image": f"/data/upload/1/{k}aaaaaaa-cat.jpg"}}
        for k in (1, 2)
    ]
    export = write_export(tmp_path / "e.json", tasks)
    code, text, _ = run_cli(
        "convert",
        export,
        tmp_path / "two",
        "--to",
        "yolo",
        "--no-progress",
        "--images",
        tmp_path / "q",
    )
    assert (code, "converted 1 images" in text, "task 2: its picture is not at hand" in text) == (
        1,
        True,
        True,
    )


def test_unknown_keys_never_replace_labelmes_own(run_cli, tmp_path: Path) -> None:
    ring = [[1, 1, 7, 1, 7, 7]]
    odd = {
        "label": "vehicle",
        "points": [1],
        "mask": "m.png",
        "flags": ["occluded"],
        "group_id": "g1",
        "description": 5,
        "shape_type": "x",
        "mine": 1,
    }
    document = {
        "categories": [{"id": "7", "name": "car"}],
        "images": [
            {
                "id": 1.0,
                "file_name": "a.jpg",
                "height": 9.0,
                "width": 9.0,
                "version": "v2",
                "imagePath": "zzz.jpg",
                "shapes": [],
                "flags": 3,
            }
        ],
        "annotations": [{"id": 1, "image_id": "1", "category_id": 7, "segmentation": ring, **odd}],
    }
    (tmp_path / "c.json").write_text(json.dumps(document))
    assert (
        run_cli(
            "convert", tmp_path / "c.json", tmp_path / "out", "--to", "labelme", "--no-progress"
        )[0]
        == 0
    )
    made = read_document(tmp_path / "out/a.json")
    (one,) = made["shapes"]
    assert (made["version"], made["imagePath"], made["flags"], made["source"]["version"]) == (
        "5.5.0",
        "a.jpg",
        {},
        "v2",
    )
    assert (one["label"], one["shape_type"], one["flags"], one["group_id"], one["mine"]) == (
        "car",
        "mask",
        {},
        None,
        1,
    )
    assert one["source"] == {
        key: odd[key]
        for key in ("label", "points", "mask", "flags", "group_id", "description", "shape_type")
    }


def test_copies_of_an_object_stay_two(run_cli, tmp_path: Path) -> None:
    frames = [np.pad(np.ones((3, 3), bool), ((4, 7), (2 + 6 * k, 9 - 6 * k))) for k in range(2)]
    for key in ("voc_object", "group_id"):
        folder = tmp_path / key
        shapes = [shape("cat", frame, voc_object=1) for frame in frames]
        simple(folder / "s/a.json", frames[0], shapes=shapes)
        run_cli("convert", folder / "s", folder / "voc", "--to", "voc", "--no-progress")
        assert set(np.unique(read_label_map(folder / "voc/SegmentationObject/a.png"))) == {0, 1, 2}
    rows = [
        {
            "id": k,
            "image_id": 1,
            "category_id": 1,
            "segmentation": [[x, 1, x + 3, 1, x + 3, 5]],
            "group_id": 5,
        }
        for k, x in ((1, 1), (2, 8))
    ]
    document = {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": 1, "file_name": "a.jpg", "height": 14, "width": 14}],
        "annotations": rows,
    }
    (tmp_path / "c.json").write_text(json.dumps(document))
    run_cli("convert", tmp_path / "c.json", tmp_path / "out", "--to", "labelme", "--no-progress")
    assert len(objects(tmp_path / "out/a.json")) == 2


def test_numbers_that_json_cannot_hold_cost_their_image(run_cli, tmp_path: Path) -> None:
    simple(tmp_path / "s/a.json", note=float("nan"))
    simple(
        tmp_path / "s/b.json",
        shapes=[{**shape("cat", np.pad(np.ones((6, 8), bool), 4)), "score": float("nan")}],
    )
    for target in ("coco", "label-studio", "labelme"):
        code, text, _ = run_cli(
            "convert", tmp_path / "s", tmp_path / target, "--to", target, "--no-progress"
        )
        assert (
            code,
            "converted 1 images" in text,
            "a.json: holds a number that JSON cannot hold" in text,
        ) == (1, True, True), text
        code, text, _ = run_cli(
            "convert",
            tmp_path / target,
            tmp_path / f"{target}-back",
            "--to",
            "labelme",
            "--no-progress",
        )
        assert code == 0, text


def test_pictures_divided_anew_are_never_in_both_halves(run_cli, tmp_path: Path) -> None:
    for k in range(12):
        simple(tmp_path / f"s/{k}.json")
    for copy in ("copy", "link", "copy"):
        for split in ("train=0.5,val=0.5", "train=0.9,val=0.1"):
            code, text, _ = run_cli(
                "convert",
                tmp_path / "s",
                tmp_path / "out",
                "--to",
                "yolo",
                "--no-progress",
                "--split",
                split,
                "--copy",
                copy,
            )
            assert code == 0, text
            halves = [
                {path.stem for path in (tmp_path / "out" / kind / half).iterdir()}
                for kind in ("images", "labels")
                for half in ("train", "val")
            ]
            assert not halves[0] & halves[1]
            assert not halves[2] & halves[3]
            assert len(halves[0] | halves[1]) == 12
            assert all(
                path.is_symlink() == (copy == "link")
                for path in (tmp_path / "out/images").rglob("*.jpg")
            )


def test_a_persons_own_link_is_kept(run_cli, tmp_path: Path) -> None:
    simple(tmp_path / "s/a.json")
    write_picture(tmp_path / "other.jpg", 14, 16)
    (tmp_path / "out/images/train").mkdir(parents=True)
    (tmp_path / "out/images/train/a.jpg").symlink_to(tmp_path / "other.jpg")
    code, text, _ = run_cli(
        "convert",
        tmp_path / "s",
        tmp_path / "out",
        "--to",
        "yolo",
        "--no-progress",
        "--copy",
        "link",
    )
    assert (code, "kept 1 files" in text) == (1, True)
    assert (tmp_path / "out/images/train/a.jpg").resolve() == tmp_path / "other.jpg"


def test_the_output_may_lie_in_the_folder_of_pictures(run_cli, tmp_path: Path) -> None:
    simple(tmp_path / "s/a.json")
    (tmp_path / "photos").mkdir()
    shutil.move(tmp_path / "s/a.jpg", tmp_path / "photos/a.jpg")
    for _ in range(2):
        code, text, _ = run_cli(
            "convert",
            tmp_path / "s",
            tmp_path / "photos/yolo",
            "--to",
            "yolo",
            "--no-progress",
            "--images",
            tmp_path / "photos",
        )
        assert code == 0, text


def test_a_run_that_was_killed_knows_its_files(tmp_path: Path) -> None:
    for k in range(300):
        simple(tmp_path / f"s/{k:03}.json")
    command = [
        PYTHON,
        "-m",
        "backend",
        "convert",
        str(tmp_path / "s"),
        str(tmp_path / "out"),
        "--to",
        "yolo",
        "--no-progress",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(list((tmp_path / "out").rglob("*.txt"))) < 40:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    with (tmp_path / "out/.yolosam2-yolo").open("ab") as stream:
        stream.write(b"abc")  # half a line
    for k in range(300):
        simple(tmp_path / f"s/{k:03}.json", np.pad(np.ones((2, 2), bool), 7))
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, "kept" in done.stdout) == (0, False), done.stdout
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, "kept" in done.stdout) == (0, False), done.stdout


@pytest.mark.skipif(
    os.geteuid() != 0, reason="mounting needs root; the same fault is injected in the test above"
)
@pytest.mark.parametrize("target", FORMATS)
def test_a_disk_that_is_really_full(tmp_path: Path, target: str) -> None:
    for k in range(60):
        simple(tmp_path / f"s/{k:03}.json", np.random.default_rng(k).random((120, 160)) < 0.5)
    out = tmp_path / "out"
    out.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(out)], check=False
        ).returncode
    ):
        pytest.skip("no mounting here")
    command = [
        PYTHON,
        "-m",
        "backend",
        "convert",
        str(tmp_path / "s"),
        str(out),
        "--to",
        target,
        "--no-progress",
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.returncode in (1, 2), done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        assert "no space left on device" in (done.stdout + done.stderr).lower()
        subprocess.run(["mount", "-o", "remount,size=40m", str(out)], check=True)
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        subprocess.run(["umount", str(out)], check=False)


def test_one_odd_name_costs_only_itself(run_cli, tmp_path: Path) -> None:
    images = [
        {"id": k, "file_name": name, "height": 9, "width": 9}
        for k, name in enumerate(
            ("a.jpg", "a.json/b.jpg", "/".join(["x" * 190] * 30) + "/c.jpg", "d")
        )
    ]
    rows = [
        {
            "id": k,
            "image_id": k,
            "category_id": 1,
            "segmentation": [[1, 1, 7, 1, 7, 7], [], [1, 1, 2, 2]],
        }
        for k in range(4)
    ]
    (tmp_path / "c.json").write_text(
        json.dumps(
            {"categories": [{"id": 1, "name": "cat"}], "images": images, "annotations": rows}
        )
    )
    code, text, _ = run_cli(
        "convert", tmp_path / "c.json", tmp_path / "out", "--to", "labelme", "--no-progress"
    )
    assert (code, "converted 2 images" in text, "stopped" in text) == (1, True, False), text
    assert json.loads((tmp_path / "out/d.json").read_text())["imagePath"] == "d.jpg"
    assert "4 polygons of fewer than three corners" in text


def test_layouts_of_other_programs(run_cli, tmp_path: Path) -> None:
    """Roboflow's COCO and YOLO, lists besides train and val, a validation folder that is called
    valid.
    """
    for split in ("train", "valid"):
        write_picture(tmp_path / f"r/{split}/{split}.jpg", 9, 9)
        rows = [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 7, 1, 7, 7]]}]
        images = [{"id": 1, "file_name": f"{split}.jpg", "height": 9, "width": 9}]
        document = {"categories": [{"id": 1, "name": "cat"}], "images": images, "annotations": rows}
        (tmp_path / f"r/{split}/_annotations.coco.json").write_text(json.dumps(document))
    code, text, _ = run_cli(
        "convert", tmp_path / "r", tmp_path / "y", "--to", "yolo", "--no-progress"
    )
    assert (code, "(train 1, val 1)" in text) == (0, True), text
    shutil.move(tmp_path / "y/images/val", tmp_path / "y/images/valid")
    shutil.move(tmp_path / "y/labels/val", tmp_path / "y/labels/valid")
    (tmp_path / "y/data.yaml").write_text(
        "names: {'0': cat}\ntrain: ../images/train\nval: ../images/valid\ntest:"
        " ../images/test\nnc: 1\n"
    )
    code, text, _ = run_cli(
        "convert", tmp_path / "y", tmp_path / "again", "--to", "coco", "--no-progress"
    )
    assert (
        code,
        "(train 1, val 1)" in text,
        "test: '../images/test': no such file or folder" in text,
    ) == (0, True, True), text
    (tmp_path / "y/data.yaml").unlink()
    (tmp_path / "y/classes.txt").write_text("cat\n")
    (tmp_path / "y/labels/valid/orphan.txt").write_text("0 0 0 1 0 1 1\n")
    code, text, _ = run_cli(
        "convert", tmp_path / "y", tmp_path / "third", "--to", "coco", "--no-progress"
    )
    assert (code, "(train 1, val 1)" in text, "1 files in labels have no picture" in text) == (
        0,
        True,
        True,
    ), text
    (tmp_path / "y/data.yaml").write_text(
        "names: [cat]\ntrain: images/train\nval: images/valid\nkpt_shape: [17, 3]\n"
    )
    assert (
        "is a dataset of key points"
        in run_cli("convert", tmp_path / "y", tmp_path / "fourth", "--to", "coco", "--no-progress")[
            2
        ]
    )


def test_one_damaged_file_of_a_coco_dataset(run_cli, tmp_path: Path) -> None:
    samples = ROOT / "backend/demo/samples"
    run_cli("convert", samples, tmp_path / "c", "--to", "coco", "--no-progress")
    (tmp_path / "c/annotations/instances_train.json").write_text('{"categories": [{"id"')
    code, text, _ = run_cli(
        "convert", tmp_path / "c", tmp_path / "out", "--to", "labelme", "--no-progress"
    )
    assert (
        code,
        "converted 12 images" in text,
        "instances_train.json: is cut off or not JSON" in text,
    ) == (1, True, True), text


def test_lists_that_repeat_others_add_what_only_they_have(run_cli, tmp_path: Path) -> None:
    root = tmp_path / "v"
    for name in "abc":
        (root / "SegmentationClass").mkdir(parents=True, exist_ok=True)
        (root / f"SegmentationClass/{name}.png").write_bytes(encode_png(np.ones((9, 9), np.uint8)))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "class_names.txt").write_text("cat")
    (root / "ImageSets/Segmentation/val.txt").write_text("a\n")
    (root / "ImageSets/Segmentation/all.txt").write_text("a\nb\nc\n")
    code, text, _ = run_cli("convert", root, tmp_path / "c", "--to", "coco", "--no-progress")
    assert (code, "converted 3 images (val 1, all 2)" in text) == (0, True), text


def test_polygons_that_nobody_changes_stay_as_they_were_drawn(run_cli, tmp_path: Path) -> None:
    points = [[2.5, 1.25], [12.75, 3.0], [7.0, 11.5]]
    drawn = {
        "label": "cat",
        "points": points,
        "shape_type": "polygon",
        "group_id": None,
        "flags": {},
        "description": "",
        "mask": None,
    }
    simple(tmp_path / "s/a.json", shapes=[drawn, shape("dog", np.pad(np.ones((6, 8), bool), 4))])
    assert (
        run_cli(
            "convert",
            tmp_path / "s",
            tmp_path / "out",
            "--to",
            "labelme",
            "--shape",
            "polygon",
            "--no-progress",
        )[0]
        == 0
    )
    shapes = json.loads((tmp_path / "out/a.json").read_text())["shapes"]
    assert (shapes[0]["points"], shapes[1]["shape_type"]) == (points, "polygon")


def test_where_a_picture_is_said_to_be_is_said_on(run_cli, tmp_path: Path) -> None:
    """labels/ beside photos/: the picture was not looked at, and labelme still finds it from the
    new file.
    """
    simple(tmp_path / "labels/a.json", imagePath="../photos/a.jpg")
    (tmp_path / "photos").mkdir()
    shutil.move(tmp_path / "labels/a.jpg", tmp_path / "photos/a.jpg")
    assert (
        run_cli(
            "convert",
            tmp_path / "labels",
            tmp_path / "deep/er/out",
            "--to",
            "labelme",
            "--no-progress",
        )[0]
        == 0
    )
    assert (
        json.loads((tmp_path / "deep/er/out/a.json").read_text())["imagePath"]
        == "../../../photos/a.jpg"
    )


def test_options_without_effect_are_refused(run_cli, source: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        (("coco", "--shape", "polygon"), "--shape: is for --to labelme"),
        (("coco", "--simplify", "1"), "--simplify: is for outlines"),
        (("labelme", "--simplify", "1"), "--simplify: is for outlines"),
        (("labelme", "--split", "a=1,b=1"), "--split: labelme knows no lists"),
        (("yolo", "--classes", "nosuch.txt"), "--classes: nosuch.txt: no such file"),
    ):
        code, _, err = run_cli("convert", source, tmp_path / "out", "--to", *arguments)
        assert (code, sentence in err) == (2, True), err
    assert "labelme's own options go behind --" in run_cli("labelme", "x", "--labels", "y")[2]


def test_splits_may_come_one_after_the_other(run_cli, tmp_path: Path) -> None:
    labelled(tmp_path / "a/1.json", "cat")
    labelled(tmp_path / "b/2.json", "dog")
    for source, split in (("a", "train"), ("b", "val"), ("b", "val")):
        code, text, _ = run_cli(
            "convert",
            tmp_path / source,
            tmp_path / "out",
            "--to",
            "yolo",
            "--no-progress",
            "--split",
            split,
        )
        assert (code, "earlier conversion" in text) == (0, False), text
    document = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert document == {"train": "images/train", "val": "images/val", "names": {0: "cat", 1: "dog"}}
    assert sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt")
    ) == ["labels/train/1.txt", "labels/val/2.txt"]
    # What goes to another split leaves the one it was in.
    labelled(tmp_path / "b/1.json", "cat")
    (tmp_path / "b/2.json").unlink()
    code, text, _ = run_cli(
        "convert",
        tmp_path / "b",
        tmp_path / "out",
        "--to",
        "yolo",
        "--no-progress",
        "--split",
        "val",
    )
    assert (code, "removed 4 files" in text) == (0, True), text
    assert [
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt")
    ] == ["labels/val/1.txt"]


def test_a_picture_that_is_in_two_lists_is_told(run_cli, tmp_path: Path) -> None:
    folder = tmp_path / "coco" / "annotations"
    folder.mkdir(parents=True)
    for split in ("train", "val"):
        document = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]}
            ],
        }
        (folder / f"instances_{split}.json").write_text(json.dumps(document))
    code, out, _ = run_cli(
        "convert", tmp_path / "coco", tmp_path / "out", "--to", "coco", "--no-progress"
    )
    assert code == 0
    assert "1 pictures are in the source more than once, such as a.jpg" in out
