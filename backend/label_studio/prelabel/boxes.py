"""Boxes that a task brings along, instead of a detector's: rectangles of its annotations or
predictions, or rows of a prompt file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from backend.core.types import Detections
from backend.errors import ConfigError, InputError, Unavailable
from backend.files.addresses import path_of, uploaded_name
from backend.formats.label_studio.regions import StoredRegion, read_regions
from backend.formats.prompt_file import PromptFile
from backend.label_studio.api.rows import TaskRow

logger = logging.getLogger(__name__)

SOURCES = ("annotations", "predictions")


def _detections(rows: Sequence[tuple[int, Sequence[float], float]]) -> Detections:
    ordered = sorted(rows, key=lambda row: -row[2])
    return Detections(
        np.array([box for _, box, _ in ordered], np.float32).reshape(-1, 4),
        np.array([class_id for class_id, _, _ in ordered], np.int64),
        np.array([score for _, _, score in ordered], np.float32),
    )


def _upright(region: StoredRegion) -> list[float]:
    """The corners of a rectangle in pixels; of a turned one, of the box around it."""
    height, width = region.size_hw
    try:
        x, y, w, h, turned = (
            float(region.value.get(name) or 0) for name in ("x", "y", "width", "height", "rotation")
        )
    except (TypeError, ValueError):
        raise InputError(f"{region.where}.value: expected numbers of percent") from None
    x = x * width / 100
    y = y * height / 100
    w = w * width / 100
    h = h * height / 100
    cos = np.cos(np.radians(turned))
    sin = np.sin(np.radians(turned))
    corners = np.array(
        [
            (x + u * cos - v * sin, y + u * sin + v * cos)
            for u, v in ((0, 0), (w, 0), (w, h), (0, h))
        ]
    )
    return [*corners.min(0).tolist(), *corners.max(0).tolist()]


def rectangles(row: TaskRow, source: str, class_ids: Mapping[str, int], to_name: str) -> Detections:
    """The rectangles of a task.

    Args:
        row: with annotations and predictions.
        source: of ``SOURCES``: the last annotation that was not skipped, or the newest prediction,
            that has rectangles.
        class_ids: label to class index; other labels are left out.
        to_name: of the image tag.

    Raises:
        InputError: one cannot be read.
        Unavailable: there is none yet.
    """
    lists = [
        one
        for one in (row.annotations if source == "annotations" else row.predictions)
        if isinstance(one, dict) and not one.get("was_cancelled")
    ]
    for one in sorted(lists, key=lambda entry: int(entry.get("id") or 0), reverse=True):
        read = read_regions(one.get("result"), f"task {row.id}: {source}")
        faults = list(read.faults)
        known: list[tuple[int, list[float], float]] = []
        n_found = 0
        for region in read.regions:
            if region.kind != "rectangle" or region.to_name != to_name:
                continue
            try:
                corners = _upright(region)
            except InputError as error:
                faults.append(str(error))
                continue
            n_found += 1
            if region.label in class_ids:
                score = 1.0 if region.score is None else region.score
                known.append((class_ids[region.label], corners, score))
        if n_found:
            for sentence in faults:
                logger.warning("%s (left out; the other rectangles are used)", sentence)
            return _detections(known)
        if faults:
            raise InputError(faults[0])
    raise Unavailable(f"task {row.id}: no {source[:-1]} with rectangles yet")


def from_tasks(
    source: str, class_ids: Mapping[str, int], to_name: str
) -> Callable[[TaskRow], Detections]:
    """Boxes of a task from its own annotations or predictions; see ``rectangles``."""
    return lambda row: rectangles(row, source, class_ids, to_name)


def drawn_on_video(source: str, tags: Collection[str]) -> Callable[[TaskRow], list[Any]]:
    """Boxes that a task has on its video; gives the regions of a task, or raises ``Unavailable``.

    Args:
        source: of ``SOURCES``: the last annotation that was not skipped, or the newest prediction,
            that has some.
        tags: names of the VideoRectangle tags.
    """

    def regions(row: TaskRow) -> list[Any]:
        lists = [
            one
            for one in (row.annotations if source == "annotations" else row.predictions)
            if isinstance(one, dict) and not one.get("was_cancelled")
        ]
        for one in sorted(lists, key=lambda entry: int(entry.get("id") or 0), reverse=True):
            result = one.get("result")
            found = [
                region
                for region in (result if isinstance(result, list) else ())
                if isinstance(region, dict) and region.get("from_name") in tags
            ]
            if found:
                return found
        raise Unavailable(f"task {row.id}: no {source[:-1]} with boxes on its video yet")

    return regions


def rows_for(prompts: PromptFile, data_key: str, row: TaskRow) -> Detections | None:
    """The rows for the picture of a task, by its path or its name, with or without what Label
    Studio puts before uploads; None for none.
    """
    address: Any = row.data.get(data_key)
    path = PurePosixPath(path_of(str(address or "")).lstrip("/"))
    names = [
        path,
        *(PurePosixPath(*path.parts[k:]) for k in range(1, len(path.parts))),
        PurePosixPath(uploaded_name(path.name)),
    ]
    return next(
        (found for name in names if name.name and (found := prompts.lookup(name)) is not None), None
    )


def check_rows(prompts: PromptFile, data_key: str, rows: Iterable[TaskRow]) -> None:
    """Refuse a prompt file that has rows for none of the tasks' pictures, before empty predictions
    are uploaded for all of them.

    Raises:
        ConfigError: with an example of both sides.
    """
    example: Any = None
    for row in rows:
        if rows_for(prompts, data_key, row) is not None:
            return
        example = example or row.data.get(data_key)
    if example is not None:
        theirs = next(iter(prompts.by_image), "nothing")
        raise ConfigError(
            f"{prompts.path}: has boxes for none of the tasks' pictures; it names for example"
            f" {theirs!r}, a task {str(example)[:100]!r}"
        )


def from_file(prompts: PromptFile, data_key: str) -> Callable[[TaskRow], Detections]:
    """Boxes of a task from a prompt file; a picture without rows has no objects."""
    return lambda row: rows_for(prompts, data_key, row) or _detections(())
