"""A stock SAM 2 and its full-size masks, as others use them: yardsticks of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from backend.core.types import Image
from backend.models.sam2.image import Sam2Segmenter


def use_one_thread() -> None:
    """Make torch's CPU time comparable with everything that runs on one thread anyway."""
    torch.set_num_threads(1)


def full_masks(logits: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Full-size masks as ``SAM2ImagePredictor.predict`` returns them: (N, H, W) of 0 and 1."""
    grid = torch.from_numpy(logits.astype(np.float32))[:, None]
    masks = F.interpolate(grid, size_hw, mode="bilinear", align_corners=False) > 0
    return masks.squeeze(1).float().numpy()


def untrained_sam2(folder: Path, config: str = "configs/sam2.1/sam2.1_hiera_t.yaml") -> Path:
    """A checkpoint of a stock SAM 2 with random weights: it costs what the real one costs, and its
    masks mean nothing.

    Args:
        folder: gets the file.
        config: a name inside the sam2 package.
    """
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    path = folder / "untrained.pt"
    torch.save({"model": build_sam2(config, None, device="cpu").state_dict()}, path)
    return path


def automatic_masks(
    segmenter: Sam2Segmenter, **options: float
) -> Callable[[Image], list[NDArray[np.bool_]]]:
    """``SAM2AutomaticMaskGenerator`` over a loaded model: an image to full-size masks.

    Args:
        segmenter: the model.
        options: of the generator, by its own names.
    """
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    generator = SAM2AutomaticMaskGenerator(segmenter.model, **options)
    side = segmenter.model.image_size
    # It assumes an input of 1024 pixels.
    generator.predictor._bb_feat_sizes = [(side // part,) * 2 for part in (4, 8, 16)]
    return lambda image: [entry["segmentation"] for entry in generator.generate(image)]
