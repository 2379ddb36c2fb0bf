"""Regions of Label Studio's ``VideoRectangle`` that a person drew, followed through the video: the
same regions with more key frames. Those that the person made stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import Image, Instance
from backend.errors import InputError
from backend.files.videos import FrameChoice, Video
from backend.formats.label_studio.label_config import LabelConfig, VideoTag
from backend.formats.label_studio.prompt_targets import video_target
from backend.formats.tracks.video_rectangle import (
    KeyFrame,
    at_rate,
    frames_at_rate,
    from_region,
    to_region,
)
from backend.labeling.follow_boxes import BoxFollower, FollowedBoxes, GivenBox

_MOST_BOXES = 32  # that are followed at once
_DRAWN = ("x", "y", "width", "height", "rotation")  # of a key frame that a person made


@dataclass(frozen=True, eq=False)
class Drawn:
    """One region as it was drawn."""

    region: Mapping[str, Any]
    where: str  # for messages
    tag: VideoTag
    label: str

    def key_frames(self, size_hw: tuple[int, int]) -> list[KeyFrame]:
        """Its boxes, by the frames of the tag.

        Raises:
            InputError: they cannot be read.
        """
        return from_region(self.region, size_hw, self.where)


def read_drawn(regions: Any, config: LabelConfig, where: str) -> list[Drawn]:
    """The regions of a list, which are all on one video.

    Args:
        regions: parsed JSON.
        config: the tags.
        where: how to call the list in messages.

    Raises:
        InputError: naming the region.
    """
    if not isinstance(regions, list) or not regions:
        raise InputError(f"{where}: expected a list with at least one box")
    if len(regions) > _MOST_BOXES:
        raise InputError(f"{where}: {len(regions)} boxes, the limit is {_MOST_BOXES}")
    drawn = []
    for k, region in enumerate(regions):
        at = f"{where}[{k}]"
        if not isinstance(region, dict):
            raise InputError(f"{at}: expected a region")
        value = region.get("value")
        labels = value.get("labels") if isinstance(value, dict) else None
        label = str(labels[0]) if isinstance(labels, list) and labels else None
        drawn.append(Drawn(region, at, *video_target(config, str(region.get("from_name")), label)))
    if len({one.tag.to_name for one in drawn}) > 1:
        raise InputError(f"{where}: boxes on several videos; draw on one at a time")
    return drawn


def follow_drawn(
    drawn: Sequence[Drawn], video: Video, frames: Iterable[Image], follower: BoxFollower
) -> tuple[list[dict[str, Any]], FollowedBoxes]:
    """Follow regions through a video.

    Args:
        drawn: all of one tag.
        video: for its first frame and its frame rate.
        frames: of the video, from the first on; they may raise ``Paused``.
        follower: does it.

    Returns:
        The regions with their key frames, and what was followed.

    Raises:
        InputError: a region or the video cannot be read.
    """
    tag = drawn[0].tag
    size_hw = _size_of(video)
    given = {
        k: _by_file_frame(one.key_frames(size_hw), tag.frame_rate, video.info.rate)
        for k, one in enumerate(drawn)
    }
    found = follower.run(frames, given)
    n_frames = max(found.n_frames, video.info.n_frames or 0)
    given = {
        k: {frame: box for frame, box in boxes.items() if frame < n_frames}
        for k, boxes in given.items()
    }
    regions = []
    for k, one in enumerate(drawn):
        tracked = TrackedVideo(
            name=video.info.name,
            size_hw=size_hw,
            n_frames=n_frames,
            rate=video.info.rate,
            tracks=(_as_track(one.label, found.seen.get(k), given[k]),),
        )
        made = _region(one, at_rate(tracked, tag.frame_rate))
        if made is not None:
            regions.append(made)
    return regions, found


def _region(one: Drawn, shown: TrackedVideo) -> dict[str, Any] | None:
    """The region as it was drawn, with more key frames."""
    own = {row.get("frame"): row for row in one.region["value"]["sequence"]}
    made = to_region(
        shown.tracks[0],
        shown,
        from_name=one.tag.name,
        to_name=one.tag.to_name,
        kept=[told.frame for told in one.key_frames(shown.size_hw)],
    )
    if made is None:
        return None
    value = made["value"]
    sequence = [
        {**row, **{key: own[row["frame"]][key] for key in _DRAWN if key in own[row["frame"]]}}
        if row["frame"] in own
        else row
        for row in value["sequence"]
    ]
    region_id = one.region.get("id")
    return {
        **made,
        "id": region_id if _is_text(region_id) else made["id"],
        "value": {**value, "sequence": sequence},
    }


def _is_text(value: Any) -> bool:
    """Whether it is text that can be sent; half of a character cannot."""
    return isinstance(value, str) and value == value.encode("utf-8", "ignore").decode()


def _by_file_frame(told: list[KeyFrame], rate: float, file_rate: float) -> dict[int, GivenBox]:
    places = frames_at_rate([one.frame for one in told], rate, file_rate)
    return {place: GivenBox(one.xyxy, one.enabled) for place, one in zip(places, told, strict=True)}


def _size_of(video: Video) -> tuple[int, int]:
    """Height and width of its frames, upright."""
    first = next(video.frames(FrameChoice()), None)
    if first is None:
        raise InputError(f"{video.info.name}: has no frame that can be read")
    return first.image.shape[0], first.image.shape[1]


def _as_track(label: str, seen: PackedInstances | None, given: Mapping[int, GivenBox]) -> Track:
    """A followed box, with what the person drew where they drew it."""
    found: dict[int, Instance] = {} if seen is None else dict(seen.named(label, 0, 1))
    for frame, box in given.items():
        found[frame] = Instance(label, 0, 1.0, box.xyxy.astype(np.float32))
    return Track(id=1, label=label, seen=dict(sorted(found.items())))
