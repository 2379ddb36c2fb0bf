"""A task to a prediction in three steps, the same for every engine: load its pictures, run the
models, write the regions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backend.core.protocols import Labeler
from backend.core.types import Detections, Image
from backend.errors import InputError
from backend.files.images import ImageLimits, decode_image
from backend.formats.json_text import json_text
from backend.formats.label_studio.binding import Binding
from backend.formats.label_studio.results import prediction_object, result_of
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task

_FETCH_S = 120.0

FetchImage = Callable[[str, int | None, float], bytes]  # address, task, deadline of time.monotonic


@dataclass(frozen=True, eq=False)
class TaskWork:
    """A task, and the boxes to segment where they come from somewhere else than the detector."""

    task: Task
    given: Detections | None = None


@dataclass(frozen=True, eq=False)
class LoadedTask:
    """The pictures of a task, one for each group of the binding."""

    images: tuple[Image, ...]
    given: Detections | None


class Loader:
    """Fetches and decodes; runs on many threads.

    Args:
        binding: what is to be filled.
        fetch: gives image bytes.
        limits: what is refused.
    """

    def __init__(self, binding: Binding, fetch: FetchImage, limits: ImageLimits) -> None:
        self._keys = [group.data_key for group in binding.groups]
        self._fetch = fetch
        self._limits = limits

    def __call__(self, work: TaskWork) -> LoadedTask:
        """Load the pictures of a task.

        Raises:
            InputError: it never works; others: perhaps later.
        """
        images = []
        for key in self._keys:
            uri = work.task.image(key)
            try:
                images.append(
                    decode_image(
                        self._fetch(uri, work.task.id, time.monotonic() + _FETCH_S),
                        shown(uri),
                        self._limits,
                    )
                )
            except InputError as error:
                raise InputError(f"task {work.task.id}: {error}") from None
        return LoadedTask(tuple(images), work.given)


class Labeller:
    """Runs the models and writes regions.

    Args:
        binding: what is to be filled.
        predictor: the models.
        model_version: of the predictions.
    """

    def __init__(self, binding: Binding, predictor: Labeler, model_version: str) -> None:
        self._groups = binding.groups
        self._predictor = predictor
        self._version = model_version

    def infer(self, loaded: Sequence[LoadedTask]) -> list[list[Any]]:
        """Per task what the models said, one answer per group."""
        answers: list[list[Any]] = [[] for _ in loaded]
        for g, group in enumerate(self._groups):
            given = [one.given for one in loaded]
            boxes = given if any(one is not None for one in given) else None
            raws = self._predictor.infer(
                [one.images[g] for one in loaded], boxes, thresholds=group.thresholds
            )
            for answer, raw in zip(answers, raws, strict=True):
                answer.append(raw)
        return answers

    def finish(self, task: int, raws: Sequence[Any]) -> str:
        """The prediction of a task as an importable JSON object."""
        predictions = (self._predictor.finish(raw) for raw in raws)
        results = [
            result_of(prediction, group.outputs)
            for prediction, group in zip(predictions, self._groups, strict=True)
        ]
        return json_text({"task": task, **prediction_object(results, self._version)})
