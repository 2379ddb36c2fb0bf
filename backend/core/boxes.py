"""Boxes: validation and clipping. Everything here accepts N = 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.types import Boxes, Detections
from backend.errors import InputError


def no_detections() -> Detections:
    """No boxes: nothing was found, or nothing was given.

    >>> len(no_detections())
    0
    """
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


def box_iou(first: Iterable[float], second: Iterable[float]) -> float:
    """The IoU of two boxes, x and y of two corners each; 0 where both are empty.

    >>> box_iou((0, 0, 2, 2), (0, 0, 2, 4))
    0.5
    """
    ax, ay, ar, ab = first
    bx, by, br, bb = second
    left = ax if ax > bx else bx
    top = ay if ay > by else by
    width = (ar if ar < br else br) - left
    height = (ab if ab < bb else bb) - top
    both = width * height if width > 0 and height > 0 else 0
    either = (ar - ax) * (ab - ay) + (br - bx) * (bb - by) - both
    return float(both / either) if either > 0 else 0.0


def check_boxes(boxes: NDArray[Any], what: str = "boxes") -> Boxes:
    """Validate an array of boxes.

    Args:
        boxes: anything of shape (N, 4), xyxy.
        what: how to call it in a message.

    Returns:
        (N, 4) float32.

    Raises:
        InputError: wrong shape, or a value that is not finite.

    >>> check_boxes(np.array([[0, 0, 4, 2]])).dtype.name
    'float32'
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{what}: expected shape (N, 4), got {boxes.shape}")
    if not np.isfinite(boxes).all():
        raise InputError(f"{what}: every coordinate must be a finite number")
    return boxes.astype(np.float32, copy=False)


def usable_boxes(
    boxes: Boxes, size_hw: tuple[int, int], min_side: float = 1.0
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Clip boxes to the image and tell which still cover something.

    Args:
        boxes: (N, 4) float32 xyxy.
        size_hw: of the image.
        min_side: pixels a side must keep.

    Returns:
        The clipped boxes (N, 4) and a boolean (N,), False where less than ``min_side`` is left.

    >>> boxes = np.array([[-2, 0, 4, 3], [9, 0, 12, 3]], np.float32)
    >>> clipped, keep = usable_boxes(boxes, size_hw=(3, 8))
    >>> clipped.tolist(), keep.tolist()
    ([[0.0, 0.0, 4.0, 3.0], [8.0, 0.0, 8.0, 3.0]], [True, False])
    """
    height, width = size_hw
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    keep = (clipped[:, 2] - clipped[:, 0] >= min_side) & (clipped[:, 3] - clipped[:, 1] >= min_side)
    return clipped, keep
