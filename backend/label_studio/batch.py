"""A list of tasks to a list of Label Studio predictions, in the same order and of the same length, whatever happens to single ones.

Images are fetched ahead while the lane works; results are remembered by what the image is, so that a request that ran into Label Studio's
time limit has not worked in vain: the next one finds what was done.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from backend.cascade import Raw
from backend.errors import InputError, LabelingError, Unavailable
from backend.formats.binding import Group
from backend.formats.labelstudio import chosen, outputs_json, prediction_score
from backend.gate import DeadlineExceeded, Gate
from backend.images import ImageLimits, decode_image
from backend.label_studio.caches import ByteLru
from backend.label_studio.monitor import Monitor
from backend.label_studio.origins import shown
from backend.label_studio.predictors import Predictor, Predictors, Project
from backend.label_studio.requests import Task
from backend.types import Image, Prediction

logger = logging.getLogger(__name__)
Fetch = Callable[[str, int | None, float], bytes]


@dataclass(frozen=True)
class Result:
    """Regions of one image as JSON texts with commas between, and the score to sort by."""

    regions: str
    score: float


@dataclass(frozen=True)
class Item:
    """What becomes of one task: text of the answer, and how it ended (done, failed for good, or later)."""

    text: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Ready:
    """A unit of work after fetching: a remembered result, or an image to look at."""

    digest: str
    result: Result | None
    image: Image | None


@dataclass(frozen=True)
class _Unit:
    """One image of one task for one group of tags."""

    task: int
    group: int


def _describe(error: BaseException) -> tuple[str, str]:
    """Outcome and reason of an error."""
    if isinstance(error, InputError):
        return "failed", str(error)
    if isinstance(error, LabelingError):
        return "later", str(error)
    return "later", f"unexpected {type(error).__name__}; see the backend's log"


class BatchPredictor:
    """Predicts tasks.

    Args:
        predictors: the models.
        gate: where they run.
        fetch: address, task id and deadline to image bytes.
        monitor: counts.
        cache_bytes: for results.
        batch: images per model call.
        fetch_workers: images fetched and decoded at once, over all requests.
        limits: what images are refused.
    """

    def __init__(
        self,
        predictors: Predictors,
        gate: Gate,
        fetch: Fetch,
        monitor: Monitor,
        *,
        cache_bytes: int = 256 << 20,
        batch: int = 8,
        fetch_workers: int = 8,
        limits: ImageLimits | None = None,
    ) -> None:
        self._predictors, self._gate, self._fetch, self._monitor = predictors, gate, fetch, monitor
        self._results: ByteLru[Result] = ByteLru(cache_bytes)
        self._batch, self._limits = batch, limits or ImageLimits()
        self._pool = ThreadPoolExecutor(fetch_workers, thread_name_prefix="fetch")
        self._ahead = max(2 * batch, fetch_workers)

    def close(self) -> None:
        """Stop fetching."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def predict(self, tasks: Sequence[Task], project: Project, deadline: float) -> list[Item]:
        """One item per task, in their order.

        Args:
            tasks: any number.
            project: what to fill.
            deadline: of ``time.monotonic``; tasks not reached by then are for later.
        """
        groups = project.binding.groups
        units = [_Unit(k, g) for k in range(len(tasks)) for g in range(len(groups))]
        found: list[dict[int, Result | BaseException]] = [{} for _ in tasks]
        waiting: dict[int, list[tuple[_Unit, _Ready]]] = {g: [] for g in range(len(groups))}
        for unit, ready in self._prepared(tasks, units, project, deadline):
            if isinstance(ready, BaseException):
                found[unit.task][unit.group] = ready
            elif ready.result is not None:
                found[unit.task][unit.group] = ready.result
            else:
                waiting[unit.group].append((unit, ready))
                if len(waiting[unit.group]) >= self._batch:
                    self._run(waiting[unit.group], groups[unit.group], project, deadline, found)
        for g, rest in waiting.items():
            if rest:
                self._run(rest, groups[g], project, deadline, found)
        items = [self._item(task, results, project) for task, results in zip(tasks, found, strict=True)]
        for item in items:
            self._monitor.tasks.labels(item.outcome).inc()
        return items

    def _prepared(self, tasks: Sequence[Task], units: Sequence[_Unit], project: Project, deadline: float) -> Iterator[tuple[_Unit, _Ready | BaseException]]:
        """Units with their images, in order; a bounded number is fetched ahead."""
        pending: list[tuple[_Unit, Future[_Ready]]] = []
        queue = iter(units)
        try:
            while True:
                for unit in itertools.islice(queue, self._ahead - len(pending)):
                    pending.append((unit, self._pool.submit(self._prepare, tasks[unit.task], project, unit.group, deadline)))
                if not pending:
                    return
                unit, future = pending.pop(0)
                try:
                    yield unit, future.result(max(0.0, deadline - time.monotonic()))
                except GeneratorExit:
                    raise
                except TimeoutError:
                    future.cancel()
                    yield unit, DeadlineExceeded("the image was not there before the deadline")
                except Exception as error:
                    yield unit, error
        finally:
            for _, future in pending:
                future.cancel()

    def _prepare(self, task: Task, project: Project, group: int, deadline: float) -> _Ready:
        """On a fetching thread."""
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("not reached before the deadline")
        uri = task.image(project.binding.groups[group].data_key)
        data = self._fetch(uri, task.id, deadline)
        digest = sha256(data).hexdigest()
        result = self._results.get((digest, project.model_version, group))
        if result is not None:
            self._monitor.cache_hits.inc()
            return _Ready(digest, result, None)
        return _Ready(digest, None, decode_image(data, shown(uri), self._limits))

    def _run(
        self,
        waiting: list[tuple[_Unit, _Ready]],
        group: Group,
        project: Project,
        deadline: float,
        found: list[dict[int, Result | BaseException]],
    ) -> None:
        """Empty ``waiting`` into ``found``; equal images are looked at once."""
        units, waiting[:] = list(waiting), []
        number = units[0][0].group
        results: dict[str, Result | BaseException] = {}
        images: dict[str, Image] = {}
        for _, ready in units:  # another request, or an equal image just before, may have had it by now
            known = self._results.get((ready.digest, project.model_version, number))
            if known is not None:
                results[ready.digest] = known
            elif ready.image is not None:
                images[ready.digest] = ready.image
        for digest, result in self._infer(list(images.items()), group, deadline).items():
            results[digest] = result
            if isinstance(result, Result):
                self._results.put((digest, project.model_version, number), result, len(result.regions) + 500)
        for unit, ready in units:
            found[unit.task][unit.group] = results[ready.digest]

    def _infer(self, images: Sequence[tuple[str, Image]], group: Group, deadline: float) -> dict[str, Result | BaseException]:
        """Results by digest. If a batch fails for a reason of its content, its images are tried one by one."""
        if not images:
            return {}

        def work() -> tuple[Predictor, list[Raw]]:
            predictor = self._predictors.get(group.model_path)
            return predictor, predictor.infer([image for _, image in images], thresholds=group.thresholds)

        try:
            predictor, raws = self._gate.run(work, deadline)
        except Unavailable as error:
            return {digest: error for digest, _ in images}
        except Exception as error:
            if len(images) > 1:
                return {d: r for pair in images for d, r in self._infer([pair], group, deadline).items()}
            if not isinstance(error, LabelingError):
                logger.exception("inference failed on one image of %dx%d", images[0][1].shape[1], images[0][1].shape[0])
            return {images[0][0]: error}
        self._monitor.images.inc(len(images))
        return {digest: self._result(predictor.finish(raw), group) for (digest, _), raw in zip(images, raws, strict=True)}

    def _result(self, prediction: Prediction, group: Group) -> Result:
        texts, holed = outputs_json(prediction, group.outputs)
        if holed:
            logger.info("%d polygons cannot show the holes of their masks", holed)
        indices = sorted({k for output in group.outputs for k in chosen(prediction, output)})
        self._monitor.instances.inc(len(indices))
        own = Prediction(tuple(prediction.instances[k] for k in indices), prediction.size_hw, prediction.model_version)
        return Result(",".join(texts), prediction_score(own))

    def _item(self, task: Task, results: dict[int, Result | BaseException], project: Project) -> Item:
        version = json.dumps(project.model_version)
        errors = [result for result in results.values() if isinstance(result, BaseException)]
        if errors:
            outcomes = [_describe(error) for error in errors]
            outcome, reason = next((o for o in outcomes if o[0] == "later"), outcomes[0])
            logger.warning("task %s: %s", task.id, reason)
            error_text = json.dumps(reason)
            if outcome == "failed":
                return Item(f'{{"result":[],"score":0.0,"model_version":{version},"error":{error_text}}}', outcome, reason)
            return Item(f'{{"score":0.0,"error":{error_text}}}', outcome, reason)
        good = [result for result in results.values() if isinstance(result, Result)]
        score = round(float(np.mean([result.score for result in good])), 4) if good else 0.0
        regions = ",".join(result.regions for result in good if result.regions)
        return Item(f'{{"result":[{regions}],"score":{score},"model_version":{version}}}', "done")
