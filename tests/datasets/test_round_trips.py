"""There and back: what comes home is what left, pixel for pixel and note for note."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.datasets.convert import ConvertOptions, convert
from backend.datasets.report import ConvertSummary
from backend.formats.options import WriteOptions
from backend.formats.voc.label_maps import encode_png
from tests.support.dataset_scenes import LABELS, around, objects, write_scenes

QUIET = ConvertOptions(progress=False)


def run(source: Path, out: Path, target: str, options: ConvertOptions = QUIET) -> ConvertSummary:
    summary = convert(source, out, target, options)
    assert not summary.failed, summary.failed
    return summary


def images(folder: Path) -> ConvertOptions:
    return ConvertOptions(images=folder, progress=False)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("via", ["label-studio", "coco"])
def test_labelme_there_and_back(tmp_path: Path, via: str, seed: int) -> None:
    source = tmp_path / "source"
    files = write_scenes(source, np.random.default_rng(seed))
    there = run(source, tmp_path / "there", via)
    assert not there.losses
    run(tmp_path / "there", tmp_path / "back", "labelme", images(source))
    for path in files:
        back = tmp_path / "back" / path.relative_to(source)
        assert objects(back) == objects(path)
        assert around(back) == around(path)
        picture = back.parent / json.loads(back.read_text())["imagePath"]
        assert (
            picture.resolve() == (path.parent / json.loads(path.read_text())["imagePath"]).resolve()
        )
    for name in ("source", "back"):  # parts of a group come back to their place among the others
        run(
            tmp_path / name,
            tmp_path / f"{name}-voc",
            "voc",
            ConvertOptions(images=source, classes=LABELS, progress=False),
        )
    for path in (tmp_path / "source-voc/SegmentationClass").rglob("*.png"):
        assert (
            path.read_bytes()
            == (
                tmp_path
                / "back-voc/SegmentationClass"
                / path.relative_to(tmp_path / "source-voc/SegmentationClass")
            ).read_bytes()
        )


@pytest.mark.parametrize("seed", range(3))
def test_labelme_to_labelme_keeps_every_part_in_its_place(tmp_path: Path, seed: int) -> None:
    source = tmp_path / "source"
    files = write_scenes(source, np.random.default_rng(seed))
    run(source, tmp_path / "back", "labelme")
    for path in files:
        before, after = (
            json.loads(one.read_text())
            for one in (path, tmp_path / "back" / path.relative_to(source))
        )
        assert [(s["label"], s["points"], s["group_id"], s["mask"]) for s in after["shapes"]] == [
            (s["label"], s["points"], s["group_id"], s["mask"]) for s in before["shapes"]
        ]


def write_voc(root: Path, rng: np.random.Generator) -> None:
    """A dataset with every combination of values that there is: objects without class, classes
    without object, ignored pixels in both.
    """
    for folder in (
        "JPEGImages",
        "SegmentationClass",
        "SegmentationObject",
        "ImageSets/Segmentation",
    ):
        (root / folder).mkdir(parents=True)
    (root / "class_names.txt").write_text("_background_\ncat\ndog\n電車")
    for k in range(3):
        height = int(rng.integers(5, 40))
        width = int(rng.integers(9, 40))
        shape = (-(-height // 3), -(-width // 3))
        classes = np.kron(rng.choice([0, 0, 1, 2, 3, 255], shape), np.ones((3, 3))).astype(
            np.uint8
        )[:height, :width]
        objects_ = np.kron(rng.choice([0, 1, 2, 5, 9, 255], shape), np.ones((3, 3))).astype(
            np.uint8
        )[:height, :width]
        (root / "SegmentationClass" / f"ü {k}.png").write_bytes(encode_png(classes))
        (root / "SegmentationObject" / f"ü {k}.png").write_bytes(encode_png(objects_))
        PIL.Image.new("RGB", (width, max(height, 8))).crop((0, 0, width, height)).save(
            root / "JPEGImages" / f"ü {k}.jpg"
        )
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("ü 0\nü 1\n")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("ü 2\n")


@pytest.mark.parametrize("via", ["labelme", "coco", "label-studio"])
@pytest.mark.parametrize("seed", range(4))
def test_voc_there_and_back(tmp_path: Path, seed: int, via: str) -> None:
    source = tmp_path / "source"
    write_voc(source, np.random.default_rng(seed))
    run(source, tmp_path / "there", via)
    names = ("cat", "dog", "電車") if via == "label-studio" else None
    run(
        tmp_path / "there",
        tmp_path / "back",
        "voc",
        ConvertOptions(images=source / "JPEGImages", classes=names, progress=False),
    )
    for folder in ("SegmentationClass", "SegmentationObject"):
        for path in (source / folder).iterdir():
            before, after = (
                np.array(PIL.Image.open(one))
                for one in (path, tmp_path / "back" / folder / path.name)
            )
            assert np.array_equal(before, after), path
    assert (tmp_path / "back" / "class_names.txt").read_text() == (
        source / "class_names.txt"
    ).read_text()
    if via == "coco":  # the only one of these formats that knows lists
        for name in ("train.txt", "val.txt"):
            assert (tmp_path / "back/ImageSets/Segmentation" / name).read_text() == (
                source / "ImageSets/Segmentation" / name
            ).read_text()


@pytest.mark.parametrize("seed", range(3))
def test_yolo_there_and_back_loses_what_it_says(tmp_path: Path, seed: int) -> None:
    """Holes survive.

    An object in one part comes back exactly, one in several has more pixels, and the summary counts
    them.
    """
    source = tmp_path / "source"
    files = write_scenes(source, np.random.default_rng(seed))
    there = run(source, tmp_path / "there", "yolo")
    run(tmp_path / "there", tmp_path / "back", "labelme")
    changed = 0
    for path in files:
        wanted = [
            one for one in objects(path) if one[0] != "__ignore__" and not one[2].get("iscrowd")
        ]
        found = objects(tmp_path / "back" / path.relative_to(source))
        assert [label for label, *_ in found] == [label for label, *_ in wanted]
        for (_, before, _), (_, after, _) in zip(wanted, found, strict=True):
            a = np.frombuffer(before, bool)
            b = np.frombuffer(after, bool)
            assert not (a & ~b).any()
            changed += int((a != b).sum())
    assert changed == there.losses["pixels changed"] > 0
    assert there.losses["scores"] == 8
    assert there.losses["pictures turned upright and encoded anew"] == 1


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    via=st.sampled_from(["label-studio", "coco"]),
)
def test_any_scene_comes_home(
    tmp_path_factory: pytest.TempPathFactory, seed: int, height: int, width: int, via: str
) -> None:
    folder = tmp_path_factory.mktemp("scene")
    files = write_scenes(folder / "source", np.random.default_rng(seed), (height + 2, width + 20))
    run(folder / "source", folder / "there", via)
    run(folder / "there", folder / "back", "labelme", images(folder / "source"))
    for path in files:
        assert objects(folder / "back" / path.relative_to(folder / "source")) == objects(path)


@pytest.mark.parametrize("seed", range(3))
def test_polygons_hold_every_pixel_when_they_are_exact(tmp_path: Path, seed: int) -> None:
    source = tmp_path / "source"
    files = write_scenes(source, np.random.default_rng(seed))
    summary = run(
        source,
        tmp_path / "back",
        "labelme",
        ConvertOptions(write=WriteOptions(shape="polygon", tolerance=0.0), progress=False),
    )
    assert not summary.losses
    for path in files:
        back = tmp_path / "back" / path.relative_to(source)
        assert {s["shape_type"] for s in json.loads(back.read_text())["shapes"]} <= {"polygon"}
        assert [one[:2] for one in objects(back)] == [one[:2] for one in objects(path)]


def test_a_model_stays_the_author_of_what_nobody_changed(
    run_cli, pictures: Path, tmp_path: Path
) -> None:
    """annotate -> Label Studio -> labelme: the file is still known as the model's, so that scoring
    knows the version and a run goes on.
    """
    from labelme_plugin.document import unchanged_version_of

    labels = tmp_path / "labels"
    run_cli(
        "annotate",
        pictures,
        "--out",
        labels,
        "--detector",
        "demo",
        "--segmenter",
        "demo",
        "--device",
        "cpu",
        "--no-progress",
    )
    version = unchanged_version_of(labels / "a.json")
    assert version
    run(labels, tmp_path / "there", "label-studio", images(pictures))
    tasks = json.loads((tmp_path / "there/import.json").read_text())
    assert {one["model_version"] for task in tasks for one in task["predictions"]} == {version}
    code, text, _ = run_cli(
        "convert",
        tmp_path / "there",
        tmp_path / "back",
        "--to",
        "labelme",
        "--images",
        pictures,
        "--what",
        f"model_version={version}",
    )
    assert code == 0, text
    for path in labels.rglob("*.json"):
        back = tmp_path / "back" / path.relative_to(labels)
        assert objects(back) == objects(path)
        assert unchanged_version_of(back) == version
