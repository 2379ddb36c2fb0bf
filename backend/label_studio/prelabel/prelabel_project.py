"""From options to a finished pre-labelling run: client, models, journal and engine."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.config.models import Settings
from backend.config.process import threads_of
from backend.config.service import ServiceSettings, studio_of
from backend.errors import ConfigError, InputError, LabelingError
from backend.files.images import ImageLimits
from backend.label_studio.api.client import Client
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.filters import with_version, without_version
from backend.label_studio.api.instructions import write_instructions
from backend.label_studio.api.presentation import data_manager, make_hardest_first, show_version
from backend.label_studio.prelabel.boxes import check_rows
from backend.label_studio.prelabel.dry_run import dry_run
from backend.label_studio.prelabel.engine import Engine
from backend.label_studio.prelabel.engine_local import LocalEngine
from backend.label_studio.prelabel.engine_video import VideoEngine
from backend.label_studio.prelabel.journal import Journal
from backend.label_studio.prelabel.prepare import (
    PrelabelOptions,
    Prepared,
    make_labeller,
    make_loader,
    prepare,
)
from backend.label_studio.prelabel.run import PrelabelRun, filters_of
from backend.label_studio.prelabel.stages import Labeller, Loader
from backend.label_studio.prelabel.summary import PrelabelSummary

logger = logging.getLogger(__name__)


def default_journal(url: str, project: int, model_version: str) -> Path:
    """Where the journal lies unless it is said: one for every project and version, in the current
    folder.
    """
    host = "".join(c if c.isalnum() or c in "-." else "-" for c in url.partition("://")[2])
    return Path("prelabel") / f"{host}-{project}-{model_version}.journal"


class _Bar:
    """Progress: tasks, rate and time left by tqdm, and what waits and what failed beside it."""

    def __init__(self, total: int, progress: bool) -> None:
        self._lock = threading.Lock()
        self._bar = tqdm(
            total=total, unit="task", disable=not progress, file=sys.stderr, dynamic_ncols=True
        )

    def __call__(self, summary: PrelabelSummary, waiting: int) -> None:
        with self._lock:  # failures and uploads are told by two threads
            n_failed = len(summary.failed) + len(summary.later)
            self._bar.set_postfix_str(f"{waiting} to upload, {n_failed} failed", refresh=False)
            self._bar.update(summary.n_done + n_failed + summary.n_held_out - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def prelabel_project(
    settings: Settings, service: ServiceSettings, options: PrelabelOptions, stop: Any
) -> tuple[PrelabelSummary | None, dict[str, Any]]:
    """Pre-label a project.

    Returns:
        What was done, or None for a dry run, and the report.

    Raises:
        ConfigError: something cannot work; nothing was started.
        AuthError: Label Studio refused.
    """
    url = studio_of(service, with_token=True)
    with closing(Client(url, service.label_studio_api_key, stop=stop)) as client:
        return _run(client, settings, service, options, stop)


def _run(
    client: Client,
    settings: Settings,
    service: ServiceSettings,
    options: PrelabelOptions,
    stop: Any,
) -> tuple[PrelabelSummary | None, dict[str, Any]]:
    try:
        info = client.project(options.project)
    except InputError as error:
        raise ConfigError(f"--project {options.project}: {error}") from None
    ready = prepare(settings, options, info.label_config)
    limits = ImageLimits(max_pixels=settings.max_pixels)
    missing = without_version(ready.model_version)
    filters = filters_of(client, options.project, options.choice, missing)
    if ready.prompts is not None:
        rows = itertools.chain.from_iterable(client.tasks(options.project, one) for one in filters)
        check_rows(ready.prompts, ready.binding.groups[0].data_key, rows)
    n_left = sum(client.count(options.project, one) for one in filters)
    report: dict[str, Any] = {
        "project": options.project,
        "title": info.title,
        "model_version": ready.model_version,
        "tasks_to_predict": n_left,
    }
    if options.dry_run:
        would = dry_run(client, ready, options, service, limits, n_left)
        return None, {**report, **would}
    url = str(service.label_studio_url)
    path = options.journal or default_journal(url, options.project, ready.model_version)
    journal = Journal(path, f"{url}#{options.project}", ready.model_version)
    started = time.monotonic()
    bar = _bar(n_left, journal, options)
    try:
        run = PrelabelRun(
            client,
            options.project,
            ready.model_version,
            journal,
            bar,
            replace=options.replace or options.replace_annotated,
            replace_annotated=options.replace_annotated,
            stop=stop,
        )
        engine = _engine(settings, service, options, ready, limits)
        summary = run.run(engine, options.choice, ready.given)
    finally:
        bar.close()
        journal.close()
    report |= {
        "seconds": round(time.monotonic() - started, 1),
        "requests": client.n_requests,
        "journal": str(journal.path),
        **summary.as_dict(),
    }
    if summary.n_held_out:
        summary.connected = _is_connected(client, options.project)
    tab = _present(client, options, ready.model_version) if summary.stopped is None else None
    summary.address = report["address"] = data_manager(url, options.project, tab)
    return summary, report


def _is_connected(client: Client, project: int) -> bool:
    try:
        return bool(client.call("GET", "/api/ml", params={"project": project}))
    except LabelingError:  # which a user of the token may not see
        return False


def _present(client: Client, options: PrelabelOptions, version: str) -> int | None:
    """Let the project show and sort by the version; the tab to begin with.

    What a user of the token may not do costs nothing but that.
    """
    project = options.project
    try:
        if options.instructions:
            write_instructions(client, project)
        if not options.present:
            return None
        if not client.count(project, [with_version(version)]):
            return None
        show_version(client, project, version)
        return make_hardest_first(client, project)
    except LabelingError as error:
        logger.warning("the project was left as it is: %s", error)
        return None


def _bar(n_left: int, journal: Journal, options: PrelabelOptions) -> _Bar:
    choice = options.choice
    n_open = n_left if choice.retry_failed else max(0, n_left - len(journal.failed))
    n_open = n_open if choice.limit is None else min(n_open, choice.limit)
    return _Bar(n_open, options.progress)


def _engine(
    settings: Settings,
    service: ServiceSettings,
    options: PrelabelOptions,
    ready: Prepared,
    limits: ImageLimits,
) -> Engine:
    if ready.binding.videos:
        fetcher = Fetcher(service)
        most = service.max_video_bytes
        return VideoEngine(
            ready.labeler,
            ready.config,
            ready.binding,
            ready.model_version,
            lambda uri, task, deadline, file: fetcher.download(uri, task, deadline, file, most),
            limits=limits,
            progress=options.progress,
        )
    if options.engine == "ray":
        from backend.label_studio.prelabel.engine_ray import RayEngine
        from backend.labeling.engine_ray import RayOptions
        from backend.models.devices import gpus_of_actor

        return RayEngine(
            partial(make_loader, ready.binding, service, limits),
            partial(
                make_labeller,
                ready.models,
                ready.binding,
                ready.model_version,
            ),
            RayOptions(
                batch=settings.batch,
                loaders=max(2, service.fetch_workers // 2),
                actors=options.actors,
                gpus=gpus_of_actor(settings.device),
                address=options.ray_address,
            ),
        )
    from backend.models.devices import staging, whole_batch

    loader = Loader(ready.binding, Fetcher(service).fetch, limits, staging(settings.device))
    return LocalEngine(
        loader,
        Labeller(ready.binding, ready.labeler, ready.model_version),
        whole_batch(settings.batch, settings.device),
        max(threads_of(settings.workers), service.fetch_workers),
    )
