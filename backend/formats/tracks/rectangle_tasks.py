"""Tasks of Label Studio with boxes on videos as tracks, whose instances have no masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from backend.core.tracks import MOST_FRAMES, PackedInstances, Track, TrackedVideo
from backend.errors import InputError, json_kind
from backend.formats.tracks.video_rectangle import (
    SAME_RATE,
    KeyFrame,
    between,
    frame_count,
    from_region,
)

_KIND = "videorectangle"
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".ogv", ".ogg", ".mpg", ".mpeg", ".ts"),
    *(".flv", ".wmv", ".3gp", ".gif"),
)
_RATES = (0.01, 1000.0)  # frames a second that a video may have
_LONGEST = 1000  # characters of an address


@dataclass(frozen=True)
class FileSize:
    """What Label Studio does not keep of a video.

    Attributes:
        size_hw: of its frames, in pixels.
        n_frames: 0 where the file does not tell.
        rate: frames a second.
    """

    size_hw: tuple[int, int]
    n_frames: int
    rate: float


Measure = Callable[[str], FileSize | None]


def from_tasks(tasks: Iterable[Any], measure: Measure) -> tuple[list[TrackedVideo], list[str]]:
    """The boxes of tasks: of the newest annotation that was not cancelled, else of the newest
    prediction. Frames are those of the file: a tag with another frame rate counts others.

    Args:
        tasks: of an export, or as ``to_task`` makes them.
        measure: a video by its path in the task; None where it is not at hand.

    Returns:
        The videos that have boxes, and a sentence for everything that cannot be read or kept. Of
        videos with one name, the later ones have the number of their task in it.
    """
    videos: list[TrackedVideo] = []
    faults: list[str] = []
    names: set[str] = set()
    for k, task in enumerate(tasks):
        where = f"[{k}]"
        try:
            video = _video(task, measure, where, faults)
        except InputError as error:
            faults.append(str(error))
            continue
        if video is None:
            continue
        if video.name in names:
            video = replace(video, name=f"{video.name}_task{task.get('id', k)}")
        names.add(video.name)
        videos.append(video)
    return videos, faults


def video_paths(data: Any) -> list[str]:
    """The paths in a task's data that may be a video, those that look like one first.

    >>> video_paths({"by": "Mr. Smith", "t": "/t.jpg", "v": "/data/local-files/?d=a/b%20c.mp4"})
    ['a/b c.mp4', '/t.jpg']
    """
    found = []
    for value in data.values() if isinstance(data, dict) else ():
        if not isinstance(value, str) or len(value) > _LONGEST:
            continue
        try:
            parts = urlsplit(value)
            # Files that Label Studio serves from its machine stand in the query.
            path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        except ValueError:
            continue
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in VIDEO_SUFFIXES or (suffix and "/" in path):
            found.append(path)
    return sorted(found, key=lambda path: not path.lower().endswith(VIDEO_SUFFIXES))


def _video(task: Any, measure: Measure, where: str, faults: list[str]) -> TrackedVideo | None:
    if not isinstance(task, dict):
        raise InputError(f"{where}: expected a task, got {json_kind(task)}")
    regions = _regions(task)
    if not regions:
        return None
    path, size = _measured(task.get("data"), measure, where)
    values = [value for one in regions if isinstance(value := one.get("value"), dict)]
    rate = _rate(values) or size.rate
    shown = [
        (region, told)
        for k, region in enumerate(regions)
        if (told := _told(region, size.size_hw, f"{where}.result[{k}]", faults))
    ]
    scale = size.rate / rate if abs(size.rate - rate) > SAME_RATE * rate else 1.0
    moved = [(region, [_at_rate(one, scale) for one in told]) for region, told in shown]
    n_frames = size.n_frames or _longest(values, moved, scale)
    tracks: list[Track] = []
    labels: dict[str, int] = {}
    for region, told in moved:
        label = _label(region["value"])
        seen = PackedInstances(label, labels.setdefault(label, len(labels)), len(tracks) + 1)
        score = _score(region)
        for frame, box in between(told, n_frames).items():
            seen.add_box(frame, box.astype(np.float32), score)
        tracks.append(Track(id=len(tracks) + 1, label=label, seen=seen))
    return TrackedVideo(
        name=PurePosixPath(path).stem,
        size_hw=size.size_hw,
        n_frames=n_frames,
        rate=size.rate,
        tracks=tuple(tracks),
    )


def _measured(data: Any, measure: Measure, where: str) -> tuple[str, FileSize]:
    paths = video_paths(data)
    if not paths:
        raise InputError(f"{where}.data: names no video")
    for path in paths:
        size = measure(path)
        if size is not None:
            return path, size
    raise InputError(
        f"{where}: {PurePosixPath(paths[0]).name} is not at hand, and Label Studio keeps boxes in"
        " percent of its size; name the folder of the videos with --images DIR"
    )


def _told(
    region: Mapping[str, Any], size_hw: tuple[int, int], where: str, faults: list[str]
) -> list[KeyFrame]:
    """The key frames of a region, none of one that cannot be read; tells what is lost."""
    try:
        told = from_region(region, size_hw, where)
    except InputError as error:
        faults.append(str(error))
        return []
    value = region["value"]
    if any(isinstance(row, dict) and row.get("rotation") for row in value["sequence"]):
        faults.append(f"{where}: is turned, which is not kept")
    labels = value.get("labels")
    if isinstance(labels, list) and len(labels) > 1:
        faults.append(f"{where}: has {len(labels)} labels, of which the first is kept")
    return told


def _at_rate(one: KeyFrame, scale: float) -> KeyFrame:
    return one if scale == 1 else replace(one, frame=round(one.frame * scale))


def _longest(
    values: Sequence[Mapping[str, Any]],
    moved: Sequence[tuple[Any, Sequence[KeyFrame]]],
    scale: float,
) -> int:
    """How many frames a file has that does not tell."""
    counts = [round(frame_count(one.get("framesCount")) * scale) for one in values]
    return min(MOST_FRAMES, max([1, *counts, *(1 + told[-1].frame for _, told in moved)]))


def _regions(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    for side in ("annotations", "predictions"):
        holders = task.get(side)
        rows = [
            one
            for one in (holders if isinstance(holders, list) else [])
            if isinstance(one, dict) and not one.get("was_cancelled")
        ]
        if rows:  # an annotation without boxes says that there is nothing
            newest = max(enumerate(rows), key=lambda one: (_date(one[1]), one[0]))[1]
            result = newest.get("result")
            regions = result if isinstance(result, list) else []
            return [one for one in regions if isinstance(one, dict) and one.get("type") == _KIND]
    return []


def _date(holder: Mapping[str, Any]) -> str:
    return str(holder.get("updated_at") or holder.get("created_at") or "")


def _label(value: Mapping[str, Any]) -> str:
    labels = value.get("labels")
    first = labels[0] if isinstance(labels, list) and labels else None
    return first if isinstance(first, str) and first else "object"


def _score(region: Mapping[str, Any]) -> float:
    told = region.get("score")
    return float(told) if isinstance(told, int | float) and 0 <= told <= 1 else 1.0


def _rate(values: Sequence[Mapping[str, Any]]) -> float:
    """Frames a second as Label Studio counted them; 0 for unknown."""
    for value in values:
        duration = value.get("duration")
        count = frame_count(value.get("framesCount"))
        if isinstance(duration, int | float) and 0 < duration < MOST_FRAMES and count:
            rate = count / duration
            if math.isfinite(rate) and _RATES[0] <= rate <= _RATES[1]:
                return rate
    return 0.0
