"""Trainings that Label Studio asks for, one after the other, and what they offer afterwards."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backend.errors import InputError, LabelingError, Unavailable
from backend.label_studio.server.job_process import (
    LOG,
    JobProcess,
    last_words,
    progress_of,
    result_of_run,
)
from backend.label_studio.server.jobs import (
    CANCELLED,
    CANCELLING,
    DONE,
    FAILED,
    JOBS,
    RUNNING,
    Job,
    Jobs,
)
from backend.models.tuned import RUN_LOCK

logger = logging.getLogger(__name__)
_LOOK_S = 1.0
_MOST_TRIES = 3  # processes of a job that were killed from outside
_RETRY_S = 60.0  # until what could not be taken is tried once more
_END_S = 2.0  # that the end of a server waits for a training; it goes on by itself
_KILL_S = 60.0  # after a request to end
_PROJECT = re.compile(r"[0-9]{1,18}")
_RUN = re.compile(r"project-([0-9]{1,18})")
_OFFERS = ("detector.json", "segmenter.json")  # what a run offers, see ``models.tuned``
_INTERRUPTED = 130  # exit code of a training that was asked to end

Offer = tuple[tuple[str, int, int], ...]  # the files that tell what a run offers, and their state
Start = Callable[[str, Path], JobProcess]


def offer_of(run: Path) -> Offer:
    """What a run offers now, so that a change shows."""
    found = []
    for name in _OFFERS:
        try:
            state = (run / name).stat()
        except OSError:
            continue
        found.append((name, state.st_mtime_ns, state.st_size))
    return tuple(found)


class Trainer:
    """Runs trainings in processes of their own, and hands on what they offer.

    Args:
        root: folder of the runs, one for each project.
        start: starts the process of a training, of a project and its folder.
        take: takes what a run offers, of a project and its folder, None where it offers nothing;
            tells whether it could.
        after: annotations after which a training begins by itself; 0 for never.
        look_s: seconds between two looks.

    Raises:
        Unavailable: the disk refuses.
    """

    def __init__(
        self,
        root: Path,
        start: Start,
        take: Callable[[str, Path | None], bool],
        *,
        after: int = 0,
        look_s: float = _LOOK_S,
    ) -> None:
        self._root = root
        self._start = start
        self._take = take
        self._after = after
        self._look_s = look_s
        self.jobs = Jobs(root / JOBS)
        self._held = FileLock(root / ".trainer.lock", timeout=0, thread_local=False)
        self._process: JobProcess | None = None
        self._asked_to_end: float | None = None
        self._offers: dict[str, Offer] = {}  # that were taken
        # What could not be taken, and when it is tried once more.
        self._again: dict[str, tuple[Offer, float]] = {}
        self._retry_s = _RETRY_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="trainer", daemon=True)

    def run_of(self, project: str) -> Path:
        """The folder of a project's run."""
        return self._root / f"project-{project}"

    def taken(self) -> dict[str, Path]:
        """The runs that offer something already, by project; only what is offered later is handed
        on.
        """
        offers = {project: (run, offer_of(run)) for project, run in self._runs().items()}
        self._offers = {project: offer for project, (_, offer) in offers.items()}
        return {project: run for project, (run, offer) in offers.items() if offer}

    def _runs(self) -> dict[str, Path]:
        return {
            found.group(1): path
            for path in sorted(self._root.glob("project-*"))
            if (found := _RUN.fullmatch(path.name)) is not None
        }

    def begin(self) -> None:
        """Start looking."""
        self._thread.start()

    def end(self) -> None:
        """Stop looking. A training in work keeps what it has, and goes on at the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        process = self._process
        if process is not None and process.is_running:
            logger.info("the training in work is interrupted; it goes on at the next start")
            process.interrupt()
            process.wait(_END_S)
        self._held.release()

    def ask(self, project: str) -> Job:
        """Let a project's training begin, or say that it waits or runs already.

        Raises:
            InputError: no number of a project.
            Unavailable: the disk refuses.
        """
        project = _checked(project)
        job, is_new = self.jobs.ask(project)
        if is_new:
            logger.info("project %s: a training was asked for", project)
        else:
            logger.info("project %s: a training is %s already", project, job.state)
        return job

    def cancel(self, project: str) -> Job:
        """Call off the training of a project.

        Raises:
            InputError: there is none.
            Unavailable: the disk refuses.
        """
        project = _checked(project)
        job = self.jobs.cancel(project)
        if job is None:
            raise InputError(f"project {project}: no training waits or runs")
        logger.info("project %s: its training is called off", project)
        return job

    def annotated(self, project: str, n: int = 1) -> None:
        """Annotations came; after some number of them a training begins."""
        project = _checked(project)
        if self._after and self.jobs.count(project, n) >= self._after:
            self.ask(project)

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        jobs = []
        for job in self.jobs.newest():
            row = job.as_dict()
            if job.state in (RUNNING, CANCELLING):
                row["progress"] = progress_of(self.run_of(job.project), job.started or 0.0)
            jobs.append(row)
        return {"folder": str(self._root), "jobs": jobs}

    def _work(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                self._take_offers()  # also those of another backend's trainings
                if not self._held.is_locked:
                    self._held.acquire()
                self.look()
                told = ""
            except Timeout:
                fault = f"{self._root}: another backend trains there, so this one does not"
                told = _tell_once(fault, told)
            except (LabelingError, OSError) as error:
                told = _tell_once(f"training: {error}", told)
            except Exception:
                logger.exception("training: unexpected")
            self._stop.wait(self._look_s)

    def look(self) -> None:
        """See to the training in work, or begin the next."""
        job = self.jobs.current()
        if job is not None:
            self._see_to(job)
        elif (waiting := self.jobs.waiting()) is not None:
            self._begin(waiting)

    def _take_offers(self) -> None:
        for project, run in self._runs().items():
            offer = offer_of(run)
            if offer == self._offers.get(project):
                continue
            refused, until = self._again.get(project, (None, 0.0))
            if offer == refused and time.monotonic() < until:
                continue
            if self._take(project, run if offer else None):
                self._offers[project] = offer
                self._again.pop(project, None)
            else:
                self._again[project] = offer, time.monotonic() + self._retry_s

    def _begin(self, job: Job) -> None:
        run = self.run_of(job.project)
        # A person may train there, or a process that is not known because it was started just
        # before a backend was killed.
        if is_locked(run / RUN_LOCK) or not self.jobs.begin(job):
            return
        if not job.tries:
            (run / LOG).unlink(missing_ok=True)
        try:
            self._process = self._start(job.project, run)
        except (OSError, LabelingError) as error:
            self.jobs.end(job, FAILED, f"the training cannot be started: {error}", None)
            return
        self._asked_to_end = None
        try:
            self.jobs.in_process(job, self._process.pid)
        except Unavailable:
            self._process.kill()  # else nobody would know of it
            raise
        logger.info("project %s: training in process %d", job.project, self._process.pid)

    def _see_to(self, job: Job) -> None:
        process = self._process
        if process is None or process.pid != job.pid:
            process = JobProcess(job.pid or 0, self.run_of(job.project))
            if job.pid is not None and process.is_running:
                logger.info("project %s: its training goes on in process %d", job.project, job.pid)
            self._process = process
        if job.pid is None or not process.is_running:
            self._ended(job, process)
        elif job.state == CANCELLING:
            self._ask_to_end(process)

    def _ask_to_end(self, process: JobProcess) -> None:
        now = time.monotonic()
        if self._asked_to_end is None:
            self._asked_to_end = now
            process.interrupt()
        elif now - self._asked_to_end > _KILL_S:
            process.kill()

    def _ended(self, job: Job, process: JobProcess) -> None:
        self._process = None
        run = self.run_of(job.project)
        result = result_of_run(run) if job.pid is not None else None
        interrupted = process.code == _INTERRUPTED or bool((result or {}).get("interrupted"))
        if job.state == CANCELLING:
            self.jobs.end(job, CANCELLED, None, result)
            logger.info("project %s: its training was called off", job.project)
        elif interrupted:
            self.jobs.again(job, counts=False)
        elif result is not None and "error" in result:
            self._failed(job, str(result["error"]))
        elif result is not None:
            self.jobs.end(job, DONE, None, result)
            logger.info("project %s: trained; %s", job.project, _told(result))
            self.annotated(job.project, 0)  # what was annotated meanwhile may be enough
        elif process.code is not None and process.code >= 0:
            self._failed(job, last_words(run) or f"exit code {process.code}")
        elif job.tries < _MOST_TRIES:
            logger.warning("project %s: its training was killed, and goes on", job.project)
            self.jobs.again(job, counts=True)
        else:
            self._failed(job, f"its process was killed {job.tries} times; memory may be short")

    def _failed(self, job: Job, reason: str) -> None:
        self.jobs.end(job, FAILED, reason, None)
        logger.error("project %s: its training failed: %s", job.project, reason)


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock, as far as one can see."""
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True


def _checked(project: str) -> str:
    if _PROJECT.fullmatch(project) is None:
        raise InputError(f"project: expected its number, got {project[:40]!r}")
    return str(int(project))


def _tell_once(fault: str, told: str) -> str:
    if fault != told:
        logger.error("%s", fault)
    return fault


def _told(result: Mapping[str, Any]) -> str:
    """Which models are offered now."""
    kinds = [kind for kind in ("detector", "segmenter") if kind in result]
    offered = [kind for kind in kinds if result[kind].get("offered")]
    told = f"the {' and the '.join(kinds) or 'model'} did not become better, so nothing changes"
    if offered:
        told = f"better, and taken: {', '.join(offered)}"
    stopped = [str(result[kind]["stopped"]) for kind in kinds if result[kind].get("stopped")]
    failed = result.get("failed") or []
    return "; ".join(
        [
            told,
            *(f"it stopped: {reason}" for reason in stopped),
            *([f"{len(failed)} pictures or regions could not be used"] if failed else []),
        ]
    )
