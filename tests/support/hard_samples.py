"""Samples that are hard for annotation formats, each in one way only: what does not come home then
tells what a format loses.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image

from backend.core.classes import IGNORE_LABEL
from backend.core.masks import mask_from_full
from backend.formats.sample import DatasetInstance, Part, Sample

CAT = "cat"
TRAM = "Straßenbahn 電車"
PLAIN = "plain"  # the scene that any format holds without a loss
SPLITS = ("train", "val")


def rectangle(size_hw: tuple[int, int], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    frame = np.zeros(size_hw, bool)
    frame[top:bottom, left:right] = True
    return frame


def instance(label: str, frame: np.ndarray, order: int = 0, **more: Any) -> DatasetInstance:
    mask = mask_from_full(frame)
    assert mask is not None
    return DatasetInstance(label, (Part(mask, order),), **more)


def ring(size_hw: tuple[int, int]) -> np.ndarray:
    """An object with a hole."""
    return rectangle(size_hw, 4, 6, 24, 40) & ~rectangle(size_hw, 10, 14, 18, 30)


def two_parts(size_hw: tuple[int, int]) -> DatasetInstance:
    parts = [rectangle(size_hw, 2, 2, 12, 20), rectangle(size_hw, 16, 30, 30, 60)]
    masks = [mask_from_full(frame) for frame in parts]
    return DatasetInstance(TRAM, tuple(Part(mask, k) for k, mask in enumerate(masks) if mask))


def touching(size_hw: tuple[int, int]) -> tuple[DatasetInstance, ...]:
    """An object at each side of the image, the last in its very corner."""
    height, width = size_hw
    frames = (
        rectangle(size_hw, 0, 0, 1, width),
        rectangle(size_hw, 1, 0, height, 1),
        rectangle(size_hw, 2, 2, height, width - 1),
        rectangle(size_hw, height - 1, width - 1, height, width),
    )
    return tuple(
        instance((CAT, TRAM)[k % 2], frame, k, number=k + 1) for k, frame in enumerate(frames)
    )


def scenes() -> dict[str, tuple[tuple[int, int], tuple[DatasetInstance, ...]]]:
    """Sizes and instances by name; the names come in another order than they sort in."""
    size = (33, 64)
    left = rectangle(size, 3, 5, 20, 25)
    right = rectangle(size, 8, 30, 33, 64)
    over = rectangle(size, 10, 15, 28, 50)
    box = DatasetInstance(CAT, (), xyxy=(2.0, 3.0, 20.0, 30.0))
    return {
        PLAIN: (size, (instance(CAT, left), instance(TRAM, right, 1))),
        "one pixel": ((1, 1), (instance(TRAM, np.ones((1, 1), bool)),)),
        "borders": ((7, 5), touching((7, 5))),
        "hole": (size, (instance(TRAM, ring(size)),)),
        "same class": (size, (instance(CAT, left), instance(CAT, right, 1))),
        "empty": (size, ()),
        "overlap": (size, (instance(CAT, left), instance(TRAM, over, 1), instance(CAT, right, 2))),
        "covered": (size, (instance(CAT, left), instance(TRAM, np.ones(size, bool), 1))),
        "two parts": (size, (two_parts(size),)),
        "score": (size, (instance(CAT, left, score=0.75), instance(TRAM, right, 1, score=0.5))),
        "crowd": (size, (instance(CAT, left, crowd=True), instance(TRAM, right, 1))),
        "ignored": (size, (instance(IGNORE_LABEL, left), instance(TRAM, right, 1))),
        "notes": (
            size,
            (instance(CAT, left, notes={"description": "ü", "flags": {"difficult": True}}),),
        ),
        "notes on the image": (size, (instance(CAT, left),)),
        "box without a mask": (size, (instance(TRAM, right), box)),
    }


def file_name(scene: str) -> PurePosixPath:
    """Half of the pictures lie in a folder; all have names that need quoting somewhere."""
    place = list(scenes()).index(scene)
    return PurePosixPath("ordner é" if place % 2 else "", f"{scene} ü 図 #1.png")


def samples_in(folder: Path) -> list[Sample]:
    """All scenes, with their pictures below a folder."""
    made = []
    for place, (scene, (size_hw, instances)) in enumerate(scenes().items()):
        name = file_name(scene)
        picture = folder / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", size_hw[::-1], (90, 10 * place, 60)).save(picture)
        made.append(
            Sample(
                name=name,
                where=str(picture),
                size_hw=size_hw,
                instances=instances,
                picture=picture,
                split=SPLITS[place % 3 // 2],
                notes={"flags": {"reviewed": True}} if scene == "notes on the image" else {},
            )
        )
    return made
