"""What batches and drawn boxes share when they go through the video of a task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from backend.core.types import Image
from backend.files.images import ImageLimits
from backend.files.videos import FrameChoice, Video
from backend.formats.tracks.video_rectangle import rate_note
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.models_on_thread import Run
from backend.label_studio.server.monitor import Monitor
from backend.label_studio.server.video_files import VideoFiles
from backend.label_studio.server.worker import InferenceThread
from backend.labeling.stream import Paused

logger = logging.getLogger(__name__)
_GRACE_S = 6.0  # that a model call which began in time may take beyond the limit
_SPARE_S = 3.0  # of the time limit, for writing the answer
_TELL_S = 5.0  # between lines about a video


@dataclass(eq=False)
class VideoWork:
    """The thread that models run on, and the videos.

    Attributes:
        inference: that thread.
        files: the videos.
        monitor: counts.
        limits: frames that are larger are refused.
    """

    inference: InferenceThread
    files: VideoFiles
    monitor: Monitor
    limits: ImageLimits
    _told: set[tuple[float, float]] = field(default_factory=set)  # frame rates that differ

    def runner(self, deadline: float, order: int) -> Run[Any]:
        """What runs a call of the models on their thread.

        Args:
            deadline: of ``time.monotonic``.
            order: see ``InferenceThread.run``.
        """
        return lambda work: self.inference.run(work, deadline + _GRACE_S, order)

    def frames(
        self,
        task: Task,
        video: Video,
        deadline: float,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Iterator[Image]:
        """The frames until the time is over, and a line in the log every few seconds.

        Raises:
            Paused: it is over, or nobody waits any more.
        """
        started = told = time.monotonic()
        n_frames = video.info.n_frames or "?"
        for number, frame in enumerate(video.frames(FrameChoice())):
            now = time.monotonic()
            if now > deadline - _SPARE_S or not is_wanted():
                raise Paused
            if now - told > _TELL_S:
                told = now
                rate = number / (now - started)
                logger.info(
                    "task %s: frame %d of %s, %.1f a second", task.id, number, n_frames, rate
                )
            yield frame.image

    def tell_rate(self, file_rate: float, rate: float, task: Task) -> None:
        """Say once that the frame rate of a tag is not that of its file."""
        note = rate_note(file_rate, rate)
        if note is not None and (file_rate, rate) not in self._told:
            self._told.add((file_rate, rate))
            logger.warning("task %s: its video: %s to see every frame", task.id, note)
