"""From options to a finished evaluation or scoring: the one place that knows which reader, which
models and which pictures go together.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.config.models import Settings
from backend.config.service import ServiceSettings
from backend.core.classes import ClassIndex
from backend.errors import ConfigError, InputError, Unavailable
from backend.evaluation.from_export import FetchPredictions, TaskReader
from backend.evaluation.from_folders import FolderReader
from backend.evaluation.gallery import LoadPicture, render
from backend.evaluation.page import render_report, write_report
from backend.evaluation.pairs import Fault, Pair, Selection
from backend.evaluation.pictures import pictures
from backend.evaluation.score import Run, score
from backend.files.atomic import ensure_writable, write_atomic
from backend.files.images import ImageLimits
from backend.formats.json_stream import read_tasks
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.stored import Stored


@dataclass(frozen=True)
class Outputs:
    """Where the results go besides the terminal."""

    json: Path | None = None  # "-" is standard output
    report: Path | None = None
    images: Path | None = None  # folder of the pictures, for the report
    resamples: int = 1000
    progress: bool = True

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """Refuse what could not be written, or would overwrite an input, before hours of work.

        Raises:
            ConfigError: naming file or folder.
        """
        if self.images is not None and not self.images.is_dir():
            raise ConfigError(f"--images {self.images}: no such folder")
        if str(self.report) == "-":
            raise ConfigError("--report: a page needs a file of its own")
        taken = {path.resolve() for path in inputs}
        for path in (self.json, self.report):
            if path is None or str(path) == "-":
                continue
            if path.is_dir():
                raise ConfigError(f"{path}: is a folder; name a file")
            if path.resolve() in taken:
                raise ConfigError(f"{path}: would be overwritten by the results; name another file")
            taken.add(path.resolve())
            ensure_writable(path.parent)


def finish(
    run: Run,
    outputs: Outputs,
    settings: Mapping[str, Any],
    title: str,
    captions: tuple[str, str],
    load: LoadPicture,
    why: Sequence[str] = (),
) -> dict[str, Any]:
    """Compute the document and write JSON and page.

    ``why`` explains where there is nothing to compute it from.

    Raises:
        ConfigError: nothing could be scored; what was wrong with the first is told.
    """
    if not run.tally.groups and settings.get("stopped"):
        raise KeyboardInterrupt
    if not run.tally.groups:
        first = [run.faults[0].sentence] if run.faults else []
        raise ConfigError(
            "nothing could be scored: " + "; ".join([*why, *first])
            if [*why, *first]
            else "nothing could be scored: there is nothing in it"
        )
    document = run.document(settings, outputs.resamples)
    if outputs.json is not None and str(outputs.json) != "-":
        write_atomic(
            outputs.json,
            (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(
                "utf-8", "backslashreplace"
            ),
        )
    if outputs.report is not None:
        told = {
            name: value
            for name, value in settings.items()
            if name not in ("remarks", "stopped") and value not in (None, "", [], {}, False, 0)
        }
        facts = [(name.replace("_", " "), _fact(value)) for name, value in told.items()]
        whole = document["views"][0]
        facts += [("images", str(whole["images"])), ("made", time.strftime("%Y-%m-%d %H:%M"))]
        shown = render(run.gallery.worst(), run.classes.names, load, captions)
        write_report(outputs.report, render_report(document, shown, title, facts, captions))
    return document


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{old} is {new}" for old, new in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class ScoreOptions:
    """What ``score`` was asked for."""

    source: Path
    predictions: Path | None
    project: int | None
    selection: Selection
    classes: tuple[str, ...] | None
    rename: Mapping[str, str]
    overlap: str
    url_given: bool = False


def _stored(service: ServiceSettings, options: ScoreOptions) -> Stored | None:
    if options.project is None and options.url_given:
        raise ConfigError("--url: also give --project, the number in the project's address")
    if options.project is None:
        return None
    if service.label_studio_url is None:
        raise ConfigError(
            "--project: also give --url and --api-key, or set LABEL_STUDIO_URL and"
            " LABEL_STUDIO_API_KEY"
        )
    return Stored(Fetcher(service), options.project)


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
    path: Path, reader: TaskReader, progress: bool, stop: threading.Event
) -> Iterator[Pair | Fault]:
    """The pairs of an export; a file that is cut off is a fault after all that could be read."""
    try:
        with (
            path.open("rb") as stream,
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
        raise ConfigError(
            f"{path}: cannot read: {(error.strerror or str(error)).lower()}"
        ) from None


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
    outputs.check([options.source])
    classes = ClassIndex(options.classes)
    run = Run(classes, options.overlap, with_gallery=outputs.report is not None)
    stored = _stored(service, options)
    reader: FolderReader | TaskReader
    if options.source.is_dir():
        if options.predictions is None:
            raise ConfigError(
                f"{options.source}: is a folder; to compare labelme JSON, name the folder as it was"
                " predicted with --predictions DIR; exports are files"
            )
        reader = FolderReader(
            options.source, options.predictions, classes, options.rename, options.selection.missing
        )
        score(_of_folders(reader, outputs.progress, stop), run)
    elif options.predictions is not None:
        raise ConfigError(
            f"--predictions is for a folder of labelme JSON; {options.source} is a file"
        )
    else:
        fetch = None if stored is None else _fetch(stored)
        reader = TaskReader(classes, options.selection, options.rename, fetch)
        score(_of_export(options.source, reader, outputs.progress, stop), run)
    settings: dict[str, Any] = {
        "source": str(options.source),
        "predictions": str(options.predictions or "") or None,
        "project": options.project,
    }
    settings |= {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in vars(options.selection).items()
    }
    settings["stopped"] = "interrupted" if stop.is_set() else None
    settings["rename"] = dict(options.rename)
    settings |= {
        "tasks_without_annotation": reader.n_unannotated,
        "regions_left_out": reader.n_left_out,
    }
    settings["remarks"] = _remarks(reader, options)
    why: list[str] = []
    if isinstance(reader, TaskReader):
        settings["tasks_without_chosen_version"] = reader.n_without_version
        why = _why_nothing(reader)
        if options.selection.tags and reader.tags and not options.selection.tags & reader.tags:
            raise ConfigError(
                f"--tag: no region of {', '.join(sorted(options.selection.tags))}; there are"
                f" {', '.join(sorted(reader.tags))}"
            )
    load = pictures(outputs.images, ImageLimits(), stored)
    return finish(
        run,
        outputs,
        settings,
        "Pre-labels against accepted annotations",
        ("predicted", "accepted"),
        load,
        why,
    )


def _remarks(reader: FolderReader | TaskReader, options: ScoreOptions) -> list[str]:
    """What a careful colleague would point out about the input."""
    remarks = []
    unused = sorted(set(options.rename) - reader.renamed)
    if unused:
        remarks.append(f"--rename: nothing is labelled {', '.join(unused)}")
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
    return (
        [
            f"no annotated task has a prediction of the chosen version ({reader.n_without_version}"
            " have others)"
        ]
        if reader.n_without_version
        else []
    )


def _fetch(stored: Stored) -> FetchPredictions:
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


def run_evaluate(
    root: Path,
    settings: Settings,
    predictions: Path | None,
    overlap: str,
    rename: Mapping[str, str],
    outputs: Outputs,
    stop: threading.Event,
) -> dict[str, Any]:
    """Evaluate a VOC dataset.

    Raises:
        ConfigError: the dataset, the models or their classes cannot work.
    """
    from backend.evaluation.against_truth import Options, evaluate, evaluate_maps
    from backend.formats.voc.dataset import is_voc, open_voc
    from backend.labeling.load import load

    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder")
    if not is_voc(root):
        raise ConfigError(
            f"{root}: is no VOC dataset; expected JPEGImages, SegmentationClass and"
            " ImageSets/Segmentation/<split>.txt in it"
        )
    outputs.check()
    remarks: list[str] = []
    dataset = open_voc(root, settings.split)
    names = dataset.class_names or settings.classes
    limits = ImageLimits(max_pixels=settings.max_pixels)
    options = Options(
        overlap,
        settings.batch,
        settings.workers,
        limits,
        None,
        tuple(rename.items()),
        outputs.report is not None,
        outputs.progress,
    )
    if names is None:  # a model's own names would be taken for values they have nothing to do with
        raise ConfigError(
            f"{root}: has no class_names.txt or labels.txt; name the classes with --classes, in the"
            " order of their values"
        )
    if predictions is not None:
        run = evaluate_maps(dataset, predictions, names, options, stop)
        version = "label maps"
        remarks.append(
            "label maps hold neither scores nor overlaps: there is no AP, and figures of instances"
            " can differ from the models' own"
        )
    else:
        if dataset.class_names is None and settings.prompts is None:
            settings = replace(
                settings, classes=None
            )  # they name the dataset's values; what the detector finds is matched by name
        loaded = load(settings, "cascade", dataset.class_names)
        run = evaluate(
            dataset, loaded.cascade, names, replace(options, prompts=loaded.prompts), stop
        )
        version = loaded.cascade.model_version
    told = {
        "dataset": str(root),
        "split": settings.split,
        "model_version": version,
        "predictions": str(predictions or "") or None,
        "prompts": str(settings.prompts or "") or None,
        "conf": settings.conf if predictions is None else None,
        "rename": dict(rename),
        "listed_images": len(dataset.image_ids),
        "stopped": "interrupted" if stop.is_set() else None,
        "remarks": remarks,
    }
    return finish(
        run,
        outputs,
        told,
        "Masks against ground truth",
        ("prediction", "truth"),
        pictures(outputs.images, limits, None),
    )


def exit_code(document: Mapping[str, Any]) -> int:
    """1 where something could not be scored as it should be."""
    return 1 if document["failed"] else 0
