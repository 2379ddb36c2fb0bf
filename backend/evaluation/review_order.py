"""Which tasks to look at next: those with most to correct first, what looks like an accepted one
last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.calibrator import Calibrator, fit_calibrator
from backend.core.classes import ClassIndex
from backend.core.effort import effort_of
from backend.datasets.similar import find_similar
from backend.errors import InputError
from backend.evaluation.chosen import version
from backend.evaluation.effort import looked_at
from backend.evaluation.from_export import TaskReader
from backend.evaluation.pairs import Pair, Selection
from backend.evaluation.versions import is_meant
from backend.files.addresses import name_in
from backend.formats.label_studio.tasks import find_address

PREDICTED, UNPREDICTED, ALIKE = "to correct", "without a prediction", "looks like another"
_UNNAMED = "unnamed"
Hash = Callable[[Mapping[str, Any], str], NDArray[np.uint64] | None]  # of a task, and its picture


@dataclass(frozen=True, kw_only=True)
class NextTask:
    """A task that nobody annotated.

    Attributes:
        task: its number.
        picture: what its picture is called.
        kind: ``PREDICTED``, ``UNPREDICTED`` or ``ALIKE``.
        effort: expected corrections; None without a prediction.
        why: a few words for people.
    """

    task: int
    picture: str
    kind: str
    effort: float | None
    why: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        effort = None if self.effort is None else round(self.effort, 3)
        return {
            "task": self.task,
            "picture": self.picture,
            "kind": self.kind,
            "expected_corrections": effort,
            "why": self.why,
        }


@dataclass(frozen=True)
class ReviewOrder:
    """The order.

    Attributes:
        tasks: the first one first.
        n_accepted: tasks that somebody annotated.
        n_learned: of these, the tasks that showed how often predictions are right; 0 where that is
            what the models say.
        faults: a sentence for each task that could not be read, or whose picture could not.
    """

    tasks: tuple[NextTask, ...]
    n_accepted: int
    n_learned: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """What is known of a task."""

    task: int
    name: PurePosixPath
    is_accepted: bool
    prediction: Mapping[str, Any] | None
    bits: NDArray[np.uint64] | None


def review_order(
    tasks: Iterable[Mapping[str, Any]],
    hash_of: Hash | None = None,
    model_version: str | None = None,
) -> ReviewOrder:
    """Put tasks into the order in which they are worth looking at.

    What the tasks that were annotated show of how often predictions are right counts, where they
    show enough.

    Args:
        tasks: with annotations and full predictions, as Label Studio exports them.
        hash_of: a task and the address of its picture to the picture's perceptual hash; None leaves
            look-alikes where they are.
        model_version: of the predictions that count, or its beginning or end; None for the newest.
    """
    seen: list[_Seen] = []
    learned = _Learned(model_version)
    faults: list[str] = []
    for place, task in enumerate(tasks):
        try:
            one = _seen(task, hash_of, model_version, faults)
            seen.append(one)
            if one.is_accepted:
                learned.take(task, place)
        except (InputError, KeyError, TypeError, ValueError) as error:
            faults.append(f"task {_number(task, place)}: {error}")
    calibrator = learned.calibrator()
    told = [_told(one, calibrator) for one in seen]
    waiting = [k for k, one in enumerate(seen) if not one.is_accepted]
    waiting.sort(key=lambda k: (told[k][0] is None, -(told[k][0] or 0.0), seen[k].task))
    near = _near(seen)
    is_shown = np.array([one.is_accepted for one in seen], np.bool_)
    first: list[NextTask] = []
    last: list[NextTask] = []
    for k in waiting:
        others = near[k][is_shown[near[k]]]
        alike = min(others.tolist(), key=lambda other: seen[other].task, default=None)
        if alike is None:
            is_shown[k] = True
            kind = UNPREDICTED if told[k][0] is None else PREDICTED
            first.append(_next(seen[k], kind, *told[k]))
        else:
            state = "accepted" if seen[alike].is_accepted else "above"
            effort, why = told[k]
            why = f"looks like task {seen[alike].task}, which is {state}; {why}"
            last.append(_next(seen[k], ALIKE, effort, why))
    n_learned = 0 if calibrator is None else learned.n_tasks
    return ReviewOrder((*first, *last), len(seen) - len(waiting), n_learned, tuple(faults))


def _told(one: _Seen, calibrator: Calibrator | None) -> tuple[float | None, str]:
    """The effort of a task, and what speaks for it."""
    if one.prediction is None:
        return None, "nothing was predicted"
    return _effort(one.prediction, calibrator)


def _next(one: _Seen, kind: str, effort: float | None, why: str) -> NextTask:
    return NextTask(task=one.task, picture=str(one.name), kind=kind, effort=effort, why=why)


def _number(task: Any, place: int) -> Any:
    return task.get("id", f"at {place}") if isinstance(task, Mapping) else f"at {place}"


def _near(seen: Sequence[_Seen]) -> list[NDArray[np.intp]]:
    """For each task those whose pictures show nearly the same."""
    found: list[NDArray[np.intp]] = [np.zeros(0, np.intp) for _ in seen]
    known = np.array([k for k, one in enumerate(seen) if one.bits is not None], np.intp)
    hashes = [one.bits for one in seen if one.bits is not None]
    if not hashes:
        return found
    similar = find_similar([seen[k].name for k in known], np.stack(hashes))
    for k, others in zip(known, similar.near(len(known)), strict=True):
        found[k] = known[others]
    return found


def _seen(
    task: Mapping[str, Any], hash_of: Hash | None, wanted: str | None, faults: list[str]
) -> _Seen:
    where = f"task {task['id']}"
    data = task.get("data")
    if not isinstance(data, dict):
        raise InputError("expected data")
    annotations = task.get("annotations") or ()
    accepted = any(isinstance(one, dict) and not one.get("was_cancelled") for one in annotations)
    prediction = None if accepted else _prediction(task, wanted)
    _, address = find_address(data, _image_of(task), where)
    bits = None
    if hash_of is not None:
        try:
            bits = hash_of(task, address)
        except InputError as error:
            faults.append(f"{where}: {error}")
    name = PurePosixPath(f"task-{task['id']}" if address[:5] == "data:" else name_in(address))
    return _Seen(int(task["id"]), name, accepted, prediction, bits)


def _image_of(task: Mapping[str, Any]) -> str:
    """The Image tag that the first region of a task is on."""
    for one in (*(task.get("annotations") or ()), *(task.get("predictions") or ())):
        regions = one.get("result") if isinstance(one, dict) else None
        for region in regions if isinstance(regions, list) else ():
            if isinstance(region, dict) and isinstance(region.get("to_name"), str):
                return str(region["to_name"])
    return ""


def _prediction(task: Mapping[str, Any], wanted: str | None) -> Mapping[str, Any] | None:
    """The prediction of a task that counts; None where there is none.

    Raises:
        InputError: the task has only the ids of its predictions.
    """
    found = [one for one in task.get("predictions") or () if isinstance(one, dict)]
    if not found and task.get("predictions"):
        raise InputError("predictions: holds only their ids; export a snapshot with them in full")
    if wanted is not None:
        found = [one for one in found if is_meant(wanted, version(one))]
    return max(found, key=lambda one: int(one.get("id") or 0), default=None)


def _found(prediction: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Score and label of each object of a prediction, by the id of its region."""
    found: dict[str, tuple[float, str]] = {}
    for k, one in enumerate(prediction.get("result") or ()):
        pair = _label(one)
        if pair is not None:
            key = str(one.get("id") or k)
            # Where outline and label are two regions of one id, the label is in one of them.
            if key not in found or found[key][1] == _UNNAMED:
                found[key] = pair
    return found


def _doubt(prediction: Mapping[str, Any], scores: Sequence[float]) -> tuple[float, float]:
    """Expected corrections as the models have it, and the share of the detector's certainty that
    their masks leave of it.
    """
    score = prediction.get("score")
    if isinstance(score, int | float) and 0 < score <= 1:
        effort = 1 / float(score) - 1  # see results.prediction_score
        left = (len(scores) - effort) / sum(scores) if sum(scores) else 1.0
        return effort, min(1.0, max(0.0, left))
    return effort_of(scores), 1.0


class _Learned:
    """How often predictions were right in the tasks that were annotated.

    Args:
        wanted: version of the predictions that count.
    """

    def __init__(self, wanted: str | None) -> None:
        versions = frozenset() if wanted is None else frozenset([wanted])
        self._reader = TaskReader(ClassIndex(), Selection(latest=True, model_versions=versions))
        self._known: list[tuple[str, float, bool]] = []
        self.n_tasks = 0

    def take(self, task: Mapping[str, Any], place: int) -> None:
        """Learn from an annotated task; from one that cannot be read, nothing.

        Only what began as a prediction tells: people who draw by themselves draw other outlines.
        """
        count = len(self._known)
        for pair in self._reader.pairs(task, place):
            if not isinstance(pair, Pair) or not pair.first or not pair.started_here:
                continue
            prediction = _prediction(task, pair.model_version or None)
            if prediction is None:
                continue
            _, left = _doubt(prediction, [score for score, _ in _found(prediction).values()])
            for one in looked_at(pair.predicted, pair.accepted, pair.void):
                said = one.region.instance
                if one.region.scored:
                    self._known.append((said.label, left * said.score, one.is_right))
        self.n_tasks += len(self._known) > count

    def calibrator(self) -> Calibrator | None:
        """None where too little is known."""
        return fit_calibrator(self._known)


def _effort(prediction: Mapping[str, Any], calibrator: Calibrator | None) -> tuple[float, str]:
    """Expected corrections, and what speaks for them."""
    found = list(_found(prediction).values())
    effort, left = _doubt(prediction, [score for score, _ in found])
    if not found:
        return effort, "nothing was found in it"
    if calibrator is not None:
        found = [(calibrator.chance(label, left * score), label) for score, label in found]
        effort = effort_of(chance for chance, _ in found)
    least, label = min(found)
    more = f"{len(found)} objects" if len(found) > 1 else "1 object"
    return effort, f"{more}, {effort:.1f} to correct; least sure: {label} {least:.2f}"


def _label(region: Any) -> tuple[float, str] | None:
    """Score and label of a region."""
    if not isinstance(region, dict) or not isinstance(region.get("score"), int | float):
        return None
    value = region.get("value")
    named = value.get(region.get("type")) if isinstance(value, dict) else None
    label = named[0] if isinstance(named, list) and named else _UNNAMED
    return float(region["score"]), str(label)
