"""Ultralytics' trainer as a part of a program: it ends when it is asked to, keeps a time, tells of
every epoch, goes on after a kill, and reaches no network.
"""

from __future__ import annotations

import csv
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backend.errors import ConfigError, Unavailable, disk_error
from backend.models.yolo import load_ultralytics, quiet_ultralytics
from backend.training.segmenter_loop import INTERRUPTED, Progress

logger = logging.getLogger(__name__)
CLOSING = 0.15  # share of the epochs at the end that see pictures as they are, not as mosaics
_TASKS = {"detect": "DetectionTrainer", "segment": "SegmentationTrainer"}


class _Ended(Exception):
    """Somebody asked for the end in the midst of an epoch."""


@dataclass(frozen=True, kw_only=True)
class DetectorRun:
    """What came of a training.

    Attributes:
        weights: the best, without the state of the optimiser; None where no epoch ended.
        epochs: that ended.
        best: mAP at IoU 0.5 to 0.95 of these weights on the validation part, 0..1.
        stopped: why it ended before its time; None where it did not.
    """

    weights: Path | None
    epochs: int
    best: float
    stopped: str | None


@contextmanager
def _no_network() -> Iterator[None]:
    """Without the font for pictures that nobody draws, which is fetched otherwise, and without a
    question to the package index, which is asked where the process was online before.
    """
    from ultralytics.data import utils
    from ultralytics.utils import checks

    held = utils.check_font, checks.ONLINE
    utils.check_font, checks.ONLINE = (lambda *_: None), False
    try:
        yield
    finally:
        utils.check_font, checks.ONLINE = held


class _Watch:
    """What the trainer calls back.

    Args:
        epochs: at most.
        minutes: at most; None for no limit.
        spent: seconds of them that are over.
        stop: ends after the step in hand.
        tell: hears of every epoch.
        keep: takes a row of the log for every epoch.
    """

    def __init__(
        self,
        epochs: int,
        minutes: float | None,
        spent: float,
        stop: threading.Event,
        tell: Callable[[Progress], None],
        keep: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._most = epochs
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._stop = stop
        self._tell = tell
        self._keep = keep
        self._spent = spent
        self._start = 0.0
        self._first = 0
        self._ended = False
        self.epochs = 0
        self.best = 0.0

    def on_train_start(self, trainer: Any) -> None:
        self._start = time.monotonic() - self._spent
        # A run that goes on may have another limit than the one that was cut off.
        self._schedule(trainer, self._most, int(trainer.start_epoch) - 1)
        self._first = self.epochs = int(trainer.start_epoch)
        self.best = float(trainer.best_fitness or 0.0)

    def on_train_batch_end(self, trainer: Any) -> None:
        if self._stop.is_set():
            raise _Ended
        if time.monotonic() - self._start > self._seconds and self.epochs > self._first:
            raise _Ended

    def on_fit_epoch_end(self, trainer: Any) -> None:
        if self._ended:  # once more, for the best weights
            return
        self.epochs = int(trainer.epoch) + 1
        figure = float(trainer.fitness or 0.0)
        self.best = max(self.best, figure)
        seconds = time.monotonic() - self._start
        self._fit_in(trainer, seconds)
        self._ended = bool(trainer.stop)
        done = 1.0 if self._ended else max(self.epochs / trainer.epochs, seconds / self._seconds)
        loss = sum(float(value) for value in trainer.tloss.values())
        self._tell(
            Progress(
                done=min(1.0, done),
                epoch=self.epochs,
                loss=loss,
                validation=figure,
                best=self.best,
                what="detector",
                figure="mAP",
            )
        )
        row = {"epoch": self.epochs, "loss": loss, "validation": figure, "best": self.best}
        self._keep({**row, "seconds": round(seconds, 1), "done": round(min(1.0, done), 3)})

    def _fit_in(self, trainer: Any, seconds: float) -> None:
        """As many epochs as there is time for, so that the rate has fallen by its end."""
        if self._seconds == math.inf:
            return
        each = (seconds - self._spent) / (self.epochs - self._first)
        fitting = self.epochs + int((self._seconds - seconds) / each)
        wanted = max(self.epochs, min(self._most, fitting))
        if wanted != trainer.epochs:
            self._schedule(trainer, wanted, trainer.epoch)
        trainer.stop = trainer.stop or self.epochs >= wanted

    def _schedule(self, trainer: Any, epochs: int, last: int) -> None:
        trainer.epochs = trainer.args.epochs = epochs
        trainer.args.close_mosaic = max(1, round(CLOSING * epochs))
        trainer._setup_scheduler()
        trainer.scheduler.last_epoch = last


def _ended(folder: Path, last: Path) -> DetectorRun | None:
    """A training that a kill cut off behind its last epoch; None for any other."""
    rows = _results(folder / "results.csv")
    try:
        model = load_ultralytics(last, tuple(_TASKS))
    except (ConfigError, OSError):
        return None
    checkpoint = model.ckpt or {}
    wanted = int((checkpoint.get("train_args") or {}).get("epochs", 0))
    is_last = checkpoint.get("optimizer") is None or int(checkpoint["epoch"]) + 1 >= wanted
    if not rows or not is_last:
        return None
    return DetectorRun(
        weights=folder / "weights" / "best.pt", epochs=len(rows), best=max(rows), stopped=None
    )


def _results(path: Path) -> list[float]:
    """The figure of every epoch, as Ultralytics writes it down."""
    try:
        with path.open(newline="") as stream:
            return [
                float(value)
                for row in csv.DictReader(stream)
                for name, value in row.items()
                if name.strip() == "metrics/mAP50-95(B)"
            ]
    except (OSError, ValueError, AttributeError):
        return []


def _unfinished(last: Path) -> Any:
    """The model of a training that was cut off; None where there is none to go on with."""
    try:
        model = load_ultralytics(last, tuple(_TASKS)) if last.is_file() else None
    except ConfigError as error:  # it may have been cut off in the midst of writing
        logger.warning("%s; training begins anew", error)
        return None
    # One that ended has no state left to go on with.
    return None if model is None or (model.ckpt or {}).get("optimizer") is None else model


def _trainer(task: str) -> type:
    """Ultralytics' trainer under a name that no service which reports trainings takes part in."""
    from ultralytics.models.yolo import detect, segment

    base = getattr({"detect": detect, "segment": segment}[task], _TASKS[task])
    return type("Tuning", (base,), {})


def train_detector(
    base: Path,
    data: Path,
    folder: Path,
    options: Mapping[str, Any],
    *,
    minutes: float | None = None,
    spent: float = 0.0,
    scratch: bool = False,
    stop: threading.Event | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
    keep: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> DetectorRun:
    """Train a detector of Ultralytics. Where ``folder`` holds a training that was cut off, that one
    goes on.

    Args:
        base: weights, or a YAML file of an architecture.
        data: ``data.yaml`` of a YOLO dataset.
        folder: of the training; Ultralytics writes into it.
        options: of Ultralytics' ``train``, among them ``epochs``.
        minutes: of wall time, from the first epoch on; None for no limit.
        spent: seconds of that which are over.
        scratch: whether weights begin anew, with the architecture of the base.
        stop: ends after the step in hand.
        tell: hears of every epoch.
        keep: takes a row of the log for every epoch.

    Raises:
        Unavailable: the disk refuses, or memory does not hold it.
    """
    quiet_ultralytics(offline=True)
    from ultralytics import YOLO
    from ultralytics.utils.torch_utils import unset_deterministic

    last, best = (folder / "weights" / f"{name}.pt" for name in ("last", "best"))
    if best.is_file() and (ended := _ended(folder, last)) is not None:
        return ended
    held = _unfinished(last)
    model = held or YOLO(str(base))
    watch = _Watch(int(options["epochs"]), minutes, spent, stop or threading.Event(), tell, keep)
    for event in ("on_train_start", "on_train_batch_end", "on_fit_epoch_end"):
        model.add_callback(event, getattr(watch, event))
    going_on = {"resume": True, "device": options["device"]}
    given = going_on if held is not None else {**options, "pretrained": not scratch}
    stopped = None
    threads = torch.get_num_threads()
    try:
        with _no_network():
            model.train(
                trainer=_trainer(model.task),
                data=str(data),
                save_dir=str(folder),
                plots=False,
                verbose=False,
                **given,
            )
    except _Ended:
        stopped = INTERRUPTED if stop is not None and stop.is_set() else None
    except OSError as error:
        raise disk_error(error, folder) from None
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise Unavailable(f"the detector does not fit into memory: {error}") from None
        if "NaN" not in str(error):
            raise
        stopped = f"the loss of the detector is no number ({error})"
    finally:
        unset_deterministic()
        torch.set_num_threads(threads)
    return DetectorRun(
        weights=best if best.is_file() else None,
        epochs=watch.epochs,
        best=watch.best,
        stopped=stopped,
    )
