"""From options to a finished scoring: which reader and which pictures go together."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.config.service import ServiceSettings, studio_of
from backend.core.classes import ClassIndex
from backend.errors import ConfigError, InputError, Unavailable, counted, system_reason
from backend.evaluation.chosen import FetchPredictions
from backend.evaluation.from_export import TaskReader
from backend.evaluation.from_folders import FolderReader
from backend.evaluation.page import write_report
from backend.evaluation.pairs import Pair, Selection
from backend.evaluation.pictures import pictures
from backend.evaluation.results import Outputs, finish
from backend.evaluation.scoring import Scoring, score
from backend.evaluation.video_page import render_videos
from backend.evaluation.video_tasks import score_video_tasks, shows_videos
from backend.files.atomic import write_atomic
from backend.files.images import ImageLimits
from backend.files.text import open_utf8
from backend.formats.json_stream import read_tasks
from backend.formats.label_studio.reader import export_files
from backend.formats.sample import OTHER_REGIONS, Fault
from backend.label_studio.api.client import Client
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.snapshot import write_snapshot
from backend.label_studio.api.stored import StoredProject


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What ``score`` was asked for."""

    source: Path | None  # None: a snapshot of the project
    predictions: Path | None
    project: int | None
    selection: Selection
    classes: tuple[str, ...] | None
    rename: Mapping[str, str]
    overlap: str
    url_given: bool = False
    source_shown: str | None = None  # where the source is of no use to a reader
    compare: tuple[str, str] | None = None  # model versions
    hourly: float | None = None  # what an hour of an annotator costs
    encoding: str | None = None  # of files without a mark; None is UTF-8


def _stored(service: ServiceSettings, options: ScoreOptions) -> StoredProject | None:
    if options.project is None and options.url_given:
        raise ConfigError("--url: also give --project, the number in the project's address")
    if options.project is None:
        return None
    studio_of(service)
    return StoredProject(Fetcher(service), options.project)


def _of_folders(
    reader: FolderReader, progress: bool, stop: threading.Event
) -> Iterator[Pair | Fault]:
    with tqdm(
        reader.files, unit="file", disable=not progress, file=sys.stderr, dynamic_ncols=True
    ) as bar:
        for relative in bar:
            yield from reader.pairs(relative)
            if stop.is_set():
                return


_MOST_UNANSWERED = 3


def _of_export(
    path: Path, reader: TaskReader, encoding: str | None, progress: bool, stop: threading.Event
) -> Iterator[Pair | Fault]:
    """The pairs of an export; a file that is cut off is a fault after all that could be read."""
    try:
        with (
            open_utf8(path, encoding) as stream,
            tqdm(
                total=os.fstat(stream.fileno()).st_size,
                unit="B",
                unit_scale=True,
                disable=not progress,
                file=sys.stderr,
            ) as bar,
        ):
            failed = 0
            for number, task in enumerate(read_tasks(stream, path)):
                for item in reader.pairs(task, number):
                    failed += isinstance(item, Fault)
                    yield item
                bar.update(min(stream.tell(), bar.total) - bar.n)
                bar.set_postfix_str(f"{number + 1:,} tasks, {failed:,} failed", refresh=False)
                if stop.is_set():
                    return
    except InputError as error:
        yield Fault(str(path), str(error))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {system_reason(error)}") from None


def _fetch_snapshot(options: ScoreOptions, service: ServiceSettings, path: Path) -> None:
    if options.project is None:
        raise ConfigError(
            "score: name an export or a folder, or give --url and --project to fetch one"
        )
    url = studio_of(service, with_token=True)
    client = Client(url, service.label_studio_api_key)
    with closing(client), path.open("wb") as target:
        write_snapshot(client, options.project, target)


def _of_exports(
    options: ScoreOptions, reader: TaskReader, progress: bool, stop: threading.Event
) -> Iterator[Pair | Fault]:
    source = options.source or Path()
    files = export_files(source) if source.is_dir() else [source]
    progress = progress and len(files) == 1
    for path in files:
        yield from _of_export(path, reader, options.encoding, progress, stop)
        if stop.is_set():
            return


def run_score(
    options: ScoreOptions, service: ServiceSettings, outputs: Outputs, stop: threading.Event
) -> dict[str, Any]:
    """Score an export or two folders.

    Returns:
        The document.

    Raises:
        ConfigError: the input is not there or cannot be scored at all.
        AuthError: Label Studio refused.
    """
    if options.source is None:
        with tempfile.TemporaryDirectory(prefix="yolosam2-") as folder:
            path = Path(folder) / f"project-{options.project}.json"
            try:
                _fetch_snapshot(options, service, path)
            except InputError as error:
                raise ConfigError(f"--project {options.project}: {error}") from None
            shown = f"project {options.project} of {service.label_studio_url}"
            read = replace(options, source=path, source_shown=shown)
            return run_score(read, service, outputs, stop)
    outputs.check([options.source])
    if options.project is not None and service.label_studio_url is not None:
        address = f"{service.label_studio_url.rstrip('/')}/projects/{options.project}"
        outputs = replace(outputs, project_url=address)
    if options.source.is_file() and shows_videos(options.source, options.encoding):
        return _of_videos(options.source, options, outputs, stop)
    stored = _stored(service, options)
    classes = ClassIndex(options.classes)
    run = Scoring(classes, options.overlap, with_gallery=outputs.report is not None)
    reader = _reader(options, classes, stored)
    if options.compare is not None:  # by their own names, or those that were given to them
        old, new = map(reader.names.look_up, options.compare)
        run.compare = (old, new)
    if isinstance(reader, FolderReader):
        score(_of_folders(reader, outputs.progress, stop), run)
    else:
        run.lead_times = reader.lead_times
        run.hourly = options.hourly
        score(_of_exports(options, reader, outputs.progress, stop), run)
    settings = _settings(options, reader)
    settings["stopped"] = "interrupted" if stop.is_set() else None
    why: list[str] = []
    if isinstance(reader, TaskReader):
        why = _why_nothing(reader)
        wanted = options.selection.tags
        if wanted and reader.tags and not wanted & reader.tags:
            there = ", ".join(sorted(reader.tags))
            raise ConfigError(f"--tag: no region of {', '.join(sorted(wanted))}; there are {there}")
    return finish(
        run,
        outputs,
        settings,
        title="Pre-labels against accepted annotations",
        captions=("predicted", "accepted"),
        load=pictures(outputs.images, ImageLimits(), stored),
        why=why,
    )


def _of_videos(
    source: Path, options: ScoreOptions, outputs: Outputs, stop: threading.Event
) -> dict[str, Any]:
    """An export of a project of videos.

    Raises:
        ConfigError: it cannot be scored, has no page, or an option means nothing there.
    """
    without = {
        "--classes": options.classes,
        "--rename": options.rename,
        "--compare": options.compare,
        "--hourly": options.hourly,
        "--predictions": options.predictions,
        "--tag": options.selection.tags,
        "--missing": options.selection.missing,
        "--holdout": options.selection.holdout,
        "--name": options.selection.names,
    }
    given = [name for name, value in without.items() if value]
    if given:
        raise ConfigError(f"{given[0]}: has no meaning for videos; leave it out")
    scores = score_video_tasks(source, options.selection, options.encoding, stop)
    document = scores.document
    if outputs.json is not None and str(outputs.json) != "-":
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_atomic(outputs.json, text.encode("utf-8", "backslashreplace"))
    if outputs.report is not None:
        shown = options.source_shown or str(source)
        page = render_videos(document, scores.timelines, shown, outputs.project_url)
        write_report(outputs.report, page)
    return document


def _reader(
    options: ScoreOptions, classes: ClassIndex, stored: StoredProject | None
) -> FolderReader | TaskReader:
    """What reads the source.

    Raises:
        ConfigError: there is nothing to compare it with, or nothing in it.
    """
    source = options.source or Path()
    if source.is_dir() and (options.predictions is not None or not export_files(source)):
        if options.predictions is None:
            raise ConfigError(
                f"{source}: holds no export of Label Studio; to compare labelme JSON, name the"
                " folder as it was predicted with --predictions DIR"
            )
        return FolderReader(
            source,
            options.predictions,
            classes,
            options.rename,
            missing=options.selection.missing,
            encoding=options.encoding,
            names=options.selection.names,
        )
    if options.predictions is not None:
        raise ConfigError(f"--predictions is for a folder of labelme JSON; {source} is a file")
    fetch = None if stored is None else _fetch(stored)
    people = None if stored is None else stored.people()
    return TaskReader(classes, options.selection, options.rename, fetch, people)


def _settings(options: ScoreOptions, reader: FolderReader | TaskReader) -> dict[str, Any]:
    """What the run was told and what it left out, kept beside its results."""
    chosen = vars(options.selection).items()
    settings: dict[str, Any] = {
        "source": options.source_shown or str(options.source),
        "predictions": str(options.predictions or "") or None,
        "project": options.project,
        **{name: sorted(v) if isinstance(v, frozenset) else v for name, v in chosen},
        "stopped": None,
        "rename": dict(options.rename),
        "tasks_without_annotation": reader.n_unannotated,
        "regions_left_out": sum(reader.left_out.values()),
        "left_out": {what: n for what, n in reader.left_out.most_common() if n},
        "left_out_in": {OTHER_REGIONS: list(reader.left_out_in)}
        if isinstance(reader, TaskReader) and reader.left_out_in
        else {},
        "remarks": _remarks(reader, options),
    }
    if isinstance(reader, TaskReader):
        settings["tasks_without_chosen_version"] = reader.n_without_version
        settings["tasks_held_out"] = reader.n_held_out
    return settings


def _remarks(reader: FolderReader | TaskReader, options: ScoreOptions) -> list[str]:
    """Remarks on the input that a reader of the figures should know."""
    remarks = []
    unused = sorted(set(options.rename) - reader.renamed)
    if unused:
        remarks.append(f"--rename: nothing is labelled {', '.join(unused)}")
    remarks += reader.names.check()
    if isinstance(reader, TaskReader) and reader.n_spoiled:
        remarks.append(
            f"{counted(reader.n_spoiled, 'task')} of the control group all the same with"
            " predictions, so counted as pre-labelled: a connected backend answers when a task is"
            " opened; start yolosam2 serve with the same --holdout"
        )
    if isinstance(reader, FolderReader) and reader.n_changed:
        remarks.append(
            f"{reader.n_changed} files in {options.predictions} were changed by hand since; are the"
            " folders the other way round?"
        )
    return remarks


def _why_nothing(reader: TaskReader) -> list[str]:
    """Why no task could be compared."""
    if reader.n_tasks and reader.n_unannotated == reader.n_tasks:
        people = f"; annotated by {', '.join(sorted(reader.people))}" if reader.people else ""
        return [f"none of its {reader.n_tasks} tasks has an annotation that counts{people}"]
    if reader.n_without_version:
        there = ", ".join(sorted(reader.other_versions))
        others = f"({reader.n_without_version} have others: {there})"
        return [f"no annotated task has a prediction of the chosen version {others}"]
    return []


def _fetch(stored: StoredProject) -> FetchPredictions:
    """Predictions of a task.

    Once Label Studio has been silent for several tasks in a row, it is not asked again.
    """
    silent = 0

    def fetch(task: int) -> Sequence[Any]:
        nonlocal silent
        if silent >= _MOST_UNANSWERED:
            raise Unavailable(
                f"task {task}: not asked for: Label Studio did not answer for {silent} tasks"
                " before it"
            )
        try:
            found = stored.predictions(task)
        except Unavailable:
            silent += 1
            raise
        silent = 0
        return found

    return fetch
