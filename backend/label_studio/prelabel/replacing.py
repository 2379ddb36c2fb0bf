"""Deleting what this program predicted before, once a newer prediction is there.

A version goes as a whole where this run made all predictions of the newer one, every task that has
the old one has the newer one too, and nobody annotated any of them; else its predictions go one by
one. Annotated tasks keep theirs, as what a person began with is needed to score it, unless they are
asked for.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from backend.label_studio.api.filters import annotated, unlabelled, with_version, without_version
from backend.label_studio.api.rows import TaskRow
from backend.label_studio.prelabel.journal import Journal

# detector + segmenter - digest . digest of the label config; see ``Cascade.model_version`` and
# ``binding.project_version``
_OURS = re.compile(r"^.+\+.+-[0-9a-f]{10}\.[0-9a-f]{8}$")


class Predictions(Protocol):
    """What is needed of ``client.Client``."""

    def versions(self, project: int) -> dict[str, int]: ...
    def count(self, project: int, filters: Sequence[Mapping[str, Any]] = ()) -> int: ...
    def tasks(
        self, project: int, filters: Sequence[Mapping[str, Any]] = (), *, full: bool = False
    ) -> Iterator[TaskRow]: ...
    def delete(self, prediction: int) -> None: ...
    def delete_version(self, project: int, version: str) -> int: ...


def older_versions(client: Predictions, project: int, version: str) -> list[str]:
    """The versions of this program's predictions in a project, without the one that stays."""
    return [one for one in client.versions(project) if one != version and _OURS.match(one)]


def delete_older(
    client: Predictions,
    project: int,
    version: str,
    journal: Journal,
    parts: Sequence[Sequence[Mapping[str, Any]]],
    *,
    all_tasks: bool,
    n_made: int,
    annotated_too: bool,
    stop: threading.Event,
) -> int:
    """Delete, of every task that has a version, what this program predicted before it.

    What was interrupted is gone on with.

    Args:
        client: of Label Studio.
        project: its number.
        version: that stays.
        journal: open; remembers the tasks that are done.
        parts: filters of the tasks, one list after the other.
        all_tasks: whether those are all tasks of the project.
        n_made: predictions of the version that this run made; the others may be older than what is
            to go.
        annotated_too: whether annotated tasks lose theirs as well.
        stop: set it to end early.

    Returns:
        How many were deleted.
    """
    n_deleted = 0
    left = []
    all_new = all_tasks and client.count(project, [with_version(version)]) == n_made
    for older in older_versions(client, project, version):
        if stop.is_set():
            return n_deleted
        has = with_version(older)
        whole = all_new and not client.count(project, [has, without_version(version)])
        if whole and (annotated_too or not client.count(project, [has, annotated()])):
            n_deleted += client.delete_version(project, older)
        else:
            left.append(older)
    allowed = [] if annotated_too else [unlabelled()]
    for older in left:
        rows = itertools.chain.from_iterable(
            client.tasks(project, [*part, with_version(older), *allowed], full=True)
            for part in parts
        )
        for row in rows:
            if stop.is_set():
                return n_deleted
            if journal.was_replaced(row.id):
                continue
            own = [int(one["id"]) for one in row.predictions if one["model_version"] == version]
            old = [
                int(one["id"])
                for one in row.predictions
                if _OURS.match(str(one["model_version"])) and one["model_version"] != version
            ]
            # A later one was made by another run, which is told of this one as we are of it.
            for prediction in old if own else []:
                if prediction < own[0]:
                    client.delete(prediction)
                    n_deleted += 1
            journal.replace([row.id])
    return n_deleted
