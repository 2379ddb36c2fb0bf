"""Boxes and masks: validation, conversion, painting. Everything here is numpy and cv2, and accepts N = 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.types import Boxes, Detections, Instance, LabelMap, Mask, Masks

IGNORE = 255  # label map value of pixels that count neither for nor against, as in PASCAL VOC


def no_detections() -> Detections:
    """Nothing was found, or nothing was given."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


def check_boxes(boxes: NDArray[Any], what: str = "boxes") -> Boxes:
    """Validate an array of boxes.

    Args:
        boxes: anything of shape (N, 4), xyxy.
        what: how to call it in a message.

    Returns:
        (N, 4) float32.

    Raises:
        InputError: wrong shape, or a value that is not finite.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{what}: expected shape (N, 4), got {boxes.shape}")
    if not np.isfinite(boxes).all():
        raise InputError(f"{what}: every coordinate must be a finite number")
    return boxes.astype(np.float32, copy=False)


def usable_boxes(boxes: Boxes, size_hw: tuple[int, int], min_side: float = 1.0) -> tuple[Boxes, NDArray[np.bool_]]:
    """Clip boxes to the image and tell which still cover something.

    Args:
        boxes: (N, 4) float32 xyxy.
        size_hw: of the image.
        min_side: pixels a side must keep.

    Returns:
        The clipped boxes (N, 4) and a boolean (N,), False where less than ``min_side`` is left.
    """
    height, width = size_hw
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    keep = (clipped[:, 2] - clipped[:, 0] >= min_side) & (clipped[:, 3] - clipped[:, 1] >= min_side)
    return clipped, keep


def mask_from_full(full: NDArray[Any]) -> Mask | None:
    """Crop a full frame to its foreground.

    Args:
        full: (H, W), non-zero is foreground.

    Returns:
        The tight crop, or None for an empty frame.
    """
    frame = np.ascontiguousarray(full if full.dtype == np.bool_ else full != 0)
    x, y, w, h = cv2.boundingRect(frame.view(np.uint8))
    return Mask(x, y, frame[y : y + h, x : x + w].copy()) if w else None


def full_frame(mask: Mask, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask as a full frame (H, W) of booleans; for painting and tests, not for pipelines."""
    frame = np.zeros(size_hw, np.bool_)
    h, w = mask.crop.shape
    frame[mask.y : mask.y + h, mask.x : mask.x + w] = mask.crop
    return frame


def mask_xyxy(mask: Mask) -> NDArray[np.float32]:
    """The box of the crop, (4,) float32, half-open."""
    h, w = mask.crop.shape
    return np.array([mask.x, mask.y, mask.x + w, mask.y + h], np.float32)


def check_mask(mask: Mask, size_hw: tuple[int, int]) -> None:
    """Refuse a mask that is empty, not boolean, not two-dimensional or not inside its image.

    Raises:
        InputError: with what is wrong.
    """
    if mask.crop.ndim != 2 or mask.crop.dtype != np.bool_:
        raise InputError(f"mask: expected a two-dimensional boolean crop, got {mask.crop.dtype} {mask.crop.shape}")
    h, w = mask.crop.shape
    if mask.x < 0 or mask.y < 0 or mask.x + w > size_hw[1] or mask.y + h > size_hw[0]:
        raise InputError(f"mask: crop {w}x{h} at ({mask.x}, {mask.y}) reaches beyond the image of {size_hw[1]}x{size_hw[0]}")
    if not mask.crop.any():
        raise InputError("mask: no foreground pixel")


def join_masks(masks: Sequence[Mask]) -> Mask:
    """The union of masks of one image, in the smallest crop that holds them.

    Args:
        masks: at least one.
    """
    if len(masks) == 1:
        return masks[0]
    left, top = min(m.x for m in masks), min(m.y for m in masks)
    right, bottom = max(m.x + m.crop.shape[1] for m in masks), max(m.y + m.crop.shape[0] for m in masks)
    frame = np.zeros((bottom - top, right - left), np.bool_)
    for m in masks:
        h, w = m.crop.shape
        frame[m.y - top : m.y - top + h, m.x - left : m.x - left + w] |= m.crop
    return Mask(left, top, frame)


def common_pixels(a: Mask, b: Mask) -> int:
    """Pixels that both masks cover."""
    (ah, aw), (bh, bw) = a.crop.shape, b.crop.shape
    left, top = max(a.x, b.x), max(a.y, b.y)
    right, bottom = min(a.x + aw, b.x + bw), min(a.y + ah, b.y + bh)
    if left >= right or top >= bottom:
        return 0
    part_a = a.crop[top - a.y : bottom - a.y, left - a.x : right - a.x]
    part_b = b.crop[top - b.y : bottom - b.y, left - b.x : right - b.x]
    return int(np.count_nonzero(part_a & part_b))


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks of one image, 0..1, without full frames."""
    common = common_pixels(a, b)
    union = int(np.count_nonzero(a.crop)) + int(np.count_nonzero(b.crop)) - common
    return common / union if union else 0.0


def mask_difference(a: Mask, b: Mask | None) -> int:
    """Pixels that only one of two masks of an image covers; None covers none."""
    n_a = int(np.count_nonzero(a.crop))
    return n_a if b is None else n_a + int(np.count_nonzero(b.crop)) - 2 * common_pixels(a, b)


def _taps(low: int, high: int, cells: int, pixels: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Bilinear source cells and weight of the second for pixels low..high-1, half-pixel centres, edges replicated."""
    source = (np.arange(low, high, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / pixels) - np.float32(0.5)
    source = np.clip(source, 0, cells - 1)
    first = source.astype(np.intp)
    return first, np.minimum(first + 1, cells - 1), source - first.astype(np.float32)


def _span(inside: NDArray[np.bool_], pixels: int) -> tuple[int, int]:
    """Pixels that interpolation can make positive: from a cell's width before the first positive cell to one after the last."""
    cells = len(inside)
    at = np.flatnonzero(inside)
    low = int(np.floor((at[0] - 0.5) * pixels / cells)) - 1
    high = int(np.ceil((at[-1] + 1.5) * pixels / cells)) + 1
    return max(0, low), min(pixels, high)


def fill_between(row: NDArray[np.intp], pixel: NDArray[np.intp], starts: NDArray[np.bool_], width: int) -> NDArray[np.uint8]:
    """Rows of 0 and 1 from where they change; 64 pixels at a time as bits of a word.

    Args:
        row: (E,) of each change.
        pixel: (E,) of each change, 0..width; two changes in one place undo each other.
        starts: (R,) what each row begins with.
        width: of the rows.

    Returns:
        (R, width) uint8 of 0 and 1.
    """
    words = np.zeros((len(starts), width // 64 + 1), np.uint64)
    words[:, 0] = starts
    np.bitwise_xor.at(words, (row, pixel >> 6), np.left_shift(np.uint64(1), (pixel & 63).astype(np.uint64)))
    for shift in (1, 2, 4, 8, 16, 32):  # each bit becomes the parity of all bits up to it
        words ^= words << np.uint64(shift)
    carry = np.bitwise_xor.accumulate(words >> np.uint64(63), axis=1)[:, :-1]
    words[:, 1:] ^= np.uint64(0) - carry  # all ones where the words before hold an odd number of changes
    return np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), axis=1, count=width, bitorder="little")


def crop_mask(logits: NDArray[np.floating[Any]], size_hw: tuple[int, int]) -> Mask | None:
    """Upsample one grid of logits and threshold it, touching only the pixels that can become foreground.

    Equals thresholding ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` of the whole grid at 0, up
    to rounding at the zero line. Rows are interpolated as numbers; along a row only the places where the sign changes are
    computed, because between two cells the interpolant is a straight line.

    Args:
        logits: (h, w) over the whole image, > 0 inside.
        size_hw: of the image.

    Returns:
        The tight mask, or None where nothing is positive.
    """
    height, width = size_hw
    positive = logits > 0
    rows, cols = np.asarray(positive.any(1)), np.asarray(positive.any(0))
    if not rows.any():
        return None
    grid_h, grid_w = logits.shape
    top, bottom = _span(rows, height)
    left, right = _span(cols, width)
    first, second, weight = _taps(top, bottom, grid_h, height)
    used = np.flatnonzero(cols)
    c0, c1 = max(0, int(used[0]) - 1), min(grid_w, int(used[-1]) + 2)
    part = logits[:, c0:c1].astype(np.float32)
    lines = part[first] + (part[second] - part[first]) * weight[:, None]  # (bottom - top, c1 - c0)
    inside = lines > 0
    row, cell = np.nonzero(inside[:, 1:] != inside[:, :-1])
    before, after = lines[row, cell], lines[row, cell + 1]
    where = (c0 + cell + before / (before - after) + np.float32(0.5)) * np.float32(width / grid_w) - np.float32(0.5)
    # A pixel is past the crossing when its centre is; on the crossing itself the value is 0, which is outside.
    pixel = np.where(before > 0, np.ceil(where), np.floor(where) + 1).astype(np.intp)
    pixel = np.clip(pixel, left, right) - left
    crop = fill_between(row, pixel, inside[:, 0], right - left)
    x, y, w, h = cv2.boundingRect(crop)
    return Mask(left + x, top + y, crop[y : y + h, x : x + w].view(np.bool_)) if w else None


def crop_masks(masks: Masks) -> list[Mask | None]:
    """Pixel masks of all objects of one image; see ``crop_mask``."""
    return [crop_mask(logits, masks.size_hw) for logits in masks.logits]


def clip_mask(mask: Mask, xyxy: NDArray[np.float32], margin: float) -> Mask | None:
    """Cut a mask to its box grown by ``margin`` (share of the box's sides) on every side; None if nothing is left."""
    grow_x, grow_y = (xyxy[2] - xyxy[0]) * margin, (xyxy[3] - xyxy[1]) * margin
    left, top = int(np.floor(xyxy[0] - grow_x)) - mask.x, int(np.floor(xyxy[1] - grow_y)) - mask.y
    right, bottom = int(np.ceil(xyxy[2] + grow_x)) - mask.x, int(np.ceil(xyxy[3] + grow_y)) - mask.y
    h, w = mask.crop.shape
    if left <= 0 and top <= 0 and right >= w and bottom >= h:
        return mask
    left, top = max(0, left), max(0, top)
    inner = mask_from_full(mask.crop[top : max(top, bottom), left : max(left, right)])
    return None if inner is None else Mask(mask.x + left + inner.x, mask.y + top + inner.y, inner.crop)


def tidy_mask(mask: Mask, share: float) -> Mask:
    """Drop parts and fill holes that are small against the object.

    Args:
        mask: not empty.
        share: of the foreground's area; 8-connected parts and 4-connected holes smaller than that go. The largest part stays.

    Returns:
        The tight mask of what is left.
    """
    limit = share * int(np.count_nonzero(mask.crop))
    padded = np.pad(mask.crop, 1).astype(np.uint8)  # so that all background around the object is one component
    for value, connectivity in ((1, 8), (0, 4)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((padded == value).astype(np.uint8), connectivity=connectivity)
        if count <= 2:
            continue
        areas = stats[:, cv2.CC_STAT_AREA]
        small = (areas < limit) & (np.arange(count) > 0)
        small[1 + int(areas[1:].argmax()) if value else labels[0, 0]] = False
        padded[small[labels]] = 1 - value
    inner = mask_from_full(padded[1:-1, 1:-1])
    return mask if inner is None else Mask(mask.x + inner.x, mask.y + inner.y, inner.crop)


def painting_order(instances: Sequence[Instance]) -> list[int]:
    """Indices with large objects first and, among equals, low scores first, so that small and sure ones end on top."""
    areas = [-1 if i.mask is None else int(np.count_nonzero(i.mask.crop)) for i in instances]
    return sorted(range(len(instances)), key=lambda k: (-areas[k], instances[k].score))


OVERLAPS = {
    "score": "the surer instance is seen",
    "smallest": "the smaller instance is seen",
    "last": "the instance that comes later in the prediction is seen",
}


def stacking_order(instances: Sequence[Instance], overlap: str = "score") -> list[int]:
    """Indices of the instances that have a mask, in the order to paint them in, later over earlier.

    Args:
        instances: of one image.
        overlap: of ``OVERLAPS``; equals keep their order.
    """
    with_mask = [(k, instance.score, np.count_nonzero(instance.mask.crop)) for k, instance in enumerate(instances) if instance.mask is not None]
    keys = {"score": lambda one: one[1], "smallest": lambda one: -one[2], "last": lambda one: one[0]}
    return [k for k, _, _ in sorted(with_mask, key=keys[overlap])]


def paint(masks: Iterable[tuple[Mask, int]], size_hw: tuple[int, int]) -> LabelMap:
    """Paint masks into one index image, later over earlier.

    Args:
        masks: pairs of mask and value, value >= 0.
        size_hw: of the image.

    Returns:
        (H, W) uint8 where all values fit below 255, else uint16; unpainted pixels are 0.
    """
    pairs = list(masks)
    largest = max((value for _, value in pairs), default=0)
    canvas = np.zeros(size_hw, np.uint8 if largest < IGNORE else np.uint16)
    for mask, value in pairs:
        h, w = mask.crop.shape
        canvas[mask.y : mask.y + h, mask.x : mask.x + w][mask.crop] = value
    return canvas
