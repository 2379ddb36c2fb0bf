"""The training of a segmenter from epoch to epoch: when it ends, which weights were best, and what
a run after a kill goes on with.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.errors import Unavailable
from backend.files.atomic import write_atomic
from backend.files.images import ImageLimits
from backend.training.judged import EncodedPictures
from backend.training.judging import box_ious
from backend.training.logs import LOGS
from backend.training.parts import with_weights
from backend.training.segmenter import NotFinite, Recipe, SegmenterTrainer
from backend.training.views import Views

logger = logging.getLogger(__name__)
STATE = "segmenter-state.pt"
INTERRUPTED = "interrupted"
_MOST_STEPS = 200  # of an epoch: so often the weights are judged and kept at least
_PATIENCE = 12  # epochs without a better one
_LEAST_STEPS = 20  # of an epoch


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How long and on what to train.

    Attributes:
        minutes: of wall time for training itself; None for no limit.
        epochs: at most.
        views: of each picture.
        cache_bytes: that encoded views may take on the disk.
        recipe: see ``Recipe``.
        limits: of pictures.
        resume: whether to go on with what an earlier run of the same pictures left.
    """

    minutes: float | None = None
    epochs: int = 60
    views: int = 6
    cache_bytes: float = 20e9
    recipe: Recipe = field(default_factory=Recipe)
    limits: ImageLimits = field(default_factory=ImageLimits)
    resume: bool = True


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is told while training.

    Attributes:
        done: of the whole, 0..1.
        epoch: that ended, from 1.
        loss: mean of the epoch.
        validation: of the validation part; the best weights are those where it is highest.
        best: the highest so far.
        what: the model that is trained.
        figure: what ``validation`` is: of a segmenter the mean IoU from true boxes.
    """

    done: float
    epoch: int
    loss: float
    validation: float
    best: float
    what: str = "segmenter"
    figure: str = "IoU"


Work = Callable[[str, float], None]  # hears what is done beside training, and how far, 0..1


@dataclass(eq=False)
class Trained:
    """The best of the weights that learn so far, and where training is."""

    weights: dict[str, torch.Tensor]
    best: float
    epochs: int = 0
    since: int = 0  # epochs without a better one
    seconds: float = 0.0
    stopped: str | None = None


def train_segmenter(
    model: Any,
    views: Views,
    validation: EncodedPictures,
    out: Path,
    options: TuneOptions,
    stop: threading.Event,
    tell: Callable[[Progress], None],
    key: str,
    show: Callable[[], None] = lambda: None,
) -> Trained:
    device = next(model.parameters()).device
    trainer = SegmenterTrainer(model, views, options.recipe, device)
    trained = Trained(trainer.averaged(), mean_of(box_ious(model, validation)))
    if options.resume:
        _resume(out / STATE, trainer, trained, key)
    while trained.epochs < options.epochs and trained.since < _PATIENCE:
        losses, trained.stopped = _epoch(trainer, trained, views, options, stop)
        if not losses:
            break
        trained.epochs += 1
        averaged = trainer.averaged()
        with with_weights(model, averaged):
            figure = mean_of(box_ious(model, validation))
            if figure > trained.best:
                show()
        trained.since += 1
        if figure > trained.best:
            trained.best, trained.since = figure, 0
            trained.weights = averaged
        done = _done(trained, options)
        loss = float(np.mean(losses))
        tell(
            Progress(
                done=done, epoch=trained.epochs, loss=loss, validation=figure, best=trained.best
            )
        )
        row = {
            "epoch": trained.epochs,
            "step": trainer.step,
            "loss": loss,
            "validation": figure,
            "best": trained.best,
            "seconds": round(trained.seconds, 1),
            "done": round(min(1.0, done), 3),
        }
        _keep(out, row, trainer, trained, key)
        if trained.stopped is not None or done >= 1:
            break
    return trained


def _epoch(
    trainer: SegmenterTrainer,
    trained: Trained,
    views: Views,
    options: TuneOptions,
    stop: threading.Event,
) -> tuple[list[float], str | None]:
    """The losses of an epoch, and why it ended early."""
    steps = min(max(_LEAST_STEPS, len(views)), _MOST_STEPS)
    losses: list[float] = []
    for k in range(steps):
        if stop.is_set():
            return losses, INTERRUPTED
        start = time.monotonic()
        share = _done(trained, options, (trained.epochs + k / steps) / options.epochs)
        try:
            losses.append(trainer.advance(min(1.0, share)))
        except NotFinite as error:
            return losses, str(error)
        trained.seconds += time.monotonic() - start
        if options.minutes is not None and trained.seconds >= 60 * options.minutes:
            break
    return losses, None


def _done(trained: Trained, options: TuneOptions, by_epochs: float | None = None) -> float:
    by_epochs = trained.epochs / options.epochs if by_epochs is None else by_epochs
    if options.minutes is None:
        return by_epochs
    return max(by_epochs, trained.seconds / (60 * options.minutes))


def mean_of(figures: Iterator[list[float]]) -> float:
    values = [value for of_picture in figures for value in of_picture]
    return float(np.mean(values)) if values else 0.0


def _keep(
    out: Path, row: dict[str, Any], trainer: SegmenterTrainer, trained: Trained, key: str
) -> None:
    """Write a line of the log, and what a run after a kill goes on with.

    A disk that refuses ends nothing: the best weights are in memory, and room may be made for them
    before the end.
    """
    try:
        with (out / LOGS["segmenter"]).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        _save_state(out / STATE, trainer, trained, key)
    except (OSError, Unavailable) as error:
        logger.warning("epoch %d is not kept for a later run: %s", trained.epochs, error)


def bytes_of(document: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(document, stream)
    return stream.getvalue()


def _save_state(path: Path, trainer: SegmenterTrainer, trained: Trained, key: str) -> None:
    document = {
        "trainer": trainer.state(),
        "key": key,
        "weights": trained.weights,
        "best": trained.best,
        "epochs": trained.epochs,
        "since": trained.since,
        "seconds": trained.seconds,
    }
    write_atomic(path, bytes_of(document))


def _resume(path: Path, trainer: SegmenterTrainer, trained: Trained, key: str) -> None:
    """Go on with what an earlier run left, if that was the same training."""
    if not path.is_file():
        return
    try:
        held = torch.load(path, weights_only=True, map_location="cpu")
        if held["key"] != key:
            raise ValueError("it is of other pictures or settings")
        trainer.restore(held["trainer"])
        trained.weights, trained.best = held["weights"], held["best"]
        trained.epochs, trained.since = held["epochs"], held["since"]
        trained.seconds = held["seconds"]
    except Exception as error:  # whatever is wrong with it, training can begin anew
        logger.warning("%s: cannot be gone on with, so training begins anew: %s", path, error)
