"""What of a followed video deserves a person's look first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from backend.core.masks import mask_iou
from backend.core.tracks import Track, TrackedVideo
from backend.core.types import Instance

_UNSURE = 0.7  # score below which an object is said to be unsure
_JUMP = 0.35  # overlap of an object with itself a frame before, below which it jumps
_GROWTH = 2.0  # times that an object grows or shrinks from one frame to the next
_ON_ANOTHER = 0.5  # overlap of two objects that may be one
_BORDER = 0.02  # of the picture's sides: what lies there may come and go
_APART = 5  # frames between two looks for the same reason at the same object
_MOST = 24  # frames that are told


@dataclass(frozen=True)
class Look:
    """A frame to look at, and why.

    Attributes:
        frame: its place.
        track: number of the object.
        reason: a few words.
        weight: how much it matters; larger is more.
    """

    frame: int
    track: int
    reason: str
    weight: float


def frames_to_look_at(video: TrackedVideo, most: int = _MOST) -> list[Look]:
    """The frames of a video that are most likely wrong, the worst first.

    Args:
        video: with its tracks.
        most: frames that are told; several reasons may be of one frame.
    """
    found = [look for track in video.tracks for look in _of_track(track, video)]
    found += _on_another(video)
    found.sort(key=lambda look: (-look.weight, look.frame, look.track))
    kept: list[Look] = []
    frames: set[int] = set()
    for look in found:
        near = any(
            one.track == look.track
            and one.reason == look.reason
            and abs(one.frame - look.frame) < _APART
            for one in kept
        )
        if near or (look.frame not in frames and len(frames) >= most):
            continue
        frames.add(look.frame)
        kept.append(look)
    return kept


def _of_track(track: Track, video: TrackedVideo) -> Iterator[Look]:
    frames = sorted(track.seen)
    before: Instance | None = None
    for k, frame in enumerate(frames):
        one = track.seen[frame]
        if one.score < _UNSURE:
            yield Look(frame, track.id, "unsure", 1 + _UNSURE - float(one.score))
        follows = frames[k - 1] == frame - 1
        if follows and before is not None and one.mask is not None and before.mask is not None:
            overlap = mask_iou(one.mask, before.mask)
            areas = [mask.area for mask in (one.mask, before.mask)]
            if overlap < _JUMP:
                yield Look(frame, track.id, "jumps", 3 - overlap)
            elif max(areas) > _GROWTH * min(areas):
                yield Look(frame, track.id, "changes its size at once", 2)
        before = one
    for last, first in pairwise(frames):
        if first > last + 1 and not _at_border(track.seen[last], video.size_hw):
            yield Look(first, track.id, "is back after it was gone", 1.5)
    if not frames:
        return
    if frames[0] > 0 and not _at_border(track.seen[frames[0]], video.size_hw):
        yield Look(frames[0], track.id, "begins inside the picture", 1.2)
    if frames[-1] < video.n_frames - 1 and not _at_border(track.seen[frames[-1]], video.size_hw):
        yield Look(frames[-1], track.id, "ends inside the picture", 1.4)


def _at_border(one: Instance, size_hw: tuple[int, int]) -> bool:
    height, width = size_hw
    x0, y0, x1, y1 = one.xyxy
    return bool(
        x0 <= _BORDER * width
        or y0 <= _BORDER * height
        or x1 >= (1 - _BORDER) * width
        or y1 >= (1 - _BORDER) * height
    )


def _on_another(video: TrackedVideo) -> Iterator[Look]:
    last: defaultdict[tuple[int, int], int] = defaultdict(lambda: -_APART)
    for frame in range(video.n_frames):
        there = [(track, one.mask) for track, one in video.at(frame) if one.mask is not None]
        for k, (track, mask) in enumerate(there):
            for other, its in there[k + 1 :]:
                pair = (track.id, other.id)
                if frame - last[pair] >= _APART and mask_iou(mask, its) >= _ON_ANOTHER:
                    last[pair] = frame
                    yield Look(frame, other.id, f"lies on track {track.id}", 2.5)


@dataclass(frozen=True)
class Stretch:
    """Frames in a row in which an object is seen about equally surely."""

    first: int
    last: int
    score: float  # the mean


def stretches(track: Track, steps: Sequence[float] = (0.5, 0.7, 0.9)) -> list[Stretch]:
    """A track as a timeline draws it.

    Args:
        track: with its scores.
        steps: scores that part stretches.

    >>> from backend.core.types import Instance
    >>> seen = {k: Instance("a", 0, s, np.zeros(4, np.float32)) for k, s in enumerate((1, 1, 0.6))}
    >>> [(one.first, one.last) for one in stretches(Track(id=1, label="a", seen=seen))]
    [(0, 1), (2, 2)]
    """
    made: list[tuple[int, list[int], list[float]]] = []
    for frame in sorted(track.seen):
        score = float(track.seen[frame].score)
        step = int(np.searchsorted(steps, score, side="right"))
        if made and made[-1][0] == step and made[-1][1][-1] == frame - 1:
            made[-1][1].append(frame)
            made[-1][2].append(score)
        else:
            made.append((step, [frame], [score]))
    return [
        Stretch(frames[0], frames[-1], round(float(np.mean(scores)), 3))
        for _, frames, scores in made
    ]
