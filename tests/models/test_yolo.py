"""The detector: arrays only, classes by name, no network, results free of the batch around them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from backend.config.models import Settings
from backend.demo.dataset import true_detections
from backend.demo.scenes.compose import Scene
from backend.errors import ConfigError, InputError
from backend.files.images import decode_image
from backend.models.devices import resolve_device
from backend.models.registry import load_detector, load_segmenter
from backend.models.table import DEMO, models_of
from backend.models.weights import DEMO_SAM2, DEMO_YOLO
from backend.models.yolo import YoloDetector
from tests.conftest import PYTHON, ROOT


@pytest.fixture(scope="module")
def detector() -> YoloDetector:
    return YoloDetector(DEMO_YOLO, device="cpu")


def test_objects_are_found_and_named(detector: YoloDetector, scenes: list[Scene]) -> None:
    found = hit = total = 0
    for scene, detections in zip(scenes, detector.detect([s.image for s in scenes]), strict=True):
        truth = true_detections(scene)
        found += len(detections)
        for box, class_id in zip(truth.xyxy, truth.class_ids, strict=True):
            total += 1
            for other, its in zip(detections.xyxy, detections.class_ids, strict=True):
                low = np.maximum(box[:2], other[:2])
                high = np.minimum(box[2:], other[2:])
                common = np.prod(np.clip(high - low, 0, None))
                union = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - common
                if its == class_id and common / union > 0.5:
                    hit += 1
                    break
    assert hit >= 0.75 * total
    assert found <= 1.6 * total
    assert detector.names == {0: "ball", 1: "box", 2: "star", 3: "cup", 4: "leaf", 5: "ring"}


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_m01_code_in_weights_does_not_run(tmp_path: Path) -> None:
    torch.save({"model": _Canary(tmp_path / "ran")}, tmp_path / "bad.pt")
    with pytest.raises(ConfigError, match="holds code besides a model.*SAFE_LOAD=false"):
        YoloDetector(tmp_path / "bad.pt", device="cpu")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert (tmp_path / "ran").exists(), "the canary sings where code does run"


def test_what_is_no_model_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for content in (b"", b"\xff\xd8\xff" * 200, DEMO_YOLO.read_bytes()[:100_000]):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is not a YOLO model") as told:
            YoloDetector(path, device="cpu")
        assert "\n" not in str(told.value)


def test_types_and_an_empty_picture(detector: YoloDetector) -> None:
    (nothing,) = detector.detect([np.full((64, 96, 3), 127, np.uint8)])
    assert len(nothing) == 0
    assert (
        nothing.xyxy.shape,
        nothing.xyxy.dtype,
        nothing.class_ids.dtype,
        nothing.scores.dtype,
    ) == ((0, 4), np.float32, np.int64, np.float32)
    assert detector.detect([]) == []


def test_results_do_not_depend_on_the_batch(detector: YoloDetector, scenes: list[Scene]) -> None:
    together = detector.detect([s.image for s in scenes])
    assert len({s.image.shape for s in scenes}) > 1
    for scene, detections in zip(scenes, together, strict=True):
        (alone,) = detector.detect([scene.image])
        assert np.allclose(alone.xyxy, detections.xyxy, atol=0.05)
        assert alone.class_ids.tolist() == detections.class_ids.tolist()


def test_thresholds_and_classes(scenes: list[Scene]) -> None:
    images = [s.image for s in scenes]
    few = YoloDetector(DEMO_YOLO, device="cpu", max_det=1).detect(images)
    assert all(len(d) <= 1 for d in few)
    strict = YoloDetector(DEMO_YOLO, device="cpu", conf=0.9).detect(images)
    assert all((d.scores >= 0.9).all() for d in strict)
    only = YoloDetector(DEMO_YOLO, device="cpu", classes=["star", "cup"]).detect(images)
    assert {int(c) for d in only for c in d.class_ids} <= {2, 3}
    with pytest.raises(
        ConfigError, match="--classes: dragon not among the classes of demo_yolov8.pt: ball, box"
    ):
        YoloDetector(DEMO_YOLO, device="cpu", classes=["dragon"])


def test_agnostic_suppression_leaves_one_box_per_object() -> None:
    pictures = [
        decode_image(path.read_bytes())
        for path in sorted((ROOT / "backend/demo/samples/JPEGImages").glob("*.jpg"))
    ]

    def doubles(detector: YoloDetector) -> int:
        count = 0
        for found in detector.detect(pictures):
            low = np.maximum(found.xyxy[:, None, :2], found.xyxy[None, :, :2])
            high = np.minimum(found.xyxy[:, None, 2:], found.xyxy[None, :, 2:])
            common = np.clip(high - low, 0, None).prod(-1)
            areas = (found.xyxy[:, 2:] - found.xyxy[:, :2]).prod(-1)
            count += int(
                (np.triu(common / (areas[:, None] + areas[None] - common), 1) > 0.75).sum()
            )
        return count

    per_class = YoloDetector(DEMO_YOLO, device="cpu", conf=0.05)
    agnostic = YoloDetector(DEMO_YOLO, device="cpu", conf=0.05, agnostic_nms=True)
    assert doubles(per_class) > 0
    assert doubles(agnostic) == 0
    assert per_class.version != agnostic.version


def test_the_version_follows_the_thresholds() -> None:
    versions = {YoloDetector(DEMO_YOLO, device="cpu", conf=c).version for c in (0.2, 0.3)}
    assert len(versions) == 2
    assert YoloDetector(DEMO_YOLO, device="cpu", conf=0.2).version in versions


def test_files_that_are_no_detector(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    for path in (tmp_path / "junk.pt", DEMO_SAM2):
        with pytest.raises(ConfigError, match=f"{path.name}: is not a YOLO model"):
            YoloDetector(path, device="cpu")


@pytest.mark.slow
def test_m03_nothing_leaves_the_process(tmp_path: Path, scenes: list[Scene]) -> None:
    """Every attempt to resolve a name or connect is recorded.

    There must be none, and no package may be installed.
    """
    np.save(tmp_path / "image.npy", scenes[0].image)
    code = f"""
import socket, subprocess, sys
seen = []
watched = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen")
sys.addaudithook(
    lambda event, args: seen.append((event, str(args))) if event in watched else None
)
import numpy as np
from backend.models.registry import load_detector
from backend.config.models import Settings
detector = load_detector(Settings(detector="demo"), "cpu")
detector.detect([np.load({str(tmp_path / "image.npy")!r})])
print([s for s in seen if "pip" in s[1] or s[0].startswith("socket")])
"""
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path)}
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_pillow_is_left_as_it_was(detector: YoloDetector) -> None:
    """Importing Ultralytics replaces ``PIL.Image.open``.

    Undone, refused files stay refused and nothing is installed.
    """
    assert PIL.Image.open.__module__ == "PIL.Image"
    with pytest.raises(InputError, match="login page"):
        decode_image(b"<html>", "x")


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="--detector: unknown model 'yolo99'; known are demo, yolov8n"
    ):
        load_detector(Settings(detector="yolo99"), "cpu")
    with pytest.raises(
        ConfigError, match="--segmenter: unknown model 'sam9'; known are demo, sam2.1_hiera_tiny"
    ):
        load_segmenter(Settings(segmenter="sam9"), "cpu")
    with pytest.raises(ConfigError, match=r"--detector: no such file: .*x\.pt"):
        load_detector(Settings(detector=str(tmp_path / "x.pt")), "cpu")
    with pytest.raises(ConfigError, match="needs --segmenter-config"):
        load_segmenter(Settings(segmenter=str(DEMO_YOLO)), "cpu")
    with pytest.raises(
        ConfigError, match="device cuda is not available|device mps is not available"
    ):
        resolve_device("mps" if not _has_mps() else "cuda:99")


def _has_mps() -> bool:
    import torch

    return bool(torch.backends.mps.is_available())


def test_the_catalog_names_the_published_models() -> None:
    from importlib.resources import files

    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

    published = [model for model in models_of("segmenter") if model.name != DEMO]
    assert {(m.repository, m.config, m.weights) for m in published} == {
        (k, *v) for k, v in HF_MODEL_ID_TO_FILENAMES.items()
    }
    for model in published:
        assert files("sam2").joinpath(str(model.config)).is_file()
    detectors = [model.name for model in models_of("detector")]
    assert "yolov8n" in detectors
    assert "yolo26x" in detectors


def test_changed_embedded_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "SHA256SUMS").write_bytes((DEMO_YOLO.parent / "SHA256SUMS").read_bytes())
    (tmp_path / DEMO_YOLO.name).write_bytes(DEMO_YOLO.read_bytes()[:-1] + b"x")
    monkeypatch.setattr("backend.models.weights.EMBEDDED_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match="embedded weights are missing or changed"):
        load_detector(Settings(detector="demo"), "cpu")
