"""Boxes that an annotator drew on a video, followed through the frames after them.

The answer holds the same regions with more key frames; those that the person made stay as they are.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backend.files.videos import open_video
from backend.formats.json_text import RawJson, json_text
from backend.formats.label_studio.label_config import LabelConfig
from backend.formats.label_studio.results import prediction_object, result_of_regions
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.models_on_thread import LabelerOnThread, SegmenterOnThread
from backend.label_studio.server.projects import Project
from backend.label_studio.server.video_work import VideoWork
from backend.label_studio.server.worker import BATCH
from backend.labeling.drawn_boxes import follow_drawn, read_drawn
from backend.labeling.follow_boxes import BoxFollower

logger = logging.getLogger(__name__)


class VideoBoxes:
    """Follows boxes; a newer request for the same task ends an older one, which answers with what
    it has.

    Args:
        work: models and videos.
    """

    def __init__(self, work: VideoWork) -> None:
        self._work = work
        self._newest: dict[tuple[str, int | None, str], int] = {}
        self._numbers = itertools.count()
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
        drawn = read_drawn(context.get("result"), project.config, "context.result")
        tag = drawn[0].tag
        work = self._work
        uri = task.image(tag.data_key)
        run = work.runner(deadline, BATCH)  # a click on a picture does not wait for a video
        labeler = LabelerOnThread(project.models.default(), run)
        with (
            self._only_one((project.model_version, task.id, uri)) as is_newest,
            work.files.open(uri, task.id, deadline) as path,
            work.monitor.phase("models"),
        ):
            video = open_video(path, work.limits, shown(uri))
            work.tell_rate(video.info.rate, tag.frame_rate, task)
            follower = BoxFollower(labeler, SegmenterOnThread(labeler, run))
            frames = work.frames(task, video, deadline, is_newest)
            regions, found = follow_drawn(drawn, video, frames, follower)
        if not found.is_whole:
            logger.warning(
                "task %s: followed up to frame %d of %s; draw there again to go on",
                task.id,
                found.n_frames,
                video.info.n_frames or "?",
            )
        work.monitor.prompts.inc(len(drawn))
        result = result_of_regions(regions)
        return RawJson(json_text(prediction_object([result], project.model_version)))

    @contextmanager
    def _only_one(self, key: tuple[str, int | None, str]) -> Iterator[Callable[[], bool]]:
        """Whether this is still the newest request for a task."""
        with self._lock:
            number = next(self._numbers)
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
        isinstance(one, dict) and str(one.get("from_name")) in names for one in result
    )
