"""Masks: validation, cropping, joining and comparing, without full frames."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.types import Mask
from backend.errors import InputError


def mask_from_full(full: NDArray[Any]) -> Mask | None:
    """Crop a full frame to its foreground.

    Args:
        full: (H, W), non-zero is foreground.

    Returns:
        The tight crop, or None for an empty frame.

    >>> mask_from_full(np.array([[0, 0, 0], [0, 7, 7]]))
    Mask(x=1, y=1, crop=array([[ True,  True]]))
    """
    frame = np.ascontiguousarray(full if full.dtype == np.bool_ else full != 0)
    x, y, w, h = cv2.boundingRect(frame.view(np.uint8))
    return Mask(x, y, frame[y : y + h, x : x + w].copy()) if w else None


def full_frame(mask: Mask, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask as a full frame (H, W) of booleans; for painting and tests, not for pipelines.

    >>> full_frame(Mask(1, 0, np.array([[True, True]])), (2, 3)).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]
    """
    frame = np.zeros(size_hw, np.bool_)
    h, w = mask.crop.shape
    frame[mask.y : mask.y + h, mask.x : mask.x + w] = mask.crop
    return frame


def mask_xyxy(mask: Mask) -> NDArray[np.float32]:
    """The box of the crop, (4,) float32, half-open.

    >>> mask_xyxy(Mask(3, 5, np.ones((2, 4), np.bool_))).tolist()
    [3.0, 5.0, 7.0, 7.0]
    """
    h, w = mask.crop.shape
    return np.array([mask.x, mask.y, mask.x + w, mask.y + h], np.float32)


def check_mask(mask: Mask, size_hw: tuple[int, int]) -> None:
    """Refuse a mask that is empty, not boolean, not two-dimensional or not inside its image.

    Raises:
        InputError: with what is wrong.

    >>> check_mask(Mask(2, 0, np.ones((1, 2), np.bool_)), (1, 3))
    Traceback (most recent call last):
    backend.errors.InputError: mask: crop 2x1 at (2, 0) reaches beyond the image of 3x1
    """
    if mask.crop.ndim != 2 or mask.crop.dtype != np.bool_:
        raise InputError(
            f"mask: expected a two-dimensional boolean crop, got {mask.crop.dtype}"
            f" {mask.crop.shape}"
        )
    h, w = mask.crop.shape
    if mask.x < 0 or mask.y < 0 or mask.x + w > size_hw[1] or mask.y + h > size_hw[0]:
        raise InputError(
            f"mask: crop {w}x{h} at ({mask.x}, {mask.y}) reaches beyond the image of"
            f" {size_hw[1]}x{size_hw[0]}"
        )
    if not mask.crop.any():
        raise InputError("mask: no foreground pixel")


def join_masks(masks: Sequence[Mask]) -> Mask:
    """The union of masks of one image, in the smallest crop that holds them.

    Args:
        masks: at least one.

    >>> row = np.ones((1, 2), np.bool_)
    >>> join_masks([Mask(0, 0, row), Mask(1, 1, row)]).crop.astype(int).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    if len(masks) == 1:
        return masks[0]
    left = min(m.x for m in masks)
    top = min(m.y for m in masks)
    right = max(m.x + m.crop.shape[1] for m in masks)
    bottom = max(m.y + m.crop.shape[0] for m in masks)
    frame = np.zeros((bottom - top, right - left), np.bool_)
    for m in masks:
        h, w = m.crop.shape
        frame[m.y - top : m.y - top + h, m.x - left : m.x - left + w] |= m.crop
    return Mask(left, top, frame)


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A mask in little memory: eight pixels a byte, deflated."""

    x: int
    y: int
    shape: tuple[int, int]  # of the crop
    data: bytes


def pack_mask(mask: Mask) -> PackedMask:
    """A mask to be kept for a while; see ``unpack_mask``.

    >>> unpack_mask(pack_mask(Mask(3, 5, np.ones((1, 2), np.bool_))))
    Mask(x=3, y=5, crop=array([[ True,  True]]))
    """
    h, w = mask.crop.shape
    return PackedMask(mask.x, mask.y, (h, w), zlib.compress(np.packbits(mask.crop).tobytes(), 1))


def unpack_mask(packed: PackedMask) -> Mask:
    """The mask that ``pack_mask`` took.

    >>> unpack_mask(pack_mask(Mask(0, 0, np.array([[True, False]])))).crop.tolist()
    [[True, False]]
    """
    h, w = packed.shape
    bits = np.frombuffer(zlib.decompress(packed.data), np.uint8)
    crop = np.unpackbits(bits, count=h * w).view(np.bool_).reshape(h, w)
    return Mask(packed.x, packed.y, crop)


def subtract_masks(mask: Mask, others: Sequence[Mask]) -> Mask | None:
    """The tight mask of the pixels that no other mask covers; None where none are left.

    >>> row = np.ones((1, 3), np.bool_)
    >>> subtract_masks(Mask(0, 0, row), [Mask(1, 0, row)])
    Mask(x=0, y=0, crop=array([[ True]]))
    """
    crop = mask.crop.copy()
    h, w = crop.shape
    for other in others:
        oh, ow = other.crop.shape
        left = max(mask.x, other.x)
        top = max(mask.y, other.y)
        right = min(mask.x + w, other.x + ow)
        bottom = min(mask.y + h, other.y + oh)
        if left < right and top < bottom:
            part = other.crop[top - other.y : bottom - other.y, left - other.x : right - other.x]
            crop[top - mask.y : bottom - mask.y, left - mask.x : right - mask.x] &= ~part
    inner = mask_from_full(crop)
    return None if inner is None else Mask(mask.x + inner.x, mask.y + inner.y, inner.crop)


def common_pixels(a: Mask, b: Mask) -> int:
    """Pixels that both masks cover.

    >>> row = np.ones((1, 4), np.bool_)
    >>> common_pixels(Mask(0, 0, row), Mask(1, 0, row))
    3
    """
    (ah, aw), (bh, bw) = a.crop.shape, b.crop.shape
    left = max(a.x, b.x)
    top = max(a.y, b.y)
    right = min(a.x + aw, b.x + bw)
    bottom = min(a.y + ah, b.y + bh)
    if left >= right or top >= bottom:
        return 0
    part_a = a.crop[top - a.y : bottom - a.y, left - a.x : right - a.x]
    part_b = b.crop[top - b.y : bottom - b.y, left - b.x : right - b.x]
    return int(np.count_nonzero(part_a & part_b))


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks of one image, 0..1, without full frames.

    >>> row = np.ones((1, 4), np.bool_)
    >>> mask_iou(Mask(0, 0, row), Mask(1, 0, row))  # 3 pixels of 5
    0.6
    """
    common = common_pixels(a, b)
    union = a.area + b.area - common
    return common / union if union else 0.0


def mask_difference(a: Mask, b: Mask | None) -> int:
    """Pixels that only one of two masks of an image covers; None covers none.

    >>> row = np.ones((1, 4), np.bool_)
    >>> mask_difference(Mask(0, 0, row), Mask(1, 0, row)), mask_difference(Mask(0, 0, row), None)
    (2, 4)
    """
    n_a = a.area
    return n_a if b is None else n_a + b.area - 2 * common_pixels(a, b)


def clip_mask(mask: Mask, xyxy: NDArray[np.float32], margin: float) -> Mask | None:
    """Cut a mask to its box grown by ``margin`` (share of the box's sides) on every side.

    None if nothing is left.

    >>> box = np.array([2, 0, 6, 1], np.float32)  # 4 wide, so a quarter is one pixel
    >>> clip_mask(Mask(0, 0, np.ones((1, 8), np.bool_)), box, margin=0.25)
    Mask(x=1, y=0, crop=array([[ True,  True,  True,  True,  True,  True]]))
    """
    grow_x = (xyxy[2] - xyxy[0]) * margin
    grow_y = (xyxy[3] - xyxy[1]) * margin
    left = int(np.floor(xyxy[0] - grow_x)) - mask.x
    top = int(np.floor(xyxy[1] - grow_y)) - mask.y
    right = int(np.ceil(xyxy[2] + grow_x)) - mask.x
    bottom = int(np.ceil(xyxy[3] + grow_y)) - mask.y
    h, w = mask.crop.shape
    if left <= 0 and top <= 0 and right >= w and bottom >= h:
        return mask
    left = max(0, left)
    top = max(0, top)
    inner = mask_from_full(mask.crop[top : max(top, bottom), left : max(left, right)])
    return (
        None if inner is None else Mask(mask.x + left + inner.x, mask.y + top + inner.y, inner.crop)
    )


def tidy_mask(mask: Mask, share: float) -> Mask:
    """Drop parts and fill holes that are small against the object.

    Args:
        mask: not empty.
        share: of the foreground's area; parts and holes smaller than that go.

    Returns:
        See ``without_small_regions``.

    >>> crop = np.ones((3, 3), np.bool_)
    >>> crop[1, 1] = False  # a hole of one pixel in an object of eight
    >>> [int(tidy_mask(Mask(0, 0, crop), share).crop.sum()) for share in (0.1, 0.2)]
    [8, 9]
    """
    return without_small_regions(mask, share * mask.area)


def without_small_regions(mask: Mask, area: float) -> Mask:
    """Drop 8-connected parts and fill 4-connected holes of fewer than ``area`` pixels.

    Args:
        mask: not empty.
        area: in pixels; the largest part stays whatever its size.

    Returns:
        The tight mask of what is left.

    >>> without_small_regions(Mask(4, 0, np.array([[True, False, True, True]])), 2)
    Mask(x=6, y=0, crop=array([[ True,  True]]))
    """
    padded = np.pad(mask.crop, 1).astype(
        np.uint8
    )  # so that all background around the object is one component
    for value, connectivity in ((1, 8), (0, 4)):
        seen = padded if value else 1 - padded
        count, labels = cv2.connectedComponents(seen, connectivity=connectivity)
        if count <= 2:
            continue
        areas = np.bincount(labels.ravel(), minlength=count)
        small = (areas < area) & (np.arange(count) > 0)
        small[1 + int(areas[1:].argmax()) if value else labels[0, 0]] = False
        padded[small[labels]] = 1 - value
    inner = mask_from_full(padded[1:-1, 1:-1])
    return mask if inner is None else Mask(mask.x + inner.x, mask.y + inner.y, inner.crop)
