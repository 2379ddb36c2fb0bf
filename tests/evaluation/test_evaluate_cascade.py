"""The measuring script itself, on few scenes: perfect answers score 1, the embedded pair well above
chance.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from backend.config.models import Settings
from backend.core.masks import full_frame
from backend.core.types import Masks
from backend.demo.dataset import true_detections, true_masks
from backend.demo.measure import FLOORS, Report, cascade_figures, mask_figures
from backend.demo.measure_automatic import CLASSES, automatic_figures
from backend.demo.scenes.compose import Scene
from backend.demo.scenes.objects import CLASS_NAMES
from backend.labeling.cascade import Cascade
from backend.models.namers import load_namer
from backend.models.registry import load_proposer, load_segmenter


class Oracle:
    """Answers with the truth, as logits at full size."""

    version = "oracle-1"

    def __init__(self, scenes: list[Scene]) -> None:
        self.scenes = {scene.image.tobytes(): scene for scene in scenes}

    def segment(self, images, boxes):
        answers = []
        for image in images:
            frames = [
                full_frame(mask, image.shape[:2])
                for mask in true_masks(self.scenes[image.tobytes()])
            ]
            answers.append(
                Masks(
                    np.where(frames, 5.0, -5.0).astype(np.float32),
                    np.ones(len(frames), np.float32),
                    image.shape[:2],
                )
            )
        return answers


class TrueDetector:
    version = "truth-1"

    def __init__(self, scenes: list[Scene]) -> None:
        self.scenes = {scene.image.tobytes(): scene for scene in scenes}
        self.names = dict(enumerate(CLASS_NAMES))

    def detect(self, images):
        return [true_detections(self.scenes[image.tobytes()]) for image in images]


def test_the_truth_scores_one(scenes: list[Scene]) -> None:
    cascade = Cascade(TrueDetector(scenes), Oracle(scenes))
    figures, table = cascade_figures(cascade, scenes)
    assert figures == {
        "cascade_miou": pytest.approx(1.0),
        "cascade_pixel_accuracy": pytest.approx(1.0),
    }
    assert "background" in table


def test_a_wrong_class_costs(scenes: list[Scene]) -> None:
    detector = TrueDetector(scenes)
    inner = detector.detect
    detector.detect = lambda images: [
        dataclasses.replace(d, class_ids=(d.class_ids + 1) % 6) for d in inner(images)
    ]
    figures, _ = cascade_figures(Cascade(detector, Oracle(scenes)), scenes)
    assert figures["cascade_miou"] < 0.35
    assert figures["cascade_pixel_accuracy"] > 0.7


def test_the_embedded_pair(demo: Cascade, scenes: list[Scene]) -> None:
    figures, _ = cascade_figures(demo, scenes)
    assert figures["cascade_miou"] > 0.7
    masks = mask_figures(load_segmenter(Settings(segmenter="demo"), "cpu"), scenes)
    assert masks["box_iou"] > 0.8
    assert masks["click_iou"] > 0.5
    assert masks["quality_correlation"] > 0.2


@pytest.mark.slow
def test_automatic_masks_work_on_the_embedded_pair(scenes: list[Scene]) -> None:
    settings = Settings(segmenter="demo")
    proposer = load_proposer(settings, load_segmenter(settings, "cpu"))
    namer = load_namer(settings, "cpu", CLASSES)
    cascade = Cascade(TrueDetector(scenes), Oracle(scenes))
    figures = automatic_figures(proposer, namer, cascade, scenes)
    assert figures["automatic_recall75"] > 0.6
    assert figures["automatic_precision75"] > 0.7
    assert figures["name_accuracy"] > 0.85
    assert figures["clutter_asked"] >= 3
    assert figures["clutter_refused"] >= 0.6
    assert figures["flat_miou"] > 0.5
    assert figures["flat_over_cascade_miou"] == pytest.approx(figures["flat_miou"] - 1)


def test_missed_floors_are_named() -> None:
    assert Report({name: floor for name, floor in FLOORS.items()}, "").missed == []
    assert Report({**FLOORS, "box_iou": 0.5}, "").missed == ["box_iou"]
    assert Report({**FLOORS, "box_iou": float("nan")}, "").missed == ["box_iou"]
