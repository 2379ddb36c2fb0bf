"""The arithmetic of automatic masks: crops of an image, grids of points, and which masks outline
the same thing.

Crops, grids and the rule of edges are those of ``sam2.utils.amg`` (sam2 1.1.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.masks import common_pixels
from backend.core.types import Area, Mask

_FAR_BELOW = -100.0  # logits
EDGE_PX = 20.0  # boxes that end so near the edge of a crop were cut by it
# A mask inside another is the same thing only if it is a fair part of it: the handle of a cup is
# not the cup, and what lies on a table is not the table.
LEAST_SHARE_OF_NESTED = 0.25


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image, half-open, and how often the image was divided for it."""

    x0: int
    y0: int
    x1: int
    y1: int
    layer: int

    @property
    def area(self) -> Area:
        """The rectangle as a grid of logits covers it."""
        return Area(self.x0, self.y0, self.x1 - self.x0, self.y1 - self.y0)


def crops_of(size_hw: tuple[int, int], n_layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole image, and for each further layer twice as many crops a side.

    Args:
        size_hw: of the image.
        n_layers: 0 for the image alone.
        overlap_ratio: of neighbouring crops of layer 1, as a share of the short side; it halves
            with each layer.

    Returns:
        Crops that cover the image in every layer; those without a pixel are left out.

    >>> [(crop.x0, crop.x1) for crop in crops_of((1, 8), 1, 0.0)]
    [(0, 8), (0, 4), (4, 8)]
    """
    height, width = size_hw
    crops = [Crop(0, 0, width, height, 0)]
    for layer in range(1, n_layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size_hw) * (2 / count))
        w = ceil((overlap * (count - 1) + width) / count)
        h = ceil((overlap * (count - 1) + height) / count)
        for x in [(w - overlap) * k for k in range(count)]:
            for y in [(h - overlap) * k for k in range(count)]:
                if x < width and y < height:
                    crops.append(Crop(x, y, min(x + w, width), min(y + h, height), layer))
    return crops


def point_grid(per_side: int) -> NDArray[np.float32]:
    """Points in the middle of the cells of a square grid.

    Args:
        per_side: at least 1.

    Returns:
        (per_side ** 2, 2) x and y as shares of the sides, row by row.

    >>> point_grid(2).tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    at = (np.arange(per_side, dtype=np.float32) + np.float32(0.5)) / np.float32(per_side)
    return np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)


def only_piece(logits: NDArray[np.float32], x: float, y: float) -> NDArray[np.float32]:
    """A mask without the pieces that do not hang together with the one it was asked for.

    A point says where one thing is. What looks the same elsewhere in the picture is another thing.

    Args:
        logits: (h, w), above 0 is inside.
        x: of the point, as a share of the width; where it is outside, the largest piece is taken.
        y: of the point, as a share of the height.

    Returns:
        The same logits, those of other pieces and of the soft edge around them far below 0.

    >>> row = np.array([[2, 2, -2, -2, -2, 2]], np.float32)
    >>> (only_piece(row, 0.9, 0.5) > 0).astype(int).tolist()
    [[0, 0, 0, 0, 0, 1]]
    """
    inside = (logits > 0).astype(np.uint8)
    count, pieces = cv2.connectedComponents(inside, connectivity=8)
    if count <= 2:
        return logits
    height, width = logits.shape
    at = pieces[min(height - 1, int(y * height)), min(width - 1, int(x * width))]
    if at == 0:
        at = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    own = (pieces == at).astype(np.uint8)
    others = cv2.dilate(inside - own, np.ones((5, 5), np.uint8)) > 0
    near = cv2.dilate(own, np.ones((3, 3), np.uint8)) > 0
    return np.where(others & ~near, np.float32(_FAR_BELOW), logits)


def is_cut(xyxy: NDArray[np.floating], crop: Crop, size_hw: tuple[int, int]) -> bool:
    """Whether a box ends at an edge of its crop that is no edge of the image.

    >>> crop = Crop(0, 0, 100, 100, 1)
    >>> is_cut(np.array([0.0, 0.0, 99.0, 50.0]), crop, size_hw=(100, 200))
    True
    """
    edges = np.array([crop.x0, crop.y0, crop.x1, crop.y1])
    whole = np.array([0, 0, size_hw[1], size_hw[0]])
    near = np.abs(xyxy - edges) <= EDGE_PX
    return bool((near & (np.abs(xyxy - whole) > EDGE_PX)).any())


def _same(
    common: NDArray[np.int64],
    areas: NDArray[np.int64],
    area: int,
    most_iou: float,
    most_nested: float,
) -> NDArray[np.bool_]:
    """Which masks outline the same thing as one of ``area`` pixels, by their common pixels."""
    small = np.minimum(areas, area)
    large = np.maximum(areas, area)
    nested = (common > most_nested * small) & (small >= LEAST_SHARE_OF_NESTED * large)
    return np.asarray((common > most_iou * (small + large - common)) | nested)


def distinct(
    masks: Sequence[Mask], scores: NDArray[np.floating], most_iou: float, most_nested: float
) -> list[int]:
    """Choose masks so that none outlines the same thing as a better one.

    Args:
        masks: of one image.
        scores: (N,), higher is better; equals keep their order.
        most_iou: two masks that overlap more are one thing, 0..1.
        most_nested: so are two if more than this share of the smaller one lies inside the larger,
            and the smaller is at least a quarter of it; 1 turns this rule off.

    Returns:
        Indices of the chosen ones, the best first.

    >>> wide, narrow = (Mask(0, 0, np.ones((1, n), np.bool_)) for n in (4, 3))
    >>> distinct([wide, narrow], np.array([0.5, 0.9]), 0.7, 1.0)
    [1]
    """
    areas = np.array([mask.area for mask in masks], np.int64)
    boxes = np.array(
        [(m.x, m.y, m.x + m.crop.shape[1], m.y + m.crop.shape[0]) for m in masks]
    ).reshape(-1, 4)
    kept: list[int] = []
    for k in np.argsort(-scores, kind="stable").tolist():
        low = np.maximum(boxes[kept, :2], boxes[k, :2])
        high = np.minimum(boxes[kept, 2:], boxes[k, 2:])
        meeting = [kept[i] for i in np.flatnonzero((low < high).all(1))]
        common = np.array([common_pixels(masks[k], masks[j]) for j in meeting], np.int64)
        if not _same(common, areas[meeting], areas[k], most_iou, most_nested).any():
            kept.append(k)
    return kept


def distinct_grids(
    inside: NDArray[np.bool_],
    scores: NDArray[np.floating],
    most_iou: float,
    most_nested: float,
) -> list[int]:
    """The same choice as ``distinct`` on small grids that cover the same area.

    Args:
        inside: (N, h, w).
        scores: (N,), higher is better; equals keep their order.
        most_iou: see ``distinct``.
        most_nested: see ``distinct``.

    Returns:
        Indices of the chosen ones, the best first.

    >>> grids = np.array([[[1, 1, 0]], [[1, 1, 0]], [[0, 0, 1]]], np.bool_)
    >>> distinct_grids(grids, np.array([0.5, 0.9, 0.1]), 0.7, 1.0)
    [1, 2]
    """
    flat = inside.reshape(len(inside), inside.shape[1] * inside.shape[2])
    bits = np.packbits(np.pad(flat, ((0, 0), (0, -flat.shape[1] % 64))), axis=1).view(np.uint64)
    areas = np.bitwise_count(bits).sum(1, dtype=np.int64)
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left):
        best, rest = left[0], left[1:]
        kept.append(int(best))
        common = np.bitwise_count(bits[rest] & bits[best]).sum(1, dtype=np.int64)
        left = rest[~_same(common, areas[rest], areas[best], most_iou, most_nested)]
    return kept
