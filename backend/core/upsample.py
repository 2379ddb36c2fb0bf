"""A segmenter's coarse grid of logits as pixel masks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.types import Area, Mask, Masks


def _taps(
    low: int, high: int, cells: int, origin: float, extent: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Bilinear source cells and weight of the second for pixels low..high-1, half-pixel centres,
    edges replicated.
    """
    centres = np.arange(low, high, dtype=np.float32) + np.float32(0.5) - np.float32(origin)
    source = centres * np.float32(cells / extent) - np.float32(0.5)
    source = np.clip(source, 0, cells - 1)
    first = source.astype(np.intp)
    return first, np.minimum(first + 1, cells - 1), source - first.astype(np.float32)


def _span(inside: NDArray[np.bool_], pixels: int, origin: float, extent: float) -> tuple[int, int]:
    """Pixels that interpolation can make positive: from a cell's width before the first positive
    cell to one after the last, of those whose centre the grid covers.
    """
    cells = len(inside)
    at = np.flatnonzero(inside)
    low = int(np.floor(origin + (at[0] - 0.5) * extent / cells)) - 1
    high = int(np.ceil(origin + (at[-1] + 1.5) * extent / cells)) + 1
    first = int(np.ceil(origin - 0.5))
    end = int(np.floor(origin + extent - 0.5)) + 1
    return max(0, low, first), min(pixels, high, end)


def fill_between(
    row: NDArray[np.intp], pixel: NDArray[np.intp], starts: NDArray[np.bool_], width: int
) -> NDArray[np.uint8]:
    """Rows of 0 and 1, made from the places where they change.

    It works on 64 pixels at a time, as the bits of a word.

    Args:
        row: (E,) of each change.
        pixel: (E,) of each change, 0..width; two changes in one place undo each other.
        starts: (R,) what each row begins with.
        width: of the rows.

    Returns:
        (R, width) uint8 of 0 and 1.

    >>> changes = np.array([1, 3])
    >>> fill_between(np.zeros_like(changes), changes, np.array([False]), width=5).tolist()
    [[0, 1, 1, 0, 0]]
    """
    words = np.zeros((len(starts), width // 64 + 1), np.uint64)
    words[:, 0] = starts
    np.bitwise_xor.at(
        words, (row, pixel >> 6), np.left_shift(np.uint64(1), (pixel & 63).astype(np.uint64))
    )
    for shift in (1, 2, 4, 8, 16, 32):  # each bit becomes the parity of all bits up to it
        words ^= words << np.uint64(shift)
    carry = np.bitwise_xor.accumulate(words >> np.uint64(63), axis=1)[:, :-1]
    words[:, 1:] ^= (
        np.uint64(0) - carry
    )  # all ones where the words before hold an odd number of changes
    return np.unpackbits(
        words.astype("<u8", copy=False).view(np.uint8), axis=1, count=width, bitorder="little"
    )


def crop_mask(
    logits: NDArray[np.floating[Any]], size_hw: tuple[int, int], area: Area | None = None
) -> Mask | None:
    """Upsample one grid of logits and threshold it, touching only the pixels that can become
    foreground.

    Equals thresholding ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` of
    the whole grid at 0, up to rounding at the zero line. Rows are interpolated as numbers; along a
    row only the places where the sign changes are computed, because between two cells the
    interpolant is a straight line.

    Args:
        logits: (h, w), > 0 inside.
        size_hw: of the image.
        area: what the grid covers; None for the whole image. Nothing outside of it is inside.

    Returns:
        The tight mask, or None where nothing is positive.

    >>> crop_mask(np.array([[1.0, -1.0]]), size_hw=(1, 4))  # the sign changes half way
    Mask(x=0, y=0, crop=array([[ True,  True]]))
    """
    height, width = size_hw
    positive = logits > 0
    rows = np.asarray(positive.any(1))
    cols = np.asarray(positive.any(0))
    if not rows.any():
        return None
    grid_h, grid_w = logits.shape
    area = area or Area(0.0, 0.0, width, height)
    top, bottom = _span(rows, height, area.y, area.height)
    left, right = _span(cols, width, area.x, area.width)
    if top >= bottom or left >= right:
        return None
    first, second, weight = _taps(top, bottom, grid_h, area.y, area.height)
    used = np.flatnonzero(cols)
    c0 = max(0, int(used[0]) - 1)
    c1 = min(grid_w, int(used[-1]) + 2)
    part = logits[:, c0:c1].astype(np.float32)
    lines = part[first] + (part[second] - part[first]) * weight[:, None]  # (bottom - top, c1 - c0)
    inside = lines > 0
    row, cell = np.nonzero(inside[:, 1:] != inside[:, :-1])
    before = lines[row, cell]
    after = lines[row, cell + 1]
    where = (c0 + cell + before / (before - after) + np.float32(0.5)) * np.float32(
        area.width / grid_w
    ) + np.float32(area.x - 0.5)
    # A pixel is past the crossing when its centre is; on the crossing itself the value is 0, which
    # is outside.
    pixel = np.where(before > 0, np.ceil(where), np.floor(where) + 1).astype(np.intp)
    pixel = np.clip(pixel, left, right) - left
    crop = fill_between(row, pixel, inside[:, 0], right - left)
    x, y, w, h = cv2.boundingRect(crop)
    return Mask(left + x, top + y, crop[y : y + h, x : x + w].view(np.bool_)) if w else None


def crop_masks(masks: Masks) -> list[Mask | None]:
    """Pixel masks of all objects of one image; see ``crop_mask``.

    >>> logits = np.array([[[1.0, -1.0]], [[-1.0, -1.0]]])
    >>> [mask and mask.crop.shape for mask in crop_masks(Masks(logits, np.ones(2), (1, 4)))]
    [(1, 2), None]
    """
    return [crop_mask(logits, masks.size_hw, masks.area) for logits in masks.logits]
