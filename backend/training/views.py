"""Pictures with masks as a segmenter learns from them.

Where the decoder alone learns, a few views of each picture are encoded once: that takes minutes on
a CPU because the image encoder, which takes nearly all of the time, never runs again. Where the
encoder learns too it runs anyway, and every view is drawn anew, so that it does not learn a few
views by heart. What is kept lies in files, so that any number of pictures fits into memory.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from backend.core.masks import PackedMask, pack_mask, unpack_mask
from backend.core.types import Image, Mask
from backend.drawing.overlays import encode_picture
from backend.errors import disk_error
from backend.files.images import read_image
from backend.models.sam2.preprocess import Features, embedded, prepared
from backend.training.windows import (
    SMALLEST,
    WHOLE,
    Questions,
    Window,
    drawn_window,
    in_other_light,
    pixels_of,
    questions_of,
    some_windows,
)

_TRIES = 8  # views that are drawn until one shows an object


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


class Views(Protocol):
    """What a segmenter learns from, view by view."""

    def __len__(self) -> int: ...

    def add(self, image: Image, masks: Sequence[Mask], count: int, seed: int) -> int:
        """Take a picture.

        Args:
            image: RGB uint8 (H, W, 3).
            masks: of its objects.
            count: views of it in an epoch, at least one.
            seed: of chance.

        Returns:
            How many of its objects can be learned from: those that are large enough in a view.
        """
        ...

    def view(self, place: int, rng: np.random.Generator) -> View:
        """One of ``len`` views; ``rng`` is the chance by which it is drawn, where it is."""
        ...


class EncodedViews:
    """Features of views, on disk; the first view of a picture is all of it.

    Args:
        folder: exists; takes a file for each view.
        model: a ``SAM2Base`` whose image encoder does not learn.
        device: where it is.
    """

    def __init__(self, folder: Path, model: Any, device: torch.device) -> None:
        self._folder = folder
        self._model = model
        self._device = device
        self._paths: list[Path] = []

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, image: Image, masks: Sequence[Mask], count: int, seed: int) -> int:
        """See ``Views``."""
        rng = np.random.default_rng(seed)
        size_hw = (image.shape[0], image.shape[1])
        most = 0
        for window in some_windows(count, rng):
            pairs = questions_of(masks, size_hw, window, self._model.image_size)
            if not pairs:
                continue
            part = pixels_of(image, window)
            self._save(encoded(self._model, part, self._device), pairs)
            most = max(most, len(pairs))
        return most

    def _save(self, levels: list[Tensor], pairs: Questions) -> None:
        path = self._folder / f"{len(self._paths):06d}.pt"
        targets = np.stack([np.round(one * 255).astype(np.uint8) for one, _ in pairs])
        document = {
            "levels": levels,
            "targets": zlib.compress(targets.tobytes(), 1),
            "shape": targets.shape,
            "boxes": torch.tensor([box for _, box in pairs]),
        }
        write_tensors(path, document)
        self._paths.append(path)

    def view(self, place: int, rng: np.random.Generator) -> View:
        """See ``Views``."""
        held = torch.load(self._paths[place], weights_only=True)
        data = bytearray(zlib.decompress(held["targets"]))
        targets = torch.frombuffer(data, dtype=torch.uint8).view(held["shape"])
        return View(
            features_of(held["levels"], self._device),
            targets.to(self._device).float() / 255,
            held["boxes"].to(self._device),
        )


@dataclass(frozen=True, eq=False)
class _Source:
    """A picture that views are drawn from: its file, its masks, its height and width, and a window
    that shows an object."""

    path: Path
    masks: tuple[PackedMask, ...]
    size_hw: tuple[int, int]
    good: Window


class DrawnViews:
    """Views that are drawn anew each time: another part, another light.

    Args:
        folder: exists; takes a file for each picture.
        model: a ``SAM2Base``.
        device: where it is.
    """

    def __init__(self, folder: Path, model: Any, device: torch.device) -> None:
        self._folder = folder
        self._model_side = int(model.image_size)
        self._device = device
        self._sources: list[_Source] = []
        self._places: list[int] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, image: Image, masks: Sequence[Mask], count: int, seed: int) -> int:
        """See ``Views``."""
        size_hw = (image.shape[0], image.shape[1])
        most, good = 0, WHOLE
        for window in some_windows(count, np.random.default_rng(seed)):
            found = len(questions_of(masks, size_hw, window, self._model_side))
            if found > most:
                most, good = found, window
        if not most:
            return 0
        path = self._folder / f"{len(self._sources):06d}.png"
        keep_picture(path, image, self._model_side)
        self._places += [len(self._sources)] * count
        packed = tuple(pack_mask(mask) for mask in masks)
        self._sources.append(_Source(path, packed, size_hw, good))
        return most

    def view(self, place: int, rng: np.random.Generator) -> View:
        """See ``Views``."""
        source = self._sources[self._places[place]]
        masks = [unpack_mask(one) for one in source.masks]
        for window in (*(drawn_window(rng) for _ in range(_TRIES)), source.good):
            pairs = questions_of(masks, source.size_hw, window, self._model_side)
            if pairs:
                break
        image = read_image(source.path)
        part = in_other_light(pixels_of(image, window), rng)
        return View(
            prepared([part], self._model_side, self._device),
            torch.from_numpy(np.stack([one for one, _ in pairs])).to(self._device),
            torch.tensor([box for _, box in pairs], device=self._device),
        )


def keep_picture(path: Path, image: Image, model_side: int) -> None:
    """Write a picture, no side of it longer than what a view can show.

    Raises:
        Unavailable: the disk refuses.
    """
    most = round(model_side / SMALLEST)
    height, width = image.shape[:2]
    size = (min(width, most), min(height, most))
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    _write_bytes(path, encode_picture(image, ".png"))


def write_tensors(path: Path, document: Any) -> None:
    """Save tensors.

    Raises:
        Unavailable: the disk refuses.
    """
    stream = io.BytesIO()
    torch.save(document, stream)
    _write_bytes(path, stream.getbuffer())


def _write_bytes(path: Path, data: bytes | memoryview) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise disk_error(error, path) from error


def encoded(model: Any, image: Image, device: torch.device) -> list[Tensor]:
    """What is kept of a picture: its features, in half the precision."""
    with torch.no_grad():
        features = embedded(model, prepared([image], model.image_size, device))
    return [level.half().cpu() for level in (features.image, *features.fine)]


def features_of(levels: Sequence[Tensor], device: torch.device) -> Features:
    """What ``encoded`` kept."""
    image, *fine = (level.float().to(device) for level in levels)
    return Features(image, tuple(fine))


def bytes_of_view(model: Any, device: torch.device) -> int:
    """How large a file of ``EncodedViews`` is, but for its targets, which shrink to little."""
    side = int(model.image_size)
    levels = encoded(model, np.zeros((side, side, 3), np.uint8), device)
    return sum(level.numel() * level.element_size() for level in levels)
