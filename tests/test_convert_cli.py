"""``yolosam2 convert`` as a user types it: damage, foreign files, paths that lead outside, strictness, resumption, memory."""

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

from backend.formats import voc
from labelme_plugin.files import read_document
from tests.conftest import PYTHON, ROOT
from tests.dataset_scenes import objects, shape, write_picture, write_scenes
from tests.exports import disc, regions, task
from tests.exports import write as write_export

FORMATS = ("labelme", "label-studio", "coco", "yolo", "voc")


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
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."}


@pytest.mark.parametrize("target", FORMATS)
def test_the_same_command_again_changes_nothing(run_cli, source: Path, tmp_path: Path, target: str) -> None:
    out = tmp_path / "out"
    code, text, err = run_cli("convert", source, out, "--to", target)
    assert code == 0, text
    assert "converted 5 images with 35 instances from labelme to " + target in text
    assert "100%" in err
    before = content(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name[0] != "." and path.suffix in (".txt", ".png", ".jpg")}
    assert run_cli("convert", source, out, "--to", target, "--no-progress")[0] == 0
    assert content(out) == before
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


@pytest.mark.parametrize(("target", "file"), [("labelme", "sub/deep/*.json"), ("yolo", "labels/train/plain.txt"), ("voc", "SegmentationClass/plain.png")])
def test_what_a_person_changed_is_kept(run_cli, source: Path, tmp_path: Path, target: str, file: str) -> None:
    out = tmp_path / "out"
    run_cli("convert", source, out, "--to", target, "--no-progress")
    (changed,) = out.glob(file)
    changed.write_bytes(changed.read_bytes() + b"\n")
    mine = changed.read_bytes()
    code, text, _ = run_cli("convert", source, out, "--to", target, "--no-progress")
    assert code == 1
    assert f"kept 1 files that this program did not write (--overwrite replaces them, with a .bak copy):\n  {changed}" in text
    assert changed.read_bytes() == mine
    code, text, _ = run_cli("convert", source, out, "--to", target, "--no-progress", "--overwrite")
    assert code == 0, text
    assert changed.read_bytes() != mine
    assert changed.with_name(changed.name + ".bak").read_bytes() == mine


@pytest.mark.parametrize(
    ("target", "file"),
    [("label-studio", "import.json"), ("coco", "annotations/instances_train.json"), ("yolo", "data.yaml"), ("voc", "class_names.txt")],
)
def test_a_folder_whose_list_of_classes_is_somebody_elses_is_refused(run_cli, source: Path, tmp_path: Path, target: str, file: str) -> None:
    theirs = tmp_path / "out" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text("cat\n")
    code, _, err = run_cli("convert", source, tmp_path / "out", "--to", target, "--no-progress")
    assert (code, "was not written by this program" in err) == (2, True)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file() and not path.name.startswith(".")] == [theirs]
    assert run_cli("convert", source, tmp_path / "out", "--to", target, "--no-progress", "--overwrite")[0] == 0
    assert theirs.with_name(theirs.name + ".bak").read_text() == "cat\n"
    assert theirs.read_text() != "cat\n"
    other = "coco" if target != "coco" else "yolo"
    assert run_cli("convert", source, tmp_path / "out", "--to", other, "--no-progress")[0] == 0  # two formats side by side
    assert "earlier conversion" not in run_cli("convert", source, tmp_path / "out", "--to", target, "--no-progress")[1]


def test_a_changed_source_is_converted_again_and_leftovers_are_named(run_cli, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    simple(tmp_path / "source/a.json")
    simple(tmp_path / "source/b.json")
    run_cli("convert", tmp_path / "source", tmp_path / "out", "--to", "yolo", "--no-progress")
    before = (tmp_path / "out/labels/train/a.txt").read_text()
    simple(tmp_path / "source/a.json", np.pad(np.ones((2, 2), bool), 7))
    (tmp_path / "source/b.json").unlink()
    code, text, _ = run_cli("convert", tmp_path / "source", tmp_path / "out", "--to", "yolo", "--no-progress")
    assert code == 0
    assert (tmp_path / "out/labels/train/a.txt").read_text() != before
    assert "2 files of an earlier conversion are still there and no part of this one, such as images/train/b.jpg" in text


def test_damaged_foreign_and_huge_files_are_named_and_do_not_stop_the_rest(run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    (folder / "vast.json").write_text('{"shapes": [], "imagePath": "x.jpg", "imageData": null, "imageHeight": 16000, "imageWidth": 16000}')
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
        "binary": "is not valid JSON",
        "no_size": "imageHeight: expected a number of pixels, got nothing",
        "vast": "an image of 16000x16000 pixels is too large",
        "other_size": "imageHeight and imageWidth say 16x99, but",
        "label": "shapes[0].label: expected a string",
        "huge": "200 MiB, the limit for a labelme file is 128",
    }.items():
        assert any(f"{name}.json" in line and sentence in line for line in text.splitlines()), (name, text)
    assert len(json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["images"]) == 1


def test_turned_pictures_of_files_without_regard_to_exif_are_explained(run_cli, tmp_path: Path) -> None:
    write_picture(tmp_path / "s/a.jpg", 30, 20, 6)
    (tmp_path / "s/a.json").write_text('{"shapes": [], "imagePath": "a.jpg", "imageData": null, "imageHeight": 20, "imageWidth": 30}')
    code, text, _ = run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "coco", "--no-progress")
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
    (folder / "up.json").write_text(json.dumps({"shapes": mask, "imagePath": "../secret/s.jpg", **size}))
    (folder / "absolute.json").write_text(json.dumps({"shapes": mask, "imagePath": str(secret / "s.jpg"), **size}))
    (folder / "link.jpg").symlink_to(secret / "s.jpg")
    (folder / "linked.json").write_text(json.dumps({"shapes": mask, "imagePath": "link.jpg", **size}))
    code, text, _ = run_cli("convert", folder, tmp_path / "out", "--to", "yolo", "--no-progress")
    assert code == 0
    assert "3 pictures that are not at hand" in text
    assert not list((tmp_path / "out").rglob("*.jpg"))
    # Only where the user names the folder are its pictures read.
    run_cli("convert", folder, tmp_path / "named", "--to", "yolo", "--no-progress", "--images", secret)
    assert len(list((tmp_path / "named").rglob("*.jpg"))) == 3


EVIL = ["../../evil.jpg", "/etc/evil.jpg", "a/../../../evil.jpg", "C:\\evil.jpg", "..\\..\\evil.jpg", "", "x\0y.jpg", "n" * 300 + ".jpg"]


@pytest.mark.parametrize("name", EVIL)
def test_names_in_coco_and_label_studio_write_nothing_outside(run_cli, tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    document = {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": 1, "file_name": name, "height": 9, "width": 9}, {"id": 2, "file_name": "good.jpg", "height": 9, "width": 9}],
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]], "iscrowd": 0} for k in (1, 2)],
    }
    (inner / "c.json").write_text(json.dumps(document))
    for target in FORMATS:
        out = inner / "deep" / target
        code, text, _ = run_cli("convert", inner / "c.json", out, "--to", target, "--no-progress")
        assert (code, "converted 1 images" in text) == (1, True)
        assert "images[0].file_name" in text
    made = task(1, regions(("car", disc(30, 30, 9), 0.5)), None)
    made["data"] = {"image": "/data/local-files/?d=" + name}
    (inner / "ls.json").write_text(json.dumps([made]))
    run_cli("convert", inner / "ls.json", inner / "deep" / "ls", "--to", "labelme", "--no-progress")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name and not path.is_relative_to(inner / "deep")]
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
    for root, entry in (("..", "other/images"), (str(tmp_path / "other"), "images"), ("", "../other/images"), ("", str(tmp_path / "other/images"))):
        (tmp_path / "data/data.yaml").write_text(yaml.safe_dump({"names": ["cat"], "train": entry, "val": entry, **({"path": root} if root else {})}))
        code, _, err = run_cli("convert", tmp_path / "data", tmp_path / "out", "--to", "coco", "--no-progress")
        assert (code, "outside of the folders that were given" in err or "no such file or folder" in err) == (2, True), err
    assert run_cli("convert", tmp_path / "data", tmp_path / "out", "--to", "coco", "--no-progress", "--images", tmp_path / "other")[0] == 0


def test_strict_refuses_what_the_target_cannot_hold(run_cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    simple(tmp_path / "s/plain.json")
    parts = np.zeros((20, 30), bool)
    parts[2:6, 2:6] = parts[12:18, 20:28] = True
    simple(tmp_path / "s/parts.json", parts)
    simple(tmp_path / "s/score.json", shapes=[{**shape("cat", np.pad(np.ones((6, 8), bool), 4)), "score": 0.5}])
    code, text, _ = run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "yolo", "--no-progress", "--strict")
    assert code == 1
    assert "converted 1 images" in text
    assert "parts.json: cannot be held without loss: 1 instances whose parts are joined by a line" in text
    assert "score.json: cannot be held without loss: 1 scores" in text
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.txt")) == ["plain.txt"]
    code, text, _ = run_cli("convert", tmp_path / "s", tmp_path / "loose", "--to", "yolo", "--no-progress", "--json")
    summary = json.loads(text)
    assert code == 0
    assert {key: summary["not_held_by_target"][key] for key in ("scores", "instances whose parts are joined by a line")} == {
        "scores": 1,
        "instances whose parts are joined by a line": 1,
    }
    assert summary["examples"]["scores"] == ["score.jpg"]


def test_classes_choose_and_order(run_cli, source: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("_background_\ntraffic light\nperson\nunicorn\n")
    code, text, _ = run_cli("convert", source, tmp_path / "out", "--to", "yolo", "--no-progress", "--classes", tmp_path / "names.txt")
    assert code == 0
    assert list(yaml.safe_load((tmp_path / "out/data.yaml").read_text())["names"].values()) == ["traffic light", "person", "unicorn"]
    assert "instances of other classes" in text
    rows = (tmp_path / "out/labels/train/plain.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["0", "1", "1"]


def test_splits_divide_always_the_same_way(run_cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for k in range(40):
        simple(tmp_path / f"s/{k}.json")
    code, text, _ = run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "yolo", "--no-progress", "--split", "train=0.75,val=0.25")
    assert code == 0
    val = {path.name for path in (tmp_path / "out/labels/val").iterdir()}
    assert 3 <= len(val) <= 18
    assert f"(train {40 - len(val)}, val {len(val)})" in text or f"(val {len(val)}, train {40 - len(val)})" in text
    for k in range(40, 60):
        simple(tmp_path / f"s/{k}.json")
    run_cli("convert", tmp_path / "s", tmp_path / "more", "--to", "yolo", "--no-progress", "--split", "train=3,val=1")
    assert val == {path.name for path in (tmp_path / "more/labels/val").iterdir()} & {f"{k}.txt" for k in range(40)}
    for wrong in ("train=x", "train=-1", "=1", "../x", "a/b=1"):
        assert "--split: expected" in run_cli("convert", tmp_path / "s", tmp_path / "out2", "--to", "yolo", "--split", wrong)[2]


def test_one_list_of_a_dataset(run_cli, tmp_path: Path) -> None:
    samples = ROOT / "backend/demo/samples"
    code, _, err = run_cli("convert", samples, tmp_path / "out", "--to", "coco", "--no-progress", "--split", "nosuch")
    assert (code, "no such list" in err) == (2, True)
    assert run_cli("convert", samples, tmp_path / "out", "--to", "coco", "--no-progress", "--split", "val")[0] == 0
    assert run_cli("convert", tmp_path / "out", tmp_path / "y", "--to", "yolo", "--no-progress", "--images", samples, "--copy", "link")[0] == 0
    pictures = list((tmp_path / "y/images/val").iterdir())
    assert len(pictures) == 12
    assert all(path.is_symlink() and path.is_file() for path in pictures)
    assert run_cli("convert", tmp_path / "y", tmp_path / "back", "--to", "voc", "--no-progress", "--images", samples)[0] == 0
    assert (tmp_path / "back/ImageSets/Segmentation/val.txt").read_text() == (samples / "ImageSets/Segmentation/val.txt").read_text()


def test_what_of_label_studio(run_cli, tmp_path: Path) -> None:
    old, new = regions(("car", disc(30, 30, 9), 0.5)), regions(("dog", disc(30, 30, 12), 0.5))
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
    export = write_export(tmp_path / "export.json", [several, truth, versions, ids, {"id": 5, "data": {"image": "/x.jpg"}}, 7])

    def labels(*more: object) -> tuple[dict[str, list[str]], str]:
        out = tmp_path / "-".join(["out", *map(str, more)]).replace("=", "_")
        _, text, _ = run_cli("convert", export, out, "--to", "labelme", "--no-progress", *more)
        return {path.stem: [one["label"] for one in json.loads(path.read_text())["shapes"]] for path in out.glob("*.json")}, text

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
    assert "--what: expected annotations, predictions or model_version=" in run_cli("convert", export, tmp_path / "x", "--to", "coco", "--what", "best")[2]


def test_tasks_without_a_region_need_their_picture(run_cli, tmp_path: Path) -> None:
    export = write_export(tmp_path / "export.json", [task(1, [], None), task(2, regions(("car", disc(30, 30, 9), 0.5)), None)])
    code, text, _ = run_cli("convert", export, tmp_path / "out", "--to", "coco", "--no-progress")
    assert code == 1
    assert "task 1: how large the picture is nobody says; name the folder of the pictures with --images" in text
    write_picture(tmp_path / "pictures/1.jpg", 60, 80)
    write_picture(tmp_path / "pictures/2.jpg", 61, 80)
    code, text, _ = run_cli("convert", export, tmp_path / "again", "--to", "coco", "--no-progress", "--images", tmp_path / "pictures")
    assert "task 2: annotations[0]: regions are of 80x60, but its picture is 80x61" in text
    assert [row["file_name"] for row in json.loads((tmp_path / "again/annotations/instances_train.json").read_text())["images"]] == ["1.jpg"]
    assert run_cli("convert", export, tmp_path / "yolo", "--to", "yolo", "--no-progress")[0] == 0  # an empty label file needs no size
    assert (tmp_path / "yolo/labels/train/1.txt").read_text() == ""


def test_pictures_embedded_in_labelme_files_are_written_where_they_are_needed(run_cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    path = simple(tmp_path / "s/a.json")
    data = (tmp_path / "s/a.jpg").read_bytes()
    (tmp_path / "s/a.jpg").unlink()
    document = {**json.loads(path.read_text()), "imageData": base64.b64encode(data).decode(), "imagePath": "a.json"}
    path.write_text(json.dumps(document))
    for target, place in (("yolo", "images/train/a.jpeg"), ("voc", "JPEGImages/a.jpeg"), ("labelme", "a.jpeg")):
        assert run_cli("convert", tmp_path / "s", tmp_path / target, "--to", target, "--no-progress")[0] == 0
        assert (tmp_path / target / place).read_bytes() == data
    assert json.loads((tmp_path / "labelme/a.json").read_text())["imagePath"] == "a.jpeg"
    path.write_text(json.dumps({**document, "imageData": "%%%"}))
    assert "a.json" in run_cli("convert", tmp_path / "s", tmp_path / "bad", "--to", "yolo", "--no-progress")[1]


def test_names_that_collide_get_numbers(run_cli, tmp_path: Path) -> None:
    mask = regions(("car", disc(30, 30, 9), 0.5))
    tasks = [
        {**task(k, mask, None), "data": {"image": url}}
        for k, url in enumerate(("/data/upload/1/00000000-a.jpg", "/data/upload/2/11111111-A.jpg", "s3://b/a.png"))
    ]
    assert run_cli("convert", write_export(tmp_path / "e.json", tasks), tmp_path / "out", "--to", "voc", "--no-progress")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out/SegmentationClass").iterdir()) == ["A_jpg.png", "a.png", "a_png.png"]


def test_mistakes_are_answered_before_any_work(run_cli, source: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        ((source, tmp_path / "out"), "--to missing"),
        ((source,), "OUT, --to missing"),
        ((tmp_path / "nosuch", tmp_path / "out", "--to", "coco"), "no such file or folder"),
        ((source, source, "--to", "labelme"), "is where the annotations come from"),
        ((source, source / "plain.json", "--to", "coco"), "is a file; name a folder"),
        ((source, tmp_path, "--to", "yolo"), "choose a folder beside or inside of it"),
        ((source, tmp_path / "out", "--to", "coco", "--images", tmp_path / "nosuch"), "--images: "),
        ((source, tmp_path / "out", "--to", "coco", "--simplify", "-1"), "--simplify: expected 0 or more"),
        ((source, tmp_path / "out", "--to", "coco", "--from", "voc"), "no label maps"),
        ((source, tmp_path / "out", "--to", "coco", "--from", "yolo"), "no data.yaml or classes.txt"),
        ((source / "plain.jpg", tmp_path / "out", "--to", "coco"), "is neither a folder nor a JSON file"),
        ((source, "--check", source), "--check: only looks"),
    ):
        code, _, err = run_cli("convert", *arguments)
        assert (code, sentence in err) == (2, True), err
    (tmp_path / "nothing").mkdir()
    assert "say which it is with --from" in run_cli("convert", tmp_path / "nothing", tmp_path / "out", "--to", "coco")[2]


def test_voc_without_objects_takes_connected_parts(run_cli, tmp_path: Path) -> None:
    root = tmp_path / "voc"
    (root / "SegmentationClass").mkdir(parents=True)
    classes = np.zeros((20, 30), np.uint8)
    classes[2:8, 2:8] = classes[12:18, 20:28] = 1
    classes[3:6, 15:19] = 2
    classes[0, :] = 255
    (root / "SegmentationClass/a.png").write_bytes(voc.encode_png(classes))
    assert "name its classes with --classes" in run_cli("convert", root, tmp_path / "o", "--to", "labelme")[2]
    code, text, _ = run_cli("convert", root, tmp_path / "out", "--to", "labelme", "--classes", "cat,dog", "--no-progress")
    assert (code, "every connected part of a class is taken for one object" in text) == (0, True)
    assert [one[0] for one in objects(tmp_path / "out/a.json")] == ["cat", "cat", "dog", "__ignore__"]
    run_cli("convert", tmp_path / "out", tmp_path / "back", "--to", "voc", "--no-progress")
    assert np.array_equal(np.array(PIL.Image.open(tmp_path / "back/SegmentationClass/a.png")), classes)
    (root / "SegmentationClass/a.png").write_bytes(voc.encode_png(classes + 2))
    assert "beyond the 2 classes" in run_cli("convert", root, tmp_path / "o2", "--to", "labelme", "--classes", "cat,dog", "--no-progress")[1]


def test_a_full_disk_stops_and_keeps_what_was_there(run_cli, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    command = [PYTHON, "-m", "backend", "convert", str(folder), str(tmp_path / "out"), "--to", "voc", "--no-progress"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").rglob("*.png")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "stopped early: interrupted; run the same command again" in out
    assert not (tmp_path / "out/class_names.txt").exists()
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0
    assert len((tmp_path / "out/ImageSets/Segmentation/train.txt").read_text().split()) == 400
    assert all(voc.read_label_map(path).any() for path in (tmp_path / "out/SegmentationClass").iterdir())


_PEAK = """
import sys
from pathlib import Path
from backend.cli import main
code = main(["convert", sys.argv[1], sys.argv[2], "--to", sys.argv[3]])
status = Path("/proc/self/status").read_text()
print(code, next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
"""


def many(folder: Path, count: int, rng: np.random.Generator) -> Path:
    """A folder of labelme files with eight masks each, all of one picture."""
    folder.mkdir()
    write_picture(folder / "picture.jpg", 240, 320)
    rows, columns = np.mgrid[:240, :320]
    shapes = [shape(f"class {k % 3}", np.hypot(rows - rng.integers(30, 200), columns - rng.integers(30, 280)) < 25 + k) for k in range(8)]
    text = json.dumps({"shapes": shapes, "imagePath": "picture.jpg", "imageData": None, "imageHeight": 240, "imageWidth": 320})
    for number in range(count):
        (folder / f"{number:05d}.json").write_text(text)
    return folder


def peak(source: Path, out: Path, target: str) -> tuple[int, str, str]:
    """Peak memory in KiB, stdout and stderr."""
    done = subprocess.run([PYTHON, "-c", _PEAK, str(source), str(out), target], capture_output=True, text=True, cwd=ROOT, check=True)
    code, used = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stdout
    return int(used), done.stdout, done.stderr


@pytest.mark.timeout(900)
def test_five_thousand_files_in_bounded_memory(tmp_path: Path, rng: np.random.Generator) -> None:
    """To COCO and to Label Studio, whose files hold all images, and from them back to labelme."""
    few, lots = many(tmp_path / "few", 250, rng), many(tmp_path / "lots", 5000, rng)
    for target in ("coco", "label-studio"):
        small, _, _ = peak(few, tmp_path / f"few-{target}", target)
        large, said, progress = peak(lots, tmp_path / f"lots-{target}", target)
        assert "converted 5000 images with 40000 instances" in said
        assert "5000/5000" in progress
        assert large - small < 40 << 10, (small, large)
        small, _, _ = peak(tmp_path / f"few-{target}", tmp_path / f"few-{target}-back", "labelme")
        large, said, _ = peak(tmp_path / f"lots-{target}", tmp_path / f"lots-{target}-back", "labelme")
        assert "converted 5000 images with 40000 instances" in said
        assert large - small < 40 << 10, (small, large)
    one = read_document(tmp_path / "lots-coco-back/04999.json") if (tmp_path / "lots-coco-back/04999.json").exists() else None
    assert one is not None or list((tmp_path / "lots-coco-back").glob("*.json"))


def test_the_window_of_the_summary(run_cli, tmp_path: Path) -> None:
    """Sixty failures: fifty are shown, all are in the JSON."""
    (tmp_path / "s").mkdir()
    for k in range(60):
        (tmp_path / f"s/{k}.json").write_text("{")
    code, text, _ = run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "coco", "--no-progress")
    assert (code, "... and 10 more; --json lists all" in text) == (1, True)
    assert len(json.loads(run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "coco", "--no-progress", "--json")[1])["failed"]) == 60


def test_a_picture_of_one_pixel_goes_everywhere(run_cli, tmp_path: Path) -> None:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (1, 1)).save(stream, "PNG")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/a.png").write_bytes(stream.getvalue())
    document = {"shapes": [shape("cat", np.ones((1, 1), bool))], "imagePath": "a.png", "imageData": None, "imageHeight": 1, "imageWidth": 1}
    (tmp_path / "s/a.json").write_text(json.dumps(document))
    for target in FORMATS:
        code, text, _ = run_cli("convert", tmp_path / "s", tmp_path / target, "--to", target, "--no-progress")
        assert code == 0, text
        code, text, _ = run_cli("convert", tmp_path / target, tmp_path / f"{target}-back", "--to", "labelme", "--no-progress", "--images", tmp_path / "s")
        assert code == 0, text
        assert objects(tmp_path / f"{target}-back/a.json")[0][:2] == ("cat", b"\x01")
