"""One annotation of COCO as an instance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.core.classes import IGNORE_LABEL
from backend.core.rasterize import box_mask
from backend.core.types import Mask
from backend.errors import InputError, told
from backend.files.images import declared_size, side_or_none
from backend.files.picture_data import header_of
from backend.formats.coco import parts
from backend.formats.coco import segmentation as coco
from backend.formats.sample import EXTRA, DatasetInstance, Part, extras_of, object_value

_OWN = ("id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "score", EXTRA)


def image_size(
    image: Mapping[str, Any],
    picture: Path | None,
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    where: str,
) -> tuple[int, int]:
    """Height and width: as declared, else those of the picture, else of its run lengths."""
    declared = side_or_none(image.get("height"), image.get("width"))
    actual = None if picture is None else header_of(picture, where).size_hw
    if declared is None and actual is not None:
        return actual
    if declared is None:
        bodies = (row.get("segmentation") for _, row in rows)
        sizes = (one.get("size") for one in bodies if isinstance(one, dict))
        given = next((one for one in sizes if isinstance(one, list) and len(one) == 2), None)
        height, width = given or (image.get("height"), image.get("width"))
        return declared_size(height, width, f"{where}.", ("height", "width"))
    if actual is not None and actual != declared:
        raise InputError(
            f"{where}: is {declared[1]}x{declared[0]}, but {picture} is {actual[1]}x{actual[0]}"
        )
    return declared_size(*declared, f"{where}.", ("height", "width"))


def is_crowd(row: Mapping[str, Any], trusted: bool) -> bool:
    """Whether an annotation is of a crowd. CVAT says so of every mask, and also says whether it
    is occluded, which COCO itself does not.

    Args:
        row: the annotation.
        trusted: whether ``iscrowd`` of its file means what it says.

    >>> is_crowd({"iscrowd": 1}, True), is_crowd({"iscrowd": 1}, False)
    (True, False)
    """
    attributes = row.get("attributes")
    by_cvat = isinstance(attributes, dict) and "occluded" in attributes
    return row.get("iscrowd") in (1, True) and trusted and not by_cvat


def annotation_mask(
    row: Mapping[str, Any], size_hw: tuple[int, int], where: str, left_out: Counter[str]
) -> Mask | None:
    """The pixels of an annotation: of its segmentation, else of its box; None for none.

    Args:
        row: the annotation.
        size_hw: of its image.
        where: for messages.
        left_out: takes what had no place.

    Raises:
        InputError: it cannot be read.
    """
    segmentation = row.get("segmentation")
    corners = coco.box_corners(row.get("bbox"))
    rings: list[Any] = []
    if isinstance(segmentation, list):
        rings = coco.rings_of(segmentation, f"{where}.segmentation")
        short = [ring for ring in rings if len(ring) < 6]
        boxes = [ring for ring in short if coco.is_box(ring, corners)]
        if len(short) > len(boxes):
            left_out["polygons of fewer than three corners"] += len(short) - len(boxes)
        rings = [ring for ring in rings if len(ring) >= 6]
        segmentation = rings
    if segmentation:
        mask = coco.decode_segmentation(segmentation, size_hw, f"{where}.segmentation")
    elif corners is not None:
        left_out["boxes, read as filled rectangles"] += 1
        mask = box_mask(*corners, size_hw)
    elif row.get("bbox"):
        raise InputError(f"{where}.bbox: expected x, y, width and height, got {told(row['bbox'])}")
    else:
        left_out["annotations without a segmentation or a box"] += 1
        return None
    if mask is None:
        left_out["annotations that cover no pixel"] += 1
    return mask


def instance_of(
    row: Mapping[str, Any], label: str, mask: Mask, *, order: int, trusted: bool
) -> DatasetInstance:
    """An annotation as an instance.

    Args:
        row: the annotation.
        label: the name of its category.
        mask: its pixels.
        order: among the annotations of its image.
        trusted: whether ``iscrowd`` of its file means what it says.
    """
    extra = dict(extras_of(row))
    crowd = extra.pop("iscrowd", None)
    number = extra.pop("voc_object", None)
    _ = extra.pop(parts.DRAWN, None)
    score = row.get("score")
    valid = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
    notes = {
        **{key: value for key, value in row.items() if key not in _OWN},
        **extra,
        **({} if valid or score is None else {"score": score}),
    }
    return DatasetInstance(
        label,
        (Part(mask, order),),
        float(score) if valid and score is not None else None,
        crowd=bool(crowd) if label == IGNORE_LABEL else is_crowd(row, trusted),
        number=object_value(number),
        notes=notes,
    )
