"""What a correction goes by in a model that did not learn to correct what it remembers."""

from __future__ import annotations

import cv2
import numpy as np

from backend.core.types import Prompts
from backend.models.sam2.memory import Memory


def correction_base(was: Memory, prompts: Prompts, size_hw: tuple[int, int]) -> str:
    """What the mask in a frame is corrected by.

    Measured on generated videos: a click off the object is best understood with the memory and
    without the mask, one beside the mask with the mask, one far from it with nothing else.

    Args:
        was: the object in the frame before the correction.
        prompts: the correction.
        size_hw: of the frame.

    Returns:
        ``mask``, ``memory`` or ``nothing``.
    """
    if prompts.xyxy is not None or float(was.presence) <= 0:
        return "nothing"  # a box says all
    if not prompts.positive.any():
        return "memory"
    outside = (was.logits <= 0).cpu().numpy().astype(np.uint8)
    if outside.all():
        return "nothing"
    away = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5)
    scale = np.array([outside.shape[1] / size_hw[1], outside.shape[0] / size_hw[0]])
    x, y = (prompts.points_xy[prompts.positive] * scale).astype(int).T
    x = np.clip(x, 0, outside.shape[1] - 1)
    y = np.clip(y, 0, outside.shape[0] - 1)
    width = float(np.sqrt(np.count_nonzero(outside == 0)))
    return "nothing" if away[y, x].max() > width else "mask"
