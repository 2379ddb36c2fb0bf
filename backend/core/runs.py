"""Masks as runs of pixels in a frame, and back.

Runs are told by their edges: the positions in the frame, in row order, where foreground begins and
ends. They ascend, and there is an even number of them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core import kernels
from backend.core.types import Mask

Edges = NDArray[np.int64]  # (E,)


def bytes_of(crop: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A crop as the compiled loops take it: (h, w) uint8 of 0 and 1, contiguous."""
    if crop.dtype != np.bool_:
        crop = crop != 0
    return np.ascontiguousarray(crop).view(np.uint8)


def edges_of_mask(mask: Mask, width: int) -> Edges:
    """The runs of a mask, from its crop alone.

    Args:
        mask: a crop inside the frame.
        width: of the frame.

    >>> edges_of_mask(Mask(1, 0, np.ones((2, 2), np.bool_)), width=4).tolist()
    [1, 3, 5, 7]
    """
    if mask.runs is not None and mask.runs[1] == width:
        return mask.runs[0]
    return kernels.runs.edges_of_crop(bytes_of(mask.crop), mask.x, mask.y, width)


def mask_of_edges(edges: Edges, width: int) -> Mask | None:
    """The tight mask of runs; None where there are none.

    Args:
        edges: (E,) int64.
        width: of the frame.

    >>> mask_of_edges(np.array([1, 3, 5, 7]), width=4)
    Mask(x=1, y=0, crop=array([[ True,  True],
           [ True,  True]]))
    """
    x, y, crop = kernels.runs.crop_of_edges(edges, width)
    return Mask(x, y, crop.view(np.bool_), (edges, width)) if crop.size else None


def transposed(mask: Mask) -> Mask:
    """Rows as columns, for formats that count column by column.

    >>> transposed(Mask(3, 0, np.ones((1, 2), np.bool_)))
    Mask(x=0, y=3, crop=array([[ True],
           [ True]]))
    """
    if not mask.crop.size:
        return Mask(mask.y, mask.x, np.zeros(mask.crop.shape[::-1], np.bool_))
    return Mask(mask.y, mask.x, cv2.transpose(bytes_of(mask.crop)).view(np.bool_))


def edges_of_counts(counts: NDArray[np.int64]) -> Edges:
    """The edges of run lengths.

    Args:
        counts: (N,) int64, alternating, background first; any may be 0.

    >>> edges_of_counts(np.array([1, 2, 0, 1, 3])).tolist()  # two runs that touch
    [1, 4]
    """
    ends = np.cumsum(counts)
    ends = ends[: len(ends) // 2 * 2]
    # Two changes in one place undo each other.
    places, times = np.unique(ends, return_counts=True)
    return np.asarray(places[times % 2 == 1], np.int64)


def counts_of_edges(edges: Edges, n_pixels: int) -> NDArray[np.int64]:
    """Run lengths, alternating, background first; the last one is not 0.

    Args:
        edges: (E,) int64.
        n_pixels: of the frame.

    >>> counts_of_edges(np.array([0, 2]), n_pixels=2).tolist()
    [0, 2]
    """
    counts = np.diff(edges, prepend=0, append=n_pixels)
    return counts[:-1] if counts[-1] == 0 else counts
