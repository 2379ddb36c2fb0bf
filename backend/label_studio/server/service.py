"""What the endpoints do, without HTTP: set-up, batch, clicks; the parts are wired here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from backend.config.service import ServiceSettings
from backend.core.protocols import InteractiveLabeler
from backend.errors import InputError, Unavailable
from backend.files.images import DEFAULT_LIMITS, ImageLimits
from backend.formats.json_text import json_text
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.server.batch import BatchPredictor, TaskAnswer
from backend.label_studio.server.cache import ByteLru
from backend.label_studio.server.clicks import InteractivePredictor
from backend.label_studio.server.decoding import Budget, Decoder
from backend.label_studio.server.monitor import Monitor
from backend.label_studio.server.projects import (
    SETUP_WAIT_S,
    Everything,
    Predictors,
    Project,
    StillLoading,
    warm_up,
)
from backend.label_studio.server.requests import PredictRequest, SetupRequest
from backend.label_studio.server.trainer import Start, Trainer
from backend.label_studio.server.tuned_models import TunedModels
from backend.label_studio.server.video_boxes import VideoBoxes, is_of_video
from backend.label_studio.server.video_files import VideoFiles
from backend.label_studio.server.video_work import VideoWork
from backend.label_studio.server.videos import VideoPredictor
from backend.label_studio.server.worker import (
    BATCH,
    CLICK,
    READY,
    DeadlineExceeded,
    InferenceThread,
)

_CONFIG_BYTES = 32 << 20  # of label configs remembered
_SETUPS = 4  # that may wait for the models at once
_PATIENCE_S = 5.0
_WARM_UP_S = 600.0  # that models loaded beside those at work may wait for a first run


Load = Callable[[str | None], InteractiveLabeler]


@dataclass(frozen=True)
class Answer:
    """The body of a /predict answer, and how its tasks ended."""

    text: str
    items: tuple[TaskAnswer, ...] = ()


@dataclass(frozen=True)
class Training:
    """How models learn.

    Attributes:
        start: starts the process of a training, see ``Trainer``.
        load: the folder of a run to what ``load`` of a service is with its models.
        threshold: the folder of a run to the threshold of labels that have none.
    """

    start: Start
    load: Callable[[Path], Load]
    threshold: Callable[[Path], float]


class Service:
    """The backend behind its routes; safe for many threads.

    Args:
        load: the ``model_path`` of a tag, or None for the settings' own detector, to a loaded
            predictor; called on the inference thread, and for models of a project on others.
        settings: all of them.
        everything: see ``Predictors``.
        training: how models learn; None where they do not.
        fetcher: gets image bytes; made from the settings if None.
        threshold: detections below are dropped where the label config does not say, 0..1.
        batch: images per model call.
        limits: what images are refused.
        warm: run everything once before the first request.
        on_stuck: called when inference hangs.
    """

    def __init__(
        self,
        load: Load,
        settings: ServiceSettings,
        everything: Everything | None = None,
        *,
        training: Training | None = None,
        fetcher: Fetcher | None = None,
        threshold: float = 0.25,
        batch: int = 8,
        limits: ImageLimits | None = None,
        warm: bool = True,
        on_stuck: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self.fetcher = fetcher or Fetcher(settings, patience_s=_PATIENCE_S)
        self._warm = warm
        self._make = partial(
            Predictors,
            everything=everything,
            threshold=threshold,
            allow_paths=settings.allow_custom_model_path,
            learns=settings.training is not None,
        )
        self.predictors = self._make(partial(self._loaded, load))
        self.inference = InferenceThread(
            self.predictors.load_default,
            queue_size=settings.queue_size,
            stuck_after_s=settings.stuck_after_s,
            on_stuck=on_stuck,
        )
        self.monitor = Monitor(lambda: float(self.inference.waiting))
        self._decoder = Decoder(limits)
        self.posts = threading.BoundedSemaphore(settings.threads)  # that may be answered at once
        self.bodies = Budget(settings.max_body_bytes)
        fetch = self.fetcher.fetch
        self._batch = BatchPredictor(
            self.inference,
            fetch,
            self.monitor,
            cache_bytes=settings.result_cache_bytes,
            batch=batch,
            fetch_workers=settings.fetch_workers,
            decode=self._decoder,
            holdout=settings.holdout,
        )
        self._interactive = InteractivePredictor(
            self.inference,
            fetch,
            self.monitor,
            cache_bytes=settings.embed_cache_bytes,
            decode=self._decoder,
        )
        self._add_videos(limits or DEFAULT_LIMITS)
        self._add_training(training)
        self._configs: ByteLru[str] = ByteLru(_CONFIG_BYTES)
        self._waiting_setups = threading.BoundedSemaphore(_SETUPS)
        self._lock = threading.Lock()
        self.versions: tuple[str, ...] = ()

    def _add_training(self, training: Training | None) -> None:
        self.trainer: Trainer | None = None
        if self.settings.training is None or training is None:
            self.models = TunedModels(self.predictors)
            return

        def make(run: Path) -> Predictors:
            # What they have in common with those of the settings is there then, and shared.
            self.inference.wait_loaded(_WARM_UP_S)
            load = partial(self._loaded, training.load(run))
            return self._make(load, threshold=training.threshold(run))

        def take(project: str, run: Path | None) -> bool:
            return self.models.take(project, None if run is None else partial(make, run))

        after = self.settings.auto_train_after
        self.trainer = Trainer(self.settings.training, training.start, take, after=after)
        known = {project: partial(make, run) for project, run in self.trainer.taken().items()}
        self.models = TunedModels(self.predictors, known)
        self.monitor.add_training(self.trainer.jobs.n_in, lambda: self.models.n_swaps)

    def _add_videos(self, limits: ImageLimits) -> None:
        work = VideoWork(self.inference, VideoFiles(self._save_video), self.monitor, limits)
        self._video_files = work.files
        self._videos = VideoPredictor(work, holdout=self.settings.holdout)
        self._boxes = VideoBoxes(work)

    def _save_video(self, uri: str, task_id: int | None, deadline: float, file: BinaryIO) -> None:
        self.fetcher.download(uri, task_id, deadline, file, self.settings.max_video_bytes)

    def _loaded(self, load: Load, model_path: str | None) -> InteractiveLabeler:
        predictor = load(model_path)
        if self._warm:
            self.inference.call(partial(warm_up, predictor), _WARM_UP_S)
        self.monitor.models.labels(predictor.model_version).set(1)
        return predictor

    def start(self) -> None:
        """Load the models in the background."""
        self.inference.start()
        if self.trainer is not None:
            self.trainer.begin()

    def stop(self, timeout_s: float) -> bool:
        """Finish what is in work, then stop; whether it was finished in time."""
        done = self.inference.drain(timeout_s)
        if self.trainer is not None:
            self.trainer.end()
        self._batch.close()
        self._decoder.close()
        self._video_files.close()
        return done

    def setup(self, request: SetupRequest) -> str:
        """Check a project's label config and tell which ``model_version`` its predictions will
        carry.

        Raises:
            InputError: the config, or the way the backend was started, cannot work.
            Unavailable: the models are loading, or do not load.
        """
        fault = self.fetcher.setup_fault()
        if fault is not None:
            raise InputError(fault)
        patient = self._waiting_setups.acquire(
            blocking=False
        )  # only a few may keep an HTTP thread while models load
        try:
            wait_s = SETUP_WAIT_S if patient else 0.0
            until = time.monotonic() + wait_s
            project = self.models.of(request.project, wait_s).project(
                request.label_config, self.inference, max(0.0, until - time.monotonic()), until
            )
        except DeadlineExceeded:
            raise StillLoading("The models are still loading; try again in a few seconds") from None
        finally:
            if patient:
                self._waiting_setups.release()
        self._configs.put(
            request.project, request.label_config, 4 * len(request.label_config) + 200
        )
        with self._lock:
            self.versions = tuple(dict.fromkeys([project.model_version, *self.versions]))[:20]
        return project.model_version

    def knows(self, project: str) -> bool:
        """Whether a project was set up here, or learned here before."""
        if self._configs.get(project) is not None:
            return True
        return self.trainer is not None and self.trainer.run_of(project).is_dir()

    def _project(self, request: PredictRequest, models: Predictors, deadline: float) -> Project:
        """The project of a request; for clicks and boxes without its namer."""
        label_config = request.label_config or self._configs.get(request.project)
        if label_config is None:
            raise InputError(
                "label_config: expected the labeling config, as this project was never set up here"
            )
        return models.project(
            label_config,
            self.inference,
            max(0.0, deadline - time.monotonic()),
            deadline,
            for_clicks=request.context is not None,
        )

    def predict(self, request: PredictRequest) -> Answer:
        """Predictions for tasks, or the mask for a click.

        Raises:
            InputError: the request as a whole cannot be used.
            Unavailable: nothing could be done now; for some tasks only, their items say so instead.
        """
        deadline = time.monotonic() + self.settings.deadline_s
        # Boxes on videos take as long as batches, and must not take the places of clicks.
        is_click = request.context is not None and "videorectangle" not in _kinds(request.context)
        # Before it is admitted, as models that are loaded for one project keep no other waiting.
        models = self.models.of(request.project, min(SETUP_WAIT_S, self.settings.deadline_s))
        with self.inference.admit(CLICK if is_click else BATCH):
            project = self._project(request, models, deadline)
            if request.context is not None:
                answer = (
                    self._boxes.predict
                    if is_of_video(request.context, project.config)
                    else self._interactive.predict
                )
                only = answer(request.tasks[0], request.context, project, deadline)
                return Answer(json_text({"results": [only]}))
            part = self._videos if project.binding.videos else self._batch
            items = part.predict(request.tasks, project, deadline)
        later = [item for item in items if item.outcome == "later"]
        if later and len(later) == len(items):
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(later[0].reason)
            raise Unavailable(later[0].reason)
        return Answer(json_text({"results": [item.answer for item in items]}), tuple(items))

    @property
    def ready(self) -> bool:
        """Whether a request would be served now."""
        return self.inference.state == READY


def _kinds(context: Mapping[str, Any]) -> set[str]:
    """The types of what was drawn."""
    result = context.get("result")
    found = result if isinstance(result, list) else []
    return {str(one.get("type")) for one in found if isinstance(one, dict)}
