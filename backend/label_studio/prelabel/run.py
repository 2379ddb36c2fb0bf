"""A whole project, task by task: what is missing is predicted and uploaded, and every task gets one
prediction of a version, whatever happens.

Label Studio is asked for the tasks that have no prediction of this version yet, so a run that is
repeated goes on where the last one ended. Annotations and drafts are never touched; what is
deleted, with ``replace``, are predictions that this program made.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from backend.core.holdout import is_held_out
from backend.errors import AuthError, InputError, LabelingError, Unavailable, UnexpectedError
from backend.label_studio.api.client import PAGE
from backend.label_studio.api.filters import among, unlabelled, with_version, without_version
from backend.label_studio.api.rows import StoredPrediction, TaskRow
from backend.label_studio.api.tasks import Task
from backend.label_studio.prelabel.counting import labels_shown
from backend.label_studio.prelabel.engine import Engine
from backend.label_studio.prelabel.journal import Journal
from backend.label_studio.prelabel.replacing import Predictions, delete_older
from backend.label_studio.prelabel.stages import TaskWork
from backend.label_studio.prelabel.summary import PrelabelSummary
from backend.label_studio.prelabel.uploads import Finished, Uploader

logger = logging.getLogger(__name__)
SETTLE_S = 10.0  # what a killed run had sent may still be on its way this long


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which tasks of the project."""

    ids: tuple[int, ...] = ()  # empty for all
    view: int | None = None
    only_unlabelled: bool = False
    limit: int | None = None
    retry_failed: bool = False
    holdout: float = 0.0  # share of tasks that get none, 0..1

    @property
    def is_everything(self) -> bool:
        """Whether no task is left out."""
        named = self.ids or self.view is not None or self.limit is not None
        return not named and not self.only_unlabelled and not self.holdout


def filters_of(
    client: LabelStudio, project: int, choice: Choice, first: Mapping[str, Any]
) -> list[list[Mapping[str, Any]]]:
    """What Label Studio is asked for, one list of filters after the other: tasks named by their
    numbers fit into an address a hundred at a time.
    """
    filters: list[Mapping[str, Any]] = [first]
    if choice.only_unlabelled:
        filters.append(unlabelled())
    if choice.view is not None:
        filters += client.view(project, choice.view)
    ids = sorted(set(choice.ids))
    return (
        [[*filters, among(ids[start : start + PAGE])] for start in range(0, len(ids), PAGE)]
        if ids
        else [filters]
    )


class LabelStudio(Predictions, Protocol):
    """What a run needs of ``client.Client``."""

    def send(self, project: int, texts: Sequence[str]) -> None: ...
    def having(self, project: int, tasks: Sequence[int], model_version: str) -> set[int]: ...
    def predictions(self, project: int, task: int) -> list[StoredPrediction]: ...
    def project(self, project: int) -> Any: ...
    def view(self, project: int, view: int) -> list[Mapping[str, Any]]: ...


@dataclass(eq=False)
class PrelabelRun:
    """One run over a project.

    Args:
        client: Label Studio.
        project: its number.
        model_version: of the predictions to make.
        journal: open, of this project and version.
        on_progress: called whenever a task ended, with the summary and how many predictions wait
            for the upload.
    """

    client: LabelStudio
    project: int
    model_version: str
    journal: Journal
    on_progress: Callable[[PrelabelSummary, int], None] = lambda summary, waiting: None
    settle_s: float = SETTLE_S
    sleep: Callable[[float], None] = time.sleep
    uploader_sleep: Callable[[float], None] | None = None  # None: on ``stop``
    chunk_tasks: int = 100
    replace: bool = False
    replace_annotated: bool = False
    summary: PrelabelSummary = field(default_factory=PrelabelSummary)
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def settle(self) -> None:
        """Find out what became of predictions that were on their way when the last run ended."""
        if not (sent := dict(self.journal.sent)):
            return
        self.journal.doubt(sent)
        self._let_settle(max(sent.values()))
        there = self.client.having(self.project, sorted(sent), self.model_version)
        self.journal.confirmed(sorted(there))
        self.journal.refused(sorted(set(sent) - there))

    def _let_settle(self, since: float) -> None:
        # A clock that ran ahead must not make a run wait longer than a request can take.
        left = min(since + self.settle_s - time.time(), self.settle_s)
        if left > 0:
            logger.info("waiting %.1f s for requests that may still be carried out", left)
            self.sleep(left)

    def rows(self, choice: Choice, full: bool = False) -> Iterator[TaskRow]:
        """The tasks to predict; ``full`` brings their annotations and predictions along."""
        count = 0
        parts = filters_of(self.client, self.project, choice, without_version(self.model_version))
        for row in itertools.chain.from_iterable(
            self.client.tasks(self.project, part, full=full) for part in parts
        ):
            if is_held_out(row.id, choice.holdout):
                self.summary.n_held_out += 1
                continue
            if not choice.retry_failed and self.journal.has_failed(row.id):
                self.summary.n_skipped += 1
                continue
            if choice.limit is not None and count >= choice.limit:
                return
            count += 1
            yield row

    def run(
        self, engine: Engine, choice: Choice, given: Callable[[TaskRow], Any] | None = None
    ) -> PrelabelSummary:
        """Predict and upload.

        Args:
            engine: does the work.
            choice: which tasks.
            given: a task to its boxes, where they do not come from the detector; may raise
                ``InputError``.

        Returns:
            What was done. ``summary.error`` is what ended it early.
        """
        self._uploader = Uploader(
            self.client,
            self.project,
            self.model_version,
            self.journal,
            self._done,
            self._fail,
            self.uploader_sleep,
            self.stop,
            chunk_tasks=self.chunk_tasks,
        )
        try:
            self.settle()
            self._uploader.start()
            engine.run(self._work(choice, given), self._finished, self._fail, self.stop)
        except LabelingError as error:
            self.summary.error = self.summary.error or error
        # Not where somebody ends the program at once, as it may take a while.
        self._uploader.close()
        self.summary.error = self._uploader.error or self.summary.error
        self.summary.n_bytes = self._uploader.n_bytes
        try:
            if self.summary.error is None:
                self._once_only()
                if self.replace and not self.stop.is_set():
                    self._delete_older(choice)
        except LabelingError as error:
            self.summary.error = error
        if self.summary.error is not None:
            self.summary.stopped = str(self.summary.error)
        elif self.stop.is_set():
            self.summary.stopped = "interrupted"
        return self.summary

    def _work(self, choice: Choice, given: Callable[[TaskRow], Any] | None) -> Iterator[TaskWork]:
        for row in self.rows(choice, full=given is not None):
            try:
                boxes = None if given is None else given(row)
            except (InputError, Unavailable) as error:
                self._fail(row.id, error)
                continue
            yield TaskWork(Task(row.id, row.data), boxes)

    def _finished(self, finished: Finished) -> None:
        shown = labels_shown(finished.text)
        with self._lock:
            self.summary.per_class += shown
            self.summary.n_empty += not shown
        self._uploader.put(finished)

    def _done(self, tasks: Sequence[int]) -> None:
        with self._lock:
            self.summary.n_done += len(tasks)
        self.on_progress(self.summary, self._uploader.waiting)

    def _fail(self, task: int, error: Exception) -> None:
        """A task that did not get there.

        The run ends where Label Studio itself refuses, or the uploader has ended.
        """
        if error is self._uploader.error or (isinstance(error, AuthError) and self._refused()):
            self.summary.error = self.summary.error or self._uploader.error
            self.summary.halted = True
            self.stop.set()
            return
        with self._lock:
            if isinstance(error, InputError) and not isinstance(error, UnexpectedError):
                self.journal.fail(task, str(error))
                self.summary.failed[task] = str(error)
            else:
                self.summary.later[task] = str(error)
        self.on_progress(self.summary, self._uploader.waiting)

    def _refused(self) -> bool:
        """Whether Label Studio refuses us, and not only one picture."""
        try:
            self.client.project(self.project)
        except AuthError as error:
            self.summary.error = error
            return True
        except LabelingError:
            pass
        return False

    def _delete_older(self, choice: Choice) -> None:
        """See ``replacing``."""
        self.summary.n_deleted += delete_older(
            self.client,
            self.project,
            self.model_version,
            self.journal,
            filters_of(self.client, self.project, choice, with_version(self.model_version)),
            all_tasks=choice.is_everything,
            n_made=self.summary.n_done,
            annotated_too=self.replace_annotated,
            stop=self.stop,
        )

    def _once_only(self) -> None:
        """Where a request was carried out after all and repeated, a task may have two predictions
        of this version; the older one stays.
        """
        if not (doubtful := sorted(self.journal.unclear)):
            return
        self._let_settle(time.time())
        seen = []
        for task in doubtful:
            try:
                own = [
                    one
                    for one in self.client.predictions(self.project, task)
                    if one.model_version == self.model_version
                ]
            except InputError as error:
                if "answered 404" not in str(error):
                    raise
                seen.append(task)  # deleted meanwhile
                continue
            for extra in own[1:]:
                self.client.delete(extra.id)
            seen += [task] if own else []  # one that is not there yet may still come
        self.journal.checked(seen)
