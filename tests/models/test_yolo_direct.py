"""The way to a GPU's detections, on the CPU, against Ultralytics' predictor."""

from __future__ import annotations

import numpy as np
import pytest

from backend.demo.scenes.compose import Scene
from backend.models.weights import DEMO_YOLO
from backend.models.yolo import YoloDetector, quiet_ultralytics
from backend.models.yolo_direct import can_go_direct, letterbox


@pytest.fixture
def detector() -> YoloDetector:
    return YoloDetector(DEMO_YOLO, device="cpu")


@pytest.mark.parametrize("side", [384, 640])
def test_letterbox_is_that_of_the_predictor(side: int) -> None:
    quiet_ultralytics(offline=True)  # its import changes Pillow for the whole process
    from ultralytics.data.augment import LetterBox

    rng = np.random.default_rng(side)
    theirs = LetterBox((side, side), auto=True, stride=32)
    for height, width in [
        (1080, 1920),
        (1, 700),
        (33, 32),
        *rng.integers(1, 900, (60, 2)).tolist(),
    ]:
        params = theirs.get_params({"img": np.zeros((height, width, 3), np.uint8)})
        ours = letterbox((height, width), (side, side), 32)
        assert (ours.width, ours.height) == tuple(params["new_unpad"])
        assert (ours.top, ours.bottom, ours.left, ours.right) == tuple(
            params[key] for key in ("top", "bottom", "left", "right")
        )


def test_it_finds_what_the_predictor_finds(detector: YoloDetector, scenes: list[Scene]) -> None:
    images = [scene.image for scene in scenes]
    cut = [image[: 201 + 7 * k, : 303 + 5 * k] for k, image in enumerate(images)]
    of_a_size = [image for image in images if image.shape == images[0].shape]
    groups = [of_a_size, *([image] for image in [*images, *cut])]
    assert len(of_a_size) > 1
    expected = [detector.detect(group) for group in groups]
    direct = detector._without_predictor()
    assert direct
    for group, of_group in zip(groups, expected, strict=True):
        for rows, theirs in zip(direct.detect(group), of_group, strict=True):
            assert len(rows) == len(theirs)
            # OpenCV resizes with eleven bits, so that pixels may differ by one.
            assert np.abs(rows[:, 4] - theirs.scores).max(initial=0) < 0.02
            order = np.argsort(-rows[:, 4] + 1e-3 * rows[:, 0], kind="stable")
            same = np.argsort(-theirs.scores + 1e-3 * theirs.xyxy[:, 0], kind="stable")
            assert np.array_equal(rows[order, 5], theirs.class_ids[same])
            assert np.abs(rows[order, :4] - theirs.xyxy[same]).max(initial=0) < 1


def test_another_predictor_goes_its_own_way(detector: YoloDetector) -> None:
    detector._without_predictor()
    predictor = detector._model.predictor
    assert can_go_direct(predictor)

    class Another(type(predictor)):  # type: ignore[misc]
        pass

    other = Another.__new__(Another)
    other.__dict__.update(vars(predictor))
    assert not can_go_direct(other)
