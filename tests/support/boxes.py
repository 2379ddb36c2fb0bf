"""Boxes of generated clips, and how well two boxes agree."""

from __future__ import annotations

import numpy as np

from backend.core.masks import mask_from_full, mask_xyxy
from backend.demo.scenes.clips import Clip


def true_box(seed: int, frame: int, k: int) -> np.ndarray:
    """The box of object k in a frame of a clip, (4,) xyxy in pixels."""
    mask = mask_from_full(Clip(seed).frame(frame).objects == k)
    assert mask is not None
    return mask_xyxy(mask).astype(float)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The IoU of two boxes."""
    both = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))
