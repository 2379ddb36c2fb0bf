"""Measure the embedded models on generated scenes with seeds that nothing was trained or chosen on.

    python -m backend.demo.measure                 # 100 scenes, about five minutes

The exit code is 1 if a floor is missed.

Detection is scored by Ultralytics' own validator; masks are compared with the generator's exact
ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.config.models import Settings
from backend.core.masks import clip_mask, mask_iou, tidy_mask
from backend.core.types import Mask, Prompts
from backend.core.upsample import crop_masks
from backend.demo.dataset import class_map, true_detections, true_masks
from backend.demo.measure_automatic import CLASSES, automatic_figures
from backend.demo.run import DEMO_MARGIN, DEMO_MIN_PART
from backend.demo.scenes.compose import TEST_SEEDS, VALIDATION_SEEDS, Scene, generate
from backend.demo.training_data import write_data_file, write_split
from backend.evaluation.semantic import confusion, iou_table
from backend.formats.voc.label_maps import label_maps
from backend.labeling.cascade import Cascade
from backend.models.namers import load_namer
from backend.models.registry import load_detector, load_proposer, load_segmenter
from backend.models.sam2.image import Sam2Segmenter
from backend.models.weights import DEMO_YOLO
from backend.training.yolo import validate

FLOORS = {
    "yolo_map50": 0.92,
    "box_iou": 0.88,
    "cascade_miou": 0.83,
    "automatic_recall75": 0.8,
    "automatic_precision75": 0.85,
    "name_accuracy": 0.9,
    "name_accuracy_at_80": 0.97,
    "clutter_refused": 0.8,
    "flat_over_cascade_miou": -0.05,
}


@dataclass(frozen=True)
class Report:
    """Figures by name, and the per-class table of the cascade."""

    figures: dict[str, float]
    table: str

    @property
    def missed(self) -> list[str]:
        """The floors that are not reached."""
        return [
            name
            for name, floor in FLOORS.items()
            if not self.figures.get(name, float("nan")) >= floor
        ]


def yolo_map(seeds: Sequence[int]) -> dict[str, float]:
    """mAP of the embedded detector by Ultralytics' validator."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_split(data / "val", seeds)
        write_split(data / "train", seeds[:1])
        write_data_file(data)
        map50, map50_95 = validate(DEMO_YOLO, data)
    return {"yolo_map50": map50, "yolo_map50_95": map50_95}


def _iou(mask: Mask | None, truth: Mask) -> float:
    return mask_iou(mask, truth) if mask is not None else 0.0


def _tidied(mask: Mask | None, xyxy: np.ndarray) -> Mask | None:
    """As the cascade of the demo does it."""
    cut = None if mask is None else clip_mask(mask, xyxy, DEMO_MARGIN)
    return None if cut is None else tidy_mask(cut, DEMO_MIN_PART)


def _inner_point(mask: Mask) -> np.ndarray:
    """The pixel farthest from the mask's border: where a person would click."""
    import cv2

    padded = np.pad(mask.crop.astype(np.uint8), 1)
    y, x = np.unravel_index(
        int(cv2.distanceTransform(padded, cv2.DIST_L2, 5).argmax()), padded.shape
    )
    return np.array([[mask.x + x - 1, mask.y + y - 1]], np.float32)


def mask_figures(segmenter: Sam2Segmenter, scenes: Sequence[Scene]) -> dict[str, float]:
    """Masks from true boxes, from one click, and how well the model knows its own IoU."""
    whole = []
    cut = []
    clicked = []
    guessed = []
    for scene in scenes:
        truth = true_masks(scene)
        detections = true_detections(scene)
        (answer,) = segmenter.segment([scene.image], [detections.xyxy])
        embedding = segmenter.embed(scene.image)
        clicks = segmenter.refine(
            embedding,
            [Prompts(points_xy=_inner_point(mask), positive=np.array([True])) for mask in truth],
        )
        for k, (mask, click) in enumerate(zip(crop_masks(answer), crop_masks(clicks), strict=True)):
            whole.append(_iou(mask, truth[k]))
            cut.append(_iou(_tidied(mask, detections.xyxy[k]), truth[k]))
            clicked.append(_iou(click, truth[k]))
            guessed.append(float(answer.quality[k]))
    return {
        "objects": float(len(whole)),
        "box_iou": float(np.mean(whole)),
        "box_iou_median": float(np.median(whole)),
        "box_iou_tidied": float(np.mean(cut)),
        "click_iou": float(np.mean(clicked)),
        "quality_error": float(np.abs(np.array(guessed) - whole).mean()),
        "quality_correlation": float(np.corrcoef(guessed, whole)[0, 1]),
    }


def cascade_figures(cascade: Cascade, scenes: Sequence[Scene]) -> tuple[dict[str, float], str]:
    """Pixel accuracy and mIoU over background and all classes, detector included."""
    names = [cascade.names[k] for k in sorted(cascade.names)]
    total = None
    for scene in scenes:
        (prediction,) = cascade.predict([scene.image])
        one = confusion(class_map(scene), label_maps(prediction)[0], len(names) + 1)
        total = one if total is None else total + one
    if total is None:
        return {}, ""
    return {
        "cascade_miou": total.mean_iou,
        "cascade_pixel_accuracy": total.pixel_accuracy,
    }, iou_table(total, names)


def measure_models(seeds: Sequence[int], automatic: int = 60) -> Report:
    """Measure everything on the scenes of ``seeds``.

    Automatic masks, the slowest part, on the first ``automatic`` of them.
    """
    settings = Settings(detector="demo", segmenter="demo", device="cpu")
    segmenter = load_segmenter(settings, "cpu")
    if not isinstance(segmenter, Sam2Segmenter):
        raise TypeError("the embedded segmenter is a Sam2Segmenter")
    scenes = [generate(seed) for seed in seeds]
    cascade = Cascade(
        load_detector(settings, "cpu"), segmenter, box_margin=DEMO_MARGIN, min_part=DEMO_MIN_PART
    )
    figures: dict[str, Any] = {
        "scenes": float(len(scenes)),
        **yolo_map(seeds),
        **mask_figures(segmenter, scenes),
    }
    of_cascade, table = cascade_figures(cascade, scenes)
    figures.update(of_cascade)
    proposer = load_proposer(settings, segmenter)
    namer = load_namer(settings, "cpu", CLASSES)
    figures.update(automatic_figures(proposer, namer, cascade, scenes[:automatic]))
    return Report({name: round(value, 4) for name, value in figures.items()}, table)


def main() -> int:
    """Command line; returns 1 if a floor is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100, help="scenes")
    parser.add_argument(
        "--validation", action="store_true", help="use the validation seeds, to choose settings on"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    report = measure_models((VALIDATION_SEEDS if args.validation else TEST_SEEDS)[: args.count])
    lines = [
        f"{name:<24} {value}" + (f"   (floor {FLOORS[name]})" if name in FLOORS else "")
        for name, value in report.figures.items()
    ]
    sys.stdout.write(
        json.dumps(report.figures, indent=2) + "\n"
        if args.json
        else "\n".join([*lines, "", report.table]) + "\n"
    )
    for name in report.missed:
        sys.stderr.write(f"floor missed: {name} {report.figures[name]} < {FLOORS[name]}\n")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
