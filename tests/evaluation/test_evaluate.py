"""``yolosam2 evaluate`` and ``visualize`` on VOC datasets: real photographs, by hand, and every
fault by file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from backend.core.colours import class_colour
from backend.drawing.comparison import ERRORS, compare, error_map
from backend.files.images import read_image
from backend.formats.voc.dataset import open_voc
from backend.formats.voc.label_maps import encode_png, instances_of, read_label_map

DEMO = ("--segmenter", "demo", "--device", "cpu", "--no-progress")


def png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(values.astype(np.uint8)))


def picture(path: Path, size_hw: tuple[int, int] = (40, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((*size_hw, 3), 90, np.uint8)).save(path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three images with a block of class a each, and the list of them."""
    root = tmp_path / "voc"
    for name in ("one", "two", "three"):
        values = np.zeros((40, 50))
        values[10:30, 10:30] = 1
        picture(root / "JPEGImages" / f"{name}.jpg")
        png(root / "SegmentationClass" / f"{name}.png", values)
        png(root / "SegmentationObject" / f"{name}.png", values)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("one\ntwo\nthree\n")
    (root / "class_names.txt").write_text("_background_\na\nb")
    return root


def evaluated(run_cli, *arguments: object) -> tuple[int, dict[str, Any]]:
    code, out, err = run_cli(
        "evaluate", *arguments, "--json", "-", "--no-progress", "--resamples", 20
    )
    assert out, err
    return code, json.loads(out)


def figure(document: dict[str, Any], name: str) -> float | None:
    return document["views"][0]["figures"][name]["value"]


def test_the_three_lines_of_upstream(run_cli, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "SegmentationClass", tmp_path / "found")
    values = np.zeros((40, 50))
    values[10:30, 10:20], values[10:30, 20:30] = 1, 2
    png(tmp_path / "found" / "two.png", values)
    code, out, _ = run_cli(
        "evaluate", dataset, "--predictions", tmp_path / "found", "--no-progress"
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"Pixel_Accuracy: {1 - 200 / 6000:.4f}"
    assert lines[1] == f"Mean_IOU: {(1 + 1000 / 1200 + 0) / 3:.4f}"
    assert lines[2] == f"Class_IOU: 0: 1.0000 1: {1000 / 1200:.4f} 2: 0.0000"
    assert re.search(r"^a +0\.833 ", out, re.M)
    assert re.search(r"^b +0\.000 ", out, re.M)


def test_truth_as_prediction_is_perfect(run_cli, dataset: Path) -> None:
    code, document = evaluated(run_cli, dataset, "--predictions", dataset)
    assert code == 0
    values = {name: one["value"] for name, one in document["views"][0]["figures"].items()}
    assert {name: values.pop(name) for name in ("AP", "AP50", "AP75")} == dict.fromkeys(
        ("AP", "AP50", "AP75")
    )  # label maps hold no scores
    assert values == dict.fromkeys(values, 1.0)
    assert "there is no AP" in document["settings"]["remarks"][0]
    rows = {row["name"]: row for row in document["views"][0]["classes"]}
    assert rows["b"]["iou"] is None  # it occurs nowhere: n/a, not 0
    assert rows["a"]["panoptic_quality"] == 1


def test_an_image_without_prediction_counts_as_background(
    run_cli, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset / "SegmentationClass", tmp_path / "found")
    (tmp_path / "found" / "two.png").unlink()
    code, document = evaluated(run_cli, dataset, "--predictions", tmp_path / "found")
    assert code == 1
    assert document["views"][0]["images"] == 3
    assert figure(document, "pixel_accuracy") == pytest.approx(1 - 400 / 6000, abs=1e-6)
    assert [one["reason"] for one in document["failed"]] == [
        f"{tmp_path}/found/two.png: no such file (counted as all background)"
    ]


def rows(*boxes: tuple[str, int, Sequence[float]]) -> list[dict[str, Any]]:
    return [
        {"image_id": name, "category_id": c, "bbox": list(box), "score": 0.9}
        for name, c, box in boxes
    ]


def test_a_missed_object_costs_something_with_models_too(
    run_cli, dataset: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prediction.json"
    prompts.write_text(json.dumps(rows(("one", 0, (10, 10, 30, 30)))))
    code, document = evaluated(run_cli, dataset, "--prompts", prompts, *DEMO)
    assert code == 0
    whole = document["views"][0]
    assert whole["images"] == 3
    (a,) = [row for row in whole["classes"] if row["name"] == "a"]
    assert a["pixels"]["true"] == 1200
    assert a["instances"]["true"] == 3
    assert a["iou"] <= 1 / 3 + 1e-6
    assert document["settings"]["overlap"] == "score"


def damage(root: Path, kind: str) -> str:
    """Break something about image two; gives what is to be said."""
    truth = root / "SegmentationClass" / "two.png"
    image = root / "JPEGImages" / "two.jpg"
    if kind == "no truth":
        truth.unlink()
        return f"{truth}: no such file (not counted: no truth)"
    if kind == "damaged truth":
        truth.write_bytes(truth.read_bytes()[:60])
        return f"{truth}: cannot read"
    if kind == "coloured truth":
        PIL.Image.new("RGB", (50, 40), (1, 2, 3)).save(truth)
        return f"{truth}: holds colours that are not those of the VOC palette"
    if kind == "beyond the classes":
        png(truth, np.full((40, 50), 3))
        return f"{truth}: value 3 is beyond the 2 classes (not counted: no truth)"
    if kind == "no objects":
        (root / "SegmentationObject" / "two.png").unlink()
        return f"{root}/SegmentationObject/two.png: no such file (not counted: no truth)"
    if kind == "objects of another size":
        png(root / "SegmentationObject" / "two.png", np.zeros((41, 50)))
        return f"{truth}: SegmentationObject is 50x41, SegmentationClass 50x40"
    if kind == "no picture":
        image.unlink()
        return f"{root}/JPEGImages/two: no image with this name"
    if kind == "another size":
        picture(image, (44, 55))
        return f"{image}: is 55x44, its truth 50x40 (counted as all background)"
    image.write_bytes(b"not a picture")
    return f"{image}: is not one of JPEG"


@pytest.mark.parametrize(
    ("kind", "images"),
    [
        ("no truth", 2),
        ("damaged truth", 2),
        ("coloured truth", 2),
        ("beyond the classes", 2),
        ("no objects", 2),
        ("objects of another size", 2),
        ("no picture", 3),
        ("another size", 3),
        ("damaged picture", 3),
    ],
)
def test_every_fault_is_named_and_the_rest_is_scored(
    run_cli, dataset: Path, tmp_path: Path, kind: str, images: int
) -> None:
    prompts = tmp_path / "prediction.json"
    prompts.write_text(
        json.dumps(rows(*((name, 0, (10, 10, 30, 30)) for name in ("one", "two", "three"))))
    )
    sentence = damage(dataset, kind)
    code, document = evaluated(run_cli, dataset, "--prompts", prompts, *DEMO)
    assert code == 1
    (fault,) = document["failed"]
    assert fault["where"] == "two"
    assert sentence in fault["reason"]
    assert document["views"][0]["images"] == images


def test_a_prediction_of_another_size_is_named(run_cli, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "SegmentationClass", tmp_path / "found")
    png(tmp_path / "found" / "two.png", np.ones((20, 20)))
    code, document = evaluated(run_cli, dataset, "--predictions", tmp_path / "found")
    assert code == 1
    assert (
        "two.png: is 20x20, its truth 50x40 (counted as all background)"
        in document["failed"][0]["reason"]
    )


def test_a_model_that_fails_on_one_image_costs_that_image(dataset: Path, fake) -> None:
    from backend.evaluation.evaluate_cascade import evaluate
    from backend.evaluation.truth import EvaluateOptions

    class Failing:
        model_version = "x"
        names = {0: "a"}  # noqa: RUF012

        def infer(self, images, given=None):
            if len(images) > 1 or self.calls.pop(0) == "two":
                raise RuntimeError("CUDA error")
            return [None] * len(images)

        calls = ["one", "two", "three"]  # noqa: RUF012

        def finish(self, raw):
            from backend.core.types import Prediction

            return Prediction((), (40, 50), "x")

    run = evaluate(open_voc(dataset, "val"), Failing(), ("a", "b"), EvaluateOptions(progress=False))
    assert [fault.where for fault in run.faults] == ["two"]
    assert "CUDA error" in run.faults[0].sentence
    assert run.tally.n_images == 3


def test_folders_of_frames_and_suffixes_of_any_case(run_cli, dataset: Path, tmp_path: Path) -> None:
    values = np.zeros((40, 50))
    values[:20] = 2
    for k, suffix in enumerate((".JPEG", ".Png", ".bmp")):
        picture(dataset / "JPEGImages" / "clip" / f"f{k}.png")
        (dataset / "JPEGImages" / "clip" / f"f{k}.png").rename(
            dataset / "JPEGImages" / "clip" / f"f{k}{suffix}"
        )
        png(dataset / "SegmentationClass" / "clip" / f"f{k}.png", values)
        png(dataset / "SegmentationObject" / "clip" / f"f{k}.png", values)
    (dataset / "ImageSets" / "Segmentation" / "val_videos.txt").write_text("clip\n")
    code, document = evaluated(run_cli, dataset, "--predictions", dataset)
    assert (code, document["views"][0]["images"], figure(document, "mean_iou")) == (0, 6, 1.0)
    prompts = tmp_path / "prediction.json"
    prompts.write_text(json.dumps(rows(("clip/f1", 1, (0, 0, 50, 20)))))
    code, document = evaluated(run_cli, dataset, "--prompts", prompts, *DEMO)
    assert (code, document["views"][0]["images"]) == (0, 6)
    (dataset / "ImageSets" / "Segmentation" / "val_videos.txt").write_text("clip\nnowhere\n")
    code, _, err = run_cli("evaluate", dataset, "--predictions", dataset)
    assert code == 2
    assert "'nowhere': no such folder of frames" in err


def test_without_objects_only_pixels_are_compared(run_cli, dataset: Path) -> None:
    shutil.rmtree(dataset / "SegmentationObject")
    code, out, _ = run_cli("evaluate", dataset, "--predictions", dataset, "--no-progress")
    assert code == 0
    assert "mean IoU" in out
    assert "panoptic" not in out
    assert "PQ" not in out


def test_classes_of_the_model_are_found_by_name(run_cli, dataset: Path) -> None:
    code, _, err = run_cli("evaluate", dataset, "--detector", "demo", *DEMO)
    assert code == 2
    assert "no class of the model is a class of the dataset. Model: ball, box" in err
    code, document = evaluated(
        run_cli, dataset, "--detector", "demo", *DEMO, "--rename", "box=a,cup=b"
    )
    assert code == 0
    assert document["settings"]["rename"] == {"box": "a", "cup": "b"}
    code, _, err = run_cli("evaluate", dataset, "--detector", "demo", *DEMO, "--rename", "box=z")
    assert code == 2
    assert "'z' is none of the dataset's classes: a, b" in err


def test_usage_faults(run_cli, dataset: Path, tmp_path: Path) -> None:
    for change, sentence in (
        (lambda: tmp_path / "none", "no such folder"),
        (lambda: tmp_path, "is no VOC dataset; expected JPEGImages"),
    ):
        code, _, err = run_cli("evaluate", change(), "--predictions", dataset)
        assert code == 2
        assert sentence in err
    assert (
        "no such list"
        in run_cli("evaluate", dataset, "--split", "test", "--predictions", dataset)[2]
    )
    (dataset / "class_names.txt").rename(dataset / "names.bak")
    assert (
        "name the classes with --classes"
        in run_cli("evaluate", dataset, "--predictions", dataset)[2]
    )
    assert (
        run_cli("evaluate", dataset, "--predictions", dataset, "--classes", "a,b", "--no-progress")[
            0
        ]
        == 0
    )
    (dataset / "names.bak").rename(dataset / "class_names.txt")
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    (other / "class_names.txt").write_text("_background_\nb\na")
    assert (
        "the values of both would mean different classes"
        in run_cli("evaluate", dataset, "--predictions", other)[2]
    )
    assert (
        "has no label map for any of these images; expected for example one.png"
        in run_cli("evaluate", dataset, "--predictions", tmp_path)[2]
    )
    assert (
        "no model is loaded; leave out --detector"
        in run_cli("evaluate", dataset, "--predictions", dataset, "--detector", "demo")[2]
    )
    (dataset / "class_names.txt").write_text("a\na")
    assert "named twice: a" in run_cli("evaluate", dataset, "--predictions", dataset)[2]
    (dataset / "class_names.txt").unlink()
    assert (
        "name the classes with --classes, in the order of their values"
        in run_cli("evaluate", dataset, "--detector", "demo", *DEMO)[2]
    )
    shutil.rmtree(dataset / "SegmentationClass")
    assert (
        "has no SegmentationClass"
        in run_cli("evaluate", dataset, "--predictions", dataset, "--classes", "a,b")[2]
    )


def test_lists_as_people_write_them(run_cli, dataset: Path) -> None:
    listing = dataset / "ImageSets" / "Segmentation" / "val.txt"
    listing.write_text("one.jpg\n two \none\n\nthree\r\ntwo\n")
    code, document = evaluated(run_cli, dataset, "--predictions", dataset)
    assert (code, document["views"][0]["images"], document["views"][0]["compared"]) == (0, 3, 3)
    listing.write_bytes(b"\xef\xbb\xbfone\r\n")
    (dataset / "class_names.txt").write_bytes(b"\xef\xbb\xbf_background_\r\na\r\nb")
    code, document = evaluated(run_cli, dataset, "--predictions", dataset)
    assert (code, document["classes"], document["views"][0]["images"]) == (0, ["a", "b"], 1)
    listing.write_bytes(b"caf\xe9\n")
    assert "val.txt: is not in UTF-8" in run_cli("evaluate", dataset, "--predictions", dataset)[2]
    listing.write_text("one\nt\0wo\n")
    code, document = evaluated(run_cli, dataset, "--predictions", dataset)
    assert (code, document["views"][0]["images"], len(document["failed"])) == (1, 1, 1)


def test_a_page_without_a_picture(run_cli, dataset: Path, tmp_path: Path) -> None:
    (dataset / "JPEGImages" / "two.jpg").unlink()
    picture(dataset / "JPEGImages" / "three.jpg", (2000, 9))  # of another size, and very tall
    code, document = evaluated(
        run_cli, dataset, "--predictions", dataset, "--report", tmp_path / "r.html"
    )
    assert (code, document["views"][0]["images"]) == (0, 3)
    assert "the picture is 9x2000, its regions 50x40" in (tmp_path / "r.html").read_text()


def truth_boxes(root: Path, split: str) -> list[dict[str, Any]]:
    """Boxes of the true objects, as a prompt file."""
    dataset = open_voc(root, split)
    made = []
    names = dataset.class_names or ()
    for image_id in dataset.image_ids:
        maps = [
            read_label_map(root / folder / f"{image_id}.png")
            for folder in ("SegmentationClass", "SegmentationObject")
        ]
        made += rows(
            *(
                (image_id, one.class_id, one.xyxy.tolist())
                for one in instances_of(*maps, names, image_id)
            )
        )
    return made


def check_independently(run_cli, root: Path, split: str, tmp_path: Path) -> dict[str, Any]:
    """Evaluate with boxes of the truth.

    Pillow and scikit-learn come to the same figures from label maps that ``annotate`` writes.
    """
    prompts = tmp_path / "prediction.json"
    prompts.write_text(json.dumps(truth_boxes(root, split)))
    options = ("--split", split, "--prompts", prompts, *DEMO)
    code, document = evaluated(run_cli, root, *options)
    assert code == 0, document["failed"]
    assert run_cli("annotate", root, "--out", tmp_path / "out", "--format", "voc", *options)[0] == 0
    truth = []
    found = []
    for image_id in (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split():
        values = np.array(PIL.Image.open(root / "SegmentationClass" / f"{image_id}.png"))
        predicted = np.array(
            PIL.Image.open(tmp_path / "out" / "SegmentationClass" / f"{image_id}.png")
        )
        truth.append(values[values != 255])
        found.append(predicted[values != 255])
    t = np.concatenate(truth)
    p = np.concatenate(found)
    occurring = sorted(set(t.tolist()) | set(p.tolist()))
    rows = document["views"][0]["classes"]
    assert document["views"][0]["images"] == len(truth)
    assert figure(document, "pixel_accuracy") == pytest.approx(accuracy_score(t, p), abs=1e-6)
    assert figure(document, "mean_iou") == pytest.approx(
        jaccard_score(t, p, labels=occurring, average="macro"), abs=1e-6
    )
    assert [rows[v]["iou"] for v in occurring] == pytest.approx(
        jaccard_score(t, p, labels=occurring, average=None), abs=1e-6
    )
    assert all(row["iou"] is None for row in rows if row["value"] not in occurring)
    assert (
        document["views"][0]["confusion"]
        == confusion_matrix(t, p, labels=range(len(rows))).tolist()
    )
    code, again = evaluated(
        run_cli, root, "--split", split, "--predictions", tmp_path / "out"
    )  # in two steps
    assert figure(again, "mean_iou") == figure(document, "mean_iou")
    code, perfect = evaluated(run_cli, root, "--split", split, "--predictions", root)
    assert code == 0
    assert {
        one["value"]
        for name, one in perfect["views"][0]["figures"].items()
        if not name.startswith("AP")
    } == {1.0}
    return document


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count"), [("val", 47)])
def test_real_street_photographs(
    run_cli, shared_data: Path, tmp_path: Path, split: str, count: int
) -> None:
    document = check_independently(run_cli, shared_data / "camvid-voc", split, tmp_path)
    assert document["views"][0]["images"] == count
    assert (
        figure(document, "mean_iou") > 0.5
    )  # boxes of the truth and a segmenter that never saw a street
    low, high = document["views"][0]["figures"]["mean_iou"]["interval"]
    assert low < figure(document, "mean_iou") < high


def test_the_photographs_of_labelme(run_cli, shared_data: Path, tmp_path: Path) -> None:
    """Laid out as a VOC dataset, with the label maps that labelme2voc made."""
    folder = shared_data / "labelme-voc"
    root = tmp_path / "voc"
    shutil.copytree(folder / "reference", root)
    (root / "JPEGImages").mkdir()
    for path in folder.glob("*.jpg"):
        shutil.copy(path, root / "JPEGImages")
    shutil.copy(folder / "labels.txt", root / "labels.txt")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(
        "\n".join(path.stem for path in sorted(folder.glob("*.jpg")))
    )
    document = check_independently(run_cli, root, "val", tmp_path)
    assert document["views"][0]["images"] == 3
    assert 0.3 < figure(document, "mean_iou") < 1


def test_visualize_shows_prediction_truth_and_errors(
    run_cli, dataset: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prediction.json"
    out = tmp_path / "out"
    prompts.write_text(
        json.dumps(rows(*((name, 0, (10, 10, 30, 30)) for name in ("one", "two", "three"))))
    )
    (dataset / "SegmentationClass" / "two.png").unlink()
    code, text, _ = run_cli("visualize", dataset, "--out", out, "--prompts", prompts, *DEMO)
    assert code == 1
    assert "two.png: no such file" in text
    assert sorted(path.name for path in out.iterdir()) == ["one.jpg", "three.jpg"]
    sheet = read_image(out / "one.jpg")
    assert sheet.shape[1] == 3 * 50 + 2 * 6
    assert (
        "skipped 2 that were done before"
        in run_cli("visualize", dataset, "--out", out, "--prompts", prompts, *DEMO)[1]
    )
    assert (
        run_cli(
            "visualize",
            dataset,
            "--out",
            tmp_path / "plain",
            "--plain",
            "--prompts",
            prompts,
            *DEMO,
        )[0]
        == 0
    )
    assert read_image(tmp_path / "plain" / "one.jpg").shape == (40, 50, 3)


def test_errors_have_their_colours() -> None:
    truth = np.zeros((60, 80), np.uint8)
    predicted = truth.copy()
    truth[:20, :20], predicted[:20, :20] = 1, 1
    truth[:20, 20:40] = 1
    predicted[:20, 40:60] = 1
    truth[40:, :20], predicted[40:, :20] = 1, 2
    truth[40:, 60:] = 255
    shown = error_map(np.full((60, 80, 3), 128, np.uint8), truth, predicted)
    for name, (y, x) in {
        "right": (10, 10),
        "missed": (10, 30),
        "too much": (10, 50),
        "wrong class": (50, 10),
    }.items():
        nearest = min(
            ERRORS, key=lambda other: np.abs(shown[y, x].astype(int) - ERRORS[other]).sum()
        )
        assert nearest == name
    assert shown[50, 70].tolist() == [90, 90, 90]
    assert np.ptp(shown[30, 30]) == 0  # where nothing is, nothing is coloured
    sheet = compare(None, truth, predicted, ["a", "b"], panel_width=160)
    assert sheet.shape[1] == 3 * 160 + 12
    panel = sheet[40:100, :160].reshape(
        -1, 3
    )  # of the prediction: class a is in its colour somewhere
    assert np.abs(panel.astype(int) - class_colour("a")).sum(1).min() < 120
