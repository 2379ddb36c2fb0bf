"""The prompt file: boxes from any detector, as a JSON list of rows.

    [{"image_id": "set1/23960", "category_id": 3, "bbox": [x1, y1, x2, y2], "score": 0.9}, {}]

``image_id`` is the image's path below the source folder without its suffix (with it is accepted
too), ``category_id`` a 0-based index into the class names, ``bbox`` is xyxy in pixels of the
upright image. Empty rows are skipped, as the format's origin (upstream YOLO-SAM2) writes one at the
end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from backend.core.types import Detections
from backend.errors import ConfigError, system_reason

_SHOWN = 5
_FAR = 1e7  # pixels; no coordinate lies beyond, and nan is not below it


@dataclass(frozen=True, eq=False)
class PromptFile:
    """The boxes of many images: image id -> detections, scores descending."""

    path: Path
    by_image: Mapping[str, Detections]
    remarks: tuple[str, ...] = ()  # rows that do not fit, counted and named

    def lookup(self, relative: PurePosixPath) -> Detections | None:
        """Detections of an image by its path below the source folder, with or without suffix.

        None if it has no rows.
        """
        stem = relative.with_suffix("").as_posix()
        # COCO's results name an image by its number, its file by that number with zeros before it.
        number = [str(int(stem))] if stem.isascii() and stem.isdecimal() else []
        for key in (stem, relative.as_posix(), *number):
            if key in self.by_image:
                return self.by_image[key]
        return None


def _fault(row: Any, n_classes: int, boxes: str) -> str | None:
    """What is wrong with a row, by field, or None."""
    if not isinstance(row, dict):
        return f"expected an object, got {type(row).__name__}"
    image_id = row.get("image_id")
    if isinstance(image_id, bool) or not isinstance(image_id, str | int) or image_id == "":
        return f"image_id: expected a name, got {image_id!r}"
    if ".." in PurePosixPath(str(image_id)).parts or str(image_id).startswith("/"):
        return f"image_id: expected a path below the source folder, got {image_id!r}"
    category = row.get("category_id")
    if isinstance(category, bool) or not isinstance(category, int):
        return f"category_id: expected an integer, got {category!r}"
    if not 0 <= category < n_classes:
        return f"category_id: {category} is not an index into the {n_classes} class names"
    box = row.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or any(isinstance(v, bool) or not isinstance(v, int | float) for v in box)
    ):
        return f"bbox: expected four numbers, got {box!r}"
    if boxes == "xywh":
        if not all(abs(v) < _FAR for v in box) or min(box[2:]) <= 0:
            return f"bbox: expected a width and a height above 0, got {box!r}"
    elif not all(abs(v) < _FAR for v in box) or box[2] <= box[0] or box[3] <= box[1]:
        hint = "; --prompt-boxes xywh reads corner and size" if min(box[2:]) > 0 else ""
        return f"bbox: expected x1 < x2 and y1 < y2, got {box!r}{hint}"
    score = row.get("score", 1.0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        return f"score: expected 0 to 1, got {score!r}"
    return None


def parse_prompts(rows: Any, path: Path, n_classes: int, boxes: str = "xyxy") -> PromptFile:
    """Check and group the rows of a prompt file.

    Args:
        rows: the parsed JSON.
        path: for messages.
        n_classes: how many class names there are.
        boxes: what ``bbox`` holds: ``xyxy``, or ``xywh`` as COCO's results do.

    Returns:
        The boxes by image. Rows that do not fit are counted in its remarks.

    Raises:
        ConfigError: no row fits; the first are named by index and field.
    """
    if not isinstance(rows, list):
        raise ConfigError(f"{path}: expected a list of rows, got {type(rows).__name__}")
    given = [(k, row) for k, row in enumerate(rows) if row != {}]
    faults = {k: fault for k, row in given if (fault := _fault(row, n_classes, boxes))}
    shown = "; ".join(f"row {k}: {fault}" for k, fault in list(faults.items())[:_SHOWN])
    if len(faults) > _SHOWN:
        shown += f"; and {len(faults) - _SHOWN} more"
    if faults and len(faults) == len(given):
        raise ConfigError(f"{path}: {shown}")
    grouped: dict[str, list[dict[str, Any]]] = {}
    for k, row in given:
        if k not in faults:
            grouped.setdefault(str(row["image_id"]), []).append(row)
    by_image = {key: _detections(group, boxes) for key, group in grouped.items()}
    told = (f"{path}: {len(faults)} of {len(given)} rows do not fit and are left out: {shown}",)
    return PromptFile(path, by_image, told if faults else ())


def _detections(rows: list[dict[str, Any]], boxes: str) -> Detections:
    rows = sorted(rows, key=lambda row: -row.get("score", 1.0))
    corners = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    if boxes == "xywh":
        corners[:, 2:] += corners[:, :2]
    return Detections(
        corners.astype(np.float32),
        np.array([row["category_id"] for row in rows], np.int64),
        np.array([row.get("score", 1.0) for row in rows], np.float32),
    )


def read_prompts(path: Path, n_classes: int, boxes: str = "xyxy") -> PromptFile:
    """Read a prompt file; see ``parse_prompts``.

    Raises:
        ConfigError: also for a missing file or invalid JSON.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {system_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid JSON: {error}") from None
    return parse_prompts(rows, path, n_classes, boxes)


def prompt_rows(image_id: str, detections: Detections) -> Iterable[dict[str, Any]]:
    """The rows of one image, ready for ``json.dumps``.

    Coordinates rounded to a thousandth of a pixel.

    >>> import numpy as np
    >>> box = np.array([[1, 2, 3, 4]], np.float32)
    >>> list(prompt_rows("a.jpg", Detections(box, np.array([7]), np.array([0.5]))))
    [{'image_id': 'a.jpg', 'category_id': 7, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}]
    """
    for box, class_id, score in zip(
        detections.xyxy.tolist(),
        detections.class_ids.tolist(),
        detections.scores.tolist(),
        strict=True,
    ):
        yield {
            "image_id": image_id,
            "category_id": class_id,
            "bbox": [round(v, 3) for v in box],
            "score": round(score, 4),
        }
