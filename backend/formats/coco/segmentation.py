"""COCO segmentations, from and to cropped masks: run lengths, their compressed text, and polygons.

Run lengths count pixels column by column, beginning with background. The compressed text writes
each, from the fourth on as the difference to the one before last, in groups of five bits, the
lowest first: 32 says that more follow, 16 in the last group is the sign, and 48 is added to make it
printable (maskApi.c of pycocotools). Damaged counts are refused here, before they could reach any C
code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from backend.core import kernels
from backend.core.runs import Edges, edges_of_counts, edges_of_mask, mask_of_edges, transposed
from backend.core.types import Mask
from backend.errors import InputError, json_kind

_MOST_POINTS = 100_000
_DEEPEST = 3  # lists within lists
_FARTHEST = 1e6  # pixels
_REACH = 4  # times the image that a polygon may reach out
_LONGEST = 20_000_000  # pixels all round the polygons of an annotation


def _from_text(text: str | bytes, size_hw: tuple[int, int], where: str) -> Edges:
    n_pixels = size_hw[0] * size_hw[1]
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        raise InputError(f"{where}.counts: holds characters that no run lengths have") from None
    edges, wrong = kernels.coco.edges_of_text(np.frombuffer(data, np.uint8), n_pixels)
    if wrong == kernels.coco.NOT_TEXT:
        raise InputError(f"{where}.counts: is no compressed text of run lengths, or is cut off")
    if wrong == kernels.coco.TOO_LARGE:
        raise InputError(f"{where}.counts: a run length is larger than any image")
    if wrong:
        raise _wrong_sum(size_hw, where)
    return edges


def _wrong_sum(size_hw: tuple[int, int], where: str) -> InputError:
    return InputError(
        f"{where}.counts: the run lengths do not add up to {size_hw[0] * size_hw[1]} for"
        f" {size_hw[1]}x{size_hw[0]} pixels"
    )


def encode_segmentation(mask: Mask, size_hw: tuple[int, int]) -> dict[str, Any]:
    """A mask as COCO's compressed run lengths.

    Args:
        mask: a crop inside the image.
        size_hw: of the upright image.

    Returns:
        ``{"size": [height, width], "counts": text}``, equal to pycocotools' ``encode`` of the full
        frame.

    >>> encode_segmentation(Mask(1, 0, np.ones((1, 1), np.bool_)), (1, 3))  # three runs of 1
    {'size': [1, 3], 'counts': '111'}
    """
    edges = edges_of_mask(transposed(mask), size_hw[0])
    text = kernels.coco.text_of_edges(edges, size_hw[0] * size_hw[1]).tobytes()
    return {"size": [size_hw[0], size_hw[1]], "counts": text.decode("ascii")}


def _decode(counts: Any, size_hw: tuple[int, int], where: str) -> Mask | None:
    if isinstance(counts, str):
        return _by_column(_from_text(counts, size_hw, where), size_hw)
    if not isinstance(counts, list) or not all(
        isinstance(one, int) and not isinstance(one, bool) for one in counts
    ):
        raise InputError(
            f"{where}.counts: expected text or a list of whole numbers, got {json_kind(counts)}"
        )
    n_pixels = size_hw[0] * size_hw[1]
    if sum(counts) != n_pixels or not all(0 <= one <= n_pixels for one in counts):
        raise _wrong_sum(size_hw, where)
    return _by_column(edges_of_counts(np.array(counts, np.int64)), size_hw)


def _by_column(edges: Edges, size_hw: tuple[int, int]) -> Mask | None:
    mask = mask_of_edges(edges, size_hw[0])
    return None if mask is None else transposed(mask)


def _polygons(polygons: list[Any], size_hw: tuple[int, int], where: str) -> Mask | None:
    from pycocotools import mask as coco_mask  # reads polygons as COCO's own tools do

    # pycocotools takes memory for every pixel of the way round
    far = _REACH * max(size_hw)
    length = 0.0
    for k, ring in enumerate(polygons):
        numbers = isinstance(ring, list) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= far for v in ring
        )
        if not numbers or len(ring) < 6 or len(ring) % 2 or len(ring) > 2 * _MOST_POINTS:
            raise InputError(
                f"{where}[{k}]: expected a polygon as a list of at least three pairs of numbers of"
                f" pixels, within {far}"
            )
        points = np.array(ring, np.float64).reshape(-1, 2)
        length += float(np.abs(points - np.roll(points, 1, 0)).sum())
    if length > _LONGEST:
        raise InputError(f"{where}: {length:.0f} pixels all round, the limit is {_LONGEST}")
    height, width = size_hw
    counts = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"]
    return _by_column(_from_text(counts, size_hw, where), size_hw)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def rings_of(segmentation: list[Any], where: str, depth: int = 0) -> list[list[float]]:
    """The rings of polygons, each as a flat list ``x, y, x, y ...``, however they are nested.

    COCO has a list of flat rings. Some programs write a single flat ring, or rings of pairs, or
    lists of those.

    Raises:
        InputError: something else than numbers in lists.

    >>> flat = [0, 0, 4, 0, 4, 4]
    >>> rings_of([flat], "a") == rings_of(flat, "a") == rings_of([[0, 0], [4, 0], [4, 4]], "a")
    True
    """
    if not segmentation:
        return [[]] if depth else []
    if all(map(_is_number, segmentation)):
        return [segmentation]
    if not all(isinstance(one, list) for one in segmentation) or depth > _DEEPEST:
        raise InputError(f"{where}: expected polygons as lists of numbers of pixels")
    if all(len(one) == 2 and all(map(_is_number, one)) for one in segmentation):
        return [[number for point in segmentation for number in point]]
    return [ring for one in segmentation for ring in rings_of(one, where, depth + 1)]


def box_corners(bbox: Any) -> tuple[float, float, float, float] | None:
    """The corners of a box that is given as x, y, width and height in pixels; None for anything
    else.

    >>> box_corners([1, 2, 3, 4])
    (1, 2, 4, 6)
    """
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        return None
    x, y, width, height = bbox
    far = max(map(abs, bbox)) > _FARTHEST or any(value != value for value in bbox)
    return None if far or width <= 0 or height <= 0 else (x, y, x + width, y + height)


def is_box(ring: list[float], corners: tuple[float, float, float, float] | None) -> bool:
    """Whether four numbers in the place of a polygon are the box of the annotation: its corners, or
    its corner and size.

    >>> is_box([1, 2, 3, 4], (1, 2, 4, 6)), is_box([1, 2, 4, 6], (1, 2, 4, 6)), is_box([1], None)
    (True, True, False)
    """
    if corners is None or len(ring) != 4:
        return False
    x0, y0, x1, y1 = corners
    return bool(
        np.allclose(ring, corners, atol=1) or np.allclose(ring, (x0, y0, x1 - x0, y1 - y0), atol=1)
    )


def decode_segmentation(
    segmentation: Any, size_hw: tuple[int, int], where: str = "segmentation"
) -> Mask | None:
    """The pixels of a COCO segmentation.

    Args:
        segmentation: run lengths, compressed or not, or a list of polygons, which are joined.
        size_hw: of the image.
        where: for messages, such as ``annotation 7: segmentation``.

    Returns:
        The tight mask, or None where it is empty.

    Raises:
        InputError: naming the field.

    >>> decode_segmentation({"size": [1, 3], "counts": "111"}, (1, 3))
    Mask(x=1, y=0, crop=array([[ True]]))
    >>> decode_segmentation({"size": [1, 3], "counts": [0, 2, 1]}, (1, 3))
    Mask(x=0, y=0, crop=array([[ True,  True]]))
    """
    if isinstance(segmentation, list):
        return _polygons(segmentation, size_hw, where) if segmentation else None
    if not isinstance(segmentation, Mapping):
        raise InputError(
            f"{where}: expected polygons or run lengths, got {json_kind(segmentation)}"
        )
    size = segmentation.get("size")
    if not isinstance(size, list | tuple) or list(size) != [size_hw[0], size_hw[1]]:
        raise InputError(
            f"{where}.size: is {str(size)[:40]}, the image is {[size_hw[0], size_hw[1]]}"
        )
    return _decode(segmentation.get("counts"), size_hw, where)
