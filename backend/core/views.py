"""What a namer is shown of a mask: a square of the image around it, and the object alone."""

from __future__ import annotations

import cv2
import numpy as np

from backend.core.types import Image, Mask

CONTEXT = 1.5  # side of the square around an object, in its longer sides
ALONE = 1.15
QUIET = 127  # grey, where nothing is shown


def _view(image: Image, mask: Mask, grow: float, side: int, only_object: bool) -> Image:
    """The square around a mask's box, ``grow`` times as large; grey beyond the image's edges."""
    h, w = mask.crop.shape
    wide = max(1, round(max(h, w) * grow))
    x = mask.x - (wide - w) // 2
    y = mask.y - (wide - h) // 2
    top, left = max(0, y), max(0, x)
    bottom, right = min(image.shape[0], y + wide), min(image.shape[1], x + wide)
    part = image[top:bottom, left:right]
    if only_object:
        box = slice(mask.y - top, mask.y - top + h), slice(mask.x - left, mask.x - left + w)
        own = np.ascontiguousarray(part[box])
        part = np.full_like(part, QUIET)
        shown = np.ascontiguousarray(mask.crop).view(np.uint8)
        part[box] = cv2.copyTo(own, shown, np.full_like(own, QUIET))  # as np.where, a tenth of it
    # Only what the image has is resized: the square around a large object is larger than the image.
    scale = side / wide
    rows = slice(*(round((edge - y) * scale) for edge in (top, bottom)))
    cols = slice(*(round((edge - x) * scale) for edge in (left, right)))
    view = np.full((side, side, 3), QUIET, np.uint8)
    size = cols.stop - cols.start, rows.stop - rows.start
    if min(size) > 0:
        way = cv2.INTER_AREA if wide > side else cv2.INTER_LINEAR
        view[rows, cols] = cv2.resize(part, size, interpolation=way)
    return view


def in_context(image: Image, mask: Mask, side: int) -> Image:
    """The object with what is around it, (side, side, 3).

    Args:
        image: RGB uint8 (H, W, 3).
        mask: of the object.
        side: of the answer, in pixels.

    >>> in_context(np.zeros((40, 60, 3), np.uint8), Mask(9, 9, np.ones((4, 8), np.bool_)), 16).shape
    (16, 16, 3)
    """
    return _view(image, mask, CONTEXT, side, only_object=False)


def alone(image: Image, mask: Mask, side: int) -> Image:
    """The object on grey, (side, side, 3); see ``in_context`` for the arguments.

    >>> mask = Mask(1, 0, np.array([[True, False], [True, True]]))
    >>> alone(np.zeros((2, 4, 3), np.uint8), mask, 2)[..., 0].tolist()
    [[0, 127], [0, 0]]
    """
    return _view(image, mask, ALONE, side, only_object=True)
