"""Pictures that a segmenter is judged by, on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backend.core.masks import PackedMask, pack_mask, unpack_mask
from backend.core.types import Image, Mask
from backend.files.images import read_image
from backend.models.sam2.preprocess import Features, embedded, prepared
from backend.training.views import encoded, features_of, keep_picture, write_tensors


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
        live: whether pictures are to be judged by models with other image encoders, so that they
            are kept themselves in the place of features.
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
        """Take a picture with at least one object."""
        path = self._folder / f"{len(self._held):06d}{'.png' if self._live else '.pt'}"
        if self._live:
            keep_picture(path, image, self._model.image_size)
        else:
            write_tensors(path, encoded(self._model, image, self._device))
        packed = tuple(pack_mask(mask) for mask in masks)
        self._held.append((path, packed, (image.shape[0], image.shape[1])))

    def seen_by(self, model: Any) -> Iterator[Judged]:
        """The pictures with the features that a model sees in them."""
        for path, packed, size_hw in self._held:
            yield Judged(
                self._features(model, path), tuple(unpack_mask(one) for one in packed), size_hw
            )

    def _features(self, model: Any, path: Path) -> Features:
        if not self._live:
            return features_of(torch.load(path, weights_only=True), self._device)
        with torch.no_grad():
            return embedded(model, prepared([read_image(path)], model.image_size, self._device))
