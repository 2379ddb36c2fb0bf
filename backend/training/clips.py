"""Videos with the truth of every object, as the memory of SAM 2 is trained on them.

The image encoder is not trained, so that every frame is encoded once and what it gives is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.errors import InputError
from backend.files.images import read_image
from backend.formats.voc.label_maps import decode_png
from backend.models.sam2.preprocess import prepared

_AT_ONCE = 16  # frames that are encoded together
_LEAST_AREA = 0.003  # share of the picture that a prompted object covers
_LEAST_SEEN = 0.6  # of the largest part of it that is seen in its video
_HIDDEN = 0.05  # of the same: less counts as hidden
_BACK = 0.5  # of the same: more counts as back


@dataclass(frozen=True)
class Draw:
    """One object to follow through some frames of a video.

    Attributes:
        clip: which video.
        value: of the object in its maps.
        frames: their numbers, in the order in which they are gone through; the first is prompted.
    """

    clip: int
    value: int
    frames: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the model sees of all frames of all videos, at one size S.

    Attributes:
        levels: three of (N, T, C, h, w) float16, from fine to coarse.
        objects: (N, T, S, S) uint8, the value of the object at each pixel, 0 for none.
    """

    levels: tuple[Tensor, ...]
    objects: Tensor

    def at(self, draws: list[Draw], step: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """One frame of each draw: the levels, (B, C, h, w) float32, and the truth, (B, S, S)."""
        device = self.objects.device
        clips = torch.tensor([draw.clip for draw in draws], device=device)
        frames = torch.tensor([draw.frames[step] for draw in draws], device=device)
        values = torch.tensor([draw.value for draw in draws], device=device)
        levels = tuple(level[clips, frames].float() for level in self.levels)
        return levels, (self.objects[clips, frames] == values[:, None, None]).float()


class Clips:
    """The videos of a folder.

    Args:
        folder: a VOC dataset of videos, as ``python -m backend.demo.scenes --frames`` writes it;
            all of one length and size.

    Raises:
        InputError: videos of different lengths or sizes, or none.
    """

    def __init__(self, folder: Path) -> None:
        names = sorted(path.name for path in (folder / "SegmentationObject").iterdir())
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(lambda name: _read(folder, name), names))
        if len({images.shape for images, _ in read}) != 1:
            raise InputError(f"{folder}: expected videos that have the same length and size")
        self._images = [images for images, _ in read]
        self._objects = [objects for _, objects in read]
        self._area = [_areas(objects) for objects in self._objects]
        self._returns = [
            (clip, *found) for clip, area in enumerate(self._area) for found in _returns(area)
        ]

    def __len__(self) -> int:
        return len(self._images)

    @property
    def n_frames(self) -> int:
        """Of each video."""
        return len(self._images[0])

    def encoded(self, model: Any, size: int, device: torch.device) -> Encoded:
        """Encode all frames with a ``SAM2Base`` that takes squares of ``size`` pixels."""
        levels: list[list[Tensor]] = [[], [], []]
        maps = []
        with torch.no_grad():
            for images, objects in zip(self._images, self._objects, strict=True):
                parts = [
                    model.forward_image(prepared(list(images[k : k + _AT_ONCE]), size, device))
                    for k in range(0, len(images), _AT_ONCE)
                ]
                for at, kept in enumerate(levels):
                    kept.append(torch.cat([part["backbone_fpn"][at].half() for part in parts]))
                small = [
                    cv2.resize(one, (size, size), interpolation=cv2.INTER_NEAREST)
                    for one in objects
                ]
                maps.append(torch.from_numpy(np.stack(small)).to(device))
        return Encoded(tuple(torch.stack(level) for level in levels), torch.stack(maps))

    def promptable(self, clip: int, frame: int) -> np.ndarray:
        """Values of the objects of a frame that are seen well enough to be prompted."""
        area = self._area[clip]
        seen = area[frame] > _LEAST_SEEN * area.max(0)
        return np.flatnonzero(seen & (area[frame] > _LEAST_AREA)) + 1

    def draw(self, rng: np.random.Generator, count: int, length: int, hard: float) -> list[Draw]:
        """Random objects to follow, forward or backward.

        Args:
            rng: where chance comes from.
            count: how many.
            length: frames of each.
            hard: share of the draws for objects that get hidden and come back.
        """
        drawn: list[Draw] = []
        while len(drawn) < count:
            clip = int(rng.integers(len(self)))
            stride = min(int(rng.choice([1, 1, 2, 3])), (self.n_frames - 1) // (length - 1))
            start = int(rng.integers(self.n_frames - stride * (length - 1)))
            frames = [start + stride * k for k in range(length)]
            if rng.random() < hard and len(self._returns):
                clip, value, first, last = self._returns[int(rng.integers(len(self._returns)))]
                frames = np.linspace(first, last, length).round().astype(int).tolist()
                values = np.array([value])
            else:
                values = self.promptable(clip, frames[0])
            if rng.random() < 0.5:
                frames = frames[::-1]
                values = np.intersect1d(values, self.promptable(clip, frames[0]))
            if len(values):
                drawn.append(Draw(clip, int(rng.choice(values)), tuple(frames)))
        return drawn

    def every_draw(self) -> Iterator[Draw]:
        """Every object that can be prompted on the first frame of its video, to the end of it."""
        for clip in range(len(self)):
            for value in self.promptable(clip, 0):
                yield Draw(clip, int(value), tuple(range(self.n_frames)))


def _read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) and maps of objects (T, H, W) of a video."""
    paths = sorted((folder / "SegmentationObject" / name).glob("*.png"))
    images = [read_image(folder / "JPEGImages" / name / f"{path.stem}.jpg") for path in paths]
    objects = [decode_png(path.read_bytes(), str(path)) for path in paths]
    return np.stack(images), np.stack(objects)


def _areas(objects: np.ndarray) -> NDArray[np.float64]:
    """(T, K) share of the picture that each object covers in each frame."""
    most = max(int(objects.max()), 1)
    counts = [np.bincount(one.ravel(), minlength=most + 1)[1 : most + 1] for one in objects]
    return np.stack(counts) / float(objects[0].size)


def _returns(area: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Value, first and last frame of spans in which an object is seen, hidden, and seen again.

    Args:
        area: (T, K) share of the picture that each object covers.
    """
    for k in range(area.shape[1]):
        share = area[:, k] / max(area[:, k].max(), 1e-9)
        before = np.flatnonzero((share > _LEAST_SEEN) & (area[:, k] > _LEAST_AREA))
        after = np.flatnonzero((share > _BACK) & (area[:, k] > _LEAST_AREA))
        for gone in np.flatnonzero(share < _HIDDEN):
            if (before < gone).any() and (after > gone).any():
                first = int(before[before < gone].max())
                last = int(after[after > gone].min())
                yield k + 1, max(0, first - 2), min(len(area) - 1, last + 3)
