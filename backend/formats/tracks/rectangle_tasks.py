"""Tasks of Label Studio with boxes on videos as tracks, whose instances have no masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.errors import InputError, json_kind
from backend.formats.tracks.video_rectangle import between, frame_count, from_region

_KIND = "videorectangle"


@dataclass(frozen=True)
class FileSize:
    """What Label Studio does not keep of a video."""

    size_hw: tuple[int, int]
    n_frames: int
    rate: float


Measure = Callable[[str], FileSize | None]


def from_tasks(tasks: Iterable[Any], measure: Measure) -> tuple[list[TrackedVideo], list[str]]:
    """The boxes of tasks: of the newest annotation that was not cancelled, else of the newest
    prediction.

    Args:
        tasks: of an export, or as ``to_task`` makes them.
        measure: the size of a video by the name of its file; None where it is not at hand.

    Returns:
        The videos that have boxes, and a sentence for every task or region that cannot be read.
    """
    videos = []
    faults: list[str] = []
    for k, task in enumerate(tasks):
        where = f"[{k}]"
        try:
            video = _video(task, measure, where, faults)
        except InputError as error:
            faults.append(str(error))
            continue
        if video is not None:
            videos.append(video)
    return videos, faults


def _video(task: Any, measure: Measure, where: str, faults: list[str]) -> TrackedVideo | None:
    if not isinstance(task, dict):
        raise InputError(f"{where}: expected a task, got {json_kind(task)}")
    regions = _regions(task)
    if not regions:
        return None
    name = _file_name(task.get("data"))
    if name is None:
        raise InputError(f"{where}.data: names no video")
    size = measure(name)
    if size is None:
        raise InputError(
            f"{where}: {name} is not at hand, and Label Studio keeps boxes in percent of its size;"
            " name the folder of the videos with --images DIR"
        )
    values = [value for one in regions if isinstance(value := one.get("value"), dict)]
    n_frames = max([size.n_frames, *(frame_count(one.get("framesCount")) for one in values)])
    tracks: list[Track] = []
    labels: dict[str, int] = {}
    for k, region in enumerate(regions):
        try:
            told = from_region(region, size.size_hw, f"{where}.result[{k}]")
        except InputError as error:
            faults.append(str(error))
            continue
        label = _label(region["value"])
        seen = PackedInstances(label, labels.setdefault(label, len(labels)), len(tracks) + 1)
        told_score = region.get("score")
        is_score = isinstance(told_score, int | float) and 0 <= told_score <= 1
        score = float(told_score or 0.0) if is_score else 1.0
        for frame, box in between(told, max(n_frames, 1 + told[-1].frame)).items():
            seen.add_box(frame, box.astype(np.float32), score)
        tracks.append(Track(id=len(tracks) + 1, label=label, seen=seen))
    ends = [1 + max(one.seen) for one in tracks if one.seen]
    return TrackedVideo(
        name=PurePosixPath(name).stem,
        size_hw=size.size_hw,
        n_frames=max([n_frames, *ends]),
        rate=_rate(values) or size.rate,
        tracks=tuple(tracks),
    )


def _regions(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    for side in ("annotations", "predictions"):
        holders = task.get(side)
        for holder in reversed(holders if isinstance(holders, list) else []):
            if not isinstance(holder, dict) or holder.get("was_cancelled"):
                continue
            result = holder.get("result")
            rows = result if isinstance(result, list) else []
            boxes: list[Mapping[str, Any]] = [
                one for one in rows if isinstance(one, dict) and one.get("type") == _KIND
            ]
            if boxes or side == "annotations":
                return boxes  # an annotation without boxes says that there is nothing
    return []


def _file_name(data: Any) -> str | None:
    """The name of the first file in a task's data."""
    for value in data.values() if isinstance(data, dict) else ():
        if not isinstance(value, str):
            continue
        try:
            parts = urlsplit(value)
        except ValueError:
            continue
        # Files that Label Studio serves from its machine stand in the query.
        path = parts.query.partition("d=")[2] if parts.query.startswith("d=") else parts.path
        name = PurePosixPath(unquote(path)).name
        if PurePosixPath(name).suffix:
            return name
    return None


def _label(value: Mapping[str, Any]) -> str:
    labels = value.get("labels")
    return str(labels[0]) if isinstance(labels, list) and labels else "object"


def _rate(values: Sequence[Mapping[str, Any]]) -> float:
    """Frames a second as Label Studio counted them; 0 for unknown."""
    for value in values:
        duration = value.get("duration")
        count = frame_count(value.get("framesCount"))
        if isinstance(duration, int | float) and math.isfinite(duration) and duration > 0 and count:
            return count / duration
    return 0.0
