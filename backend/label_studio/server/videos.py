"""Predictions for tasks with a video: what the detector finds is followed through it.

An answer that would come after the time limit holds what is done until then. The work is kept, so
that the next request for the same task goes on where the last one ended.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from backend.core.holdout import is_held_out
from backend.errors import InputError, LabelingError
from backend.files.videos import open_video
from backend.formats.json_text import RawJson, json_text
from backend.formats.label_studio.binding import VideoOutput
from backend.formats.label_studio.results import prediction_object, result_of_regions
from backend.formats.tracks.video_rectangle import to_regions
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.batch import HELD_OUT, TaskAnswer, describe, without_result
from backend.label_studio.server.models_on_thread import LabelerOnThread, SegmenterOnThread
from backend.label_studio.server.projects import Project
from backend.label_studio.server.video_work import VideoWork
from backend.label_studio.server.worker import BATCH, DeadlineExceeded
from backend.labeling.checkpoint import Checkpoint
from backend.labeling.follow import Follower, FollowOptions
from backend.labeling.followed import Followed

logger = logging.getLogger(__name__)
_EVERY = 50  # frames after which the work is kept, as a request may end at any time


class VideoPredictor:
    """Predicts tasks that show a video.

    Args:
        work: models and videos.
        options: how objects are followed.
        holdout: share of the control group, whose tasks get no predictions, 0..1.
    """

    def __init__(
        self, work: VideoWork, options: FollowOptions | None = None, holdout: float = 0.0
    ) -> None:
        self._work = work
        self._options = options or FollowOptions()
        self._holdout = holdout

    def predict(self, tasks: Sequence[Task], project: Project, deadline: float) -> list[TaskAnswer]:
        """One item per task, in their order.

        Args:
            tasks: any number.
            project: what to fill.
            deadline: of ``time.monotonic``; what is not done by then is left out, and told.
        """
        items = []
        for task in tasks:
            if self._holdout and is_held_out(task.id, self._holdout):
                items.append(HELD_OUT)
            else:
                items.append(self._item(task, project, deadline))
            self._work.monitor.tasks.labels(items[-1].outcome).inc()
        return items

    def _item(self, task: Task, project: Project, deadline: float) -> TaskAnswer:
        try:
            regions: list[dict[str, Any]] = []
            for output in project.binding.videos:
                regions += self._regions(task, output, project, deadline)
        except Exception as error:
            if not isinstance(error, LabelingError):
                logger.exception("task %s: the video could not be followed", task.id)
            outcome, reason = describe(error)
            logger.warning("task %s: %s", task.id, reason)
            return without_result(outcome, reason, project.model_version)
        made = prediction_object([result_of_regions(regions)], project.model_version)
        return TaskAnswer(RawJson(json_text(made)), "done")

    def _regions(
        self, task: Task, output: VideoOutput, project: Project, deadline: float
    ) -> list[dict[str, Any]]:
        """The regions of one tag."""
        found, rate = self._followed(task, output, project, deadline)
        self._work.tell_rate(rate, output.frame_rate, task)
        video = found.as_video(f"task {task.id}", rate, project.model_version)
        self._work.monitor.instances.inc(len(video.tracks))
        several = len(project.binding.videos) > 1
        prefix = f"{output.from_name}-" if several else ""
        return to_regions(video, output, project.models.default().names, prefix)

    def _followed(
        self, task: Task, output: VideoOutput, project: Project, deadline: float
    ) -> tuple[Followed, float]:
        """What is followed until the deadline, and the frame rate."""
        work = self._work
        uri = task.image(output.data_key)
        run = work.runner(deadline, BATCH)
        labeler = LabelerOnThread(project.models.default(), run)
        about = f"{uri}|{output.from_name}|{project.binding.digest}|{project.model_version}"
        made = sha256(about.encode("utf-8", "surrogatepass")).hexdigest()
        with work.files.open(uri, task.id, deadline) as path:
            video = open_video(path, work.limits, shown(uri))
            kept = path.with_name(f"{path.stem}-{made[:8]}.partial")
            checkpoint = Checkpoint(kept, made, _EVERY)
            follower = Follower(
                labeler, SegmenterOnThread(labeler, run), self._options, output.thresholds
            )
            with work.monitor.phase("models"):
                found = follower.run(work.frames(task, video, deadline), checkpoint=checkpoint)
            for sentence in video.info.faults:
                logger.warning("task %s: %s", task.id, sentence)
        if not found.n_frames and found.is_whole:
            raise InputError(f"{shown(uri)}: has no frame that can be read")
        if not found.n_frames:
            raise DeadlineExceeded("no time was left for the video; ask again")
        if not found.is_whole:
            logger.warning(
                "task %s: the time was over at frame %d of %s; ask again to go on from there",
                task.id,
                found.n_frames,
                video.info.n_frames or "?",
            )
        return found, video.info.rate
