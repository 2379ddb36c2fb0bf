"""Views of things with what they show, as the micro CLIP of the embedded models is trained on
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIDE = 48  # of a view, in pixels
# What each concept is called; captions are made of these.
CONCEPTS: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "toy ball"),
    "box": ("box", "carton", "crate"),
    "star": ("star",),
    "cup": ("cup", "mug"),
    "leaf": ("leaf",),
    "ring": ("ring", "doughnut", "lifebuoy"),
    "paper": ("sheet of paper", "paper"),
    "cable": ("cable", "wire"),
    "stain": ("stain", "spot"),
    "ground": ("background", "surface", "ground"),
    "unknown": ("something else", "unknown thing"),
}


@dataclass(frozen=True, eq=False)
class Crops:
    """Views of N things.

    Attributes:
        context: (N, S, S, 3) uint8.
        alone: (N, S, S, 3) uint8.
        concepts: (N,) int64, indices into ``CONCEPTS``.
    """

    context: np.ndarray
    alone: np.ndarray
    concepts: np.ndarray


def read_crops(path: Path) -> Crops:
    """What ``demo.training_crops`` wrote."""
    with np.load(path) as data:
        return Crops(data["context"], data["alone"], data["concepts"])
