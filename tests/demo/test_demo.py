"""Scenes, the demo command and the embedded pair."""

from __future__ import annotations

import hashlib
import json
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from labelme._label_file import LabelFile

from backend.demo import run as demo_run
from backend.demo.dataset import class_map, true_detections, true_masks, write_voc
from backend.demo.scenes.compose import (
    SAMPLE_SEEDS,
    SIZES_HW,
    TEST_SEEDS,
    TRAIN_SEEDS,
    VALIDATION_SEEDS,
    generate,
)
from backend.demo.scenes.objects import CLASS_NAMES
from backend.formats.prompt_file import read_prompts
from backend.formats.voc.dataset import open_voc
from backend.formats.voc.label_maps import decode_png
from backend.models.weights import EMBEDDED_FOLDER
from tests.conftest import PYTHON, ROOT


def test_scenes_are_a_function_of_the_seed() -> None:
    for seed in (1, 2_000_001):
        first = generate(seed)
        again = generate(seed)
        assert np.array_equal(first.image, again.image)
        assert np.array_equal(first.objects, again.objects)
        assert first.class_ids == again.class_ids
    assert not np.array_equal(generate(1).image[:100, :100], generate(2).image[:100, :100])


def test_scenes_are_what_they_promise() -> None:
    seen_classes = set()
    seen_sizes = set()
    for seed in range(TEST_SEEDS[7000], TEST_SEEDS[7030]):
        scene = generate(seed)
        seen_classes.update(scene.class_ids)
        seen_sizes.add(scene.objects.shape)
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (*scene.objects.shape, 3)
        assert 1 <= len(scene.class_ids) <= 9
        assert set(np.unique(scene.objects)) == set(range(len(scene.class_ids) + 1))
        assert scene.image.std() > 15
    assert len(seen_classes) == len(CLASS_NAMES) >= 6
    assert seen_sizes == set(SIZES_HW)


def test_seed_ranges_do_not_meet() -> None:
    ranges = [TRAIN_SEEDS, VALIDATION_SEEDS, TEST_SEEDS, SAMPLE_SEEDS]
    assert all(a.stop <= b.start for a, b in pairwise(ranges))


def test_rings_have_holes() -> None:
    holes = 0
    for seed in range(20):
        scene = generate(seed)
        for k, class_id in enumerate(scene.class_ids):
            if CLASS_NAMES[class_id] == "ring":
                mask = true_masks(scene)[k]
                holes += not mask.crop[mask.crop.shape[0] // 2, mask.crop.shape[1] // 2]
    assert holes >= 3


def test_scenes_as_a_voc_dataset(tmp_path: Path) -> None:
    command = [
        PYTHON,
        "-m",
        "backend.demo.scenes",
        "--seed",
        "2000500",
        "--count",
        "2",
        "--out",
        str(tmp_path),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    dataset = open_voc(tmp_path, "val")
    assert dataset.image_ids == ("2000500", "2000501")
    assert dataset.class_names == CLASS_NAMES
    prompts = read_prompts(tmp_path / "prediction.json", len(CLASS_NAMES))
    for image_id in dataset.image_ids:
        scene = generate(int(image_id))
        assert np.array_equal(
            decode_png((tmp_path / "SegmentationClass" / f"{image_id}.png").read_bytes(), ""),
            class_map(scene),
        )
        assert np.array_equal(
            decode_png((tmp_path / "SegmentationObject" / f"{image_id}.png").read_bytes(), ""),
            scene.objects,
        )
        assert sorted(map(tuple, prompts.by_image[image_id].xyxy.tolist())) == sorted(
            map(tuple, true_detections(scene).xyxy.tolist())
        )


def test_the_bundled_samples_are_generated_ones(tmp_path: Path) -> None:
    names = sorted(path.stem for path in (demo_run.SAMPLES / "JPEGImages").glob("*.jpg"))
    assert names == [f"{seed:07d}" for seed in SAMPLE_SEEDS]
    write_voc(tmp_path, SAMPLE_SEEDS[0], 1)
    one = f"SegmentationObject/{names[0]}.png"
    ours, bundled = (
        decode_png((folder / one).read_bytes(), one) for folder in (tmp_path, demo_run.SAMPLES)
    )
    assert (ours == bundled).mean() > 0.999  # other processors round a few pixels otherwise


def test_embedded_weights_are_small_and_whole() -> None:
    lines = (EMBEDDED_FOLDER / "SHA256SUMS").read_text().split("\n")
    total = 0
    for line in filter(None, lines):
        digest, name = line.split()
        data = (EMBEDDED_FOLDER / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
        total += len(data)
    assert total <= 10 << 20


@pytest.fixture(scope="module")
def demo_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "demo-out"
    done = subprocess.run(
        [PYTHON, "-m", "backend", "demo", "--out", str(out), "--no-progress"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_demo_prints_a_table_by_class(demo_out: tuple[Path, str]) -> None:
    _, text = demo_out
    values = {
        line.split()[0]: line.split()[-1] for line in text.splitlines() if len(line.split()) == 2
    }
    assert set(CLASS_NAMES) <= set(values)
    assert float(values["mean"]) > 0.75


def test_demo_writes_what_it_names(demo_out: tuple[Path, str]) -> None:
    out, _ = demo_out
    for seed in SAMPLE_SEEDS:
        assert (out / f"{seed}.jpg").is_file()
        assert (out / "SegmentationClass" / f"{seed}.png").is_file()
    assert len(json.loads((out / "label-studio" / "import.json").read_text())) == 12
    assert (out / "contact_sheet.png").stat().st_size > 100_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_labelme_opens_the_demo(demo_out: tuple[Path, str]) -> None:
    out, _ = demo_out
    for seed in SAMPLE_SEEDS:
        assert LabelFile(str(out / f"{seed}.json")).image_data


@pytest.mark.slow
def test_the_demo_names_masks_of_everything(tmp_path: Path) -> None:
    out = tmp_path / "everything"
    text = demo_run.run_demo(out, progress=False, mode="automatic")
    assert "IoU against the truth:" in text
    mean = next(line for line in text.splitlines() if line.startswith("mean"))
    assert float(mean.split()[1]) > 0.6
    assert "left out: " in text
    assert (out / "contact_sheet.png").stat().st_size > 100_000
    assert len(list((out / "SegmentationClass").glob("*.png"))) == 12
