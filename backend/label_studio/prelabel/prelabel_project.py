"""From options to a finished pre-labelling run: client, models, journal and engine."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.config.models import Settings
from backend.config.service import ServiceSettings
from backend.errors import ConfigError, InputError, LabelingError
from backend.files.atomic import file_digest
from backend.files.images import ImageLimits
from backend.formats.label_studio.binding import Binding, bind, project_version
from backend.formats.label_studio.label_config import LabelConfig, parse_label_config
from backend.formats.prompt_file import PromptFile, read_prompts
from backend.label_studio.api.client import Client, Row, without_version
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.tasks import Task
from backend.label_studio.prelabel.boxes import check_rows, from_file, from_tasks
from backend.label_studio.prelabel.engine import Engine
from backend.label_studio.prelabel.engine_local import LocalEngine
from backend.label_studio.prelabel.journal import Journal
from backend.label_studio.prelabel.run import Choice, Run, filters_of
from backend.label_studio.prelabel.stages import Labeller, Loader, Work
from backend.label_studio.prelabel.summary import Summary
from backend.labeling.cascade import Cascade

_SAMPLE = 3  # tasks that a dry run predicts to know what one costs


@dataclass(frozen=True)
class Options:
    """What ``prelabel`` was asked for."""

    project: int
    choice: Choice
    engine: str = "local"
    ray_address: str | None = None
    actors: int = 1
    dry_run: bool = False
    replace: bool = False
    from_boxes: str | None = None
    journal: Path | None = None
    progress: bool = True


@dataclass(frozen=True, eq=False)
class Ready:
    """The models bound to the project."""

    cascade: Cascade
    binding: Binding
    model_version: str
    given: Callable[[Row], Any] | None
    names: list[str] | None  # of given boxes
    given_version: str
    prompts: PromptFile | None


def label_names(config: LabelConfig) -> list[str]:
    """The labels of the tags that show masks or boxes, in their order: the classes where boxes come
    with labels.
    """
    return list(
        dict.fromkeys(
            label.value
            for tag in config.tags
            if tag.kind != "keypointlabels"
            for label in tag.labels
        )
    )


def load_cascade(settings: Settings, names: list[str] | None, given_version: str) -> Cascade:
    """The models; ``names`` are the classes of given boxes, None where a detector finds them."""
    from backend.labeling.load import build_cascade

    if names is None:
        return build_cascade(settings, all_scores=True)
    return build_cascade(replace(settings, conf=0.0), names=names, given_version=given_version)


def prepare(settings: Settings, options: Options, label_config: str) -> Ready:
    """Read the label config and load the models.

    Raises:
        ConfigError: they do not fit, or a tag names a detector of its own.
    """
    try:
        config = parse_label_config(label_config)
        if any(tag.model_path is not None and not tag.skip for tag in config.tags):
            raise ConfigError(
                "the labeling config chooses detectors with model_path, which only `yolosam2 serve`"
                " can do; take it out"
            )
        names = None
        version = ""
        prompts: PromptFile | None = None
        if settings.prompts is not None:
            names = list(settings.classes or label_names(config))
            prompts = read_prompts(settings.prompts, len(names))
            version = file_digest(settings.prompts)[:8]
        elif options.from_boxes is not None:
            names = label_names(config)
            version = options.from_boxes
        cascade = load_cascade(settings, names, version)
        binding = bind(
            config,
            lambda path: cascade.names,
            0.0 if options.from_boxes is not None else settings.conf,
        )
    except InputError as error:
        raise ConfigError(f"project {options.project}: {error}") from None
    if not binding.groups:
        raise ConfigError(
            f"project {options.project}: no tag of its labeling config is filled; `yolosam2"
            " make-config` prints one that is"
        )
    given: Callable[[Row], Any] | None = None
    if prompts is not None:
        given = from_file(prompts, binding.groups[0].data_key)
    elif options.from_boxes is not None:
        given = from_tasks(
            options.from_boxes,
            {name: k for k, name in enumerate(names or ())},
            binding.groups[0].to_name,
        )
    return Ready(
        cascade,
        binding,
        project_version([cascade.model_version], binding),
        given,
        names,
        version,
        prompts,
    )


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

    def __call__(self, summary: Summary, waiting: int) -> None:
        with self._lock:  # failures and uploads are told by two threads
            n_failed = len(summary.failed) + len(summary.later)
            self._bar.set_postfix_str(f"{waiting} to upload, {n_failed} failed", refresh=False)
            self._bar.update(summary.n_done + n_failed - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def prelabel_project(
    settings: Settings, service: ServiceSettings, options: Options, stop: Any
) -> tuple[Summary | None, dict[str, Any]]:
    """Pre-label a project.

    Returns:
        What was done, or None for a dry run, and the report.

    Raises:
        ConfigError: something cannot work; nothing was started.
        AuthError: Label Studio refused.
    """
    if service.label_studio_url is None or not service.label_studio_api_key:
        raise ConfigError(
            "give --url and --api-key, or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
        )
    with closing(
        Client(service.label_studio_url, service.label_studio_api_key, stop=stop)
    ) as client:
        return _run(client, settings, service, options, stop)


def _run(
    client: Client, settings: Settings, service: ServiceSettings, options: Options, stop: Any
) -> tuple[Summary | None, dict[str, Any]]:
    try:
        info = client.project(options.project)
    except InputError as error:
        raise ConfigError(f"--project {options.project}: {error}") from None
    ready = prepare(settings, options, info.label_config)
    limits = ImageLimits(max_pixels=settings.max_pixels)
    if ready.prompts is not None:
        parts = filters_of(
            client, options.project, options.choice, without_version(ready.model_version)
        )
        rows = itertools.chain.from_iterable(client.tasks(options.project, part) for part in parts)
        check_rows(ready.prompts, ready.binding.groups[0].data_key, rows)
    n_left = sum(
        client.count(options.project, part)
        for part in filters_of(
            client, options.project, options.choice, without_version(ready.model_version)
        )
    )
    report: dict[str, Any] = {
        "project": options.project,
        "title": info.title,
        "model_version": ready.model_version,
        "tasks_to_predict": n_left,
    }
    if options.dry_run:
        return None, {**report, **_dry_run(client, ready, options, service, limits, n_left)}
    name = f"{service.label_studio_url}#{options.project}"
    journal = Journal(
        options.journal
        or default_journal(str(service.label_studio_url), options.project, ready.model_version),
        name,
        ready.model_version,
    )
    n_open = n_left if options.choice.retry_failed else max(0, n_left - len(journal.failed))
    bar = _Bar(
        n_open if options.choice.limit is None else min(n_open, options.choice.limit),
        options.progress,
    )
    run = Run(
        client,
        options.project,
        ready.model_version,
        journal,
        bar,
        replace=options.replace,
        stop=stop,
    )
    started = time.monotonic()
    try:
        summary = run.run(
            _engine(settings, service, options, ready, limits), options.choice, ready.given
        )
    finally:
        bar.close()
        journal.close()
    report |= {
        "seconds": round(time.monotonic() - started, 1),
        "requests": client.n_requests,
        "journal": str(journal.path),
        **summary.as_dict(),
    }
    return summary, report


def make_loader(binding: Binding, service: ServiceSettings, limits: ImageLimits) -> Loader:
    """On another machine: a loader with a fetcher of its own."""
    return Loader(binding, Fetcher(service).fetch, limits)


def make_labeller(
    settings: Settings,
    names: list[str] | None,
    given_version: str,
    binding: Binding,
    model_version: str,
) -> Labeller:
    """On another machine: the same models.

    Raises:
        ConfigError: they are others there.
    """
    cascade = load_cascade(settings, names, given_version)
    if project_version([cascade.model_version], binding) != model_version:
        raise ConfigError(
            f"the models of this machine are {cascade.model_version}, not {model_version}; install"
            " the same weights everywhere"
        )
    return Labeller(binding, cascade, model_version)


def _engine(
    settings: Settings,
    service: ServiceSettings,
    options: Options,
    ready: Ready,
    limits: ImageLimits,
) -> Engine:
    if options.engine == "ray":
        from backend.label_studio.prelabel.engine_ray import RayEngine
        from backend.models.devices import resolve_device

        gpus = 1 if resolve_device(settings.device).startswith("cuda") else 0
        return RayEngine(
            partial(make_loader, ready.binding, service, limits),
            partial(
                make_labeller,
                settings,
                ready.names,
                ready.given_version,
                ready.binding,
                ready.model_version,
            ),
            settings.batch,
            max(2, service.fetch_workers // 2),
            options.actors,
            gpus,
            options.ray_address,
        )
    loader = Loader(ready.binding, Fetcher(service).fetch, limits)
    return LocalEngine(
        loader,
        Labeller(ready.binding, ready.cascade, ready.model_version),
        settings.batch,
        max(settings.workers, service.fetch_workers),
    )


def _dry_run(
    client: Client,
    ready: Ready,
    options: Options,
    service: ServiceSettings,
    limits: ImageLimits,
    n_left: int,
) -> dict[str, Any]:
    """What a run would do, and what it would take, from a few tasks that are predicted and not
    uploaded.
    """
    loader = Loader(ready.binding, Fetcher(service).fetch, limits)
    labeller = Labeller(ready.binding, ready.cascade, ready.model_version)
    seconds = []
    sizes = []
    faults = []
    filters = filters_of(
        client, options.project, options.choice, without_version(ready.model_version)
    )[0]
    for row in itertools.islice(
        client.tasks(options.project, filters, full=ready.given is not None), _SAMPLE
    ):
        start = time.monotonic()
        try:
            loaded = loader(
                Work(Task(row.id, row.data), None if ready.given is None else ready.given(row))
            )
            sizes.append(len(labeller.finish(row.id, labeller.infer([loaded])[0])))
            seconds.append(time.monotonic() - start)
        except LabelingError as error:
            faults.append(str(error))
    labels = [
        {
            "tag": output.from_name,
            "class": ready.cascade.names[k],
            "label": label,
            "threshold": output.thresholds[k],
        }
        for group in ready.binding.groups
        for output in group.outputs
        for k, label in output.labels.items()
    ]
    n = n_left if options.choice.limit is None else min(n_left, options.choice.limit)
    cost = (
        {
            "estimated_seconds": round(min(seconds) * n, 1),
            "estimated_bytes": int(sum(sizes) / len(sizes) * n),
        }
        if seconds
        else {}
    )
    return {
        "dry_run": True,
        "labels": labels,
        "notes": list(ready.binding.notes),
        "sampled": len(seconds),
        "faults": faults,
        **cost,
    }


def dry_run_text(report: Mapping[str, Any]) -> str:
    """A dry run for people."""
    lines = [
        f"project {report['project']}, {report['title']!r}: {report['tasks_to_predict']} tasks to"
        f" predict as {report['model_version']}"
    ]
    lines += [
        f"  {one['tag']}: {one['class']} becomes {one['label']} from {one['threshold']:g}"
        for one in report["labels"]
    ]
    lines += [f"  {note}" for note in report["notes"]]
    if "estimated_seconds" in report:
        seconds = report["estimated_seconds"]
        span = (
            f"{seconds:.0f} seconds"
            if seconds < 120
            else f"{seconds / 60:.0f} minutes"
            if seconds < 7200
            else f"{seconds / 3600:.1f} hours"
        )
        lines.append(
            f"about {span} and {report['estimated_bytes'] / 1e6:.1f} MB, going by"
            f" {report['sampled']} of them"
        )
    lines += [f"  {fault}" for fault in report["faults"]]
    return "\n".join([*lines, "nothing was uploaded"])
