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

from backend.core.effort import effort_of
from backend.datasets.similar import find_similar
from backend.errors import InputError
from backend.evaluation.chosen import version
from backend.evaluation.versions import is_meant
from backend.files.addresses import name_in
from backend.formats.label_studio.tasks import find_address

PREDICTED, UNPREDICTED, ALIKE = "to correct", "without a prediction", "looks like another"
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
        faults: a sentence for each task that could not be read, or whose picture could not.
    """

    tasks: tuple[NextTask, ...]
    n_accepted: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """What is known of a task."""

    task: int
    name: PurePosixPath
    is_accepted: bool
    effort: float | None
    why: str
    bits: NDArray[np.uint64] | None


def review_order(
    tasks: Iterable[Mapping[str, Any]],
    hash_of: Hash | None = None,
    model_version: str | None = None,
) -> ReviewOrder:
    """Put tasks into the order in which they are worth looking at.

    Args:
        tasks: with annotations and full predictions, as Label Studio exports them.
        hash_of: a task and the address of its picture to the picture's perceptual hash; None leaves
            look-alikes where they are.
        model_version: of the predictions that count, or its beginning or end; None for the newest.
    """
    seen: list[_Seen] = []
    faults: list[str] = []
    for place, task in enumerate(tasks):
        try:
            seen.append(_seen(task, hash_of, model_version, faults))
        except (InputError, KeyError, TypeError, ValueError) as error:
            faults.append(f"task {_number(task, place)}: {error}")
    waiting = [k for k, one in enumerate(seen) if not one.is_accepted]
    waiting.sort(key=lambda k: (seen[k].effort is None, -(seen[k].effort or 0.0), seen[k].task))
    near = _near(seen)
    shown: set[int] = {k for k, one in enumerate(seen) if one.is_accepted}
    first: list[NextTask] = []
    last: list[NextTask] = []
    for k in waiting:
        alike = min(near[k] & shown, key=lambda other: seen[other].task, default=None)
        if alike is None:
            shown.add(k)
            kind = UNPREDICTED if seen[k].effort is None else PREDICTED
            first.append(_next(seen[k], kind, seen[k].why))
        else:
            state = "accepted" if seen[alike].is_accepted else "above"
            why = f"looks like task {seen[alike].task}, which is {state}; {seen[k].why}"
            last.append(_next(seen[k], ALIKE, why))
    return ReviewOrder((*first, *last), len(seen) - len(waiting), tuple(faults))


def _next(one: _Seen, kind: str, why: str) -> NextTask:
    return NextTask(task=one.task, picture=str(one.name), kind=kind, effort=one.effort, why=why)


def _number(task: Any, place: int) -> Any:
    return task.get("id", f"at {place}") if isinstance(task, Mapping) else f"at {place}"


def _near(seen: Sequence[_Seen]) -> list[set[int]]:
    """For each task those whose pictures show nearly the same."""
    found: list[set[int]] = [set() for _ in seen]
    known = [k for k, one in enumerate(seen) if one.bits is not None]
    hashes = [one.bits for one in seen if one.bits is not None]
    if not hashes:
        return found
    similar = find_similar([seen[k].name for k in known], np.stack(hashes))
    for k, others in zip(known, similar.near(len(known)), strict=True):
        found[k] = {known[other] for other in others}
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
    effort, why = (None, "") if accepted else _effort(task, wanted)
    _, address = find_address(data, _image_of(task), where)
    bits = None
    if hash_of is not None:
        try:
            bits = hash_of(task, address)
        except InputError as error:
            faults.append(f"{where}: {error}")
    name = PurePosixPath(f"task-{task['id']}" if address[:5] == "data:" else name_in(address))
    return _Seen(int(task["id"]), name, accepted, effort, why, bits)


def _image_of(task: Mapping[str, Any]) -> str:
    """The Image tag that the first region of a task is on."""
    for one in (*(task.get("annotations") or ()), *(task.get("predictions") or ())):
        regions = one.get("result") if isinstance(one, dict) else None
        for region in regions if isinstance(regions, list) else ():
            if isinstance(region, dict) and isinstance(region.get("to_name"), str):
                return str(region["to_name"])
    return ""


def _effort(task: Mapping[str, Any], wanted: str | None) -> tuple[float | None, str]:
    """Expected corrections, and what speaks for them."""
    found = [one for one in task.get("predictions") or () if isinstance(one, dict)]
    if not found and task.get("predictions"):
        raise InputError("predictions: holds only their ids; export a snapshot with them in full")
    if wanted is not None:
        found = [one for one in found if is_meant(wanted, version(one))]
    if not found:
        return None, "nothing was predicted"
    prediction = max(found, key=lambda one: int(one.get("id") or 0))
    labels = [pair for one in prediction.get("result") or () if (pair := _label(one)) is not None]
    score = prediction.get("score")
    if isinstance(score, int | float) and 0 < score <= 1:
        effort = 1 / float(score) - 1  # see results.prediction_score
    else:
        effort = effort_of(chance for chance, _ in labels)
    if not labels:
        return effort, "nothing was found in it"
    least, label = min(labels)
    more = f"{len(labels)} objects" if len(labels) > 1 else "1 object"
    return effort, f"{more}, {effort:.1f} to correct; least sure: {label} {least:.2f}"


def _label(region: Any) -> tuple[float, str] | None:
    """Score and label of a region."""
    if not isinstance(region, dict) or not isinstance(region.get("score"), int | float):
        return None
    value = region.get("value")
    named = value.get(region.get("type")) if isinstance(value, dict) else None
    label = named[0] if isinstance(named, list) and named else "unnamed"
    return float(region["score"]), str(label)
