"""Pictures as under a microscope, which the embedded segmenter never saw: cells that only thin dark
walls part, all of one texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.core.masks import mask_from_full
from backend.core.types import Image, Mask
from backend.drawing.overlays import encode_picture
from backend.formats.voc.label_maps import encode_png


def cells(seed: int) -> tuple[Image, list[Mask]]:
    """A picture of 160x200 pixels and the masks of its cells."""
    image, owner, count = _drawn(seed)
    found = [mask_from_full(owner == k) for k in range(1, count + 1)]
    return image, [mask for mask in found if mask is not None]


def _drawn(seed: int) -> tuple[Image, np.ndarray, int]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :200]
    seeds = rng.uniform((0, 0), (160, 200), (14, 2))
    apart = np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1])
    nearest = np.sort(apart, 2)
    wall = nearest[..., 1] - nearest[..., 0] < 4
    grey = 150 + rng.normal(0, 18, wall.shape) - 70 * wall
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)
    owner = np.where(wall, 0, apart.argmin(2) + 1)
    areas = np.bincount(owner.ravel(), minlength=15)
    kept = [k for k in range(1, 15) if areas[k] > 80]
    numbers = np.zeros(15, np.uint8)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return image, numbers[owner], len(kept)


def write_cells(root: Path, lists: dict[str, Sequence[int]]) -> Path:
    """A VOC dataset of cells, with the seeds of each list."""
    for folder in (
        "JPEGImages",
        "SegmentationClass",
        "SegmentationObject",
        "ImageSets/Segmentation",
    ):
        (root / folder).mkdir(parents=True)
    (root / "class_names.txt").write_text("_background_\ncell\n")
    for name, seeds in lists.items():
        ids = [f"{seed}_cells" for seed in seeds]
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for seed, image_id in zip(seeds, ids, strict=True):
            image, owner, _ = _drawn(seed)
            (root / f"JPEGImages/{image_id}.png").write_bytes(encode_picture(image, ".png"))
            classes = (owner > 0).astype(np.uint8)
            (root / f"SegmentationClass/{image_id}.png").write_bytes(encode_png(classes))
            objects = owner.astype(np.uint8)
            (root / f"SegmentationObject/{image_id}.png").write_bytes(encode_png(objects))
    return root
