"""Tasks with a video, one after the other: what the detector finds is followed through it, or boxes
that the task brings along.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from backend.core.protocols import InteractiveLabeler
from backend.core.types import Image
from backend.errors import ConfigError, InputError, LabelingError, UnexpectedError
from backend.files.addresses import suffix_of
from backend.files.images import ImageLimits
from backend.files.videos import FrameChoice, Video, open_video
from backend.formats.json_text import json_text
from backend.formats.label_studio.binding import Binding, VideoOutput
from backend.formats.label_studio.label_config import LabelConfig
from backend.formats.label_studio.results import prediction_object, result_of_regions
from backend.formats.tracks.video_rectangle import rate_note, to_regions
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task
from backend.label_studio.prelabel.stages import TaskWork
from backend.label_studio.prelabel.uploads import Finished
from backend.labeling.drawn_boxes import follow_drawn, read_drawn
from backend.labeling.follow import Follower, FollowOptions
from backend.labeling.follow_boxes import BoxFollower

logger = logging.getLogger(__name__)
_FETCH_S = 3600.0  # for one video
Save = Callable[[str, int | None, float, BinaryIO], None]  # address, task, deadline and file


class _Stopped(Exception):
    """The user wants to end."""


class VideoEngine:
    """Follows objects through the videos of tasks.

    Args:
        cascade: detects and outlines.
        config: of the project.
        binding: what is to be filled.
        model_version: of the predictions.
        save: writes the video of an address into a file.
        limits: frames that are larger are refused.
        options: how objects are followed.
        progress: whether to show a bar for each video.

    Raises:
        ConfigError: the segmenter cannot follow objects.
    """

    def __init__(
        self,
        cascade: InteractiveLabeler,
        config: LabelConfig,
        binding: Binding,
        model_version: str,
        save: Save,
        *,
        limits: ImageLimits,
        options: FollowOptions | None = None,
        progress: bool = True,
    ) -> None:
        segmenter = cascade.video_segmenter
        if segmenter is None:
            raise ConfigError("--segmenter: name a SAM 2 to follow objects through videos")
        self._cascade = cascade
        self._segmenter = segmenter
        self._config = config
        self._outputs = binding.videos
        self._version = model_version
        self._save = save
        self._limits = limits
        self._options = options or FollowOptions()
        self._progress = progress
        self._told: set[str] = set()

    def run(
        self,
        work: Iterable[TaskWork],
        put: Callable[[Finished], None],
        fail: Callable[[int, Exception], None],
        stop: threading.Event,
    ) -> None:
        """See ``Engine``."""
        for one in work:
            if stop.is_set():
                return
            number = int(one.task.id or 0)
            try:
                text = self.predict(one, stop)
            except _Stopped:
                return
            except LabelingError as error:
                fail(number, error)
                continue
            except Exception as error:  # of one video; the others are not affected
                logger.exception("task %d", number)
                fail(number, UnexpectedError(f"task {number}: {type(error).__name__}: {error}"))
                continue
            put(Finished(number, text))

    def predict(self, work: TaskWork, stop: threading.Event) -> str:
        """The prediction of a task as an importable JSON object.

        Raises:
            InputError: it never works; others: perhaps later.
        """
        regions: list[dict[str, Any]] = []
        for output in self._outputs:
            try:
                regions += self._regions(work, output, stop)
            except InputError as error:
                raise InputError(f"task {work.task.id}: {error}") from None
        made = prediction_object([result_of_regions(regions)], self._version)
        return json_text({"task": work.task.id, **made})

    def _regions(
        self, work: TaskWork, output: VideoOutput, stop: threading.Event
    ) -> list[dict[str, Any]]:
        task = work.task
        drawn = None
        if work.given is not None:
            own = [one for one in work.given if one.get("from_name") == output.from_name]
            if not own:
                return []
            drawn = read_drawn(own, self._config, "annotation")
        uri = task.image(output.data_key)
        with tempfile.TemporaryDirectory(prefix="yolosam2-video-") as folder:
            path = Path(folder) / f"video{suffix_of(uri)}"
            with path.open("wb") as file:
                self._save(uri, task.id, time.monotonic() + _FETCH_S, file)
            video = open_video(path, self._limits, shown(uri))
            self._tell_rate(video.info.rate, output.frame_rate, task)
            frames = self._frames(task, video, stop)
            if drawn is not None:
                regions, _ = follow_drawn(
                    drawn, video, frames, BoxFollower(self._cascade, self._segmenter)
                )
                return regions
            follower = Follower(
                self._cascade, self._segmenter, self._options, thresholds=output.thresholds
            )
            found = follower.run(frames)
        for sentence in video.info.faults:
            logger.warning("task %s: %s", task.id, sentence)
        if not found.n_frames:
            raise InputError(f"{uri[:80]}: has no frame that can be read")
        tracked = found.as_video(f"task {task.id}", video.info.rate, self._version)
        prefix = f"{output.from_name}-" if len(self._outputs) > 1 else ""
        return to_regions(tracked, output, self._cascade.names, prefix)

    def _frames(self, task: Task, video: Video, stop: threading.Event) -> Iterator[Image]:
        with tqdm(
            total=video.info.n_frames,
            unit="frame",
            desc=f"task {task.id}",
            position=1,
            leave=False,
            disable=not self._progress,
            file=sys.stderr,
            dynamic_ncols=True,
        ) as bar:
            for frame in video.frames(FrameChoice()):
                if stop.is_set():
                    raise _Stopped
                yield frame.image
                bar.update()

    def _tell_rate(self, file_rate: float, rate: float, task: Task) -> None:
        note = rate_note(file_rate, rate)
        if note is not None and note not in self._told:
            self._told.add(note)
            logger.warning("task %s: its video: %s to see every frame", task.id, note)
