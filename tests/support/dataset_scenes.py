"""labelme folders with everything that is hard to carry from one format to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from backend.core.masks import full_frame, join_masks, mask_from_full
from labelme_plugin.document import read_document
from labelme_plugin.instances import AREA_SHAPES, LINE_SHAPES, labelled_masks
from labelme_plugin.shapes import mask_shape
from tests.conftest import random_mask

LABELS = ("person", "traffic light", "Straßenbahn 電車", 'a "quoted", <label>')
NAMES = ("plain", "sub/ü 図 #1", "sub/deep/with.dots.and space", "turned")


def shape(label: str, frame: np.ndarray, **more: Any) -> dict[str, Any]:
    mask = mask_from_full(frame)
    assert mask is not None
    return {**mask_shape(label, mask), **more}


def scene_shapes(rng: np.random.Generator, height: int, width: int) -> list[dict[str, Any]]:
    """Masks with holes, in several parts, over one another, touching all borders and each other, of
    a single pixel, and grouped.
    """
    rows, columns = np.mgrid[:height, :width]
    centre = np.hypot(rows - height / 2, columns - width / 2)
    ring = (centre < height * 0.4) & (centre > height * 0.2)
    blobs = random_mask(rng, height, width, 5)
    noise = random_mask(rng, height, width, 0)
    left = columns < width // 3
    right = columns >= width // 3
    dot = np.zeros((height, width), bool)
    dot[int(rng.integers(height)), int(rng.integers(width))] = True
    corner = (rows >= height - 3) & (columns >= width - 4)
    shapes = [
        shape(LABELS[0], np.ones((height, width), bool), flags={"background": True}),
        shape(LABELS[1], ring, score=0.87654, description='{"score": 0.8765}'),
        shape(LABELS[2], blobs | dot, description="checked by Ñuño\nsecond line"),
        shape(LABELS[0], left & (rows > 2), group_id=7, note={"any": ["thing", 1]}),
        shape(LABELS[3], noise, flags={"occluded": True, "difficult": False}),
        shape(LABELS[0], right & (rows > 2), group_id=8),
        shape(LABELS[0], corner, group_id=7, note={"any": ["thing", 1]}),
        shape("__ignore__", (rows < 4) & (columns > width // 2)),
        shape(LABELS[1], corner, iscrowd=1),
        shape(LABELS[2], (rows == 0) & (columns < 2), score=1.0),
    ]
    return [one for one in shapes if one["mask"]]


def write_picture(path: Path, height: int, width: int, orientation: int = 1) -> None:
    """A picture that is height x width once turned upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = (height, width) if orientation >= 5 else (width, height)
    picture = PIL.Image.new("RGB", stored, (90, 120, 60))
    exif = PIL.Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    picture.save(path, exif=exif)


def write_scenes(
    folder: Path, rng: np.random.Generator, size_hw: tuple[int, int] = (40, 56)
) -> list[Path]:
    """A folder of pictures with labelme files beside them.

    One picture is turned by its EXIF orientation, one has nothing on it.
    """
    made = []
    for k, name in enumerate(NAMES):
        height = size_hw[0] + 3 * k
        width = size_hw[1] - 5 * k
        picture = folder / f"{name}.jpg"
        write_picture(picture, height, width, 6 if name == "turned" else 1)
        shapes = scene_shapes(rng, height, width)
        document = {
            "version": "5.5.0",
            "flags": {"reviewed": k == 1},
            "shapes": shapes if k else shapes[1:],
            "imagePath": picture.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
            "camera": {"id": k},
        }
        made.append(picture.with_suffix(".json"))
        made[-1].write_text(json.dumps(document, ensure_ascii=False))
    write_picture(folder / "empty.png", *size_hw)
    made.append(folder / "empty.json")
    empty = {
        "shapes": [],
        "imagePath": "empty.png",
        "imageData": None,
        "imageHeight": size_hw[0],
        "imageWidth": size_hw[1],
    }
    made[-1].write_text(json.dumps(empty))
    return made


def objects(path: Path) -> list[tuple[str, bytes, Any]]:
    """Every object of a labelme file: label, pixels, and the notes on it."""
    document = read_document(path)
    size_hw = (document["imageHeight"], document["imageWidth"])
    found = labelled_masks(document, size_hw, str(path), (*AREA_SHAPES, *LINE_SHAPES))
    assert not found.faults
    kept = []
    for one in found.objects:
        first = document["shapes"][one.parts[0][0]]
        notes = {
            key: value
            for key, value in first.items()
            if key not in ("label", "points", "mask", "shape_type") and value not in (None, {}, "")
        }
        kept.append(
            (
                one.label,
                full_frame(join_masks([mask for _, mask in one.parts]), size_hw).tobytes(),
                notes,
            )
        )
    return kept


def around(path: Path) -> dict[str, Any]:
    """What a labelme file says about its image."""
    document = json.loads(path.read_text())
    return {
        key: value
        for key, value in document.items()
        if key not in ("version", "shapes", "imagePath", "imageData")
        and value not in (None, {}, "")
    }
