"""The instances of a labelme file: masks of every shape that covers an area, parts with a common
group joined.

Shapes are drawn as labelme's ``shape_to_mask`` draws them (labelme 5.5 to 6.3, with Pillow), so
that masks equal what its own exports hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw

from backend.core.masks import check_mask, join_masks, mask_from_full
from backend.core.types import Mask
from backend.errors import InputError
from backend.files.images import declared_size
from labelme_plugin.shapes import mask_of

AREA_SHAPES = ("mask", "polygon", "rectangle", "circle", "oriented_rectangle")
LINE_SHAPES = ("line", "linestrip")
_LINE_WIDTH = 10  # pixels, in labelme's own exports
_FAR = 1e6  # pixels
_WIDEST = 8  # radius of a circle, in sides of the image; Pillow takes time for every pixel of it


@dataclass(frozen=True, eq=False)
class LabelledMask:
    """One object of a labelme file: a shape, or all shapes of a group."""

    label: str
    score: float | None  # 0..1
    parts: tuple[
        tuple[int, Mask], ...
    ]  # of each shape: its place in the list, which is the order of drawing, and its pixels

    @property
    def mask(self) -> Mask:
        """All parts together."""
        return join_masks([mask for _, mask in self.parts])


def size_of(document: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Height and width that the file declares.

    Raises:
        InputError: missing or not numbers of pixels.

    >>> size_of({"imageHeight": 480, "imageWidth": 640}, "a.json")
    (480, 640)
    """
    return declared_size(
        document.get("imageHeight"),
        document.get("imageWidth"),
        f"{where}: ",
        ("imageHeight", "imageWidth"),
    )


def _points(shape: Mapping[str, Any], where: str, least: int) -> list[tuple[float, float]]:
    points = shape.get("points")
    if not isinstance(points, list) or len(points) < least:
        raise InputError(f"{where}.points: expected at least {least}")
    for point in points:
        if (
            not isinstance(point, list)
            or len(point) != 2
            or any(
                isinstance(v, bool) or not isinstance(v, int | float) or not abs(v) < _FAR
                for v in point
            )
        ):
            raise InputError(
                f"{where}.points: expected pairs of numbers of pixels, got {str(point)[:60]}"
            )
    return [(float(x), float(y)) for x, y in points]


def shape_mask(shape: Mapping[str, Any], size_hw: tuple[int, int], where: str) -> Mask | None:
    """The pixels of a shape.

    Args:
        shape: of a kind of ``AREA_SHAPES`` or ``LINE_SHAPES``; lines are ten pixels wide, as in
            labelme's exports.
        size_hw: of the image.
        where: for messages, such as ``a.json: shapes[3]``.

    Returns:
        The tight mask, or None where no pixel of the image is covered.

    Raises:
        InputError: naming the field.

    >>> box = {"shape_type": "rectangle", "points": [[1, 0], [2, 0]]}  # both corners included
    >>> shape_mask(box, (2, 4), "a.json: shapes[0]")
    Mask(x=1, y=0, crop=array([[ True,  True]]))
    """
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask":
        mask = mask_of(shape, where)
        if not mask.crop.any():
            return None
        try:
            check_mask(mask, size_hw)
        except InputError as error:
            raise InputError(f"{where}.{error}") from None
        inner = mask_from_full(mask.crop)
        return None if inner is None else Mask(mask.x + inner.x, mask.y + inner.y, inner.crop)
    picture = PIL.Image.new("L", size_hw[::-1])
    pen = PIL.ImageDraw.Draw(picture)
    if kind == "circle":
        (cx, cy), (px, py) = _points(shape, where, 2)[:2]
        radius = math.hypot(cx - px, cy - py)
        if radius > _WIDEST * max(size_hw):
            raise InputError(
                f"{where}.points: a circle of radius {radius:.0f} in an image of"
                f" {size_hw[1]}x{size_hw[0]}"
            )
        pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), outline=1, fill=1)
    elif kind in LINE_SHAPES:
        pen.line(_points(shape, where, 2), fill=1, width=_LINE_WIDTH)
    elif kind == "rectangle" and len(corners := _points(shape, where, 2)) == 2:
        (x0, y0), (x1, y1) = corners
        pen.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=1, fill=1)
    else:
        pen.polygon(_points(shape, where, 3), outline=1, fill=1)
    return mask_from_full(np.array(picture))


def score_of(shape: Mapping[str, Any]) -> float | None:
    """The score that we, or labelme's own AI tools, left on a shape.

    >>> score_of({"score": None, "description": '{"score": 0.5}'}), score_of({})
    (0.5, None)
    """
    score = shape.get("score")
    if score is None and isinstance(shape.get("description"), str):
        try:
            score = json.loads(shape["description"]).get("score")
        except (ValueError, AttributeError, RecursionError):
            return None
    return (
        float(score)
        if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
        else None
    )


def labelled_masks(
    document: Mapping[str, Any], where: str, kinds: Sequence[str] = AREA_SHAPES
) -> tuple[list[LabelledMask], int]:
    """The objects of a labelme document.

    Args:
        document: from ``document.read_document``.
        where: the file, for messages.
        kinds: of shapes to read.

    Returns:
        Objects in the order of their first shape, and how many shapes are of other kinds. Shapes
        with the same label and group id are parts of one object, as in labelme2voc.

    Raises:
        InputError: naming the field.

    >>> box = {"label": "cat", "shape_type": "rectangle", "points": [[1, 0], [2, 0]]}
    >>> shapes = [box, {"label": "cat", "shape_type": "point", "points": [[0, 0]]}]
    >>> document = {"imageHeight": 2, "imageWidth": 4, "shapes": shapes}
    >>> found, n_others = labelled_masks(document, "a.json")
    >>> [one.label for one in found], n_others
    (['cat'], 1)
    """
    size_hw = size_of(document, where)
    found: dict[Any, LabelledMask] = {}
    others = 0
    shapes: Sequence[Mapping[str, Any]] = document["shapes"]
    for k, shape in enumerate(shapes):
        if (shape.get("shape_type") or "polygon") not in kinds:
            others += 1
            continue
        mask = shape_mask(shape, size_hw, f"{where}: shapes[{k}]")
        if mask is None:
            continue
        group = shape.get("group_id")
        key = (shape["label"], str(group)) if group is not None else k
        known = found.get(key)
        parts = ((k, mask),) if known is None else (*known.parts, (k, mask))
        found[key] = (
            LabelledMask(shape["label"], score_of(shape), parts)
            if known is None
            else replace(known, parts=parts)
        )
    return list(found.values()), others
