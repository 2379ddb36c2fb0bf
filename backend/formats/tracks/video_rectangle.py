"""Tracks as regions of Label Studio's ``VideoRectangle``: boxes in a few key frames, between which
Label Studio draws straight lines.

A key frame has ``frame`` (from 1), ``time`` in seconds, ``x``, ``y``, ``width`` and ``height`` in
percent of the picture, ``rotation``, and ``enabled``. ``enabled: false`` says that the object is
not seen after this frame, until the next key frame (Label Studio 1.23, ``VideoRectangle``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.tracks import MOST_FRAMES, Track, TrackedVideo
from backend.errors import InputError, json_kind
from backend.formats.label_studio.binding import VideoOutput

TOLERANCE = 1.5  # pixels that a side of a box may be off between key frames
_FAR = 1e9  # percent
_ROUNDING = 1e-6  # of a frame
SAME_RATE = 1e-4  # 29.97 and 30 are not the same: after half a minute they are a frame apart
_DIGITS = 3  # of percents: a hundredth of a pixel in 1000
Boxes = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """A box that is told."""

    frame: int  # from 0
    xyxy: NDArray[np.float64]  # (4,) in pixels
    enabled: bool  # whether the object is seen after it


def key_frames(
    boxes: Boxes, tolerance: float = TOLERANCE, kept: Collection[int] = ()
) -> list[KeyFrame]:
    """The fewest boxes that Douglas and Peucker's method needs (1973), for each span by itself.

    Args:
        boxes: of every frame that the object is seen in, (4,) xyxy in pixels.
        tolerance: pixels that a side may be off in any frame.
        kept: frames that are told in any case, such as those that a person drew.

    >>> boxes = {k: np.array([k, 0, k + 4, 4], np.float32) for k in (0, 1, 2, 3, 7, 8)}
    >>> [(one.frame, one.enabled) for one in key_frames(boxes)]
    [(0, True), (3, False), (7, True), (8, False)]
    """
    made = []
    fixed_frames = frozenset(kept)
    for span in _spans(sorted(boxes)):
        path = np.array([boxes[frame] for frame in span], np.float64)
        fixed = [k for k, frame in enumerate(span) if frame in fixed_frames]
        told = _simplified(np.array(span, np.float64), path, tolerance, fixed)
        made += [KeyFrame(span[k], path[k], enabled=k != len(span) - 1) for k in told]
    return made


def _spans(frames: Sequence[int]) -> list[list[int]]:
    """Frames in runs without gaps."""
    spans: list[list[int]] = []
    for frame in frames:
        if spans and frame == spans[-1][-1] + 1:
            spans[-1].append(frame)
        else:
            spans.append([frame])
    return spans


def _simplified(
    times: NDArray[np.float64], path: NDArray[np.float64], tolerance: float, fixed: Sequence[int]
) -> list[int]:
    """Places of a path that are kept, in order."""
    kept = {0, len(times) - 1, *fixed}
    open_parts = list(pairwise(sorted(kept)))
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        share = (times[first : last + 1] - times[first]) / (times[last] - times[first])
        line = path[first] + share[:, None] * (path[last] - path[first])
        off = np.abs(path[first : last + 1] - line).max(1)
        worst = first + int(off.argmax())
        if off.max() > tolerance:
            kept.add(worst)
            open_parts += [(first, worst), (worst, last)]
    return sorted(kept)


def between(frames: Sequence[KeyFrame], n_frames: int) -> dict[int, NDArray[np.float64]]:
    """The box of every frame that an object is seen in, as Label Studio draws it.

    Args:
        frames: in order.
        n_frames: of the video: an object whose last key frame is enabled is seen to the end.

    >>> square = np.array([0.0, 0.0, 4.0, 4.0])
    >>> told = [KeyFrame(0, square, True), KeyFrame(2, square + 2, False)]
    >>> {frame: box.tolist() for frame, box in between(told, 9).items()}[1]
    [1.0, 1.0, 5.0, 5.0]
    """
    seen: dict[int, NDArray[np.float64]] = {}
    for k, one in enumerate(frames):
        seen[one.frame] = one.xyxy
        if not one.enabled:
            continue
        if k + 1 == len(frames):
            seen.update(dict.fromkeys(range(one.frame + 1, n_frames), one.xyxy))
            break
        following = frames[k + 1]
        gap = following.frame - one.frame
        for step in range(1, min(gap, n_frames - one.frame)):
            seen[one.frame + step] = one.xyxy + (following.xyxy - one.xyxy) * step / gap
    return {frame: box for frame, box in seen.items() if frame < n_frames}


def to_region(
    track: Track,
    video: TrackedVideo,
    *,
    from_name: str,
    to_name: str,
    tolerance: float = TOLERANCE,
    kept: Collection[int] = (),
    id_prefix: str = "",
) -> dict[str, Any] | None:
    """A track as a region of a prediction or annotation.

    Its ``meta`` holds the number of the track and the score in each key frame.

    Args:
        track: of the video.
        video: tells the size of its frames, their rate, and how many there are.
        from_name: of the VideoRectangle tag.
        to_name: of the Video tag.
        tolerance: see ``key_frames``.
        kept: see ``key_frames``.
        id_prefix: of the region's id, where several tags show the same tracks.

    Returns:
        The region; None for a track that is seen nowhere.
    """
    boxes = {frame: one.xyxy for frame, one in track.seen.items()}
    told = key_frames(boxes, tolerance, kept)
    if not told:
        return None
    scores = [round(float(track.seen[one.frame].score), 3) for one in told]
    return {
        "id": f"{id_prefix}track{track.id}",
        "type": "videorectangle",
        "from_name": from_name,
        "to_name": to_name,
        "origin": "prediction",
        "score": round(float(np.mean(scores)), 4),
        "value": {
            "framesCount": video.n_frames,
            "duration": round(video.n_frames / video.rate, 6),
            "sequence": [_told(one, video) for one in told],
            "labels": [track.label],
        },
        "meta": {"track": track.id, "scores": scores},
    }


def _told(one: KeyFrame, video: TrackedVideo) -> dict[str, Any]:
    height, width = video.size_hw
    x0, x1 = (float(np.clip(value / width * 100, 0, 100)) for value in one.xyxy[[0, 2]])
    y0, y1 = (float(np.clip(value / height * 100, 0, 100)) for value in one.xyxy[[1, 3]])
    x = round(x0, _DIGITS)
    y = round(y0, _DIGITS)
    return {
        "frame": one.frame + 1,
        "time": round(one.frame / video.rate, 6),
        "x": x,
        "y": y,
        "width": min(round(x1 - x0, _DIGITS), round(100 - x, _DIGITS)),
        "height": min(round(y1 - y0, _DIGITS), round(100 - y, _DIGITS)),
        "rotation": 0,
        "enabled": one.enabled,
    }


def _number(value: Any) -> float:
    """A number; nan for what is none, or far too large for one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _FAR:
        return math.nan
    return float(value)


def frame_count(value: Any) -> int:
    """The ``framesCount`` of a region; 0 where it tells none that can be."""
    number = _number(value)
    return int(number) if 1 <= number <= MOST_FRAMES else 0


def from_region(region: Mapping[str, Any], size_hw: tuple[int, int], where: str) -> list[KeyFrame]:
    """The key frames of a region.

    Args:
        region: of a prediction or annotation.
        size_hw: of the video's frames, which Label Studio does not keep.
        where: for messages.

    Raises:
        InputError: it cannot be read.
    """
    value = region.get("value")
    sequence = value.get("sequence") if isinstance(value, dict) else None
    if not isinstance(sequence, list) or not sequence:
        raise InputError(f"{where}.value.sequence: expected a list, got {json_kind(sequence)}")
    height, width = size_hw
    told = []
    for k, row in enumerate(sequence):
        at = f"{where}.value.sequence[{k}]"
        if not isinstance(row, dict):
            raise InputError(f"{at}: expected an object, got {json_kind(row)}")
        numbers = [_number(row.get(key)) for key in ("frame", "x", "y", "width", "height")]
        if not all(math.isfinite(one) for one in numbers):
            raise InputError(f"{at}: expected numbers for frame, x, y, width and height")
        frame, x, y, w, h = numbers
        if not 1 <= frame <= MOST_FRAMES:
            raise InputError(f"{at}.frame: expected 1 to {MOST_FRAMES:,}, got {frame:g}")
        box = np.array([x * width, y * height, (x + w) * width, (y + h) * height]) / 100
        told.append(KeyFrame(int(frame) - 1, box, row.get("enabled") is not False))
    return sorted(told, key=lambda one: one.frame)


def to_regions(
    video: TrackedVideo, output: VideoOutput, names: Mapping[int, str], id_prefix: str = ""
) -> list[dict[str, Any]]:
    """The tracks of a video as a VideoRectangle tag shows them.

    Args:
        video: with the classes of a model as labels.
        output: the tag.
        names: class index to name of the model.
        id_prefix: see ``to_region``.
    """
    shown = at_rate(video, output.frame_rate)
    labels = {names[k]: label for k, label in output.labels.items()}
    regions = [
        to_region(
            replace(track, label=labels[track.label]),
            shown,
            from_name=output.from_name,
            to_name=output.to_name,
            id_prefix=id_prefix,
        )
        for track in shown.tracks
        if track.label in labels
    ]
    return [one for one in regions if one is not None]


def rate_note(file_rate: float, rate: float) -> str | None:
    """What to tell where the frame rate of a tag is not that of the file; None where it is.

    >>> rate_note(29.97003, 29.97) is None, rate_note(25.0, 24.0)
    (True, 'it has 25 frames a second, its tag says frameRate="24"; write frameRate="25" there')
    """
    if abs(file_rate - rate) <= SAME_RATE * rate:
        return None
    return (
        f'it has {file_rate:.4g} frames a second, its tag says frameRate="{rate:g}"; write'
        f' frameRate="{file_rate:.4g}" there'
    )


def frames_at_rate(frames: Iterable[int], rate: float, file_rate: float) -> list[int]:
    """What a file shows in the frames that are counted at another rate.

    >>> frames_at_rate([0, 1, 2], 15, 30)
    [0, 2, 4]
    """
    return [int(frame * file_rate / rate + _ROUNDING) for frame in frames]


def at_rate(video: TrackedVideo, rate: float) -> TrackedVideo:
    """The tracks by the frames that Label Studio counts, where its tag has another frame rate than
    the file: its frame k is what the file shows after k / rate seconds.

    >>> seen = {k: k for k in range(4)}
    >>> track = Track(id=1, label="a", seen=seen)
    >>> video = TrackedVideo(name="v", size_hw=(4, 4), n_frames=4, rate=30, tracks=(track,))
    >>> dict(at_rate(video, 15).tracks[0].seen)
    {0: 0, 1: 2}

    Raises:
        InputError: there are far too many.
    """
    if abs(video.rate - rate) < SAME_RATE * rate:
        return video
    n_frames = max(1, round(video.n_frames * rate / video.rate))
    if n_frames > MOST_FRAMES:
        raise InputError(
            f"{video.name}: has {n_frames:,} frames at {rate:g} a second, the limit is"
            f" {MOST_FRAMES:,}"
        )
    shown = frames_at_rate(range(n_frames), rate, video.rate)
    tracks = tuple(
        replace(
            track,
            seen={k: track.seen[frame] for k, frame in enumerate(shown) if frame in track.seen},
        )
        for track in video.tracks
    )
    return replace(video, n_frames=n_frames, rate=rate, tracks=tracks)


def to_task(
    video: TrackedVideo, address: str, *, key: str = "video", from_name: str = "box"
) -> dict[str, Any]:
    """A task of Label Studio with the tracks of a video as its prediction.

    Args:
        video: with its tracks.
        address: of the video, as Label Studio reaches it.
        key: of the task's data that holds the address, and the name of the Video tag.
        from_name: of the VideoRectangle tag.
    """
    regions = [to_region(one, video, from_name=from_name, to_name=key) for one in video.tracks]
    result = [region for region in regions if region is not None]
    scores = [region["score"] for region in result]
    return {
        "data": {key: address},
        "predictions": [
            {
                "model_version": video.model_version,
                "score": round(float(np.mean(scores)), 4) if scores else 0.0,
                "result": result,
            }
        ],
    }
