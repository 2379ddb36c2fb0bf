"""One labelling run: items through cascade and pipeline into files, with progress, resumption and a
summary.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.core.boxes import no_detections
from backend.core.protocols import Labeler
from backend.core.types import Detections, Image, Prediction
from backend.errors import ConfigError, LabelingError, disk_error, is_disk_full
from backend.files.atomic import ensure_writable, set_aside, sweep_stale, write_atomic, write_new
from backend.files.find import is_newer
from backend.files.images import DEFAULT_LIMITS, ImageLimits, read_image
from backend.formats.prompt_file import PromptFile
from backend.labeling import pipeline
from backend.labeling.outputs import Output, Sink, check_outputs, make_sinks, state
from backend.labeling.sources import Item, check_distinct


@dataclass(frozen=True)
class Options:
    """How to run: sizes, what to overwrite, where given boxes come from."""

    batch: int = 8
    workers: int = 2
    overwrite: bool = False
    refresh: bool = False  # do again what is done, but keep what a person made or changed
    limits: ImageLimits = DEFAULT_LIMITS
    prompts: PromptFile | None = None
    progress: bool = True


@dataclass
class Summary:
    """What a run did. ``failed`` holds (path, sentence)."""

    labelled: int = 0
    empty: int = 0
    done: int = 0
    outdated: int = 0  # of those, pictures that changed since
    hand_made: int = 0
    per_class: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: str | None = None  # why the run ended early
    outputs: list[Path] = field(default_factory=list)
    done_now: list[Item] = field(default_factory=list)  # what was labelled, in order

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "images": self.labelled,
            "without_instances": self.empty,
            "instances": dict(self.per_class.most_common()),
            "skipped": {"done": self.done, "hand_made": self.hand_made, "outdated": self.outdated},
            "failed": [{"file": f, "reason": r} for f, r in self.failed],
            "stopped": self.stopped,
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        lines = [f"labelled {self.labelled} images with {sum(self.per_class.values())} instances"]
        lines += [f"  {name}: {count}" for name, count in self.per_class.most_common()]
        if self.empty:
            lines.append(f"{self.empty} of them without any instance")
        if self.done:
            changed = f"; the pictures of {self.outdated} changed since" if self.outdated else ""
            lines.append(
                f"skipped {self.done} that were done before (--overwrite does them again){changed}"
            )
        if self.hand_made:
            lines.append(
                f"kept {self.hand_made} files that a person made or changed (--overwrite replaces"
                " them, with a .bak copy)"
            )
        lines += [f"wrote {path}" for path in self.outputs]
        if self.failed:
            lines.append(f"failed {len(self.failed)}:")
            lines += [f"  {reason}" for _, reason in self.failed]
        if self.stopped:
            lines.append(f"stopped early: {self.stopped}; run the same command again to go on")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class _Loaded:
    image: Image
    given: Detections | None


def check_prompts(prompts: PromptFile, items: Sequence[Item]) -> None:
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
    """An item and the sinks that still want it."""

    item: Item
    sinks: tuple[Sink, ...]


_Finished = tuple[Prediction, list[tuple[Sink, list[Output]]]]


def _stages(
    cascade: Labeler, options: Options, summary: Summary
) -> pipeline.Stages[_Job, _Loaded, Any, _Finished]:
    def load(job: _Job) -> _Loaded:
        image = read_image(job.item.path, options.limits)
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
        return prediction, [
            (sink, sink.encode(job.item, loaded.image, prediction)) for sink in job.sinks
        ]

    def write(job: _Job, finished: _Finished) -> None:
        prediction, outputs = finished
        written = [_write_files(sink, files, options.overwrite, summary) for sink, files in outputs]
        if not any(written):
            return
        summary.labelled += 1
        summary.done_now.append(job.item)
        summary.empty += not prediction.instances
        summary.per_class.update(instance.label for instance in prediction.instances)

    return pipeline.Stages(load, infer, finish, write)


def _write_files(sink: Sink, files: list[Output], overwrite: bool, summary: Summary) -> bool:
    """Write one sink's files of one image.

    What a person made in the meantime is kept, or copied first with ``overwrite``. Returns whether
    it was written.
    """
    there = [path for path, _ in files if path.exists()]
    theirs = [path for path in there if not sink.ours(path)]
    if theirs and not overwrite:
        summary.hand_made += 1
        return False
    for path in theirs:
        set_aside(path)
    for path, data in files:
        if overwrite or path in there:  # then it is ours
            write_atomic(path, data)
        elif not write_new(path, data):  # a person was faster
            summary.hand_made += 1
            return False
    return True


def _jobs(
    items: Iterable[Item], sinks: Sequence[Sink], options: Options, summary: Summary
) -> list[_Job]:
    """What is left to do.

    What is done, hand-made or cannot even be looked at goes into the summary.
    """
    jobs = []
    for item in items:
        try:
            states = {sink: None if options.overwrite else state(sink, item) for sink in sinks}
            if options.refresh:
                states = {sink: None if one == "done" else one for sink, one in states.items()}
        except OSError as error:
            summary.failed.append((str(item.path), str(disk_error(error, item.path))))
            continue
        summary.hand_made += sum(one == "hand-made" for one in states.values())
        wanted = tuple(sink for sink, one in states.items() if one is None)
        if wanted:
            jobs.append(_Job(item, wanted))
        elif "done" in states.values():
            summary.done += 1
            summary.outdated += any(
                is_newer(item.path, path) for sink in sinks for path in sink.paths(item)
            )
    return jobs


def _close(sinks: Sequence[Sink], out: Path, overwrite: bool, summary: Summary) -> None:
    """Write what needs the whole run.

    A disk that refuses now costs these files, not the summary.
    """
    for sink in sinks:
        try:
            for path, data in sink.shared():
                if overwrite and path.exists() and path.read_bytes().strip() != data.strip():
                    set_aside(path)
                write_atomic(path, data)
            summary.outputs += sink.close()
        except LabelingError as error:
            summary.failed.append((str(out), str(error)))
        except OSError as error:
            summary.failed.append((str(out), str(disk_error(error, out))))


def annotate(
    items: Sequence[Item],
    cascade: Labeler,
    formats: Sequence[str],
    out: Path,
    options: Options,
    *,
    url_prefix: str = "/data/local-files/?d=",
    more_sinks: Sequence[Sink] = (),
    stop: threading.Event | None = None,
) -> Summary:
    """Label images into files.

    What is there already is skipped, so the same command goes on after any interruption; a file
    that a person made or changed is kept. A failed image is listed and does not stop the others; a
    full or read-only disk does.

    Args:
        items: from ``sources.collect``.
        cascade: loaded models, or a stand-in for them.
        formats: of ``sinks.FORMATS``.
        out: output folder, made if missing.
        options: see ``Options``.
        url_prefix: for Label Studio tasks.
        more_sinks: besides those of ``formats``.
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
    summary = Summary()
    sinks = [
        *make_sinks(formats, out, [cascade.names[k] for k in sorted(cascade.names)], url_prefix),
        *more_sinks,
    ]
    check_outputs(sinks, items, options.overwrite)
    jobs = _jobs(items, sinks, options, summary)
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
        _close(sinks, out, options.overwrite, summary)
    return summary
