"""COCO with tracks: a picture for each frame, and a ``track_id`` on each annotation.

COCO itself knows no video. As trackers read it (MMTracking's CocoVID), ``videos`` lists the videos,
an image has ``video_id`` and ``frame_id``, and an annotation the number of its object in the video.
Frames are written from 0 on; ByteTrack counts from 1, and a file is read by its lowest. Programs
that know nothing of tracks see a common COCO file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.masks import mask_xyxy
from backend.core.tracks import MOST_FRAMES, PackedInstances, Track, TrackedVideo
from backend.core.types import Instance
from backend.errors import InputError, json_kind
from backend.formats.coco.segmentation import decode_segmentation, encode_segmentation

_FAR = 1e6  # pixels


def to_coco_tracks(
    video: TrackedVideo, files: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    """Tracks as a COCO document.

    Args:
        video: with its tracks.
        files: name of each frame's picture.
        names: of the classes, in order.
    """
    numbers = {name: k for k, name in enumerate(names, 1)}
    height, width = video.size_hw
    annotations: list[dict[str, Any]] = []
    for frame in range(video.n_frames):
        for track, one in video.at(frame):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame + 1,
                    "category_id": numbers[track.label],
                    "track_id": track.id,
                    **_shape(one, video.size_hw),
                    "iscrowd": 0,
                    "score": round(float(one.score), 4),
                }
            )
    return {
        "info": {"description": "made by yolosam2"},
        "videos": [
            {
                "id": 1,
                "name": video.name,
                "height": height,
                "width": width,
                "length": video.n_frames,
                "frames_per_second": video.rate,
            }
        ],
        "images": [
            {
                "id": frame + 1,
                "file_name": files[frame],
                "height": height,
                "width": width,
                "video_id": 1,
                "frame_id": frame,
            }
            for frame in range(video.n_frames)
        ],
        "categories": [{"id": k, "name": name, "supercategory": ""} for name, k in numbers.items()],
        "annotations": annotations,
    }


def _shape(one: Instance, size_hw: tuple[int, int]) -> dict[str, Any]:
    """The fields of a mask, or of a box without one."""
    if one.mask is None:
        x0, y0, x1, y1 = (round(float(value), 2) for value in one.xyxy)
        w, h = round(x1 - x0, 2), round(y1 - y0, 2)
        return {"bbox": [x0, y0, w, h], "area": round(w * h, 2)}
    x0, y0, x1, y1 = mask_xyxy(one.mask).tolist()
    return {
        "segmentation": encode_segmentation(one.mask, size_hw),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": one.mask.area,
    }


def _box(
    row: Mapping[str, Any], image: Mapping[str, Any], where: str
) -> NDArray[np.float32] | None:
    """The box of a row without a segmentation, cut to its picture; None for a row that has one, or
    has no box either.

    Raises:
        InputError: it is no box in the picture.
    """
    if row.get("segmentation") or row.get("bbox") is None:
        return None
    told = row["bbox"]
    rows: list[Any] = told if isinstance(told, list) else []
    numbers = [one for one in rows if isinstance(one, int | float) and abs(one) < _FAR]
    if len(rows) != 4 or len(numbers) != 4:
        raise InputError(f"{where}.bbox: expected four numbers")
    x, y, w, h = numbers
    limits = [image["width"], image["height"]] * 2
    box = np.clip(np.array([x, y, x + w, y + h], np.float32), 0, limits).astype(np.float32)
    if (box[2:] <= box[:2]).any():
        raise InputError(f"{where}.bbox: covers nothing of {limits[0]}x{limits[1]}")
    return box


def from_coco_tracks(document: Mapping[str, Any]) -> tuple[list[TrackedVideo], list[str]]:
    """The videos of a COCO document with tracks.

    Returns:
        The videos, and a sentence for everything that cannot be read; one bad annotation costs
        itself.

    Raises:
        InputError: it has no images, categories or annotations, or no image is of a video.
    """
    rows: dict[str, list[Any]] = {}
    for key in ("images", "categories", "annotations"):
        found = document.get(key)
        if not isinstance(found, list):
            raise InputError(f"{key}: expected a list, got {json_kind(found)}")
        rows[key] = [row if isinstance(row, dict) else {} for row in found]
    names = {row["id"]: str(row.get("name")) for row in rows["categories"] if _has_id(row)}
    places = {number: k for k, number in enumerate(names)}
    listed = document.get("videos")
    titles = {row["id"]: row for row in listed if _has_id(row)} if isinstance(listed, list) else {}
    images = {row["id"]: row for row in rows["images"] if _is_frame(row)}
    if not images:
        raise InputError("images: none has a video_id, frame_id, height and width")
    first: dict[Any, int] = {}
    for image in images.values():
        key = image["video_id"]
        first[key] = min(first.get(key, image["frame_id"]), image["frame_id"])
    faults: list[str] = []
    seen: defaultdict[Any, dict[int, PackedInstances]] = defaultdict(dict)
    labels: dict[tuple[Any, int], str] = {}
    for k, row in enumerate(rows["annotations"]):
        where = f"annotations[{k}]"
        image = _of(images, row.get("image_id"))
        number = row.get("track_id", row.get("instance_id"))
        label = _of(names, row.get("category_id"))
        if image is None or label is None or not isinstance(number, int):
            faults.append(f"{where}: names no frame, no category, or no track_id")
            continue
        try:
            box = _box(row, image, where)
            mask = (
                decode_segmentation(
                    row.get("segmentation"), (image["height"], image["width"]), where
                )
                if box is None
                else None
            )
        except InputError as error:
            faults.append(str(error))
            continue
        if mask is None and box is None:
            continue
        score = row.get("score")
        sure = float(score) if isinstance(score, int | float) and 0 <= score <= 1 else 1.0
        video = image["video_id"]
        labels.setdefault((video, number), label)
        if labels[video, number] != label:
            faults.append(f"{where}: track {number} is {labels[video, number]!r}, not {label!r}")
            continue
        own = seen[video].setdefault(number, PackedInstances(label, places[row.get("category_id")]))
        frame = image["frame_id"] - first[video]
        if mask is not None:
            own.add(frame, mask, sure)
        elif box is not None:
            own.add_box(frame, box, sure)
    return [_video(key, titles.get(key, {}), images, seen[key], labels) for key in _keys(images)], (
        faults
    )


def _has_id(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), int | str)


def _of(rows: Mapping[Any, Any], key: Any) -> Any:
    """The row of an id; None also where the id is none."""
    return rows.get(key) if isinstance(key, int | str) else None


def _is_frame(row: Mapping[str, Any]) -> bool:
    """Whether an image is a frame of a video."""
    whole = all(isinstance(row.get(key), int) for key in ("frame_id", "height", "width"))
    named = _has_id(row) and isinstance(row.get("video_id"), int | str)
    there = whole and min(row["height"], row["width"]) > 0
    return named and there and 0 <= row["frame_id"] < MOST_FRAMES


def _keys(images: Mapping[Any, Mapping[str, Any]]) -> list[Any]:
    return list(dict.fromkeys(image["video_id"] for image in images.values()))


def _video(
    key: Any,
    title: Mapping[str, Any],
    images: Mapping[Any, Mapping[str, Any]],
    seen: Mapping[int, PackedInstances],
    labels: Mapping[tuple[Any, int], str],
) -> TrackedVideo:
    own = [image for image in images.values() if image["video_id"] == key]
    numbers = [image["frame_id"] for image in own]
    tracks = [
        Track(id=k, label=labels[key, number], seen=seen[number])
        for k, number in enumerate(sorted(seen), 1)
    ]
    rate = title.get("frames_per_second")
    return TrackedVideo(
        name=str(title.get("name") or key),
        size_hw=(own[0]["height"], own[0]["width"]),
        n_frames=1 + max(numbers) - min(numbers),
        rate=float(rate) if isinstance(rate, int | float) and rate > 0 else 25.0,
        tracks=tuple(tracks),
    )
