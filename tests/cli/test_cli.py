"""The program as a user types it: results, exit codes, clear sentences, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from labelme._label_file import LabelFile

from backend.core.masks import full_frame
from backend.demo.dataset import true_detections
from backend.demo.run import SAMPLES
from backend.demo.scenes.compose import Scene
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import Unavailable
from backend.files.images import read_image
from backend.formats.label_studio.from_result import from_result
from backend.formats.voc.class_names import read_class_names
from backend.formats.voc.label_maps import decode_png
from backend.labeling.annotate import annotate
from backend.labeling.cascade import Cascade
from backend.labeling.picture_work import RunOptions
from backend.labeling.sources import collect
from labelme_plugin import document as labelme
from labelme_plugin.shapes import mask_of
from tests.conftest import PYTHON, ROOT

DEMO = ("--detector", "demo", "--segmenter", "demo", "--device", "cpu", "--no-progress")


def write_prompts(path: Path, ids: list[str], scenes: Sequence[Scene] = ()) -> Path:
    """One row of class 1 per image, with the box of its first object where scenes are given."""
    boxes = [true_detections(scene).xyxy[0].tolist() for scene in scenes] or [
        [10, 20, 90, 100]
    ] * len(ids)
    path.write_text(
        json.dumps(
            [
                {"image_id": i, "category_id": 1, "bbox": box, "score": 0.9}
                for i, box in zip(ids, boxes, strict=True)
            ]
        )
    )
    return path


def test_annotate_writes_every_format(run_cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = run_cli(
        "annotate", pictures, "--out", out, "--format", "labelme,label-studio,voc,overlay", *DEMO
    )
    assert code == 0
    assert "labelled 3 images" in text
    for stem in ("a", "b", "sub ä #1/图 c?"):
        document = labelme.read_document(out / f"{stem}.json")
        assert (out / f"{stem}.json").parent.joinpath(document["imagePath"]).resolve().is_file()
        classes = decode_png((out / "SegmentationClass" / f"{stem}.png").read_bytes(), stem)
        assert (document["imageHeight"], document["imageWidth"]) == classes.shape
        painted = np.zeros(classes.shape, np.uint8)
        names = read_class_names(out / "class_names.txt")
        for shape in sorted(document["shapes"], key=lambda shape: shape["score"]):
            painted[full_frame(mask_of(shape), classes.shape)] = names.index(shape["label"]) + 1
        assert (
            painted == classes
        ).mean() > 0.999  # scores in the JSON are rounded, so ties may fall the other way
        assert (out / "overlays" / f"{stem}.jpg").stat().st_size > 1000
    tasks = json.loads((out / "label-studio" / "import.json").read_text())
    assert [t["data"]["image"] for t in tasks] == [
        "/data/local-files/?d=" + q
        for q in ("a.jpg", "b.JPG", "sub%20%C3%A4%20%231/%E5%9B%BE%20c%3F.jpg")
    ]
    first = from_result(tasks[0]["predictions"][0]["result"], names)
    assert sorted(i.label for i in first.instances) == sorted(
        s["label"] for s in labelme.read_document(out / "a.json")["shapes"]
    )
    assert "BrushLabels" in (out / "label-studio" / "label_config.xml").read_text()


def test_annotate_writes_datasets_to_train_on(run_cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = run_cli(
        "annotate", pictures, "--out", out, "--format", "coco,yolo,overlay", *DEMO
    )
    assert code == 0
    assert "from labelme to coco" in text
    shapes = [
        shape
        for path in (out / "labelme").rglob("*.json")
        for shape in labelme.read_document(path)["shapes"]
    ]
    document = json.loads((out / "coco/annotations/instances_train.json").read_text())
    assert [row["name"] for row in document["categories"]] == list(CLASS_NAMES)
    assert sorted(row["score"] for row in document["annotations"]) == sorted(
        shape["score"] for shape in shapes
    )
    assert {row["file_name"] for row in document["images"]} == {
        "a.jpg",
        "b.JPG",
        "sub ä #1/图 c?.jpg",
    }
    lines = [
        line
        for path in (out / "yolo/labels/train").rglob("*.txt")
        for line in path.read_text().splitlines()
    ]
    assert len(lines) == len(shapes)
    assert sorted(path.name for path in (out / "yolo/images/train").rglob("*.*")) == [
        "a.jpg",
        "b.JPG",
        "图 c?.jpg",
    ]
    again = run_cli("annotate", pictures, "--out", out, "--format", "coco,yolo", "--json", *DEMO)
    assert (again[0], json.loads(again[1])["skipped"]["done"]) == (0, 3)


def test_the_same_command_again_does_nothing(run_cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_cli("annotate", pictures, "--out", out, *DEMO)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*.json")}
    (out / "a.json").unlink()
    code, text, _ = run_cli("annotate", pictures, "--out", out, "--json", *DEMO)
    summary = json.loads(text)
    assert (code, summary["images"], summary["skipped"]["done"]) == (0, 1, 2)
    for path, (stamp, data) in before.items():
        assert path.read_bytes() == data
        assert path.name == "a.json" or path.stat().st_mtime_ns == stamp


def test_what_other_settings_made_is_told(run_cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_cli("annotate", pictures, "--out", out, *DEMO)[0] == 0
    _, text, _ = run_cli("annotate", pictures, "--out", out, *DEMO)
    assert "skipped 3 that were done before" in text
    assert "other models or settings" not in text
    _, text, _ = run_cli("annotate", pictures, "--out", out, "--conf", "0.6", *DEMO)
    assert "skipped 3 that were done before" in text
    assert "3 of them by other models or settings than now" in text


def test_what_still_shows_the_models_work_after_a_correction_is_told(
    run_cli, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    both = ("annotate", pictures, "--out", out, "--format", "labelme,voc", *DEMO)
    assert run_cli(*both)[0] == 0
    corrected = json.loads((out / "a.json").read_text())
    corrected["shapes"] = []
    (out / "a.json").write_text(json.dumps(corrected))
    _, text, _ = run_cli(*both)
    assert "1 of those are corrected in one format" in text
    assert "yolosam2 convert makes those" in text


def test_d06_what_a_person_made_is_kept(run_cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    hand = (
        '{"version": "5.5.0", "flags": {}, "shapes": [], "imagePath": "../pictures/a.jpg",'
        ' "imageData": null}'
    )
    (out / "a.json").write_text(hand)
    code, text, _ = run_cli("annotate", pictures, "--out", out, *DEMO)
    assert code == 0
    assert "kept 1 files that a person made" in text
    assert (out / "a.json").read_text() == hand
    code, _, _ = run_cli("annotate", pictures, "--out", out, "--overwrite", *DEMO)
    assert code == 0
    assert (out / "a.json").read_text() != hand
    assert (out / "a.json.bak").read_text() == hand


def test_what_a_person_saves_during_the_run_is_kept(
    fake: Cascade, pictures: Path, tmp_path: Path
) -> None:
    """The annotator saves b while the run is on its way there.

    The other format of b is still written.
    """
    out = tmp_path / "out"
    items = collect([pictures], "val").items
    hand = '{"shapes": []}'
    inner = fake.infer

    def infer(images, given=None):  # type: ignore[no-untyped-def]
        (out / "b.json").write_text(hand)
        return inner(images, given)

    fake.infer = infer  # type: ignore[method-assign]
    summary = annotate(items, fake, ["labelme", "voc"], out, RunOptions(progress=False))
    assert (out / "b.json").read_text() == hand
    assert (summary.labelled, summary.hand_made, summary.failed) == (3, 1, [])
    assert (out / "SegmentationClass" / "b.png").is_file()
    assert labelme.unchanged_version_of(out / "a.json")


def test_labels_beside_the_pictures(run_cli, pictures: Path) -> None:
    for labelled in (3, 0):  # the pictures that the first run writes are not taken for new ones
        code, text, _ = run_cli(
            "annotate",
            pictures,
            "--out",
            pictures,
            "--format",
            "labelme,voc,overlay",
            "--json",
            *DEMO,
        )
        assert (code, json.loads(text)["images"]) == (0, labelled)
    assert labelme.read_document(pictures / "a.json")["imagePath"] == "a.jpg"
    assert labelme.read_document(pictures / "sub ä #1" / "图 c?.json")["imagePath"] == "图 c?.jpg"


def test_an_unreadable_image_among_good_ones(run_cli, pictures: Path, tmp_path: Path) -> None:
    (pictures / "aa_torn.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:3000])
    (pictures / "login.png").write_text("<html>Sign in</html>")
    code, text, _ = run_cli("annotate", pictures, "--out", tmp_path / "out", *DEMO)
    assert code == 1
    assert "labelled 3 images" in text
    assert "aa_torn.jpg: truncated or damaged: image file is truncated" in text
    assert "login.png: got text/html instead of an image" in text
    assert len(list((tmp_path / "out").rglob("*.json"))) == 3


def test_prompts_replace_the_detector(
    run_cli, pictures: Path, scenes: list[Scene], tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path / "p.json", ["a", "sub ä #1/图 c?"], [scenes[0], scenes[2]])
    code, text, _ = run_cli(
        "annotate",
        pictures,
        "--out",
        tmp_path / "out",
        "--prompts",
        prompts,
        "--classes",
        "cat,dog",
        "--json",
        *DEMO[2:],
    )
    summary = json.loads(text)
    assert code == 0
    assert summary["images"] == 3
    assert summary["instances"] == {"dog": 2}
    assert summary["without_instances"] == 1


def test_a_voc_dataset_brings_its_names(run_cli, tmp_path: Path) -> None:
    from backend.demo.dataset import write_voc

    write_voc(tmp_path / "voc", 2_000_900, 3)
    prompts = tmp_path / "voc" / "prediction.json"
    out = tmp_path / "out"
    code, _, _ = run_cli(
        "annotate",
        tmp_path / "voc",
        "--out",
        out,
        "--format",
        "voc",
        "-p",
        prompts,
        "-b",
        "2",
        *DEMO[2:],
    )
    assert code == 0
    for path in sorted((tmp_path / "voc" / "SegmentationClass").glob("*.png")):
        truth, found = (
            decode_png(p.read_bytes(), p.name)
            for p in (path, out / "SegmentationClass" / path.name)
        )
        assert (truth == found).mean() > 0.9
    assert (out / "class_names.txt").read_text() == (
        tmp_path / "voc" / "class_names.txt"
    ).read_text()


def test_visualize_draws(run_cli, pictures: Path, tmp_path: Path) -> None:
    code, _, _ = run_cli("visualize", pictures / "a.jpg", "--out", tmp_path / "out", *DEMO)
    assert code == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.jpg"]
    assert (tmp_path / "out" / "a.jpg").read_bytes() != (pictures / "a.jpg").read_bytes()


def test_pictures_are_never_overwritten(run_cli, pictures: Path) -> None:
    before = (pictures / "a.jpg").read_bytes()
    for flags in ((), ("--overwrite",)):
        code, _, err = run_cli("visualize", pictures, "--out", pictures, *flags, *DEMO)
        assert code == 2
        assert "is one of the pictures to label" in err
    assert (pictures / "a.jpg").read_bytes() == before


def test_foreign_pictures_in_the_output_folder_are_kept(
    run_cli, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(pictures / "b.JPG", out / "a.jpg")
    code, text, _ = run_cli("visualize", pictures / "a.jpg", "--out", out, *DEMO)
    assert code == 0
    assert "kept 1 files that a person made" in text
    assert (out / "a.jpg").read_bytes() == (pictures / "b.JPG").read_bytes()
    assert run_cli("visualize", pictures / "a.jpg", "--out", out, "--overwrite", *DEMO)[0] == 0
    assert (out / "a.jpg.bak").read_bytes() == (pictures / "b.JPG").read_bytes()
    assert read_image(out / "a.jpg").shape == read_image(pictures / "a.jpg").shape
    code, text, _ = run_cli("visualize", pictures / "a.jpg", "--out", out, "--json", *DEMO)
    assert json.loads(text)["skipped"] == {"done": 1, "hand_made": 0, "outdated": 0}


def test_pictures_that_changed_since_are_told(run_cli, pictures: Path, tmp_path: Path) -> None:
    command = ("annotate", pictures / "a.jpg", "--out", tmp_path / "out", *DEMO)
    assert run_cli(*command)[0] == 0
    assert "changed since" not in run_cli(*command)[1]
    later = (tmp_path / "out/a.json").stat().st_mtime_ns + 1
    os.utime(pictures / "a.jpg", ns=(later, later))
    _, text, _ = run_cli(*command)
    assert (
        "skipped 1 that were done before (--overwrite does them again); the pictures of 1 changed"
        " since" in text
    )


def test_the_truth_of_a_dataset_is_never_overwritten(run_cli, tmp_path: Path) -> None:
    from backend.demo.dataset import write_voc

    root = tmp_path / "voc"
    write_voc(root, 2_000_950, 1)
    (root / "class_names.txt").write_text("_background_\ncat\ndog")
    truth = root / "SegmentationClass" / "2000950.png"
    with PIL.Image.open(truth) as picture:
        picture.save(truth)  # as any other program saves it
    before = truth.read_bytes()
    code, _, err = run_cli("annotate", root, "--out", root, "--format", "voc", *DEMO)
    assert code == 2
    assert "class_names.txt: is there already, for other classes" in err
    assert run_cli("annotate", root, "--out", root, "--format", "voc", "--overwrite", *DEMO)[0] == 0
    assert (root / "SegmentationClass" / "2000950.png.bak").read_bytes() == before
    assert (root / "class_names.txt.bak").read_text() == "_background_\ncat\ndog"


def test_two_sources_with_the_same_names(run_cli, pictures: Path, tmp_path: Path) -> None:
    for name, files in (("s1", ("a.jpg", "a_2.jpg")), ("s2", ("a.jpg",))):
        (tmp_path / name).mkdir()
        for file in files:
            shutil.copy(pictures / "a.jpg", tmp_path / name / file)
    sources = (tmp_path / "s1", tmp_path / "s2")
    code, text, _ = run_cli("annotate", *sources, "--out", tmp_path / "out", "--json", *DEMO)
    assert (code, json.loads(text)["images"]) == (0, 3)
    assert len(list((tmp_path / "out").glob("*.json"))) == 3
    code, _, err = run_cli(
        "annotate", *sources, "--out", tmp_path / "out2", "--format", "label-studio", *DEMO
    )
    assert code == 2
    assert "a.jpg: is in two of the sources" in err


def test_a_name_too_long_for_its_output_is_one_failure(
    run_cli, pictures: Path, tmp_path: Path
) -> None:
    shutil.copy(pictures / "a.jpg", pictures / ("n" * 251 + ".jpg"))
    code, text, _ = run_cli("annotate", pictures, "--out", tmp_path / "out", *DEMO)
    assert code == 1
    assert "labelled 3 images" in text
    assert "file name too long" in text


def test_eighty_class_names_on_the_command_line(
    run_cli, pictures: Path, scenes: list[Scene], tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path / "p.json", ["a"], scenes[:1])
    names = ",".join(f"class number {k}" for k in range(80))
    code, text, _ = run_cli(
        "annotate",
        pictures,
        "--out",
        tmp_path / "out",
        "-p",
        prompts,
        "--classes",
        names,
        "--json",
        *DEMO[2:],
    )
    assert (code, json.loads(text)["instances"]) == (0, {"class number 1": 1})


def test_a_disk_that_fills_up_at_the_very_end_keeps_the_summary(
    fake: Cascade, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def full(source: object, target: object) -> None:
        if str(target).endswith("import.json"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("os.replace", full)
    summary = annotate(
        collect([pictures], "val").items,
        fake,
        ["label-studio"],
        tmp_path / "out",
        RunOptions(progress=False),
    )
    assert summary.labelled == 3
    assert "no space left on device" in summary.failed[0][1]


def test_boxes_only(run_cli, pictures: Path, tmp_path: Path) -> None:
    code, _, _ = run_cli(
        "annotate",
        pictures,
        "--out",
        tmp_path / "out",
        "--mode",
        "boxes",
        "--detector",
        "demo",
        "--device",
        "cpu",
        "--no-progress",
    )
    assert code == 0
    kinds = {
        shape["shape_type"]
        for shape in labelme.read_document(tmp_path / "out" / "a.json")["shapes"]
    }
    assert kinds == {"rectangle"}


def test_boxes_in_a_format_of_masks_are_refused(run_cli, pictures: Path, tmp_path: Path) -> None:
    options = ("--mode", "boxes", "--format", "labelme,voc", "--detector", "demo")
    code, _, err = run_cli("annotate", pictures, "--out", tmp_path / "out", *options)
    assert code == 2
    assert "--mode boxes: voc holds masks only" in err
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_not_text_has_an_address(run_cli, pictures: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"a\xff.jpg")
    (pictures / "a.jpg").rename(pictures / odd)
    options = ("--format", "label-studio", "--detector", "demo", "--segmenter", "demo")
    code, _, err = run_cli(
        "annotate", pictures, "--out", tmp_path / "out", "--device", "cpu", *options
    )
    assert code == 0, err
    tasks = json.loads((tmp_path / "out/label-studio/import.json").read_text())
    assert "/data/local-files/?d=a%FF.jpg" in [task["data"]["image"] for task in tasks]


def test_the_command_line_of_upstream(
    run_cli, pictures: Path, scenes: list[Scene], tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path / "p.json", ["a"], scenes[:1])
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"arch": {"sam_weights": "demo"}, "dataset": {"conf": 0.95}}))
    given = (
        "annotate",
        pictures,
        "--out",
        tmp_path / "out",
        "-c",
        config,
        "-b",
        "16",
        "-p",
        prompts,
        "--classes",
        "cat,dog",
        "--device",
        "cpu",
        "--json",
        "--no-progress",
    )
    code, text, _ = run_cli(*given, "-conf", "0.25")
    assert (code, json.loads(text)["instances"]) == (0, {"dog": 1})
    code, text, _ = run_cli(*given, "--overwrite")
    assert (code, json.loads(text)["instances"]) == (
        0,
        {},
    )  # the file's 0.95 is above the row's 0.9


def test_a_config_file_of_upstream(run_cli, pictures: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "arch": {"yolo_weights": "demo", "sam_weights": "demo"},
                "dataset": {"conf": 0.99},
                "dataloader": {"batch_size": 2},
            }
        )
    )
    code, text, _ = run_cli(
        "annotate",
        pictures,
        "--out",
        tmp_path / "out",
        "-c",
        config,
        "--device",
        "cpu",
        "--json",
        "--no-progress",
    )
    assert code == 0
    assert json.loads(text)["without_instances"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{missing}", "--out", "{out}"], "no such file or folder"),
        (["{empty}", "--out", "{out}"], "no images there; looked for .jpg"),
        (
            ["{pictures}", "--out", "{out}", "--detector", "yolo99"],
            "unknown model 'yolo99'; known are demo",
        ),
        (
            ["{pictures}", "--out", "{out}", "--conf", "2", "--batch", "x"],
            "--conf: expected 0 to 1, got '2'; --batch: expected an integer",
        ),
        (
            ["{pictures}", "--out", "{out}", "--format", "labelme,cvat"],
            "--format: unknown cvat; known are labelme",
        ),
        (["{pictures}", "--out", "{file}/out"], "cannot write results there: not a directory"),
        (["{pictures}", "--out", "/proc/out"], "cannot write results there"),
        (
            [
                "{pictures}",
                "--out",
                "{out}",
                "-p",
                "{prompts}",
                "--classes",
                "a,b",
                "--segmenter",
                "demo",
            ],
            "has boxes for none of these images; it names",
        ),
        (["{pictures}", "--out", "{out}", "-p", "{prompts}"], "name the classes with --classes"),
        (
            ["{pictures}", "--out", "{out}", "-p", "{prompts}", "--classes", "a"],
            "row 0: category_id: 1 is not an index into the 1 class names",
        ),
        (["{pictures}", "--out", "{out}", "-c", "{missing}"], "cannot read the configuration"),
    ],
)
def test_what_cannot_work_is_said_and_exits_with_2(
    run_cli, pictures: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    places = {
        "missing": tmp_path / "nowhere",
        "empty": tmp_path / "empty",
        "out": tmp_path / "out",
        "pictures": pictures,
        "file": tmp_path / "file",
        "prompts": write_prompts(tmp_path / "p.json", ["other"]),
    }
    code, out, err = run_cli(
        "annotate", *(a.format(**places) for a in arguments), "--device", "cpu"
    )
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("kind", "name", "file"),
    [
        ("--detector", "yolov8n", "yolov8n.pt"),
        ("--segmenter", "sam2.1_hiera_tiny", "sam2.1_hiera_tiny.pt"),
    ],
)
def test_a_model_that_is_not_on_disk_without_network(
    run_cli,
    monkeypatch: pytest.MonkeyPatch,
    pictures: Path,
    tmp_path: Path,
    kind: str,
    name: str,
    file: str,
) -> None:
    def cut(*_: object, **__: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", cut)
    monkeypatch.setattr(
        "time.sleep", lambda seconds: None
    )  # the hub's client waits between its tries
    other = ("--segmenter", "demo") if kind == "--detector" else ("--detector", "demo")
    code, _, err = run_cli(
        "annotate",
        pictures,
        "--out",
        tmp_path / "out",
        kind,
        name,
        *other,
        "--model-root",
        tmp_path / "weights",
        "--device",
        "cpu",
    )
    assert code == 2
    assert (
        f"model {name} is not on disk and could not be fetched: put {file} into"
        f" {tmp_path / 'weights'}, or name `demo`" in err
    )


def test_d01_a_full_disk_stops_the_run_and_loses_nothing(
    fake: Cascade, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up during the second image.

    The first stays, no part of the second does, and the run can go on later.
    """
    work = collect([pictures], "val")
    real = os.fsync
    calls = []

    def full(file: int) -> None:
        calls.append(file)
        if len(calls) >= 2:
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr("os.fsync", full)
    options = RunOptions(batch=1, workers=1, progress=False)
    summary = annotate(work.items, fake, ["labelme"], tmp_path / "out", options)
    assert summary.labelled == 1
    assert summary.stopped is not None
    assert "no space left on device" in summary.stopped
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.json"]
    monkeypatch.setattr("os.fsync", real)
    again = annotate(work.items, fake, ["labelme"], tmp_path / "out", options)
    assert (again.labelled, again.done, again.failed) == (2, 1, [])


@pytest.mark.slow
def test_a_real_full_disk(pictures: Path, tmp_path: Path) -> None:
    """A file system of 64 KiB: the picture formats do not fit, the message says so, no partial file
    stays.
    """
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)],
            capture_output=True,
            check=False,
        ).returncode
        != 0
    ):
        pytest.skip("mounting needs root; the same fault is injected in the test above")
    try:
        command = [
            PYTHON,
            "-m",
            "backend",
            "annotate",
            str(pictures),
            "--out",
            str(mount / "o"),
            "--format",
            "overlay",
            *DEMO,
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 1
        assert "no space left on device" in done.stdout
        assert "stopped early" in done.stdout
        assert not list(mount.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_ctrl_c_finishes_what_is_in_flight(pictures: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for k in range(150):
        shutil.copy(pictures / "a.jpg", many / f"{k:03d}.jpg")
    out = tmp_path / "out"
    command = [PYTHON, "-m", "backend", "annotate", str(many), "--out", str(out), "-b", "2", *DEMO]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "run the same command again to go on" in text
    written = sorted(out.glob("*.json"))
    assert 0 < len(written) < 150
    for path in written:
        assert labelme.unchanged_version_of(path)
    assert not list(out.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["annotate", "evaluate"])
def test_a_second_ctrl_c_ends_at_once(pictures: Path, tmp_path: Path, command: str) -> None:
    root = tmp_path / "voc"
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for k in range(300):
        shutil.copy(pictures / "a.jpg", root / "JPEGImages" / f"{k:03d}.jpg")
    size = read_image(pictures / "a.jpg").shape[:2]
    (root / "SegmentationClass").mkdir()
    PIL.Image.fromarray(np.zeros(size, np.uint8)).save(root / "SegmentationClass" / "000.png")
    for k in range(1, 300):
        shutil.copy(
            root / "SegmentationClass" / "000.png", root / "SegmentationClass" / f"{k:03d}.png"
        )
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(
        "\n".join(f"{k:03d}" for k in range(300))
    )
    where = ["--out", str(tmp_path / "out")] if command == "annotate" else ["--classes", "ball,box"]
    line = [
        PYTHON,
        "-m",
        "backend",
        command,
        str(root),
        *where,
        *DEMO[:-1],
    ]  # with a progress bar, by which to know when it works
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=stream, cwd=ROOT)
    deadline = time.monotonic() + 120
    while "/300" not in log.read_text().replace(" 0/300", "") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, log.read_text()
    err = log.read_text()
    assert "terminate called" not in err
    assert "Traceback" not in err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_rotated_photograph_is_labelled_upright(fake: Cascade, tmp_path: Path) -> None:
    """Stored 90x60 with orientation 6, shown 60x90: every format and labelme itself must agree on
    the upright size.
    """
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (90, 60), (9, 99, 199)).save(tmp_path / "turned.jpg", exif=exif)
    out = tmp_path / "out"
    work = collect([tmp_path / "turned.jpg"], "val")
    summary = annotate(
        work.items, fake, ["labelme", "label-studio", "voc"], out, RunOptions(progress=False)
    )
    assert summary.failed == []
    shown = LabelFile(
        str(out / "turned.json")
    )  # labelme refuses a file whose size is not the picture's
    (x1, y1), (x2, y2) = np.array(shown.shapes[0]["points"])
    assert (x1, y1, x2, y2) == pytest.approx((2, 3, 19, 29), abs=1)
    region = json.loads((out / "label-studio" / "import.json").read_text())[0]["predictions"][0][
        "result"
    ][0]
    assert (region["original_width"], region["original_height"]) == (60, 90)
    assert decode_png((out / "SegmentationClass" / "turned.png").read_bytes(), "").shape == (90, 60)


def test_models_lists_names_and_places(run_cli, tmp_path: Path) -> None:
    (tmp_path / "yolov8n.pt").write_bytes(b"x")
    code, text, _ = run_cli("models", "--model-root", tmp_path, "--json")
    table = {row["name"]: row for row in json.loads(text) if row["name"] != "demo"}
    assert code == 0
    assert table["yolov8n"]["here"] is True
    assert table["sam2.1_hiera_large"]["here"] is False


def test_help_teaches(run_cli) -> None:
    for command in ((), ("annotate",), ("visualize",), ("demo",), ("models",), ("bench",)):
        code, text, _ = run_cli(*command, "--help")
        assert code == 0
        assert "yolosam2" in text
    assert run_cli("nonsense")[0] == 2


def test_unavailable_is_exit_1(
    run_cli, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise Unavailable("the disk is gone")

    monkeypatch.setattr("backend.labeling.annotate.annotate", fails)
    code, _, err = run_cli("annotate", pictures, "--out", tmp_path / "out", *DEMO)
    assert (code, err.strip().splitlines()[-1]) == (1, "yolosam2: the disk is gone")


def test_links_that_lead_out_are_told(run_cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos/day1").symlink_to(tmp_path / "elsewhere")
    code, _, err = run_cli(
        "annotate",
        tmp_path / "photos",
        "--out",
        tmp_path / "out",
        "--detector",
        "demo",
        "--segmenter",
        "demo",
    )
    assert code == 2
    assert "no images there; looked for " in err
    assert (
        "; 1 links that lead out of the folder, or nowhere, were not followed, such as"
        f" {tmp_path / 'photos/day1'}" in err
    )


def test_what_earlier_runs_drew_and_what_people_keep_beside_them(
    run_cli, monkeypatch: pytest.MonkeyPatch, pictures: Path, tmp_path: Path
) -> None:
    """Overlays among the pictures are no pictures.

    A person's file that looks like one of ours is not removed.
    """
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(pictures / "a.jpg", folder / name)
    made = ("annotate", folder, "--out", folder, "--format", "label-studio,overlay", *DEMO)
    with monkeypatch.context() as small:
        small.setattr("backend.formats.label_studio.writer._FILE_BYTES", 10)
        assert run_cli(*made)[0] == 0
    assert (folder / "label-studio/import-2.json").is_file()
    assert (folder / "overlays/a.jpg").is_file()
    (folder / "label-studio/import-backup.json").write_text("[]")
    (folder / "label-studio/import-3.json").write_text("[]")
    (folder / "b.jpg").unlink()
    (folder / "label-studio/tasks/b.json").unlink()
    code, text, _ = run_cli("annotate", folder, "--out", tmp_path / "other", *DEMO)
    assert (code, "labelled 1 images" in text) == (0, True)
    assert run_cli("annotate", folder, "--out", folder, "--format", "label-studio", *DEMO)[0] == 0
    assert (folder / "label-studio/import-backup.json").is_file()
    assert (folder / "label-studio/import-3.json").is_file()
    assert not (folder / "label-studio/import-2.json").exists()
    (folder / "label-studio/import.json").write_text("[]")  # a person's, from here on
    code, text, _ = run_cli("annotate", folder, "--out", folder, "--format", "label-studio", *DEMO)
    assert (folder / "label-studio/import.json").read_text() == "[]"
    assert (code, "kept 1 files that a person made or changed" in text) == (0, True)


def test_a_project_with_classes_that_the_detector_lacks_is_refused(run_cli) -> None:
    options = ("--url", "http://127.0.0.1:9", "--api-key", "x" * 40, "--title", "t")
    images = ("--images", SAMPLES / "JPEGImages", "--detector", "demo", "--classes", "bal,box")
    code, _, err = run_cli("create-project", *options, *images)
    assert code == 2
    assert "--classes: the detector knows no bal; it knows ball, box, star" in err
