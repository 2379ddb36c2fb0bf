"""Curves of a training for TensorBoard, where that package is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.training.segmenter_loop import Progress

FOLDER = "tensorboard"  # in the folder of a run


@contextmanager
def with_curves(
    out: Path, tell: Callable[[Progress], None]
) -> Iterator[Callable[[Progress], None]]:
    """What hears of every epoch, and also writes it down for TensorBoard.

    Args:
        out: folder of the run.
        tell: hears of every epoch.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # it is no part of this package, and nobody has to have it
        yield tell
        return
    writer = SummaryWriter(str(out / FOLDER))

    def both(progress: Progress) -> None:
        writer.add_scalar(f"{progress.what}/loss", progress.loss, progress.epoch)
        figure = f"{progress.what}/validation {progress.figure}"
        writer.add_scalar(figure, progress.validation, progress.epoch)
        tell(progress)

    try:
        yield both
    finally:
        writer.close()
