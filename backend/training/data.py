"""Crops of generated scenes as training batches for the micro SAM 2.1: pictures, object masks and
prompts.

A crop of a fraction of the picture, resized to a small square, teaches the same local features as
the whole picture at full size does, at a tenth of the cost; the sizes grow during training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from backend.files.images import read_image
from backend.formats.voc.label_maps import decode_png
from backend.models.sam2.preprocess import normalised

_MIN_SIDE = 5  # pixels of the resized crop; smaller remains are no fair prompt
_MIN_LEFT = 0.35  # share of an object's visible pixels that must be inside the crop


@dataclass(frozen=True, eq=False)
class Batch:
    """B pictures of S x S pixels, K objects each (drawn with replacement).

    Attributes:
        images: (B, 3, S, S) float32, normalised.
        masks: (B, K, S, S) float32, 0 or 1.
        others: (B, S, S) float32, 1 on every object of the picture.
        boxes: (B, K, 4) float32, tight xyxy in pixels of the crop, half-open.
        classes: (B, S/4, S/4) int64, 0 = background, class index + 1.
    """

    images: Tensor
    masks: Tensor
    others: Tensor
    boxes: Tensor
    classes: Tensor


@dataclass(frozen=True, eq=False)
class _Crop:
    image: np.ndarray
    objects: np.ndarray
    chosen: list[int]


class Scenes:
    """Training scenes on disk, drawn at random, cropped and augmented."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._names = sorted(path.stem for path in (folder / "labels").glob("*.txt"))
        self._rng = np.random.default_rng(seed)

    def _load(self, name: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
        image = read_image(self._folder / "images" / f"{name}.jpg")
        path = self._folder / "objects" / f"{name}.png"
        objects = decode_png(path.read_bytes(), str(path))
        classes = [
            int(line.split()[0])
            for line in (self._folder / "labels" / f"{name}.txt").read_text().splitlines()
        ]
        return image, objects, classes

    def _crop(self, image: np.ndarray, objects: np.ndarray, size: int, zoom: float) -> _Crop | None:
        rng = self._rng
        height, width = objects.shape
        h = int(height * zoom)
        w = int(width * min(1.0, zoom * rng.uniform(0.85, 1.15)))
        y = int(rng.integers(0, height - h + 1))
        x = int(rng.integers(0, width - w + 1))
        whole = np.bincount(objects.ravel(), minlength=256)
        part = objects[y : y + h, x : x + w]
        small = cv2.resize(part, (size, size), interpolation=cv2.INTER_NEAREST)
        left = np.bincount(part.ravel(), minlength=256)
        chosen = []
        for k in np.flatnonzero(left[1:]) + 1:
            _, _, bw, bh = cv2.boundingRect((small == k).astype(np.uint8))
            if left[k] >= _MIN_LEFT * whole[k] and min(bw, bh) >= _MIN_SIDE:
                chosen.append(int(k))
        if not chosen:
            return None
        way = cv2.INTER_AREA if h > size else cv2.INTER_LINEAR
        return _Crop(
            cv2.resize(image[y : y + h, x : x + w], (size, size), interpolation=way), small, chosen
        )

    def _augment(self, crop: _Crop) -> _Crop:
        rng = self._rng
        image = crop.image
        objects = crop.objects
        if rng.random() < 0.5:
            image = image[:, ::-1]
            objects = objects[:, ::-1]
        if rng.random() < 0.3:
            image = image[::-1]
            objects = objects[::-1]
        if rng.random() < 0.3:
            image = image[..., rng.permutation(3)]
        bright = image.astype(np.float32) * rng.uniform(0.75, 1.25) + rng.uniform(-15, 15)
        return _Crop(np.clip(bright, 0, 255), np.ascontiguousarray(objects), crop.chosen)

    def _sample(self, size: int, zoom: tuple[float, float]) -> tuple[_Crop, list[int]]:
        while True:
            image, objects, classes = self._load(self._names[self._rng.integers(len(self._names))])
            crop = self._crop(image, objects, size, float(self._rng.uniform(*zoom)))
            if crop is not None:
                return self._augment(crop), classes

    def batch(self, count: int, per_image: int, size: int, zoom: tuple[float, float]) -> Batch:
        """Draw a batch of ``count`` crops, each ``zoom`` of its picture, with ``per_image`` objects
        each.
        """
        images = []
        masks = []
        others = []
        boxes = []
        classes = []
        for _ in range(count):
            crop, class_ids = self._sample(size, zoom)
            picks = self._rng.permutation(crop.chosen)[:per_image]
            picks = np.resize(picks, per_image)
            images.append(torch.from_numpy(np.ascontiguousarray(crop.image.transpose(2, 0, 1))))
            masks.append(torch.from_numpy(np.stack([crop.objects == k for k in picks])))
            others.append(torch.from_numpy(crop.objects > 0))
            for k in picks:
                x, y, w, h = cv2.boundingRect((crop.objects == k).astype(np.uint8))
                boxes.append([x, y, x + w, y + h])
            lookup = np.array([0, *[c + 1 for c in class_ids]], np.int64)
            classes.append(torch.from_numpy(lookup[crop.objects[2::4, 2::4]]))
        return Batch(
            normalised(torch.stack(images).float() / 255),
            torch.stack(masks).float(),
            torch.stack(others).float(),
            torch.tensor(boxes, dtype=torch.float32).view(count, per_image, 4),
            torch.stack(classes),
        )


def jittered(boxes: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Boxes as a detector would give them: each side off by 2.5 to 8 % (standard deviation) of the
    box.
    """
    extent = (
        (boxes[..., 2:] - boxes[..., :2])
        .repeat_interleave(2, -1)
        .reshape(*boxes.shape[:-1], 2, 2)
        .transpose(-1, -2)
        .flatten(-2)
    )
    spread = 0.025 + 0.055 * torch.rand(boxes.shape[:-1], generator=generator)[..., None]
    noise = torch.randn(boxes.shape, generator=generator)
    return (boxes + noise * spread * extent).clamp(0, size)


def point_in(masks: Tensor, generator: torch.Generator) -> Tensor:
    """One random pixel of each mask: (N, S, S) in any float weight -> (N, 2) x, y float32.

    Empty masks give a random pixel. Masks may be on any device, and stay there: chance alone is
    drawn on the CPU, so that it is the same everywhere.
    """
    count, size, _ = masks.shape
    sums = (masks.reshape(count, -1) + 1e-9).cumsum(1)
    drawn = torch.rand(count, 1, generator=generator).to(masks.device) * sums[:, -1:]
    flat = torch.searchsorted(sums, drawn, right=True)[:, 0].clamp(max=size * size - 1)
    return torch.stack([flat % size, torch.div(flat, size, rounding_mode="floor")], -1).float()
