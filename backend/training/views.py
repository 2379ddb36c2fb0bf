"""Pictures with masks as a segmenter learns from them: a few views of each, encoded once.

The decoder learns in minutes on a CPU because the image encoder, which takes nearly all of the
time, never runs again. What it made of every view lies in one file for each, so that any number of
pictures fits into memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.core.masks import PackedMask, pack_mask, unpack_mask
from backend.core.types import Image, Mask
from backend.errors import disk_error
from backend.models.sam2.preprocess import Features, embedded, prepared

_LEAST_SIDE = 3.0  # cells of the target that an object must have a side; less is no fair question
_LEAST_LEFT = 0.4  # share of an object that must be inside a view
_SMALLEST = 0.6  # a view shows so much of a side at least


@dataclass(frozen=True, eq=False)
class View:
    """What is known of one view of a picture.

    Attributes:
        features: of one image; its pixels, (1, 3, S, S) normalised, where the encoder learns too.
        targets: (N, h, w) float32, the share of each cell that each object covers.
        boxes: (N, 4) float32 xyxy in pixels of the model's input.
    """

    features: Features | Tensor
    targets: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class _Window:
    """A part of a picture, as shares of its sides, and whether it is seen in a mirror."""

    x: float
    y: float
    width: float
    height: float
    mirrored: bool


def _windows(count: int, rng: np.random.Generator) -> list[_Window]:
    """The whole picture, its mirror image, then parts."""
    found = [_Window(0, 0, 1, 1, False), _Window(0, 0, 1, 1, True)]
    while len(found) < count:
        width, height = rng.uniform(_SMALLEST, 1, 2).tolist()
        x, y = float(rng.uniform(0, 1 - width)), float(rng.uniform(0, 1 - height))
        found.append(_Window(x, y, width, height, bool(rng.random() < 0.5)))
    return found[:count]


def _target(
    mask: Mask, size_hw: tuple[int, int], window: _Window, side: int
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
    if np.count_nonzero(seen) < _LEAST_LEFT * np.count_nonzero(mask.crop):
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


class EncodedViews:
    """Views of pictures on disk.

    Args:
        folder: exists; takes a file for each view.
        model: a ``SAM2Base``.
        device: where it is.
        live: whether its image encoder learns, so that pixels are kept in the place of features.
    """

    def __init__(
        self, folder: Path, model: Any, device: torch.device, *, live: bool = False
    ) -> None:
        self._folder = folder
        self._model = model
        self._device = device
        self._live = live
        self._side = int(model.image_size) // 2  # of targets
        self._paths: list[Path] = []

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, image: Image, masks: Sequence[Mask], count: int, seed: int) -> int:
        """Encode some views of a picture.

        Args:
            image: RGB uint8 (H, W, 3).
            masks: of its objects.
            count: views, at least one; the first is the whole picture.
            seed: of the others.

        Returns:
            How many of its objects can be learned from: those that are large enough in a view.
        """
        rng = np.random.default_rng(seed)
        height, width = image.shape[:2]
        cell = self._model.image_size / self._side
        most = 0
        for window in _windows(count, rng):
            found = [_target(mask, (height, width), window, self._side) for mask in masks]
            pairs = [
                (one, box)
                for one in found
                if one is not None and (box := _box(one, cell)) is not None
            ]
            if not pairs:
                continue
            y, x = round(window.y * height), round(window.x * width)
            part = image[
                y : round((window.y + window.height) * height),
                x : round((window.x + window.width) * width),
            ]
            part = part[:, ::-1] if window.mirrored else part
            self._save(_levels(self._model, part, self._device, live=self._live), pairs)
            most = max(most, len(pairs))
        return most

    def _save(
        self, levels: list[Tensor], pairs: Sequence[tuple[NDArray[np.float32], list[float]]]
    ) -> None:
        path = self._folder / f"{len(self._paths):06d}.pt"
        document = {
            "levels": levels,
            "targets": torch.from_numpy(
                np.stack([np.round(one * 255).astype(np.uint8) for one, _ in pairs])
            ),
            "boxes": torch.tensor([box for _, box in pairs]),
        }
        _write(path, document)
        self._paths.append(path)

    def view(self, place: int) -> View:
        """One of the views."""
        held = torch.load(self._paths[place], weights_only=True)
        targets = held["targets"].to(self._device).float() / 255
        return View(_held(held["levels"], self._device), targets, held["boxes"].to(self._device))


def _write(path: Path, document: Any) -> None:
    """Save tensors.

    Raises:
        Unavailable: the disk refuses.
    """
    stream = io.BytesIO()
    torch.save(document, stream)
    try:
        path.write_bytes(stream.getbuffer())
    except OSError as error:
        raise disk_error(error, path) from error


def _levels(model: Any, image: Image, device: torch.device, *, live: bool) -> list[Tensor]:
    """What is kept of a picture: its features, or its pixels alone."""
    with torch.no_grad():
        pixels = prepared([image], model.image_size, device)
        if live:
            return [pixels.half().cpu()]
        features = embedded(model, pixels)
    return [level.half().cpu() for level in (features.image, *features.fine)]


def _held(levels: Sequence[Tensor], device: torch.device) -> Features | Tensor:
    found = [level.float().to(device) for level in levels]
    return found[0] if len(found) == 1 else Features(found[0], tuple(found[1:]))


@dataclass(frozen=True, eq=False)
class Judged:
    """A picture to judge by: its features, its true masks, and its height and width."""

    features: Features
    masks: tuple[Mask, ...]
    size_hw: tuple[int, int]


class EncodedPictures:
    """Whole pictures on disk, to judge a segmenter by.

    Args:
        folder: exists; takes a file for each picture.
        model: a ``SAM2Base``.
        device: where it is.
        live: whether pictures are to be judged by models with other image encoders, so that pixels
            are kept in the place of features.
    """

    def __init__(
        self, folder: Path, model: Any, device: torch.device, *, live: bool = False
    ) -> None:
        self._folder = folder
        self._model = model
        self._device = device
        self._live = live
        self._held: list[tuple[Path, tuple[PackedMask, ...], tuple[int, int]]] = []

    def __len__(self) -> int:
        return len(self._held)

    def add(self, image: Image, masks: Sequence[Mask]) -> None:
        """Encode a picture with at least one object."""
        path = self._folder / f"{len(self._held):06d}.pt"
        _write(path, _levels(self._model, image, self._device, live=self._live))
        packed = tuple(pack_mask(mask) for mask in masks)
        self._held.append((path, packed, (image.shape[0], image.shape[1])))

    def seen_by(self, model: Any) -> Iterator[Judged]:
        """The pictures with the features that a model sees in them."""
        for path, packed, size_hw in self._held:
            features = _held(torch.load(path, weights_only=True), self._device)
            if isinstance(features, Tensor):
                with torch.no_grad():
                    features = embedded(model, features)
            yield Judged(features, tuple(unpack_mask(one) for one in packed), size_hw)
