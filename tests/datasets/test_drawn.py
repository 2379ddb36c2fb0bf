"""What is labelled is drawn, without a model; and the page that convert writes about its result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from backend.demo.run import SAMPLES

PICTURES = SAMPLES / "JPEGImages"
KINDS = ("labelme", "coco", "yolo", "label-studio", "voc")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the samples as VOC."""
    root = tmp_path_factory.mktemp("drawn") / "voc"
    stems = [path.stem for path in sorted(PICTURES.glob("*.jpg"))[:3]]
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
        for stem in stems:
            path = next((SAMPLES / folder).glob(f"{stem}.*"))
            shutil.copy(path, root / folder / path.name)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(stems))
    shutil.copy(SAMPLES / "class_names.txt", root)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_format_are_drawn(run_cli, dataset: Path, tmp_path: Path, kind: str):
    source = dataset
    if kind != "voc":
        source = tmp_path / kind
        card = tmp_path / "card.html"
        told = run_cli("convert", dataset, source, "--to", kind, "--card", card, "--no-progress")
        assert told[0] == 0, told[2]
        assert f"wrote {card}" in told[1]
        assert card.read_text().count("data:image/jpeg") == 3
    images = dataset / "JPEGImages"
    out = tmp_path / "out"
    options = ("--labels", "--images", images, "--out", out, "--no-progress")
    code, text, err = run_cli("visualize", source, *options)
    assert code == 0, err
    assert "drew the labels of 3 images" in text
    assert "no model was asked" in text
    drawn = sorted(out.rglob("*.jpg"))
    assert len(drawn) == 3
    for path in drawn:
        picture = cv2.imread(str(next(images.glob(f"{path.stem}.*"))))
        assert picture is not None
        made = cv2.imread(str(path))
        assert made is not None
        assert made.shape == picture.shape
        assert np.abs(made.astype(int) - picture).max(2).mean() > 3
    # Again: what this program drew is drawn anew, what somebody else put there is kept.
    drawn[0].write_bytes(next(images.glob("*.jpg")).read_bytes())
    code, text, _ = run_cli("visualize", source, *options)
    assert code == 1
    assert "kept 1 file that somebody else wrote" in text


def test_a_json_file_is_drawn_and_models_are_refused(run_cli, tmp_path: Path) -> None:
    shape = {
        "label": "cat",
        "points": [[2, 2], [30, 2], [30, 20]],
        "shape_type": "polygon",
        "group_id": None,
        "flags": {},
    }
    document = {
        "version": "6.3.0",
        "flags": {},
        "shapes": [shape],
        "imagePath": "lost.jpg",
        "imageData": None,
        "imageHeight": 24,
        "imageWidth": 40,
    }
    path = tmp_path / "lost.json"
    path.write_text(json.dumps(document))
    code, text, err = run_cli("visualize", path, "--out", tmp_path / "out", "--no-progress")
    assert code == 0, err
    assert "1 picture not at hand, drawn on grey" in text
    code, _, err = run_cli("visualize", path, "--out", tmp_path / "out", "--detector", "demo")
    assert code == 2
    assert "leave out --detector" in err


def test_the_classes_of_a_detector_come_first(run_cli, dataset: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(dataset, own)
    (own / "class_names.txt").write_text("_background_\nring\nkite\nball\nbox\nleaf\ncup\n")
    out = tmp_path / "yolo"
    options = ("--to", "yolo", "--classes-of", "demo", "--no-progress")
    code, _, err = run_cli("convert", own, out, *options)
    assert code == 0, err
    listed = (out / "data.yaml").read_text()
    names = ("ball", "box", "star", "cup", "leaf", "ring", "kite")
    assert [f"  {k}: {name}" in listed for k, name in enumerate(names)] == [True] * len(names)
    code, _, err = run_cli("convert", own, out, *options, "--classes", "ball")
    assert code == 2
    assert "--classes and --classes-of: give one" in err


def test_nothing_found_says_the_highest_score(run_cli, dataset: Path, tmp_path: Path) -> None:
    models = ("--detector", "demo", "--segmenter", "demo", "--device", "cpu")
    images = dataset / "JPEGImages"
    options = ("--out", tmp_path / "out", "--no-progress", "--conf", "0.9999")
    code, text, _ = run_cli("annotate", images, *options, *models)
    assert code == 0
    assert "nothing was found; the highest score in 3 images is 0.9" in text
    assert "and --conf is 0.9999" in text
