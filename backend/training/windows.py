"""Parts of pictures that a segmenter is shown, and the objects in them that it can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.types import Image, Mask

_LEAST_SIDE = 3.0  # cells of the target that an object must have a side; less is no fair question
_LEAST_LEFT = 0.4  # share of an object that must be inside a view
SMALLEST = 0.5  # a window shows so much of a side at least
_ALL_OF_IT = 0.3  # share of drawn windows that show the whole picture
_LIGHT = 0.25  # most change of brightness and contrast; of each colour's share a quarter of it


@dataclass(frozen=True)
class Window:
    """A part of a picture, as shares of its sides, and whether it is seen in a mirror."""

    x: float
    y: float
    width: float
    height: float
    mirrored: bool


WHOLE = Window(0, 0, 1, 1, False)


def drawn_window(rng: np.random.Generator) -> Window:
    """All of a picture, as models see it later, or a part."""
    window = _part(rng)
    return replace(WHOLE, mirrored=window.mirrored) if rng.random() < _ALL_OF_IT else window


def _part(rng: np.random.Generator) -> Window:
    width, height = rng.uniform(SMALLEST, 1, 2).tolist()
    x, y = float(rng.uniform(0, 1 - width)), float(rng.uniform(0, 1 - height))
    return Window(x, y, width, height, bool(rng.random() < 0.5))


def some_windows(count: int, rng: np.random.Generator) -> list[Window]:
    """The whole picture, its mirror image, then parts."""
    found = [WHOLE, Window(0, 0, 1, 1, True)]
    while len(found) < count:
        found.append(_part(rng))
    return found[:count]


def pixels_of(image: Image, window: Window) -> Image:
    """What a window shows of a picture."""
    height, width = image.shape[:2]
    part = image[
        round(window.y * height) : round((window.y + window.height) * height),
        round(window.x * width) : round((window.x + window.width) * width),
    ]
    return part[:, ::-1] if window.mirrored else part


def _target(
    mask: Mask, size_hw: tuple[int, int], window: Window, side: int
) -> NDArray[np.float32] | None:
    """The shares of (side, side) cells of a window that a mask covers; None for too little."""
    height, width = size_hw
    x0, y0 = round(window.x * width), round(window.y * height)
    x1, y1 = round((window.x + window.width) * width), round((window.y + window.height) * height)
    h, w = mask.crop.shape
    part = np.zeros((y1 - y0, x1 - x0), np.uint8)
    top, left = max(mask.y, y0), max(mask.x, x0)
    bottom, right = min(mask.y + h, y1), min(mask.x + w, x1)
    if top >= bottom or left >= right:
        return None
    seen = mask.crop[top - mask.y : bottom - mask.y, left - mask.x : right - mask.x]
    if np.count_nonzero(seen) < _LEAST_LEFT * mask.area:
        return None
    part[top - y0 : bottom - y0, left - x0 : right - x0] = seen
    small = _resized(part * 255, side)
    if window.mirrored:
        small = small[:, ::-1]
    return np.ascontiguousarray(small).astype(np.float32) / np.float32(255)


def _resized(part: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """To (side, side), one side after the other: where only one of them shrinks, OpenCV's way for
    areas takes single pixels.
    """
    for size in ((side, part.shape[0]), (side, side)):
        shrinks = size[0] < part.shape[1] or size[1] < part.shape[0]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        part = cv2.resize(part, size, interpolation=way).astype(np.uint8)
    return part


def _box(target: NDArray[np.float32], cell: float) -> list[float] | None:
    rows = np.flatnonzero((target > 0.5).any(1))
    columns = np.flatnonzero((target > 0.5).any(0))
    if not len(rows):
        return None
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    if min(box[2] - box[0], box[3] - box[1]) < _LEAST_SIDE:
        return None
    return [float(value) * cell for value in box]


Questions = list[tuple[NDArray[np.float32], list[float]]]


def questions_of(
    masks: Sequence[Mask], size_hw: tuple[int, int], window: Window, model_side: int
) -> Questions:
    """The target and the box of each object that is large enough in a window."""
    side = model_side // 2
    found = [_target(mask, size_hw, window, side) for mask in masks]
    return [
        (one, box)
        for one in found
        if one is not None and (box := _box(one, model_side / side)) is not None
    ]


def in_other_light(image: Image, rng: np.random.Generator) -> Image:
    """A picture with another brightness, contrast and tint."""
    contrast, brightness = 1 + rng.uniform(-_LIGHT, _LIGHT, 2)
    tint = 1 + rng.uniform(-_LIGHT, _LIGHT, 3) / 4
    mean = image.mean((0, 1))
    changed = ((image - mean) * contrast + mean) * brightness * tint
    light: Image = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return light
