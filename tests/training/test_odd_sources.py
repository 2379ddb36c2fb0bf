"""What people may hand in to be learned from: too little, too small, of several sizes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from backend.config.models import Settings
from backend.drawing.overlays import encode_picture
from backend.errors import ConfigError
from backend.formats.voc.label_maps import encode_png
from backend.training import segmenter_loop
from backend.training.finetune import finetune
from backend.training.request import FinetuneRequest, FinetuneSummary
from backend.training.segmenter import Recipe
from tests.support.cells import write_cells

DEMO = Settings(detector="demo", segmenter="demo", device="cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps of few objects."""
    monkeypatch.setattr(segmenter_loop, "_LEAST_STEPS", 3)
    monkeypatch.setattr(
        "backend.training.finetune.Recipe", lambda **given: Recipe(prompts=4, **given)
    )


def learned(source: Path, **changed: Any) -> FinetuneSummary:
    out = source.parent / "run"
    out.mkdir()
    given: Mapping[str, Any] = {"kinds": ("segmenter",), "share": 0.3, "epochs": 1, "views": 2}
    request = FinetuneRequest(source=source, out=out, **{**given, **changed})
    return finetune(
        request,
        DEMO,
        stop=threading.Event(),
        tell=lambda progress: None,
        remark=lambda text: None,
    )


def write_maps(root: Path, shapes: Sequence[tuple[int, int]], radius: int) -> Path:
    """A VOC dataset with a disc in each picture."""
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
    (root / "class_names.txt").write_text("_background_\ndisc\n")
    for k, (height, width) in enumerate(shapes):
        rng = np.random.default_rng(k)
        coarse = rng.integers(60, 200, (6, 8, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        disc = np.zeros((height, width), np.uint8)
        cv2.circle(disc, (width // 2, height // 2), radius, 1, -1)
        image[disc > 0] = 255
        (root / f"JPEGImages/{k:x}_.png").write_bytes(encode_picture(image, ".png"))
        for folder in ("SegmentationClass", "SegmentationObject"):
            (root / f"{folder}/{k:x}_.png").write_bytes(encode_png(disc))
    return root


def test_one_picture_cannot_be_learned_from_and_judge(tmp_path: Path) -> None:
    source = write_cells(tmp_path / "voc", {"train": range(1)})
    with pytest.raises(ConfigError, match="one picture cannot be trained on and held out"):
        learned(source)


def test_a_class_without_an_object_is_no_fault(tmp_path: Path) -> None:
    source = write_cells(tmp_path / "voc", {"train": range(5)})
    (source / "class_names.txt").write_text("_background_\ncell\nghost\n")
    found = learned(source, classes=("cell", "ghost"))
    assert found.segmenter is not None
    assert set(found.segmenter.classes) == {"cell"}


def test_masks_of_a_few_pixels_teach_nothing(tmp_path: Path) -> None:
    source = write_maps(tmp_path / "voc", [(160, 200)] * 6, radius=0)
    with pytest.raises(ConfigError, match="no picture to train on has an object that is large"):
        learned(source)


def test_pictures_of_several_sizes_learn_together(tmp_path: Path) -> None:
    shapes = [(160, 200), (90, 300), (220, 120), (160, 200), (64, 64), (300, 400)]
    found = learned(write_maps(tmp_path / "voc", shapes, radius=22))
    assert found.segmenter is not None
    assert (found.faults, found.segmenter.epochs) == ((), 1)
