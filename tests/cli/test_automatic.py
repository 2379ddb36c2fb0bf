"""Masks of everything, with names, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from backend.demo.scenes.compose import TEST_SEEDS, Scene, generate
from backend.demo.scenes.objects import CLASS_NAMES
from backend.drawing.overlays import encode_picture
from backend.files.images import read_image
from backend.formats.coco.panoptic import decode_segments
from backend.formats.voc.class_names import read_class_names
from backend.formats.voc.label_maps import decode_png
from labelme_plugin import document as labelme
from labelme_plugin.shapes import mask_of

NAMES = "ball,box|carton,star,cup|mug,leaf,ring"
MODELS = ("--segmenter", "demo", "--device", "cpu", "--no-progress", "--points-per-side", "10")
SEEDS = (TEST_SEEDS[207], TEST_SEEDS[209])


@pytest.fixture(scope="module")
def made() -> list[Scene]:
    return [generate(seed, (240, 320)) for seed in SEEDS]


@pytest.fixture
def photos(tmp_path: Path, made: list[Scene]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, scene in zip(SEEDS, made, strict=True):
        (folder / f"{seed}.png").write_bytes(encode_picture(scene.image, ".png"))
    return folder


def test_everything_is_outlined_and_named_in_all_formats(
    run_cli, photos: Path, tmp_path: Path, made: list[Scene]
) -> None:
    out = tmp_path / "out"
    code, text, _ = run_cli(
        *("annotate", photos, "--out", out, "--mode", "automatic", "--names", NAMES, *MODELS),
        *("--format", "labelme,label-studio,voc,coco,coco-panoptic,overlay", "--flat", "--json"),
    )
    assert code == 0
    summary = json.loads(text.partition("\n}")[0] + "\n}")
    assert summary["images"] == 2
    assert sum(summary["instances"].values()) >= 6
    assert set(summary["instances"]) <= {*CLASS_NAMES, "unsure"}
    names = read_class_names(out / "class_names.txt")
    assert list(names) == [*CLASS_NAMES, "unsure"]
    for seed, scene in zip(SEEDS, made, strict=True):
        classes = decode_png((out / "SegmentationClass" / f"{seed}.png").read_bytes(), "map")
        truth = np.array([0, *(k + 1 for k in scene.class_ids)], np.uint8)[scene.objects]
        on_objects = truth > 0
        assert (classes == truth)[on_objects].mean() > 0.6
        document = labelme.read_document(out / "labelme" / f"{seed}.json")
        painted = np.zeros(classes.shape, np.intp)
        for shape in document["shapes"]:
            mask = mask_of(shape)
            h, w = mask.crop.shape
            painted[mask.y : mask.y + h, mask.x : mask.x + w] += mask.crop
        assert painted.max() == 1, "no two masks share a pixel"
        picture = read_image(out / "overlays" / f"{seed}.jpg")
        assert picture.shape[0] == 240
        assert picture.shape[1] > 320, "a legend stands at the right"
    assert (out / "coco" / "annotations" / "instances_train.json").is_file()
    tasks = json.loads((out / "label-studio" / "import.json").read_text())
    assert len(tasks) == 2
    panoptic = out / "coco-panoptic" / "annotations" / "panoptic_train"
    document = json.loads(panoptic.with_suffix(".json").read_text())
    values = {one["id"]: names.index(one["name"]) + 1 for one in document["categories"]}
    for row in document["annotations"]:
        numbers = decode_segments((panoptic / row["file_name"]).read_bytes(), "map")
        seen = np.zeros(numbers.shape, np.uint8)
        for segment in row["segments_info"]:
            seen[numbers == segment["id"]] = values[segment["category_id"]]
        classes = decode_png((out / "SegmentationClass" / row["file_name"]).read_bytes(), "map")
        assert np.array_equal(seen, classes), "the same map in both formats"


def test_masks_without_names_are_objects(run_cli, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = run_cli("visualize", photos, "--out", out, "--mode", "automatic", *MODELS)
    assert code == 0
    assert "object: " in text
    assert read_image(out / f"{SEEDS[0]}.jpg").shape == (240, 320, 3)


def test_automatic_masks_fill_what_the_detector_left(run_cli, photos: Path, tmp_path: Path) -> None:
    """The detector may only look for cups; the other classes come by their names."""
    out = tmp_path / "out"
    code, text, _ = run_cli(
        *("annotate", photos, "--out", out, "--mode", "both", "--names", NAMES, *MODELS),
        *("--detector", "demo", "--classes", "cup", "--unsure", "drop", "--json"),
    )
    assert code == 0
    summary = json.loads(text)
    assert len(summary["instances"]) >= 2
    assert summary["instances"]["cup"] >= 2, "as many as the detector finds in these scenes"
    assert summary["left_out"]["detected already"] >= 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--names", "car,Car"), "--names: named twice: car"),
        (("--namer", "demo"), "chooses among words; give some with --names a,b,c"),
        (("--names", "car", "--namer", "nowhere"), "--namer: no such folder: nowhere, here or in"),
        (
            ("--prompts", "boxes.json"),
            "--prompts: --mode automatic asks for no boxes; take --mode both",
        ),
        (("--rest", "ground"), "--rest: is about a map without overlaps; add --flat"),
        (("--flat-order", "smallest"), "--flat-order: is about a map without overlaps; add --flat"),
        (("--flat", "--rest", ""), "--rest: expected a name, got nothing"),
        (("--names", "cup", "--flat", "--rest", "Cup"), "--rest: 'Cup' is a class already"),
        (("--names", "cup,unsure"), "--names: unsure has a meaning of its own"),
        (("--names", "nams.txt"), "--names: no such file: nams.txt"),
        (("--classes", "ball"), "--classes: chooses among the classes of a detector"),
        (("--least-area", "50%", "--most-area", "1%"), "is larger than --most-area"),
        (("--mode", "cascade", "--names", "ball"), "--names: is about automatic masks; add --mode"),
        (("--mode", "cascade", "--flat", "--flat-order", "stability"), "only automatic masks tell"),
        (("--mode", "boxes", "--format", "labelme", "--flat"), "--flat: boxes have no masks"),
        (("--preset", "finest"), "--preset: expected one of coarse, default, fine"),
        (("--crop-n-layers", "9"), "--crop-n-layers: expected 0 to 4, got '9'"),
    ],
)
def test_what_cannot_work_is_told_before_any_work(
    run_cli, photos: Path, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    (tmp_path / "boxes.json").write_text("[]")
    given = [str(tmp_path / one) if one == "boxes.json" else one for one in more]
    out = tmp_path / "out"
    code, _, errors = run_cli(
        "annotate", photos, "--out", out, "--mode", "automatic", *MODELS, *given
    )
    assert code == 2
    assert said in errors


def test_a_plain_and_a_tiny_picture_have_an_answer(run_cli, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, size in (("grey", (120, 160)), ("dot", (1, 1)), ("line", (1, 200))):
        image = np.full((*size, 3), 128, np.uint8)
        (folder / f"{name}.png").write_bytes(encode_picture(image, ".png"))
    out = tmp_path / "out"
    code, text, _ = run_cli(
        *("annotate", folder, "--out", out, "--mode", "automatic", "--names", NAMES, *MODELS),
        *("--format", "labelme,voc"),
    )
    assert code == 1
    assert "labelled 1 images" in text
    assert labelme.read_document(out / "grey.json")["imageHeight"] == 120
    for name, size in (("dot", "1x1"), ("line", "200x1")):
        assert f"{name}.png: {size} has a side under 8 pixels" in text
