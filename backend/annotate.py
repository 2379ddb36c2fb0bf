"""One labelling run: items through cascade and pipeline into files, with progress, resumption and a summary."""

from __future__ import annotations

import errno
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from backend import pipeline
from backend.cascade import Cascade, Raw
from backend.errors import ConfigError, LabelingError
from backend.files import ensure_writable, sweep_stale, write_atomic
from backend.formats.prompts import PromptFile
from backend.images import DEFAULT_LIMITS, ImageLimits, read_image
from backend.sinks import Output, Sink, item_state, make_sinks
from backend.sources import Item
from backend.types import Detections, Image, Prediction


@dataclass(frozen=True)
class Options:
    """How to run: sizes, what to overwrite, where given boxes come from."""

    batch: int = 8
    workers: int = 2
    overwrite: bool = False
    limits: ImageLimits = DEFAULT_LIMITS
    prompts: PromptFile | None = None
    progress: bool = True


@dataclass
class Summary:
    """What a run did. ``failed`` holds (path, sentence)."""

    labelled: int = 0
    empty: int = 0
    done: int = 0
    hand_made: int = 0
    per_class: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: str | None = None  # why the run ended early
    outputs: list[Path] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "images": self.labelled,
            "without_instances": self.empty,
            "instances": dict(self.per_class.most_common()),
            "skipped": {"done": self.done, "hand_made": self.hand_made},
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
            lines.append(f"skipped {self.done} that were done before (--overwrite does them again)")
        if self.hand_made:
            lines.append(f"kept {self.hand_made} files that a person made or changed (--overwrite replaces them, with a .bak copy)")
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


def _no_detections() -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


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


_Finished = tuple[Prediction, list[Output]]


def _stages(cascade: Cascade, sinks: Sequence[Sink], options: Options, summary: Summary) -> pipeline.Stages[Item, _Loaded, Raw, _Finished]:
    def load(item: Item) -> _Loaded:
        image = read_image(item.path, options.limits)
        given = None if options.prompts is None else options.prompts.lookup(item.relative) or _no_detections()
        return _Loaded(image, given)

    def infer(loaded: Sequence[_Loaded]) -> list[Raw]:
        given = None if options.prompts is None else [one.given for one in loaded]
        return cascade.infer([one.image for one in loaded], given)

    def finish(item: Item, loaded: _Loaded, raw: Raw) -> _Finished:
        prediction = cascade.finish(raw)
        return prediction, [output for sink in sinks for output in sink.encode(item, loaded.image, prediction)]

    def write(item: Item, finished: _Finished) -> None:
        prediction, outputs = finished
        for path, data in outputs:
            write_atomic(path, data)
        summary.labelled += 1
        summary.empty += not prediction.instances
        summary.per_class.update(instance.label for instance in prediction.instances)

    return pipeline.Stages(load, infer, finish, write)


def _to_do(items: Iterable[Item], sinks: Sequence[Sink], overwrite: bool, summary: Summary) -> list[Item]:
    wanted = []
    for item in items:
        state = None if overwrite else item_state(sinks, item)
        if state is None:
            wanted.append(item)
        elif state == "done":
            summary.done += 1
        else:
            summary.hand_made += 1
    return wanted


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _is_disk_error(error: LabelingError | None) -> bool:
    cause = getattr(error, "__cause__", None)
    return isinstance(cause, OSError) and cause.errno in _DISK_ERRORS


def annotate(
    items: Sequence[Item],
    cascade: Cascade,
    formats: Sequence[str],
    out: Path,
    options: Options,
    *,
    url_prefix: str = "/data/local-files/?d=",
    stop: threading.Event | None = None,
    on_outcome: Callable[[Item, LabelingError | None], None] | None = None,
) -> Summary:
    """Label images into files.

    What is there already is skipped, so the same command goes on after any interruption; a file that a person made or changed
    is kept. A failed image is listed and does not stop the others; a full or read-only disk does.

    Args:
        items: from ``sources.collect``.
        cascade: loaded models.
        formats: of ``sinks.FORMATS``.
        out: output folder, made if missing.
        options: see ``Options``.
        url_prefix: for Label Studio tasks.
        stop: set it to finish what is in flight and end.
        on_outcome: called per image, in order.

    Returns:
        What was done.

    Raises:
        ConfigError: the folder cannot be written, or the prompt file is for other images.
    """
    ensure_writable(out)
    sweep_stale(out)
    if options.prompts is not None:
        check_prompts(options.prompts, items)
    stop = stop or threading.Event()
    summary = Summary()
    sinks = make_sinks(formats, out, [cascade.names[k] for k in sorted(cascade.names)], url_prefix)
    wanted = _to_do(items, sinks, options.overwrite, summary)
    stages = _stages(cascade, sinks, options, summary)
    with tqdm(total=len(wanted), unit="img", disable=not options.progress, file=sys.stderr, dynamic_ncols=True) as bar:
        for outcome in pipeline.run(wanted, stages, batch=options.batch, workers=options.workers, stop=stop):
            if outcome.error is not None:
                text = str(outcome.error)
                summary.failed.append((str(outcome.key.path), text if str(outcome.key.path) in text else f"{outcome.key.path}: {text}"))
                bar.set_postfix(failed=len(summary.failed))
                if _is_disk_error(outcome.error):
                    summary.stopped = str(outcome.error)
                    stop.set()
            bar.update()
            if on_outcome is not None:
                on_outcome(outcome.key, outcome.error)
    if stop.is_set() and summary.stopped is None:
        summary.stopped = "interrupted"
    if summary.stopped is None or summary.stopped == "interrupted":
        summary.outputs = [path for sink in sinks for path in sink.close()]
    return summary
