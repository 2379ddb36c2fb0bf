"""One labelling run: items through cascade and pipeline into files, with progress, resumption and a
summary.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.core.boxes import no_detections
from backend.core.protocols import Labeler
from backend.core.types import Detections, Image, Prediction
from backend.errors import ConfigError, LabelingError, disk_error, how_it_ended, is_disk_full
from backend.files.atomic import ensure_writable, sweep_stale
from backend.files.find import is_newer
from backend.files.images import DEFAULT_LIMITS, ImageLimits, read_image
from backend.files.ownership import state_of, write_together
from backend.formats.prompt_file import PromptFile
from backend.labeling import pipeline
from backend.labeling.outputs import (
    RunOutput,
    check_outputs,
    make_outputs,
    with_earlier_stems,
)
from backend.labeling.sources import ImageItem, check_distinct


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run: sizes, what to overwrite, where given boxes come from."""

    batch: int = 8
    workers: int | None = None
    overwrite: bool = False
    refresh: bool = False  # do again what is done, but keep what a person made or changed
    limits: ImageLimits = DEFAULT_LIMITS
    prompts: PromptFile | None = None
    progress: bool = True
    stage: Callable[[Image], Image] | None = None  # see ``models.devices.staging``


@dataclass
class RunSummary:
    """What a run did. ``failed`` holds (path, sentence)."""

    labelled: int = 0
    empty: int = 0
    done: int = 0
    outdated: int = 0  # of those, pictures that changed since
    otherwise: int = 0  # of those, pictures that other models or settings labelled
    hand_made: int = 0
    behind: int = 0  # pictures that a person corrected in one format, and not in another
    per_class: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)  # masks, by why
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: str | None = None  # why the run ended early
    outputs: list[Path] = field(default_factory=list)
    done_now: list[ImageItem] = field(default_factory=list)  # what was labelled, in order

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "images": self.labelled,
            "without_instances": self.empty,
            "instances": dict(self.per_class.most_common()),
            "left_out": dict(self.left_out.most_common()),
            "skipped": {"done": self.done, "hand_made": self.hand_made, "outdated": self.outdated},
            "behind": self.behind,
            "done_by_other_models_or_settings": self.otherwise,
            "failed": [{"file": f, "reason": r} for f, r in self.failed],
            "stopped": self.stopped,
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        lines = [f"labelled {self.labelled} images with {sum(self.per_class.values())} instances"]
        lines += [f"  {name}: {count}" for name, count in self.per_class.most_common()]
        if self.left_out:
            told = ", ".join(f"{count} {why}" for why, count in self.left_out.most_common())
            lines.append(f"left out {self.left_out.total()} masks: {told}")
        if self.empty:
            lines.append(f"{self.empty} of them without any instance")
        if self.done:
            changed = f"; the pictures of {self.outdated} changed since" if self.outdated else ""
            if self.otherwise:
                changed += f"; {self.otherwise} of them by other models or settings than now"
            lines.append(
                f"skipped {self.done} that were done before (--overwrite does them again){changed}"
            )
        if self.hand_made:
            lines.append(
                f"kept {self.hand_made} files that a person made or changed (--overwrite replaces"
                " them, with a .bak copy)"
            )
        if self.behind:
            lines.append(
                f"{self.behind} of those are corrected in one format, and other files of theirs"
                " still show what the models found; yolosam2 convert makes those of the corrected"
                " ones"
            )
        lines += [f"wrote {path}" for path in self.outputs]
        return "\n".join([*lines, *how_it_ended(self.failed, self.stopped)])


@dataclass(frozen=True, eq=False)
class _Loaded:
    image: Image
    given: Detections | None


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


@dataclass(frozen=True)
class _Job:
    """An item and the outputs that still want it."""

    item: ImageItem
    outputs: tuple[RunOutput, ...]


_Finished = tuple[Prediction, list[bool]]  # and whether each output's files were written


def _stages(
    cascade: Labeler, options: RunOptions, summary: RunSummary
) -> pipeline.Stages[_Job, _Loaded, Any, _Finished]:
    def load(job: _Job) -> _Loaded:
        image = read_image(job.item.path, options.limits)
        if options.stage is not None:
            image = options.stage(image)
        given = (
            None
            if options.prompts is None
            else options.prompts.lookup(job.item.relative) or no_detections()
        )
        return _Loaded(image, given)

    def infer(loaded: Sequence[_Loaded]) -> list[Any]:
        given = None if options.prompts is None else [one.given for one in loaded]
        return list(cascade.infer([one.image for one in loaded], given))

    def finish(job: _Job, loaded: _Loaded, raw: Any) -> _Finished:
        prediction = cascade.finish(raw)
        encoded = [(one, one.encode(job.item, loaded.image, prediction)) for one in job.outputs]
        # A disk takes many files at once, while each waits until it is safely there.
        written = [
            write_together(files, output.is_ours, overwrite=options.overwrite)
            for output, files in encoded
        ]
        return prediction, written

    def note(job: _Job, finished: _Finished) -> None:
        prediction, written = finished
        summary.hand_made += written.count(False)
        if not any(written):
            return
        summary.labelled += 1
        summary.done_now.append(job.item)
        summary.empty += not prediction.instances
        summary.per_class.update(instance.label for instance in prediction.instances)
        summary.left_out.update(prediction.left_out)

    return pipeline.Stages(load, infer, finish, note)


def _jobs(
    items: Iterable[ImageItem],
    outputs: Sequence[RunOutput],
    options: RunOptions,
    summary: RunSummary,
    version: str,
) -> list[_Job]:
    """What is left to do.

    What is done, hand-made or cannot even be looked at goes into the summary.
    """
    jobs = []
    for item in items:
        try:
            states = [_state(output, item, options) for output in outputs]
        except OSError as error:
            summary.failed.append((str(item.path), str(disk_error(error, item.path))))
            continue
        summary.hand_made += states.count("hand-made")
        if "hand-made" in states and "done" in states:
            summary.behind += 1
        wanted = [one for one, state in zip(outputs, states, strict=True) if state is None]
        if wanted:
            jobs.append(_Job(item, tuple(wanted)))
        elif "done" in states:
            summary.done += 1
            paths = [path for output in outputs for path in output.paths(item)]
            summary.outdated += any(is_newer(item.path, path) for path in paths)
            made_by = {output.version_of(path) for output in outputs for path in output.paths(item)}
            summary.otherwise += bool(made_by - {None, version})
    return jobs


def _state(output: RunOutput, item: ImageItem, options: RunOptions) -> str | None:
    if options.overwrite:
        return None
    state = state_of(output.paths(item), output.is_ours)
    return None if options.refresh and state == "done" else state


def _close(outputs: Sequence[RunOutput], out: Path, overwrite: bool, summary: RunSummary) -> None:
    """Write what needs the whole run.

    A disk that refuses now costs these files, not the summary.
    """
    for output in outputs:
        try:
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
    items = with_earlier_stems(items, outputs)
    check_outputs(outputs, items, options.overwrite)
    jobs = _jobs(items, outputs, options, summary, cascade.model_version)
    stages = _stages(cascade, options, summary)
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
                text = str(outcome.error)
                name = str(outcome.key.item.path)
                summary.failed.append((name, text if name in text else f"{name}: {text}"))
                bar.set_postfix(failed=len(summary.failed))
                if is_disk_full(outcome.error):
                    summary.stopped = text
                    stop.set()
            bar.update()
    if stop.is_set() and summary.stopped is None:
        summary.stopped = "interrupted"
    if summary.stopped in (None, "interrupted"):
        _close(outputs, out, options.overwrite, summary)
    return summary
