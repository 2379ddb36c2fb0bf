"""A segmenter's coarse grid of logits as pixel masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core import kernels
from backend.core.types import Area, Mask, Masks


def crop_mask(
    logits: NDArray[np.floating[Any]], size_hw: tuple[int, int], area: Area | None = None
) -> Mask | None:
    """Upsample one grid of logits and threshold it, touching only the pixels that can become
    foreground.

    Equals thresholding ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` of
    the whole grid at 0, up to rounding at the zero line; see ``kernels.runs.edges_of_logits``.

    Args:
        logits: (h, w), > 0 inside.
        size_hw: of the image.
        area: what the grid covers; None for the whole image. Nothing outside of it is inside.

    Returns:
        The tight mask, or None where nothing is positive.

    >>> crop_mask(np.array([[1.0, -1.0]]), size_hw=(1, 4))  # the sign changes half way
    Mask(x=0, y=0, crop=array([[ True,  True]]))
    """
    return _crop_masks(np.asarray(logits)[None], size_hw, area)[0]


def crop_masks(masks: Masks) -> list[Mask | None]:
    """Pixel masks of all objects of one image; see ``crop_mask``.

    >>> logits = np.array([[[1.0, -1.0]], [[-1.0, -1.0]]])
    >>> [mask and mask.crop.shape for mask in crop_masks(Masks(logits, np.ones(2), (1, 4)))]
    [(1, 2), None]
    """
    return _crop_masks(masks.logits, masks.size_hw, masks.area)


def _crop_masks(
    logits: NDArray[np.floating[Any]], size_hw: tuple[int, int], area: Area | None
) -> list[Mask | None]:
    height, width = size_hw
    covers = (0.0, 0.0, float(width), float(height))
    if area is not None:
        covers = (float(area.x), float(area.y), float(area.width), float(area.height))
    grids = np.ascontiguousarray(logits, np.float32)
    boxes, pixels, edges = kernels.logits.crops_of_logits(grids, height, width, *covers)
    inside = pixels.view(np.bool_)
    return [
        Mask(x, y, inside[begin : begin + w * h].reshape(h, w), (edges[first:stop], width))
        if w
        else None
        for x, y, w, h, begin, first, stop in boxes.tolist()
    ]
