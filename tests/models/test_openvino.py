"""OpenVINO's parts of the embedded segmenter, against torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from backend.cli.main import main
from backend.config.models import Settings
from backend.core.masks import mask_iou
from backend.core.protocols import Detector
from backend.core.types import Prompts
from backend.core.upsample import crop_masks
from backend.demo.dataset import true_detections
from backend.demo.scenes.compose import Scene
from backend.drawing.overlays import encode_picture
from backend.errors import ConfigError
from backend.formats.voc.label_maps import read_label_map
from backend.models import openvino
from backend.models.registry import load_detector
from backend.models.sam2.image import Sam2Segmenter
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("by_openvino")


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


def half(folder: Path) -> float:
    """Of one, by a model that is converted in a moment."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 0.5)
    nn.init.zeros_(model.bias)
    parts = openvino.OpenVinoParts(model, "half", folder=folder)
    [answer] = parts.run("whole", lambda number: (model(number),), torch.ones(1, 1))
    return answer.item()


def test_what_was_converted_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert half(tmp_path) == 0.5
    caplog.clear()
    assert half(tmp_path) == 0.5
    assert "converting" not in caplog.text
    [kept] = tmp_path.rglob("whole.xml")
    kept.write_text(kept.read_text()[:500])
    assert half(tmp_path) == 0.5
    assert "is damaged, and made again" in caplog.text
    assert "converting a part of the model for OpenVINO, once: whole" in caplog.text


def test_a_disk_that_refuses_costs_the_kept_files_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert half(tmp_path / "file") == 0.5
    assert "a converted part is not kept" in caplog.text


def test_m03_nobody_is_told_of_its_use(tmp_path: Path) -> None:
    """OpenVINO counts its uses in the home folder, and sends them where nothing says not to."""
    code = (
        "from backend.models.openvino import quiet_openvino as get;"
        "import torch;"
        "get().convert_model(torch.nn.Linear(1, 1), example_input=torch.ones(1, 1))"
    )
    by_machines = ("CI", "TF_BUILD", "JENKINS_URL")  # where it sends nothing by itself
    own = {name: value for name, value in os.environ.items() if name not in by_machines}
    subprocess.run(
        [sys.executable, "-c", code], env=own | {"HOME": str(tmp_path)}, cwd=ROOT, check=True
    )
    assert not (tmp_path / "intel").exists()


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
    with pytest.raises(ConfigError, match="pip install openvino"):
        load_detector(Settings(detector="demo", runtime="openvino"), "cpu")


@pytest.mark.parametrize(
    ("runtime", "device", "installed", "wanted"),
    [
        ("auto", "cpu", True, True),
        ("auto", "cpu", False, False),
        ("auto", "cuda", True, False),
        ("openvino", "cuda", True, False),
        ("torch", "cpu", True, False),
    ],
)
def test_it_is_taken_where_it_is_installed(
    runtime: str, device: str, installed: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "has_openvino", lambda: installed)
    assert openvino.is_wanted(runtime, device) is wanted


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_taken_where_the_processor_has_it(
    has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "processor_has_bf16", lambda: has)
    assert openvino.is_bf16("auto") is has
    assert not openvino.is_bf16("float32")
    if has:
        assert openvino.is_bf16("bf16")
        return
    with pytest.raises(ConfigError, match="this processor has none"):
        openvino.is_bf16("bf16")


def test_what_bf16_costs_is_measured_once_and_told(
    scenes: list[Scene],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = in_parts(folder, monkeypatch, bf16=True)
    boxes = [true_detections(scene).xyxy for scene in scenes[:2]]
    ours.segment([scenes[0].image], [boxes[0][:0]])
    assert "overlap those of float32" not in caplog.text
    for _ in range(2):
        ours.segment([scene.image for scene in scenes[:2]], boxes)
    [told] = [line for line in caplog.messages if "overlap those of float32" in line]
    assert 0.9 < float(told.partition(" by ")[2].partition(" ")[0]) <= 1


def test_what_it_refuses_torch_runs(
    by_torch: Sam2Segmenter,
    scenes: list[Scene],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operator\nand a whole program")

    monkeypatch.setattr("openvino.convert_model", refuse)
    boxes = [true_detections(scenes[0]).xyxy[:3]]
    ours = in_parts(tmp_path, monkeypatch)
    [answer], [expected] = (one.segment([scenes[0].image], boxes) for one in (ours, by_torch))
    np.testing.assert_allclose(answer.logits, expected.logits, atol=0.05)
    assert "torch runs it: encode: no such operator" in caplog.text
    assert "a whole program" not in caplog.text


def _detector(folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> Detector:
    monkeypatch.setattr(openvino, "default_folder", lambda: folder)
    return load_detector(Settings(detector="demo", runtime=runtime), "cpu")


def test_a_detector_finds_what_it_finds_by_torch(
    scenes: list[Scene],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = [scene.image for scene in scenes[:6]]
    by_torch = _detector(folder, monkeypatch, "torch")
    ours = _detector(folder, monkeypatch, "openvino")
    assert ours.version == by_torch.version
    assert "converting" not in caplog.text
    for _ in range(2):  # the second time, all shapes came often enough
        for wanted, found in zip(by_torch.detect(images), ours.detect(images), strict=True):
            np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
            np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=0.01)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    assert "converting a part of the model for OpenVINO, once: detect-3x" in caplog.text


def test_a_shape_that_comes_seldom_is_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = _detector(tmp_path, monkeypatch, "openvino")
    for width in (100, 150, 200, 250, 300):
        ours.detect([np.zeros((200, width, 3), np.uint8)])
    assert "converting" not in caplog.text
    monkeypatch.setattr("backend.models.yolo_parts._MOST_SHAPES", 1)
    for width in (100, 300):
        ours.detect([np.zeros((200, width, 3), np.uint8)] * 3)
    assert len(list(tmp_path.rglob("detect-*.xml"))) == 1


def test_a_shape_that_was_converted_before_is_not_left_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    _detector(tmp_path, monkeypatch, "openvino").detect([image] * 3)
    asked = []
    run = openvino.OpenVinoParts.run

    def counting(self: openvino.OpenVinoParts, part: str, *rest: Any) -> Any:
        asked.append(part)
        return run(self, part, *rest)

    monkeypatch.setattr(openvino.OpenVinoParts, "run", counting)
    _detector(tmp_path, monkeypatch, "openvino").detect([image])
    assert len(asked) == 1


@pytest.mark.slow
def test_annotate_takes_it_without_being_told(
    scenes: list[Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line, and with the masks that torch gives."""
    folder = tmp_path / "kept"
    monkeypatch.setattr(openvino, "default_folder", lambda: folder)
    (tmp_path / "set").mkdir()
    for k, scene in enumerate(scenes):
        path = tmp_path / "set" / f"{k}.png"
        path.write_bytes(encode_picture(scene.image, ".png"))
    models = ("--detector", "demo", "--segmenter", "demo", "--format", "voc")
    for runtime in ("torch", None):
        out = tmp_path / str(runtime)
        more = () if runtime is None else ("--runtime", runtime)
        assert main(["annotate", str(tmp_path / "set"), "--out", str(out), *models, *more]) == 0
        assert folder.is_dir() is (runtime is None)
    for path in sorted((tmp_path / "torch").rglob("SegmentationClass/*.png")):
        ours = read_label_map(tmp_path / "None" / path.relative_to(tmp_path / "torch"))
        assert np.mean(ours == read_label_map(path)) > 0.999


def test_models_that_were_not_used_for_long_are_forgotten(tmp_path: Path) -> None:
    for k in range(20):
        (tmp_path / f"old-{k:02}").mkdir()
        (tmp_path / f"old-{k:02}" / "whole.xml").write_text("")
        os.utime(tmp_path / f"old-{k:02}", (k, k))
    half(tmp_path)
    left = sorted(one.name for one in tmp_path.iterdir())
    assert len(left) == 16
    assert left[1:] == [f"old-{k:02}" for k in range(5, 20)]
    assert (tmp_path / left[0] / "whole.xml").is_file()
