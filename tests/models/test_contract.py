"""Every model of the table through the same cases: no image, nothing to find, odd sizes, order,
and the types that are promised.

Published models run with untrained weights of their shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.config.models import Settings
from backend.core.naming import Words
from backend.core.protocols import BoxSegmenter, Detector, PointSegmenter
from backend.core.types import Detections, Image, Masks, Prompts
from backend.core.upsample import crop_masks
from backend.errors import InputError
from backend.models.registry import load_detector, load_segmenter
from backend.models.table import MODELS, Model
from tests.support.untrained import untrained_weights

SIZES = [(33, 64), (5, 7), (97, 61)]
_QUICK = {"demo", "yolov8n", "yolo11n", "yolo26n", "yolo26n-seg"}
# That order and neighbours do not matter, these show for their larger sisters, which take seconds a
# picture.
_WHOLE = _QUICK | {"yolov8n-seg", "yolo11n-seg", "sam2.1_hiera_tiny"}


def rows(kind: str) -> list[object]:
    """A case for each model; the large ones are slow."""
    return [
        pytest.param(
            model,
            id=model.name,
            marks=[] if model.folder or model.name in _QUICK else pytest.mark.slow,
        )
        for (of_kind, _), model in MODELS.items()
        if of_kind == kind
    ]


Load = Callable[[Model], Settings]


@pytest.fixture
def settings_for(tmp_path: Path, request: pytest.FixtureRequest) -> Load:
    """Settings that name a model whose weights are there."""

    def make(model: Model) -> Settings:
        if not model.embedded:
            untrained_weights(model, tmp_path)
        named = {model.kind: model.name}
        # What looks for words finds little without training.
        more: dict[str, Any] = {"names": (Words("car"), Words("bus")), "conf": 0.01}
        given = dict(more) if model.folder else {}
        # Converting each of the others, for this test alone, would take gigabytes.
        if model.embedded or model.name in ("yolov8n", "sam2.1_hiera_tiny"):
            request.getfixturevalue("by_openvino")
        if model.kind == "segmenter" and model.name not in _WHOLE:
            given["segmenter_size"] = 512
        return Settings(**named, device="cpu", model_root=tmp_path, max_det=20, **given)

    return make


def pictures(count: int = 3) -> list[Image]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in SIZES[:count]]


def check_detections(found: Detections, detector: Detector) -> None:
    count = len(found)
    assert found.xyxy.shape == (count, 4)
    assert (found.xyxy.dtype, found.class_ids.dtype) == (np.float32, np.int64)
    assert found.scores.dtype == np.float32
    assert np.isfinite(found.xyxy).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.class_ids.tolist()) <= set(detector.names)
    assert found.masks is None or len(found.masks) == count


@pytest.mark.parametrize("model", rows("detector"))
def test_detectors(model: Model, settings_for: Load) -> None:
    detector = load_detector(settings_for(model), "cpu")
    assert detector.names
    stem = model.name if model.folder else Path(model.weights).stem
    assert detector.version.startswith(stem)
    assert detector.detect([]) == []
    is_whole = model.folder or model.name in _WHOLE
    images = pictures(3 if is_whole else 1)
    found = detector.detect(images)
    assert len(found) == len(images)
    for one in found:
        check_detections(one, detector)
    # A detector that also outlines drops what it outlines with no pixel, as untrained ones do.
    assert any(len(one) for one in found) or model.name.endswith("-seg")
    if not is_whole:
        return
    for one, alone in zip(reversed(found), detector.detect(images[::-1]), strict=True):
        assert np.allclose(one.xyxy, alone.xyxy, atol=1e-2), "order and neighbours do not matter"
        assert one.class_ids.tolist() == alone.class_ids.tolist()
    (nothing,) = detector.detect([np.zeros((32, 32, 3), np.uint8)])
    check_detections(nothing, detector)


def boxes_of(image: Image, count: int) -> np.ndarray:
    height, width = image.shape[:2]
    left = np.linspace(0, width / 2, count, endpoint=False)
    return np.stack([left, left / 9, left + width / 3, np.full(count, height - 1.0)], 1).astype(
        np.float32
    )


def check_masks(masks: Masks, image: Image, count: int) -> None:
    assert len(masks) == len(masks.quality) == count
    assert masks.logits.ndim == 3
    assert masks.logits.dtype in (np.float16, np.float32)
    assert np.isfinite(masks.logits).all()
    assert masks.quality.dtype == np.float32
    assert ((masks.quality >= 0) & (masks.quality <= 1)).all()
    assert masks.size_hw == image.shape[:2]
    assert len(crop_masks(masks)) == count


def check_boxes(segmenter: BoxSegmenter, counts: Sequence[int], *, again: bool) -> None:
    assert segmenter.segment([], []) == []
    images = pictures(len(counts))
    boxes = [boxes_of(image, count) for image, count in zip(images, counts, strict=True)]
    answers = segmenter.segment(images, boxes)
    assert len(answers) == len(images)
    for image, of_image, masks in zip(images, boxes, answers, strict=True):
        check_masks(masks, image, len(of_image))
    if not again:
        return
    swapped = segmenter.segment(images[::-1], [of_image[::-1] for of_image in boxes[::-1]])
    for one, other in zip(answers, swapped[::-1], strict=True):
        assert np.allclose(one.logits, other.logits[::-1], atol=0.05), "order does not matter"
        assert np.allclose(one.quality, other.quality[::-1], atol=1e-3)


def check_prompts(segmenter: PointSegmenter) -> None:
    image = pictures(1)[0]
    embedding = segmenter.embed(image)
    assert embedding.size_hw == image.shape[:2]
    assert embedding.n_bytes > 0
    check_masks(segmenter.refine(embedding, []), image, 0)
    point = Prompts(points_xy=np.array([[9, 9]], np.float32), positive=np.array([True]))
    box = Prompts(xyxy=np.array([2, 3, 20, 30], np.float32))
    both = segmenter.refine(embedding, [point, box])
    check_masks(both, image, 2)
    swapped = segmenter.refine(embedding, [box, point])
    assert np.allclose(both.logits, swapped.logits[::-1], atol=0.05)
    further = Prompts(xyxy=box.xyxy, logits=both.logits[1].astype(np.float32))
    check_masks(segmenter.refine(embedding, [further]), image, 1)
    with pytest.raises(InputError):
        segmenter.refine(embedding, [Prompts()])


@pytest.mark.parametrize("model", rows("segmenter"))
def test_segmenters(model: Model, settings_for: Load) -> None:
    segmenter = load_segmenter(settings_for(model), "cpu")
    assert segmenter.version.startswith(Path(model.weights).stem)
    is_whole = model.name in _WHOLE
    counts = (0, 1, 2) if model.name in _QUICK else (2, 1) if is_whole else (2,)
    check_boxes(segmenter, counts, again=is_whole)
    if isinstance(segmenter, PointSegmenter):
        check_prompts(segmenter)


def test_every_row_of_the_table_is_run() -> None:
    assert len(rows("detector")) + len(rows("segmenter")) == len(MODELS)
