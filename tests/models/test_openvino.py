"""OpenVINO's parts of the embedded segmenter, against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.core.masks import mask_iou
from backend.core.types import Prompts
from backend.core.upsample import crop_masks
from backend.demo.dataset import true_detections
from backend.demo.scenes.compose import Scene
from backend.errors import ConfigError
from backend.models import openvino
from backend.models.sam2.image import Sam2Segmenter
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


@pytest.fixture
def by_torch() -> Sam2Segmenter:
    return Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu")


def in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch, *, bf16: bool = False) -> Sam2Segmenter:
    monkeypatch.setattr(openvino, "default_folder", lambda: folder)
    return Sam2Segmenter(
        DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu", runtime="openvino", bf16=bf16
    )


def test_masks_are_those_of_torch(
    by_torch: Sam2Segmenter, scenes: list[Scene], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [scene.image for scene in scenes[:4]]
    boxes = [true_detections(scene).xyxy for scene in scenes[:4]]
    boxes[1] = boxes[1][:1]
    boxes[2] = boxes[2][:0]
    ours = in_parts(folder, monkeypatch)
    assert ours.version == by_torch.version
    ious = []
    for answer, expected in zip(
        ours.segment(images, boxes), by_torch.segment(images, boxes), strict=True
    ):
        assert len(answer) == len(expected)
        np.testing.assert_allclose(answer.quality, expected.quality, atol=1e-3)
        for one, other in zip(crop_masks(answer), crop_masks(expected), strict=True):
            assert one is not None
            assert other is not None
            ious.append(mask_iou(one, other))
    assert len(ious) > 8
    assert np.mean(ious) > 0.999


def test_clicks_work_on_its_features(
    by_torch: Sam2Segmenter, scenes: list[Scene], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = scenes[0].image
    prompts = [Prompts(xyxy=box) for box in true_detections(scenes[0]).xyxy[:2]]
    ours = in_parts(folder, monkeypatch)
    answers = [one.refine(one.embed(image), prompts) for one in (ours, by_torch)]
    for one, other in zip(*map(crop_masks, answers), strict=True):
        assert one is not None
        assert other is not None
        assert mask_iou(one, other) > 0.999


def test_what_was_converted_is_kept(
    scenes: list[Scene],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = scenes[0].image
    in_parts(folder, monkeypatch).embed(image)
    caplog.clear()
    in_parts(folder, monkeypatch).embed(image)
    assert "converting" not in caplog.text
    [kept] = folder.rglob("encode.xml")
    kept.write_text(kept.read_text()[:2000])
    in_parts(folder, monkeypatch).embed(image)
    assert "is damaged, and made again" in caplog.text
    assert "converting a part of the model for OpenVINO, once: encode" in caplog.text


def test_a_disk_that_refuses_costs_the_kept_files_alone(
    scenes: list[Scene],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    ours = in_parts(tmp_path / "file", monkeypatch)
    assert ours.embed(scenes[0].image).size_hw == scenes[0].image.shape[:2]
    assert "a converted part is not kept" in caplog.text


def test_bf16_gives_other_masks_and_says_so(
    by_torch: Sam2Segmenter, scenes: list[Scene], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = in_parts(folder, monkeypatch, bf16=True)
    assert ours.version != by_torch.version
    assert ours.version.rpartition("-")[0] == by_torch.version.rpartition("-")[0]
    boxes = [true_detections(scenes[0]).xyxy]
    [answer], [expected] = (one.segment([scenes[0].image], boxes) for one in (ours, by_torch))
    ious = [
        mask_iou(one, other)
        for one, other in zip(crop_masks(answer), crop_masks(expected), strict=True)
        if one is not None and other is not None
    ]
    assert np.mean(ious) > 0.95


def test_without_openvino_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "has_openvino", lambda: False)
    with pytest.raises(ConfigError, match="pip install openvino"):
        Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu", runtime="openvino")
