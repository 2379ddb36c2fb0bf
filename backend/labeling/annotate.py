"""One labelling run: items through cascade and pipeline into files, with progress, resumption and a
summary.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.core.protocols import Labeler
from backend.errors import ConfigError, LabelingError, Unavailable, disk_error, is_disk_full
from backend.files.atomic import ensure_writable, sweep_stale
from backend.files.stores import reaching
from backend.formats.prompt_file import PromptFile
from backend.labeling import pipeline
from backend.labeling.outputs import (
    check_classes,
    check_outputs,
    make_outputs,
    with_earlier_stem,
)
from backend.labeling.picture_work import Done, LoadedPicture, Looked, PictureWork, RunOptions
from backend.labeling.run_output import RunOutput
from backend.labeling.run_summary import RunSummary
from backend.labeling.sources import ImageItem, check_distinct


def check_prompts(prompts: PromptFile, items: Sequence[ImageItem]) -> None:
    """Refuse a prompt file that has rows for none of the images.

    Raises:
        ConfigError: with an example of both sides.
    """
    if items and not any(prompts.lookup(item.relative) is not None for item in items):
        theirs = next(iter(prompts.by_image), "nothing")
        raise ConfigError(
            f"{prompts.path}: has boxes for none of these images; it names for example {theirs!r}, "
            f"the images are called for example {items[0].relative.with_suffix('').as_posix()!r}"
        )


def _stages(
    cascade: Labeler, work: PictureWork, summary: RunSummary
) -> pipeline.Stages[Looked, LoadedPicture, Any, Done]:
    return pipeline.Stages(
        load=lambda looked: work.load(looked.item),
        infer=lambda loaded: work.infer(cascade, loaded),
        finish=lambda looked, loaded, raw: work.finish(cascade, looked, loaded, raw),
        write=lambda looked, done: summary.note_done(looked.item, done),
    )


def _left(items: Iterable[ImageItem], work: PictureWork, summary: RunSummary) -> list[Looked]:
    """What is left to do. What is done, hand-made or cannot even be looked at goes into the
    summary.
    """
    left = []
    for item in items:
        try:
            looked = work.look(item)
        except Unavailable as error:
            summary.failed.append((str(item.path), str(error)))
            continue
        summary.note_looked(looked)
        if looked.wanted:
            left.append(looked)
    return left


def close_outputs(
    outputs: Sequence[RunOutput], out: Path, overwrite: bool, summary: RunSummary
) -> None:
    """Write what needs the whole run.

    A disk that refuses now costs these files, not the summary.
    """
    for output in outputs:
        try:
            with reaching(out):
                files, n_kept = output.close(overwrite)
        except LabelingError as error:
            summary.failed.append((str(out), str(error)))
        except OSError as error:
            summary.failed.append((str(out), str(disk_error(error, out))))
        else:
            summary.outputs += files
            summary.hand_made += n_kept


def annotate(
    items: Sequence[ImageItem],
    cascade: Labeler,
    formats: Sequence[str],
    out: Path,
    options: RunOptions,
    *,
    url_prefix: str = "/data/local-files/?d=",
    more_outputs: Sequence[RunOutput] = (),
    legend: bool = False,
    stop: threading.Event | None = None,
) -> RunSummary:
    """Label images into files.

    What is there already is skipped, so the same command goes on after any interruption; a file
    that a person made or changed is kept. A failed image is listed and does not stop the others; a
    full or read-only disk does.

    Args:
        items: from ``sources.collect``.
        cascade: loaded models, or a stand-in for them.
        formats: of ``outputs.OUTPUT_FORMATS`` and ``outputs.DATASETS``.
        out: output folder, made if missing.
        options: see ``RunOptions``.
        url_prefix: for Label Studio tasks.
        more_outputs: besides those of ``formats``.
        legend: whether pictures get one; for masks that do not overlap.
        stop: set it to finish what is in flight and end.

    Returns:
        What was done.

    Raises:
        ConfigError: the folder cannot be written or holds results for other classes, a picture
            would be overwritten, or the prompt file is for other images.
    """
    ensure_writable(out)
    sweep_stale(out)
    if options.prompts is not None or "label-studio" in formats:
        check_distinct(items)
    if options.prompts is not None:
        check_prompts(options.prompts, items)
    stop = stop or threading.Event()
    summary = RunSummary()
    names = [cascade.names[k] for k in sorted(cascade.names)]
    outputs = [*make_outputs(formats, out, names, url_prefix, legend=legend), *more_outputs]
    items = [with_earlier_stem(item, outputs) for item in items]
    check_outputs(outputs, items)
    check_classes(outputs, options.overwrite)
    work = PictureWork(outputs, options, cascade.model_version)
    jobs = _left(items, work, summary)
    stages = _stages(cascade, work, summary)
    with tqdm(
        total=len(jobs),
        unit="img",
        disable=not options.progress,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for outcome in pipeline.run(
            jobs, stages, batch=options.batch, workers=options.workers, stop=stop
        ):
            if outcome.error is not None:
                summary.note_failed(outcome.key.item, outcome.error)
                bar.set_postfix(failed=len(summary.failed))
                if is_disk_full(outcome.error):
                    summary.stopped = str(outcome.error)
                    stop.set()
            bar.update()
    if stop.is_set() and summary.stopped is None:
        summary.stopped = "interrupted"
    if summary.stopped in (None, "interrupted"):
        close_outputs(outputs, out, options.overwrite, summary)
    return summary
