"""The instances of a labelme file: masks of every shape that covers an area, parts with a common
group joined.

Shapes are drawn as labelme's ``shape_to_mask`` draws them (labelme 5.5 to 6.3, with Pillow), so
that masks equal what its own exports hold.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw

from backend.core.masks import check_mask, join_masks, mask_from_full
from backend.core.types import Mask
from backend.errors import InputError, told
from backend.files.images import declared_size, side_or_none
from backend.formats.sample import NO_AREA, Part
from labelme_plugin.document import check_shape
from labelme_plugin.shapes import mask_of

# ``rotation``, ``quadrilateral`` and ``cuboid`` are X-AnyLabeling's: the corners of a turned
# rectangle, of any quadrilateral, and of the front and the back of a box.
AREA_SHAPES = (
    "mask",
    "polygon",
    "rectangle",
    "circle",
    "oriented_rectangle",
    "rotation",
    "quadrilateral",
    "cuboid",
)
LINE_SHAPES = ("line", "linestrip")
POINT_SHAPES = ("point", "points")
_LINE_WIDTH = 10  # pixels, in labelme's own exports
_FAR = 1e6  # pixels
_WIDEST = 8  # radius of a circle, in sides of the image; Pillow takes time for every pixel of it


@dataclass(frozen=True, eq=False)
class LabelledMask:
    """One object of a labelme file: a shape, or all shapes of a group."""

    label: str
    score: float | None  # 0..1
    held: tuple[Part, ...]  # of each shape; ``order`` is its place in the list, and of drawing

    @property
    def parts(self) -> list[tuple[int, Mask]]:
        """Of each shape: its place in the list, and its pixels."""
        return [(part.order, part.mask) for part in self.held]

    @property
    def mask(self) -> Mask:
        """All parts together."""
        return join_masks([part.mask for part in self.held])


def declared_size_of(document: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that the file declares; None where it does not, as files before 4.0.

    >>> declared_size_of({"imageHeight": "480", "imageWidth": 640}), declared_size_of({})
    ((480, 640), None)
    """
    return side_or_none(document.get("imageHeight"), document.get("imageWidth"))


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
                f"{where}.points: expected pairs of numbers of pixels, got {told(point)}"
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
    if kind == "circle":
        (cx, cy), (px, py) = _points(shape, where, 2)[:2]
        radius = math.hypot(cx - px, cy - py)
        if radius > _WIDEST * max(size_hw):
            raise InputError(
                f"{where}.points: a circle of radius {radius:.0f} in an image of"
                f" {size_hw[1]}x{size_hw[0]}"
            )
        corners = [(cx - radius, cy - radius), (cx + radius, cy + radius)]
        return _drawn(corners, size_hw, 1, lambda pen, at: pen.ellipse(at, outline=1, fill=1))
    if kind in LINE_SHAPES:
        points = _points(shape, where, 2)
        return _drawn(
            points, size_hw, _LINE_WIDTH, lambda pen, at: pen.line(at, fill=1, width=_LINE_WIDTH)
        )
    if kind == "rectangle" and len(corners := _points(shape, where, 2)) == 2:
        (x0, y0), (x1, y1) = corners
        box = [(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))]
        return _drawn(box, size_hw, 1, lambda pen, at: pen.rectangle(at, outline=1, fill=1))
    if kind == "cuboid":
        hull = cv2.convexHull(np.array(_points(shape, where, 4), np.float32))[:, 0].tolist()
        ring = [(float(x), float(y)) for x, y in hull]
    else:
        ring = _points(shape, where, 3)
    return _drawn(ring, size_hw, 1, lambda pen, at: pen.polygon(at, outline=1, fill=1))


def _drawn(
    points: Sequence[tuple[float, float]],
    size_hw: tuple[int, int],
    margin: int,
    draw: Callable[[PIL.ImageDraw.ImageDraw, list[tuple[float, float]]], None],
) -> Mask | None:
    """What is drawn, on a picture no larger than the points span.

    Args:
        points: in pixels of the image.
        size_hw: of the image.
        margin: how many pixels the drawing may reach beyond its points.
        draw: takes the pen and the points on the small picture.
    """
    height, width = size_hw
    left = max(0, math.floor(min(x for x, _ in points)) - margin)
    top = max(0, math.floor(min(y for _, y in points)) - margin)
    right = min(width, math.ceil(max(x for x, _ in points)) + margin + 1)
    bottom = min(height, math.ceil(max(y for _, y in points)) + margin + 1)
    if left >= right or top >= bottom:
        return None
    picture = PIL.Image.new("L", (right - left, bottom - top))
    draw(PIL.ImageDraw.Draw(picture), [(x - left, y - top) for x, y in points])
    found = mask_from_full(np.array(picture))
    return None if found is None else Mask(found.x + left, found.y + top, found.crop)


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


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelmeObjects:
    """What a labelme document holds.

    Attributes:
        objects: in the order of their first shape; shapes with the same label and group id are
            parts of one object, as in labelme2voc.
        left_out: what of it is no object, and how many.
        faults: a sentence for each shape that cannot be read.
    """

    objects: tuple[LabelledMask, ...]
    left_out: Mapping[str, int]
    faults: tuple[str, ...]


def labelled_masks(
    document: Mapping[str, Any],
    size_hw: tuple[int, int],
    where: str,
    kinds: Sequence[str] = AREA_SHAPES,
) -> LabelmeObjects:
    """The objects of a labelme document; a shape that cannot be read costs only itself.

    Args:
        document: from ``document.read_document``.
        size_hw: of the image.
        where: the file, for messages.
        kinds: of shapes to read.

    >>> box = {"label": "cat", "shape_type": "rectangle", "points": [[1, 0], [2, 0]]}
    >>> shapes = [box, {"label": "cat", "shape_type": "point", "points": [[0, 0]]}]
    >>> found = labelled_masks({"shapes": shapes}, (2, 4), "a.json")
    >>> [one.label for one in found.objects], found.left_out
    (['cat'], Counter({'points and other shapes without an area': 1}))
    """
    found: dict[Any, LabelledMask] = {}
    left_out: Counter[str] = Counter()
    faults: list[str] = []
    for k, shape in enumerate(document["shapes"]):
        at = f"{where}: shapes[{k}]"
        try:
            check_shape(shape, at)
            kind = shape.get("shape_type") or "polygon"
            if kind not in kinds:
                left_out[_why_not(kind)] += 1
                continue
            if kind == "cuboid":
                left_out["cuboids, read as the outline of all their corners"] += 1
            mask = shape_mask(shape, size_hw, at)
        except InputError as error:
            faults.append(str(error))
            continue
        if mask is None:
            left_out["shapes that cover no pixel"] += 1
            continue
        group = shape.get("group_id")
        key = (shape["label"], str(group)) if group is not None else k
        known = found.get(key)
        held = (Part(mask, k),) if known is None else (*known.held, Part(mask, k))
        found[key] = (
            LabelledMask(shape["label"], score_of(shape), held)
            if known is None
            else replace(known, held=held)
        )
    return LabelmeObjects(objects=tuple(found.values()), left_out=left_out, faults=tuple(faults))


def _why_not(kind: Any) -> str:
    if kind in (*LINE_SHAPES, *POINT_SHAPES):
        return NO_AREA
    return f"shapes of type {str(kind)[:40]!r}, which is unknown"
