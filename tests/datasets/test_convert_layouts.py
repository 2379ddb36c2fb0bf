"""``convert`` on folders as people have them: same names in several folders, several formats in
one, nothing labelled, links, splits.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.dataset_scenes import shape, write_picture

FORMATS = ("labelme", "label-studio", "coco", "coco-panoptic", "yolo", "voc")
SQUARE = np.pad(np.ones((6, 8), bool), 4)


def label(path: Path, *labels: str, picture: Path | None = None, name: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(picture or path.with_suffix(".jpg"), *SQUARE.shape)
    size = {"imageHeight": SQUARE.shape[0], "imageWidth": SQUARE.shape[1]}
    shapes = [shape(one, SQUARE) for one in labels]
    path.write_text(
        json.dumps(
            {"shapes": shapes, "imagePath": name or f"{path.stem}.jpg", "imageData": None, **size}
        )
    )


def test_a_frame_of_another_video_is_not_taken(run_cli, tmp_path: Path) -> None:
    label(tmp_path / "lab/seq1/1.json", "cat", picture=tmp_path / "pics/seq1/1.jpg")
    label(tmp_path / "lab/seq2/1.json", "cat", picture=tmp_path / "gone/1.jpg")
    code, text, _ = run_cli(
        "convert", tmp_path / "lab", tmp_path / "out", "--to", "yolo", "--images", tmp_path / "pics"
    )
    assert (
        code,
        "1 pictures of the --images folder were not taken: they lie in other folders" in text,
    ) == (1, True)
    assert [
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg")
    ] == ["images/train/seq1/1.jpg"]


def test_one_picture_is_not_found_for_two(run_cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        label(tmp_path / f"lab/{name}/1.json", "cat", picture=tmp_path / "pics/1.jpg")
    code, text, _ = run_cli(
        "convert", tmp_path / "lab", tmp_path / "out", "--to", "voc", "--images", tmp_path / "pics"
    )
    assert (code, "they were found for another name already" in text) == (0, True)
    assert len(list((tmp_path / "out/JPEGImages").rglob("*.jpg"))) == 1


def test_ultralytics_finds_labels_of_a_folder_called_images(run_cli, tmp_path: Path) -> None:
    label(tmp_path / "s/images/a.json", "cat")
    assert run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "yolo")[0] == 0
    assert (tmp_path / "out/labels/train/a.txt").read_text()
    assert (tmp_path / "out/images/train/a.jpg").is_file()


def test_labelme_files_in_labels_are_not_yolo(run_cli, tmp_path: Path) -> None:
    label(
        tmp_path / "s/labels/a.json",
        "cat",
        picture=tmp_path / "s/images/a.jpg",
        name="../images/a.jpg",
    )
    code, text, _ = run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "coco")
    assert (code, "1 images with 1 instances from labelme" in text) == (0, True)


@pytest.mark.parametrize("target", FORMATS)
def test_nothing_labelled_comes_back(run_cli, tmp_path: Path, target: str) -> None:
    label(tmp_path / "s/a.json")
    assert run_cli("convert", tmp_path / "s", tmp_path / "there", "--to", target)[0] == 0
    code, text, _ = run_cli(
        "convert",
        tmp_path / "there",
        tmp_path / "back",
        "--to",
        "labelme",
        "--images",
        tmp_path / "s",
    )
    assert (code, "1 images with 0 instances" in text) == (0, True)
    assert json.loads((tmp_path / "back/a.json").read_text())["shapes"] == []


def test_several_formats_in_a_folder_are_not_guessed(run_cli, tmp_path: Path) -> None:
    label(tmp_path / "s/a.json", "cat")
    for target in ("voc", "coco"):
        run_cli("convert", tmp_path / "s", tmp_path / target, "--to", target)
    shutil.copytree(tmp_path / "voc/SegmentationClass", tmp_path / "s/SegmentationClass")
    shutil.copytree(tmp_path / "coco", tmp_path / "s/coco")
    code, _, err = run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "yolo")
    assert (code, "holds labelme, voc; say with --from" in err) == (2, True)
    code, text, _ = run_cli(
        "convert", tmp_path / "s", tmp_path / "out", "--to", "yolo", "--from", "labelme"
    )
    assert (code, "converted 1 images" in text) == (
        0,
        True,
    )  # what this program made of the files is passed over


def test_best_leaves_predictions_predictions(run_cli, tmp_path: Path) -> None:
    region = {
        "type": "rectanglelabels",
        "from_name": "b",
        "to_name": "image",
        "original_width": 16,
        "original_height": 14,
        "id": "r",
    }
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    made = [{"result": [{**region, "value": value}], "model_version": "m"}]
    tasks = [
        {"data": {"image": f"/data/local-files/?d={name}.jpg"}, key: made}
        for name, key in (("a", "annotations"), ("b", "predictions"))
    ]
    (tmp_path / "e.json").write_text(json.dumps(tasks))
    assert (
        run_cli(
            "convert",
            tmp_path / "e.json",
            tmp_path / "out",
            "--to",
            "label-studio",
            "--what",
            "best",
        )[0]
        == 0
    )
    found = json.loads((tmp_path / "out/import.json").read_text())
    assert [sorted({"annotations", "predictions"} & set(task)) for task in found] == [
        ["annotations"],
        ["predictions"],
    ]


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_no_image_is_in_two_splits(run_cli, tmp_path: Path, target: str) -> None:
    for k in range(8):
        label(tmp_path / f"s/{k}.json", "cat")
    command = ("convert", tmp_path / "s", tmp_path / "out", "--to", target)
    assert run_cli(*command, "--split", "train=0.5,val=0.5")[0] == 0
    code, text, _ = run_cli(*command)
    if target == "yolo":  # whose folders are trained on as they are
        assert (code, (tmp_path / "out/data.yaml").read_text().count("images/val")) == (0, 0)
        assert not list((tmp_path / "out/labels/val").glob("*.txt"))
    else:
        assert (code, "images of this conversion too" in text) == (1, True)


@pytest.mark.parametrize("text", ["0.8", "train,val", "a/b", ".x"])
def test_what_cannot_be_meant_as_the_name_of_a_split(run_cli, tmp_path: Path, text: str) -> None:
    label(tmp_path / "s/a.json", "cat")
    code, _, err = run_cli(
        "convert", tmp_path / "s", tmp_path / "out", "--to", "yolo", "--split", text
    )
    assert (code, "expected a name such as val, or shares such as train=0.8,val=0.2" in err) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    "name", ["class_names.txt", "SegmentationObject/a.png", "SegmentationClass/a.png"]
)
def test_links_in_a_dataset_lead_nowhere_else(run_cli, tmp_path: Path, name: str) -> None:
    label(tmp_path / "s/a.json", "cat")
    run_cli("convert", tmp_path / "s", tmp_path / "voc", "--to", "voc")
    shutil.move(tmp_path / "voc" / name, tmp_path / "elsewhere")
    (tmp_path / "voc" / name).symlink_to(tmp_path / "elsewhere")
    code, text, err = run_cli("convert", tmp_path / "voc", tmp_path / "out", "--to", "coco")
    assert code in (1, 2)
    assert (
        f"{tmp_path / 'voc' / name}: is a link that leads outside of the folders given"
        in text + err
    )


def test_classes_of_the_output_are_not_those_of_a_source_without_names(
    run_cli, tmp_path: Path
) -> None:
    label(tmp_path / "s/a.json", "cat")
    run_cli("convert", tmp_path / "s", tmp_path / "out", "--to", "yolo")
    run_cli("convert", tmp_path / "s", tmp_path / "nameless", "--to", "yolo")
    (tmp_path / "nameless/data.yaml").unlink()
    code, _, err = run_cli("convert", tmp_path / "nameless", tmp_path / "out", "--to", "yolo")
    assert (code, "name its classes with --classes" in err) == (2, True)


def test_classes_that_occur_nowhere_are_told(run_cli, tmp_path: Path) -> None:
    label(tmp_path / "s/a.json", "cat", "dog")
    code, text, _ = run_cli(
        "convert", tmp_path / "s", tmp_path / "out", "--to", "coco", "--classes", "Cat,bird"
    )
    assert (code, "--classes: Cat, bird: occur nowhere; there are cat, dog" in text) == (1, True)
    assert (
        run_cli(
            "convert", tmp_path / "s", tmp_path / "o2", "--to", "coco", "--classes", "cat,bird"
        )[0]
        == 0
    )
