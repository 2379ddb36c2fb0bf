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
from backend.formats.label_studio.pages import Place
from backend.formats.label_studio.results import prediction_object, result_of
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task

_FETCH_S = 120.0
_MOST_PAGES = 8  # pictures of one task in a model call
_PAGES_BYTES = 1 << 30  # of all decoded pictures of one task

FetchImage = Callable[[str, int | None, float], bytes]  # address, task, deadline of time.monotonic


@dataclass(frozen=True, eq=False)
class TaskWork:
    """A task, and the boxes to segment where they come from somewhere else than the detector: of a
    picture as detections, of a video as regions.
    """

    task: Task
    given: Any = None


@dataclass(frozen=True, eq=False)
class LoadedTask:
    """The pictures of a task: those of each group of the binding, and where their results go."""

    images: tuple[tuple[Image, ...], ...]
    places: tuple[tuple[Place, ...], ...]
    given: Detections | None


@dataclass(frozen=True, eq=False)
class Answer:
    """What the models said of one picture of a task."""

    group: int
    place: Place
    raw: Any


class Loader:
    """Fetches and decodes; runs on many threads.

    Args:
        binding: what is to be filled.
        fetch: gives image bytes.
        limits: what is refused.
        stage: puts pictures where a device fetches them; see ``models.devices.staging``.
    """

    def __init__(
        self,
        binding: Binding,
        fetch: FetchImage,
        limits: ImageLimits,
        stage: Callable[[Image], Image] | None = None,
    ) -> None:
        self._stage = stage
        self._groups = binding.groups
        self._fetch = fetch
        self._limits = limits

    def __call__(self, work: TaskWork) -> LoadedTask:
        """Load the pictures of a task.

        Raises:
            InputError: it never works; others: perhaps later.
        """
        task = work.task
        images = []
        places = []
        for group in self._groups:
            addresses = task.images(group.data_key, group.pages)
            if work.given is not None and len(addresses) > 1:
                raise InputError(
                    f"task {task.id}: data.{group.data_key}: has {len(addresses)} pictures, and"
                    " given boxes do not tell which they belong to"
                )
            places.append(tuple(group.places(task.data, len(addresses))))
            of_group = []
            held = 0
            for k, uri in enumerate(addresses):
                of_group.append(self._image(task, uri))
                held += of_group[-1].nbytes
                if held > _PAGES_BYTES and k + 1 < len(addresses):
                    raise InputError(
                        f"task {task.id}: data.{group.data_key}: its {len(addresses)} pictures take"
                        f" more than {_PAGES_BYTES >> 20} MiB when they are decoded"
                    )
            images.append(tuple(of_group))
        return LoadedTask(tuple(images), tuple(places), work.given)

    def _image(self, task: Task, uri: str) -> Image:
        try:
            data = self._fetch(uri, task.id, time.monotonic() + _FETCH_S)
            image = decode_image(data, shown(uri), self._limits)
            return image if self._stage is None else self._stage(image)
        except InputError as error:
            raise InputError(f"task {task.id}: {error}") from None


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

    def infer(self, loaded: Sequence[LoadedTask]) -> list[list[Answer]]:
        """Per task what the models said, one answer per group and picture."""
        answers: list[list[Answer]] = [[] for _ in loaded]
        for g, group in enumerate(self._groups):
            wanted = [(k, place) for k, one in enumerate(loaded) for place in one.places[g]]
            given = [loaded[k].given for k, _ in wanted]
            boxes = given if any(one is not None for one in given) else None
            images = [image for one in loaded for image in one.images[g]]
            raws: list[Any] = []
            most = max(len(loaded), _MOST_PAGES)
            for start in range(0, len(images), most):
                part = slice(start, start + most)
                raws += self._predictor.infer(
                    images[part], boxes and boxes[part], thresholds=group.thresholds
                )
            for (k, place), raw in zip(wanted, raws, strict=True):
                answers[k].append(Answer(g, place, raw))
        return answers

    def finish(self, task: int, answers: Sequence[Answer]) -> str:
        """The prediction of a task as an importable JSON object."""
        results = [
            result_of(
                self._predictor.finish(answer.raw),
                self._groups[answer.group].outputs_at(answer.place),
            )
            for answer in answers
        ]
        return json_text({"task": task, **prediction_object(results, self._version)})
