"""Predictions for a list of tasks: one for each task and in the same order, even where some fail.

Images are fetched ahead while the models work. Results are remembered by what the image holds: when
a request runs into Label Studio's time limit, the next one finds what was done.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backend.core.holdout import is_held_out
from backend.core.protocols import InteractiveLabeler
from backend.core.types import Image, Prediction
from backend.errors import InputError, LabelingError, Unavailable
from backend.formats.json_text import RawJson, json_text
from backend.formats.label_studio.binding import Group, Output
from backend.formats.label_studio.label_config import CASCADE, ModelChoice
from backend.formats.label_studio.pages import Place
from backend.formats.label_studio.results import Result, prediction_object, result_of
from backend.label_studio.api.origins import HostRefused
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.cache import ByteLru
from backend.label_studio.server.decoding import Decoder
from backend.label_studio.server.monitor import Monitor
from backend.label_studio.server.prefetch import (
    HELD_BYTES,
    Ahead,
    Decode,
    Fetch,
    Fetched,
    Unit,
)
from backend.label_studio.server.projects import Project
from backend.label_studio.server.worker import InferenceThread

logger = logging.getLogger(__name__)
_KIND = re.compile(r"\S*[/\d]\S*")  # addresses and numbers, in which failures of a kind differ
_MOST_KINDS = 20  # that are told of a request
_TELL_S = 10.0  # between lines about a long request
_JOB_S = 2.0  # what one job on the inference thread should take at most


@dataclass(frozen=True)
class TaskAnswer:
    """What becomes of one task."""

    answer: RawJson
    outcome: str  # done, failed for good, or later
    reason: str = ""


# Label Studio keeps nothing of an answer without a result, so that the task stays as it is.
HELD_OUT = TaskAnswer(
    RawJson(json_text({"score": 0.0, "error": "left without pre-labels, as a control group"})),
    "held out",
)
NOT_LEARNED = TaskAnswer(
    RawJson(
        json_text(
            {
                "score": 0.0,
                "error": "the models know none of the labels yet; Start Training teaches them",
            }
        )
    ),
    "not learned",
)
Wanted = tuple[str, Place]  # digest of an image's bytes, and where in a task its result goes
Found = dict[Wanted, Result | BaseException]
OfTask = dict[tuple[int, int], Result | BaseException]  # by group of tags and number of the picture


def _key(wanted: Wanted, project: Project, group: int) -> tuple[Wanted, str, str, int]:
    """What a result depends on. The version is short, for people.

    The digest of the binding is the whole one.
    """
    return wanted, project.model_version, project.binding.digest, group


def _units(tasks: Sequence[Task], groups: Sequence[Group], found: list[OfTask]) -> list[Unit]:
    """The pictures of the tasks; what is wrong with a task's data goes into ``found``."""
    units = []
    for k, task in enumerate(tasks):
        for g, group in enumerate(groups):
            try:
                addresses = task.images(group.data_key, group.pages)
            except InputError as error:
                found[k][g, 0] = error
                continue
            places = group.places(task.data, len(addresses))
            units += [Unit(k, g, uri, place) for uri, place in zip(addresses, places, strict=True)]
    return units


def describe(error: BaseException) -> tuple[str, str]:
    """Outcome of a task and reason of an error: it failed for good, or is for later."""
    if isinstance(error, InputError) and not isinstance(
        error, HostRefused
    ):  # a refused host is a matter of settings, which change
        return "failed", str(error)
    if isinstance(error, LabelingError):
        return "later", str(error)
    return "later", f"unexpected {type(error).__name__}; see the backend's log"


def without_result(outcome: str, reason: str, model_version: str) -> TaskAnswer:
    """What becomes of a task that failed: for good it gets an empty prediction, else none, so that
    Label Studio asks again.
    """
    answer: dict[str, Any] = {"score": 0.0, "error": reason}
    if outcome == "failed":
        answer = {**prediction_object([], model_version), "error": reason}
    return TaskAnswer(RawJson(json_text(answer)), outcome, reason)


def _tell(tasks: Sequence[Task], items: Sequence[TaskAnswer]) -> None:
    """One line for each kind of failure, and no more than a few kinds, however many tasks."""
    kinds: dict[str, list[tuple[Task, TaskAnswer]]] = {}
    for task, item in zip(tasks, items, strict=True):
        if item.outcome != "done":
            kinds.setdefault(_KIND.sub("#", item.reason), []).append((task, item))
    for alike in list(kinds.values())[:_MOST_KINDS]:
        task, item = alike[0]
        more = f" (and {len(alike) - 1} more tasks alike)" if len(alike) > 1 else ""
        logger.warning("task %s: %s%s", task.id, item.reason, more)
    if len(kinds) > _MOST_KINDS:
        logger.warning("and %d other kinds of failure", len(kinds) - _MOST_KINDS)


class BatchPredictor:
    """Predicts tasks.

    Args:
        inference: the thread that models run on.
        fetch: address, task id and deadline to image bytes.
        monitor: counts.
        cache_bytes: for results.
        batch: most images per model call.
        fetch_workers: images fetched and decoded at once, over all requests.
        decode: data, name and deadline to an image.
        holdout: share of the control group, whose tasks get no predictions, 0..1.
    """

    def __init__(
        self,
        inference: InferenceThread,
        fetch: Fetch,
        monitor: Monitor,
        *,
        cache_bytes: int = 256 << 20,
        batch: int = 8,
        fetch_workers: int = 8,
        decode: Decode | None = None,
        holdout: float = 0.0,
    ) -> None:
        self._holdout = holdout
        self._inference = inference
        self._monitor = monitor
        self._results: ByteLru[Result] = ByteLru(cache_bytes)
        self._batch = batch
        self._seconds_per_image: dict[ModelChoice, float] = {}  # what models took lately
        monitor.cache_bytes.labels("results").set_function(lambda: self._results.used_bytes)
        self._ahead: Ahead[Result] = Ahead(
            fetch, fetch_workers, 2 * batch, decode or Decoder(), monitor.phase
        )

    def close(self) -> None:
        """Stop fetching."""
        self._ahead.close()

    def predict(self, tasks: Sequence[Task], project: Project, deadline: float) -> list[TaskAnswer]:
        """One item per task, in their order.

        Args:
            tasks: any number.
            project: what to fill.
            deadline: of ``time.monotonic``; tasks not reached by then are for later.
        """
        if project.binding.is_unlearned:
            self._monitor.tasks.labels(NOT_LEARNED.outcome).inc(len(tasks))
            return [NOT_LEARNED] * len(tasks)
        if not self._holdout:
            return self._predict(tasks, project, deadline)
        held = [is_held_out(task.id, self._holdout) for task in tasks]
        others = [task for task, one in zip(tasks, held, strict=True) if not one]
        made = iter(self._predict(others, project, deadline))
        self._monitor.tasks.labels(HELD_OUT.outcome).inc(sum(held))
        return [HELD_OUT if one else next(made) for one in held]

    def _predict(
        self, tasks: Sequence[Task], project: Project, deadline: float
    ) -> list[TaskAnswer]:
        groups = project.binding.groups
        found: list[OfTask] = [{} for _ in tasks]
        units = _units(tasks, groups, found)
        waiting: dict[int, list[tuple[Unit, Fetched[Result]]]] = {g: [] for g in range(len(groups))}

        def known(digest: str, unit: Unit) -> Result | None:
            result = self._results.get(_key((digest, unit.place), project, unit.group))
            if result is not None:
                self._monitor.cache_hits.inc()
            return result

        told = time.monotonic()
        for number, (unit, ready) in enumerate(self._ahead(tasks, units, known, deadline)):
            if time.monotonic() - told > _TELL_S:
                told = time.monotonic()
                logger.info("%d of %d images", number, len(units))
            if isinstance(ready, BaseException):
                found[unit.task][unit.group, unit.place.page or 0] = ready
            elif ready.known is not None:
                found[unit.task][unit.group, unit.place.page or 0] = ready.known
            else:
                waiting[unit.group].append((unit, ready))
                full = len(waiting[unit.group]) >= self._chunk(groups[unit.group].model)
                if (
                    full
                    or sum(one.n_bytes for rest in waiting.values() for _, one in rest) > HELD_BYTES
                ):
                    for g in [unit.group] if full else list(waiting):
                        self._run(waiting[g], groups[g], project, deadline, found)
        for g, rest in waiting.items():
            self._run(rest, groups[g], project, deadline, found)
        items = [
            self._item(task, results, project) for task, results in zip(tasks, found, strict=True)
        ]
        for item in items:
            self._monitor.tasks.labels(item.outcome).inc()
        _tell(tasks, items)
        return items

    def _chunk(self, model: ModelChoice) -> int:
        """How many images go into one job: few enough that a click does not wait long, and that
        most work is done when a deadline comes.
        """
        # Masks of everything take far longer than boxes, so the first picture goes alone.
        known = self._seconds_per_image.get(model, 0.0 if model.mode == CASCADE else _JOB_S)
        return max(1, min(self._batch, int(_JOB_S / max(known, 1e-6))))

    def _run(
        self,
        waiting: list[tuple[Unit, Fetched[Result]]],
        group: Group,
        project: Project,
        deadline: float,
        found: list[OfTask],
    ) -> None:
        """Empty ``waiting`` into ``found``; equal images are looked at once."""
        units, waiting[:] = list(waiting), []
        results: Found = {}
        images: dict[Wanted, Image] = {}
        for (
            unit,
            ready,
        ) in units:  # another request, or an equal image just before, may have had it by now
            wanted = (ready.digest, unit.place)
            known = self._results.get(_key(wanted, project, unit.group))
            if known is not None:
                results[wanted] = known
            elif ready.image is not None:
                images[wanted] = ready.image

        def keep(done: Found) -> None:
            for wanted, result in done.items():
                if isinstance(result, Result):
                    self._results.put(
                        _key(wanted, project, units[0][0].group), result, len(result.regions) + 500
                    )

        done = self._infer(list(images.items()), group, project, deadline, keep)
        keep(done)
        results.update(done)
        for unit, ready in units:
            found[unit.task][unit.group, unit.place.page or 0] = results[ready.digest, unit.place]

    def _infer(
        self,
        images: Sequence[tuple[Wanted, Image]],
        group: Group,
        project: Project,
        deadline: float,
        keep: Callable[[Found], None],
    ) -> Found:
        """Results by image and place.

        If a batch fails for a reason of its content, its images are tried one by one.

        Results that come after the deadline go to ``keep``, so that the next request finds them.
        """
        if not images:
            return {}

        def work() -> tuple[InteractiveLabeler, Sequence[Any]]:
            predictor = project.models.get(group.model)
            start = time.monotonic()
            with self._monitor.phase("models"):
                raws = predictor.infer([image for _, image in images], thresholds=group.thresholds)
            took = (time.monotonic() - start) / len(images)
            self._seconds_per_image = {**self._seconds_per_image, group.model: took}
            return predictor, raws

        def finish(answer: tuple[InteractiveLabeler, Sequence[Any]]) -> Found:
            self._monitor.images.inc(len(images))
            return {
                wanted: self._finished(answer[0], raw, group.outputs_at(wanted[1]))
                for (wanted, _), raw in zip(images, answer[1], strict=True)
            }

        try:
            answer = self._inference.run(
                work,
                deadline,
                late=lambda late: self._ahead.pool.submit(lambda: keep(finish(late))),
            )
        except Unavailable as error:
            return {wanted: error for wanted, _ in images}
        except Exception as error:
            if len(images) > 1:
                return {
                    d: r
                    for pair in images
                    for d, r in self._infer([pair], group, project, deadline, keep).items()
                }
            if not isinstance(error, LabelingError):
                logger.exception(
                    "inference failed on one image of %dx%d",
                    images[0][1].shape[1],
                    images[0][1].shape[0],
                )
            return {images[0][0]: error}
        return finish(answer)

    def _finished(
        self, predictor: InteractiveLabeler, raw: Any, outputs: Sequence[Output]
    ) -> Result | BaseException:
        try:
            with self._monitor.phase("write"):
                return self._result(predictor.finish(raw), outputs)
        except Exception as error:  # of one image; the others are not affected
            logger.exception(
                "encoding failed on one image of %dx%d", raw.size_hw[1], raw.size_hw[0]
            )
            return error

    def _result(self, prediction: Prediction, outputs: Sequence[Output]) -> Result:
        result = result_of(prediction, outputs)
        if result.n_holed:
            logger.info("%d polygons cannot show the holes of their masks", result.n_holed)
        self._monitor.instances.inc(result.n_instances)
        return result

    def _item(self, task: Task, results: OfTask, project: Project) -> TaskAnswer:
        results = dict(sorted(results.items()))  # in the order of the tags and pictures
        errors = [result for result in results.values() if isinstance(result, BaseException)]
        if errors:
            outcomes = [describe(error) for error in errors]
            outcome, reason = next((o for o in outcomes if o[0] == "later"), outcomes[0])
            return without_result(outcome, reason, project.model_version)
        good = [result for result in results.values() if isinstance(result, Result)]
        answer = prediction_object(good, project.model_version)
        return TaskAnswer(RawJson(json_text(answer)), "done")
