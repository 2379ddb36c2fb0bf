"""Boxes that an annotator drew on a video, followed through the frames after them.

The answer holds the same regions with more key frames; those that the person made stay as they are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import Instance
from backend.errors import InputError
from backend.files.images import ImageLimits
from backend.files.videos import FrameChoice, Video, open_video
from backend.formats.json_text import RawJson, json_text
from backend.formats.label_studio.label_config import LabelConfig, VideoTag
from backend.formats.label_studio.prompt_targets import video_target
from backend.formats.label_studio.results import prediction_object, result_of_regions
from backend.formats.tracks.video_rectangle import (
    KeyFrame,
    frames_at_rate,
    from_region,
    to_region,
)
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.models_on_thread import LabelerOnThread, SegmenterOnThread
from backend.label_studio.server.projects import Project
from backend.label_studio.server.video_work import VideoWork
from backend.label_studio.server.worker import CLICK
from backend.labeling.follow_boxes import BoxFollower, FollowedBoxes, GivenBox

logger = logging.getLogger(__name__)
_MOST_BOXES = 32  # of a request


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One region as it was sent."""

    region: Mapping[str, Any]
    where: str
    tag: VideoTag
    label: str

    def key_frames(self, size_hw: tuple[int, int]) -> list[KeyFrame]:
        """Its boxes, by the frames of the tag."""
        return from_region(self.region, size_hw, self.where)


class VideoBoxes:
    """Follows boxes; a newer request for the same task ends an older one, which answers with what
    it has.

    Args:
        work: models and videos.
    """

    def __init__(self, work: VideoWork) -> None:
        self._work = work
        self._newest: dict[tuple[str, int | None], int] = {}
        self._lock = threading.Lock()

    def predict(
        self, task: Task, context: Mapping[str, Any], project: Project, deadline: float
    ) -> RawJson:
        """The answer for one task as JSON text.

        Args:
            task: the one that is open in the editor.
            context: what was drawn.
            project: its label config.
            deadline: of ``time.monotonic``.

        Raises:
            InputError: what was drawn cannot be used, or the video never works.
            Unavailable: later.
        """
        drawn = _read(context, project.config)
        tag = drawn[0].tag
        work = self._work
        uri = task.image(tag.data_key)
        run = work.runner(deadline, CLICK)
        labeler = LabelerOnThread(work.predictors.default(), run, {})
        with (
            self._only_one(project, task) as is_newest,
            work.files.open(uri, task.id, deadline) as path,
        ):
            video = open_video(path, work.limits)
            size_hw = _size_of(video, work.limits)
            given = {
                k: _by_file_frame(one.key_frames(size_hw), tag.frame_rate, video.info.rate)
                for k, one in enumerate(drawn)
            }
            follower = BoxFollower(labeler, SegmenterOnThread(labeler, run))
            with work.monitor.phase("models"):
                found = follower.run(work.frames(task, video, deadline, is_newest), given)
        if not found.is_whole:
            logger.warning(
                "task %s: followed up to frame %d of %s; draw there again to go on",
                task.id,
                found.n_frames,
                video.info.n_frames or "?",
            )
        work.monitor.prompts.inc(len(drawn))
        n_frames = max(found.n_frames, video.info.n_frames or 0)
        whole = TrackedVideo(
            name="", size_hw=size_hw, n_frames=n_frames, rate=video.info.rate, tracks=()
        )
        made = [self._region(k, one, whole, found, given[k], task) for k, one in enumerate(drawn)]
        result = result_of_regions([one for one in made if one is not None])
        return RawJson(json_text(prediction_object([result], project.model_version)))

    def _region(
        self,
        k: int,
        one: _Drawn,
        video: TrackedVideo,
        found: FollowedBoxes,
        given: Mapping[int, GivenBox],
        task: Task,
    ) -> dict[str, Any] | None:
        track = _as_track(one.label, found.seen.get(k), given)
        with_track = TrackedVideo(
            name=video.name,
            size_hw=video.size_hw,
            n_frames=video.n_frames,
            rate=video.rate,
            tracks=(track,),
        )
        shown = self._work.in_frames_of(with_track, one.tag.frame_rate, task)
        made = to_region(
            shown.tracks[0],
            shown,
            from_name=one.tag.name,
            to_name=one.tag.to_name,
            kept=[told.frame for told in one.key_frames(video.size_hw)],
        )
        own = one.region.get("id")
        return made if made is None or not isinstance(own, str) else {**made, "id": own}

    @contextmanager
    def _only_one(self, project: Project, task: Task) -> Iterator[Callable[[], bool]]:
        """Whether this is still the newest request for a task."""
        key = (project.model_version, task.id)
        with self._lock:
            number = self._newest.get(key, 0) + 1
            self._newest[key] = number
        try:
            yield lambda: self._newest.get(key) == number
        finally:
            with self._lock:
                if self._newest.get(key) == number:
                    del self._newest[key]


def is_of_video(context: Mapping[str, Any], config: LabelConfig) -> bool:
    """Whether what was drawn is on a video."""
    result = context.get("result")
    names = {tag.name for tag in config.videos}
    return isinstance(result, list) and any(
        isinstance(one, dict) and one.get("from_name") in names for one in result
    )


def _read(context: Mapping[str, Any], config: LabelConfig) -> list[_Drawn]:
    regions = context.get("result")
    if not isinstance(regions, list) or not regions:
        raise InputError("context.result: expected a list with at least one box")
    if len(regions) > _MOST_BOXES:
        raise InputError(f"context.result: {len(regions)} boxes, the limit is {_MOST_BOXES}")
    drawn = []
    for k, region in enumerate(regions):
        where = f"context.result[{k}]"
        if not isinstance(region, dict):
            raise InputError(f"{where}: expected a region")
        value = region.get("value")
        labels = value.get("labels") if isinstance(value, dict) else None
        label = str(labels[0]) if isinstance(labels, list) and labels else None
        drawn.append(
            _Drawn(region, where, *video_target(config, str(region.get("from_name")), label))
        )
    if len({one.tag.to_name for one in drawn}) > 1:
        raise InputError("context.result: boxes on several videos; draw on one at a time")
    return drawn


def _by_file_frame(told: list[KeyFrame], rate: float, file_rate: float) -> dict[int, GivenBox]:
    places = frames_at_rate([one.frame for one in told], rate, file_rate)
    return {place: GivenBox(one.xyxy, one.enabled) for place, one in zip(places, told, strict=True)}


def _size_of(video: Video, limits: ImageLimits) -> tuple[int, int]:
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
