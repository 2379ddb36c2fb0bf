"""Generated scenes as a VOC dataset with a prompt file of true boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Detections, Mask
from backend.demo.scenes.compose import Scene, generate
from backend.demo.scenes.objects import CLASS_NAMES
from backend.drawing.overlays import encode_picture
from backend.files.atomic import write_atomic
from backend.formats.prompt_file import prompt_rows
from backend.formats.voc.class_names import class_names_text
from backend.formats.voc.label_maps import encode_png


def true_masks(scene: Scene) -> list[Mask]:
    """The visible part of every object, in order."""
    masks = [mask_from_full(scene.objects == k + 1) for k in range(len(scene.class_ids))]
    return [mask for mask in masks if mask is not None]


def true_detections(scene: Scene) -> Detections:
    """Tight boxes around the visible parts, with score 1."""
    boxes = np.array([mask_xyxy(mask) for mask in true_masks(scene)], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scene.class_ids, np.int64), np.ones(len(boxes), np.float32))


def class_map(scene: Scene) -> np.ndarray:
    """(H, W) uint8 label map of the truth: class index + 1, background 0."""
    return np.array([0, *[c + 1 for c in scene.class_ids]], np.uint8)[scene.objects]


def write_voc(out: Path, seed: int, count: int) -> None:
    """Write ``count`` scenes from ``seed`` on as a VOC dataset.

    Args:
        out: folder; gets JPEGImages, SegmentationClass, SegmentationObject,
            ImageSets/Segmentation/val.txt, class_names.txt and prediction.json with the true boxes.
        seed: of the first scene.
        count: how many.

    Raises:
        Unavailable: the disk refuses.
    """
    cv2.setNumThreads(1)
    names: list[str] = []
    rows: list[dict[str, Any]] = []
    for number in range(seed, seed + count):
        scene = generate(number)
        name = f"{number:07d}"
        write_atomic(out / "JPEGImages" / f"{name}.jpg", encode_picture(scene.image))
        write_atomic(out / "SegmentationClass" / f"{name}.png", encode_png(class_map(scene)))
        write_atomic(out / "SegmentationObject" / f"{name}.png", encode_png(scene.objects))
        rows.extend(prompt_rows(name, true_detections(scene)))
        names.append(name)
    write_atomic(
        out / "ImageSets" / "Segmentation" / "val.txt",
        "".join(f"{name}\n" for name in names).encode(),
    )
    write_atomic(out / "class_names.txt", class_names_text(CLASS_NAMES).encode())
    write_atomic(out / "prediction.json", json.dumps(rows, indent=0).encode())
