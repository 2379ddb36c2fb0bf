"""Automatic masks without a model: what is left is what the host does, ours and the package's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.config.automatic import AutomaticOptions
from backend.core.types import Image
from backend.models.sam2.automatic import Sam2Proposer
from backend.models.sam2.preprocess import Features

_GRID = 256
_SIDE = 4 * _GRID


class _Prompts:
    """Hands points on as they are."""

    def __call__(self, points: Any, boxes: Any, masks: Any) -> tuple[Tensor, Tensor]:
        return points[0], torch.zeros(1)

    def get_dense_pe(self) -> Tensor:
        return torch.zeros(1)


class CannedModel:
    """Answers points from a table of blobs: as much of a SAM 2 as both ways call.

    A point in a blob gets three masks of it, a point beside all gets three that nobody keeps.

    Args:
        blobs: in the picture.
        seed: of their sizes.
    """

    image_size = _SIDE
    device = torch.device("cpu")

    def __init__(self, blobs: int = 49, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:_GRID, :_GRID].astype(np.float32)
        columns = int(np.ceil(np.sqrt(blobs)))
        step = _GRID / columns
        places = np.arange(blobs)
        centres = (np.stack([places % columns, places // columns], 1) + 0.5) * step
        radii = rng.uniform(0.3, 0.48, blobs) * step
        grids = np.stack(
            [
                20 * (r - np.hypot(x - cx, y - cy))
                for (cx, cy), r in zip(centres, radii, strict=True)
            ]
        )
        shifts = np.array([0.0, -5.0, 5.0], np.float32)[:, None, None]
        self._masks = torch.from_numpy(grids[:, None] + shifts).float()
        self._nothing = torch.full((1, 3, _GRID, _GRID), -0.2)
        self._centres = torch.from_numpy(centres).float()
        self._radii = torch.from_numpy(radii).float()
        self.sam_prompt_encoder = _Prompts()

    def sam_mask_decoder(
        self, *, sparse_prompt_embeddings: Tensor, **_: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits, quality, and two things that nobody reads."""
        away = torch.cdist(sparse_prompt_embeddings[:, 0] / 4, self._centres)
        distance, near = away.min(1)
        inside = distance < self._radii[near]
        logits = torch.where(inside[:, None, None, None], self._masks[near], self._nothing)
        quality = torch.where(inside, 0.97 - 0.002 * distance, torch.full_like(distance, 0.3))
        nothing = torch.zeros(len(near), 1)
        return logits, quality[:, None].expand(-1, 3), nothing, nothing


class _CannedSegmenter:
    """What a proposer asks of a segmenter."""

    version = "canned-00000000"

    def __init__(self, model: CannedModel) -> None:
        self.automatic: dict[str, Any] = {}
        self.model = model
        self.device = model.device

    @contextmanager
    def scope(self) -> Iterator[None]:
        with torch.inference_mode():
            yield

    def encode_all(self, images: list[Image]) -> Features:
        return Features(torch.zeros(len(images), 1), ())


def canned_routes(
    size_hw: tuple[int, int], per_side: int
) -> tuple[Callable[[], int], Callable[[], int]]:
    """The package's way and ours from small logits to masks of an image, each to the number of
    masks.

    Args:
        size_hw: of the image.
        per_side: points a side.
    """
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    model = CannedModel()
    image = np.zeros((*size_hw, 3), np.uint8)
    generator = SAM2AutomaticMaskGenerator(model, points_per_side=per_side)

    def set_image(given: Image) -> None:
        generator.predictor._orig_hw = [given.shape[:2]]
        generator.predictor._features = {"image_embed": torch.zeros(1, 1), "high_res_feats": []}
        generator.predictor._is_image_set = True

    generator.predictor.set_image = set_image
    segmenter: Any = _CannedSegmenter(model)
    proposer = Sam2Proposer(segmenter, AutomaticOptions(points_per_side=per_side))
    return (
        lambda: len(generator.generate(image)),
        lambda: len(proposer.propose([image])[0]),
    )
