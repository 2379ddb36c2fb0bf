"""A labelling run on Ray: pictures are listed here, and loaded, labelled and written by workers.

Each worker writes the files of its pictures by itself, so that this process, which only counts, is
never in the way. The rule of what may be written looks at the files alone, so that a picture that
is done twice, because a worker died, has the same files as one that was done once.
"""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from backend.core.protocols import Labeler
from backend.errors import ConfigError, is_disk_full
from backend.files.atomic import (
    ensure_writable,
    remove,
    sweep_stale,
    temporary_beside,
    write_atomic,
)
from backend.files.find import is_there
from backend.files.images import SUFFIXES
from backend.files.stores import is_stored
from backend.labeling.annotate import close_outputs
from backend.labeling.engine_ray import RayOptions, run_on_ray
from backend.labeling.outputs import (
    check_classes,
    check_outputs,
    make_outputs,
    with_earlier_stem,
)
from backend.labeling.picture_work import Done, LoadedPicture, Looked, PictureWork, RunOptions
from backend.labeling.ray_workers import Failure, Loaded, Skipped
from backend.labeling.run_output import RunOutput
from backend.labeling.run_summary import RunSummary
from backend.labeling.sources import ImageItem


@dataclass(frozen=True, kw_only=True, eq=False)
class RayJob:
    """What every worker has to know.

    Attributes:
        make_labeler: loads the models.
        names: of their classes, in order.
        version: of the models.
        source: the folder of the pictures.
        out: output folder.
        formats: of ``outputs.OUTPUT_FORMATS`` and ``outputs.DATASETS``.
        options: of the run.
        url_prefix: for Label Studio tasks.
        legend: whether pictures get one.
    """

    make_labeler: Callable[[], Labeler]
    names: Sequence[str]
    version: str
    source: Path
    out: Path
    formats: Sequence[str]
    options: RunOptions
    url_prefix: str = "/data/local-files/?d="
    legend: bool = False

    def outputs(self) -> list[RunOutput]:
        """What is written."""
        return make_outputs(self.formats, self.out, self.names, self.url_prefix, legend=self.legend)


def _check_seen(job: RayJob, marker: Path) -> None:
    """Refuse a worker on a machine that does not see the folders.

    Raises:
        ConfigError: naming the folder and the machine.
    """
    for folder, seen in ((job.source, job.source), (job.out, marker)):
        if not is_stored(folder) and not is_there(seen):
            raise ConfigError(
                f"{folder}: {platform.node()} does not see it; with --ray-address, folders have to"
                " be shared by all machines, or lie in a store such as s3://"
            )


class _Loader:
    """Pictures that are left to do are loaded, on a worker."""

    def __init__(self, job: RayJob, marker: Path) -> None:
        _check_seen(job, marker)
        self._outputs = job.outputs()
        self._work = PictureWork(self._outputs, job.options, job.version)

    def __call__(self, item: ImageItem, found: Looked | None) -> Loaded | Skipped:
        # What a worker wrote before it died is written again, and what was there before it is not.
        looked = found or self._work.look(with_earlier_stem(item, self._outputs))
        if not looked.wanted:
            return Skipped((looked, None))
        try:
            return Loaded((looked, self._work.load(looked.item)), looked)
        except Exception as error:  # with what was found, which is counted
            return Skipped((looked, Failure.of(error)))


class _Models:
    """Pictures are labelled, and their files written, on a worker."""

    def __init__(self, job: RayJob, marker: Path) -> None:
        _check_seen(job, marker)
        self._work = PictureWork(job.outputs(), job.options, job.version)
        self._labeler = job.make_labeler()

    def infer(self, loaded: Sequence[tuple[Looked, LoadedPicture]]) -> list[Any]:
        return self._work.infer(self._labeler, [one for _, one in loaded])

    def finish(
        self, key: ImageItem, loaded: tuple[Looked, LoadedPicture], raw: Any
    ) -> tuple[Looked, Done | Failure]:
        looked, picture = loaded
        try:
            return looked, self._work.finish(self._labeler, looked, picture, raw)
        except Exception as error:
            return looked, Failure.of(error)


def annotate_on_ray(
    items: Iterable[ImageItem], job: RayJob, ray: RayOptions, stop: threading.Event
) -> RunSummary:
    """Label images into files, as ``annotate`` does, with the same files.

    Args:
        items: read as the work goes on.
        job: what is done.
        ray: workers and batches.
        stop: set it to finish what is in flight and end.

    Returns:
        What was done.

    Raises:
        ConfigError: a folder that a worker does not see or cannot write, results for other classes
            or in the place of a picture, or Ray is not there.
        Unavailable: Ray ends.
    """
    ensure_writable(job.out)
    sweep_stale(job.out)
    outputs = job.outputs()
    check_classes(outputs, job.options.overwrite)
    _check_apart(job, outputs)
    # What a device of this process is fed with is nothing to workers.
    job = replace(job, options=replace(job.options, stage=None))
    marker = temporary_beside(job.out / "probe")
    write_atomic(marker, b"x")
    summary = RunSummary()
    try:
        _run(_checked(items, outputs), job, ray, marker, summary, stop)
    finally:
        remove(marker)
    if stop.is_set() and summary.stopped is None:
        summary.stopped = "interrupted"
    if summary.stopped in (None, "interrupted"):
        close_outputs(outputs, job.out, job.options.overwrite, summary)
    return summary


def _run(
    items: Iterable[ImageItem],
    job: RayJob,
    ray: RayOptions,
    marker: Path,
    summary: RunSummary,
    stop: threading.Event,
) -> None:
    loader = partial(_Loader, job, marker)
    models = partial(_Models, job, marker)
    with tqdm(
        unit="img", disable=not job.options.progress, file=sys.stderr, dynamic_ncols=True
    ) as bar:
        for outcome in run_on_ray(items, loader, models, ray, stop):
            error = outcome.error
            if error is None:
                looked, done = outcome.value
                summary.note_looked(looked)
                if isinstance(done, Failure):
                    error = done.error()
                elif done is not None:
                    summary.note_done(looked.item, done)
            if error is not None:
                summary.note_failed(outcome.key, error)
                bar.set_postfix(failed=len(summary.failed))
                if is_disk_full(error):
                    summary.stopped = str(error)
                    stop.set()
            bar.update()


def _checked(items: Iterable[ImageItem], outputs: Sequence[RunOutput]) -> Iterator[ImageItem]:
    """Pictures that nothing is written over; see ``check_outputs``."""
    for item in items:
        check_outputs(outputs, [item])
        yield item


def _check_apart(job: RayJob, outputs: Sequence[RunOutput]) -> None:
    """Refuse to replace pictures where those to label may lie.

    Raises:
        ConfigError: naming the option.
    """
    if not job.options.overwrite or is_stored(job.source) != is_stored(job.out):
        return
    made = [path for one in outputs for path in one.paths(_EXAMPLE)]
    above = job.out.resolve()
    within = above == job.source.resolve() or above in job.source.resolve().parents
    if within and any(path.suffix.lower() in SUFFIXES for path in made):
        raise ConfigError(
            f"--overwrite: {job.out} holds the pictures to label, and pictures are written there;"
            " choose another --out"
        )


_EXAMPLE = ImageItem(Path("x"), PurePosixPath("x"), "x")
