"""YouTube-VIS: the tracks of many videos in one JSON file.

As Yang, Fan, Xu, "Video instance segmentation" (2019) lays it out: ``videos`` with a length and
file names, ``categories`` from 1 on, and an annotation for each track, with a segmentation (COCO's
compressed run lengths), a box ``[x, y, width, height]`` and an area for each frame, null where the
object is not seen. Predictions add a ``score``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backend.core.masks import mask_xyxy
from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.errors import InputError, json_kind
from backend.formats.coco.segmentation import decode_segmentation, encode_segmentation


def to_youtube_vis(
    videos: Sequence[tuple[TrackedVideo, Sequence[str]]], names: Sequence[str]
) -> dict[str, Any]:
    """Tracks as a YouTube-VIS document.

    YouTube-VIS has one score for a track; those of its frames go beside it, as ``scores``.

    Args:
        videos: each with the names of its frames' files.
        names: of the classes, in order.
    """
    numbers = {name: k for k, name in enumerate(names, 1)}
    annotations: list[dict[str, Any]] = []
    for video_id, (video, _) in enumerate(videos, 1):
        for track in video.tracks:
            row = _annotation(video, track)
            if row is not None:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "video_id": video_id,
                        "category_id": numbers[track.label],
                        "track_id": track.id,
                        **row,
                    }
                )
    return {
        "info": {"description": "made by yolosam2"},
        "videos": [
            {
                "id": k,
                "name": video.name,
                "height": video.size_hw[0],
                "width": video.size_hw[1],
                "length": video.n_frames,
                "frames_per_second": video.rate,
                "file_names": list(files),
            }
            for k, (video, files) in enumerate(videos, 1)
        ],
        "categories": [
            {"id": k, "name": name, "supercategory": "object"} for name, k in numbers.items()
        ],
        "annotations": annotations,
    }


def _annotation(video: TrackedVideo, track: Track) -> dict[str, Any] | None:
    segmentations: list[dict[str, Any] | None] = [None] * video.n_frames
    boxes: list[list[float] | None] = [None] * video.n_frames
    areas: list[int | None] = [None] * video.n_frames
    scores: list[float | None] = [None] * video.n_frames
    for frame, instance in track.seen.items():
        if instance.mask is None:
            continue
        x0, y0, x1, y1 = mask_xyxy(instance.mask).tolist()
        segmentations[frame] = encode_segmentation(instance.mask, video.size_hw)
        boxes[frame] = [x0, y0, x1 - x0, y1 - y0]
        areas[frame] = instance.mask.area
        scores[frame] = round(float(instance.score), 4)
    known = [score for score in scores if score is not None]
    if not known:
        return None
    return {
        "height": video.size_hw[0],
        "width": video.size_hw[1],
        "length": video.n_frames,
        "iscrowd": 0,
        "score": round(float(np.mean(known)), 4),
        "scores": scores,
        "segmentations": segmentations,
        "bboxes": boxes,
        "areas": areas,
    }


def from_youtube_vis(document: Mapping[str, Any]) -> tuple[list[TrackedVideo], list[str]]:
    """The videos of a YouTube-VIS document.

    Returns:
        The videos with their tracks, and a sentence for everything that cannot be read; one bad
        frame costs itself.

    Raises:
        InputError: it has no videos or categories.
    """
    rows: dict[str, list[Any]] = {}
    for key in ("videos", "categories", "annotations"):
        found = document.get(key)
        if not isinstance(found, list):
            raise InputError(f"{key}: expected a list, got {json_kind(found)}")
        rows[key] = found
    faults: list[str] = []
    names = {row["id"]: str(row["name"]) for row in rows["categories"] if _has(row, "id", "name")}
    places = {number: k for k, number in enumerate(names)}
    tracks: dict[Any, list[Track]] = {}
    infos = {row["id"]: row for row in rows["videos"] if _has(row, "id", "height", "width")}
    for k, row in enumerate(rows["annotations"]):
        where = f"annotations[{k}]"
        if not _has(row, "video_id", "segmentations") or row["video_id"] not in infos:
            faults.append(f"{where}: names no video of the file, or has no segmentations")
            continue
        if row.get("category_id") not in names:
            faults.append(f"{where}.category_id: {row.get('category_id')!r} is none of the file's")
            continue
        there = tracks.setdefault(row["video_id"], [])
        label = names[row["category_id"]]
        own = row.get("track_id")
        number = own if isinstance(own, int) and own > 0 else len(there) + 1
        seen = _seen(
            row, infos[row["video_id"]], (label, places[row["category_id"]]), where, faults
        )
        there.append(Track(id=number, label=label, seen=seen))
    videos = [
        TrackedVideo(
            name=str(info.get("name") or _folder(info) or video_id),
            size_hw=(int(info["height"]), int(info["width"])),
            n_frames=int(info.get("length") or len(info.get("file_names") or ())),
            rate=float(info.get("frames_per_second") or 25.0),
            tracks=tuple(sorted(_distinct(tracks.get(video_id, [])), key=lambda track: track.id)),
        )
        for video_id, info in infos.items()
    ]
    return videos, faults


def _has(row: Any, *keys: str) -> bool:
    return isinstance(row, dict) and all(key in row for key in keys)


def _folder(info: Mapping[str, Any]) -> str:
    files = info.get("file_names")
    return str(files[0]).rpartition("/")[0] if isinstance(files, list) and files else ""


def _distinct(tracks: Sequence[Track]) -> list[Track]:
    """Tracks with numbers of their own; those of a number that is taken get the next free one."""
    taken: set[int] = set()
    made = []
    for track in tracks:
        number = track.id
        while number in taken:
            number += 1
        taken.add(number)
        made.append(Track(id=number, label=track.label, seen=track.seen))
    return made


def _seen(
    row: Mapping[str, Any],
    info: Mapping[str, Any],
    named: tuple[str, int],
    where: str,
    faults: list[str],
) -> PackedInstances:
    size_hw = (int(info["height"]), int(info["width"]))
    score = row.get("score")
    sure = float(score) if isinstance(score, int | float) and 0 <= score <= 1 else 1.0
    own = row.get("scores")
    by_frame = own if isinstance(own, list) else []
    seen = PackedInstances(*named)
    length = int(info.get("length") or len(info.get("file_names") or ()))
    for frame, segmentation in enumerate(row["segmentations"] or ()):
        if segmentation is None:
            continue
        if frame >= length:
            faults.append(f"{where}.segmentations: has more than the {length} of its video")
            break
        at = f"{where}.segmentations[{frame}]"
        try:
            mask = decode_segmentation(segmentation, size_hw, at)
        except InputError as error:
            faults.append(str(error))
            continue
        if mask is not None:
            there = by_frame[frame] if frame < len(by_frame) else None
            known = isinstance(there, int | float) and 0 <= there <= 1
            seen.add(frame, mask, float(there or 0) if known else sure)
    return seen
