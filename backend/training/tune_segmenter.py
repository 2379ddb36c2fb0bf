"""Fine-tune a segmenter on accepted pictures, keep the best weights, and say on held-out pictures
whether they are better than those it began with.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from backend.errors import ConfigError, InputError, Unavailable
from backend.files.atomic import write_atomic
from backend.files.images import ImageLimits
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.preprocess import load_model
from backend.training.accepted import AcceptedPicture
from backend.training.compare import Difference, by_class, paired_difference
from backend.training.division import Parts
from backend.training.segmenter import NotFinite, Recipe, SegmenterTrainer, box_ious
from backend.training.views import EncodedPictures, EncodedViews

logger = logging.getLogger(__name__)
_LOG = "segmenter-log.jsonl"
_STATE = "segmenter-state.pt"
_VIEWS = ".yolosam2-views-"  # what the names of folders with encoded pictures begin with
INTERRUPTED = "interrupted"
_MOST_STEPS = 200  # of an epoch: so often the weights are judged and kept at least
_PATIENCE = 12  # epochs without a better one
_LEAST_STEPS = 20  # of an epoch
_SAME = 1e-6  # of figures before and after a file was written and read


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How long and on what to train.

    Attributes:
        minutes: of wall time for training itself; None for no limit.
        epochs: at most.
        views: of each picture.
        recipe: see ``Recipe``.
        limits: of pictures.
        resume: whether to go on with what an earlier run of the same pictures left.
    """

    minutes: float | None = None
    epochs: int = 60
    views: int = 6
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
        validation: mean IoU from true boxes of the validation part; the best weights are those
            where it is highest.
        best: the highest so far.
    """

    done: float
    epoch: int
    loss: float
    validation: float
    best: float


@dataclass(frozen=True, kw_only=True)
class TunedSegmenter:
    """What came of a run.

    Attributes:
        path: of the best weights, as sam2 reads them.
        every: mean IoU from true boxes on held-out pictures, before and after.
        classes: the same for each class.
        epochs: that were trained.
        stopped: why it ended before its time; None where it did not.
        faults: a sentence for each picture that could not be used.
        rival: the mean IoU of the weights that the folder offered until then.
    """

    path: Path
    every: Difference
    classes: dict[str, Difference]
    epochs: int
    stopped: str | None
    faults: tuple[str, ...]
    rival: float | None = None


def tune_segmenter(
    segmenter: Sam2Segmenter,
    config: str,
    parts: Parts,
    out: Path,
    options: TuneOptions,
    *,
    stop: threading.Event,
    tell: Callable[[Progress], None],
    rival: Path | None = None,
) -> TunedSegmenter:
    """Fine-tune the mask decoder of a SAM 2.

    Args:
        segmenter: loaded; its weights are changed.
        config: what ``load_model`` needs beside a file of weights.
        parts: accepted pictures.
        out: folder of the run.
        options: how long.
        stop: ends after the step in hand, and keeps the best so far.
        tell: hears of every epoch.
        rival: weights that the folder offers until now, to be compared with.

    Raises:
        ConfigError: no picture has an object to learn from.
        Unavailable: the disk refuses, or memory does not hold even one object.
    """
    model, device = segmenter.model, segmenter.device
    faults: list[str] = []
    with _alone(out), tempfile.TemporaryDirectory(prefix=_VIEWS, dir=out) as folder:
        root = Path(folder)
        small = 0
        views = EncodedViews(_made(root / "train"), model, device)
        for k, (one, image) in enumerate(_readable(parts.train, options, faults, stop)):
            most = views.add(image, one.masks, options.views, k)
            small += len(one.objects) - most
        if not len(views):
            raise ConfigError("no picture to train on has an object that is large enough")
        if small:
            logger.warning("%d objects are too small to be learned from", small)
        validation, _ = _encoded(
            root / "validation", segmenter, parts.validation, options, faults, stop
        )
        if not len(validation):
            raise ConfigError("no picture that is to choose the best weights has an object")
        held_out, labels = _encoded(
            root / "held-out", segmenter, parts.held_out, options, faults, stop
        )
        if not len(held_out):
            raise ConfigError("no held-out picture has an object, so nothing can be proved")
        before = list(box_ious(model, held_out))
        key = _key(segmenter, parts, options)
        trained = _train(model, views, validation, out, options, stop, tell, key)
        with _weights(model, trained.weights):
            path = _write(model, out)
            after = _checked(path, config, model, held_out)
        figure = (
            None if rival is None else _mean(box_ious(_loaded(config, rival, device), held_out))
        )
    if trained.stopped != INTERRUPTED:
        (out / _STATE).unlink(missing_ok=True)
    return TunedSegmenter(
        path=path,
        every=paired_difference(before, after),
        classes=by_class(labels, before, after),
        epochs=trained.epochs,
        stopped=trained.stopped,
        faults=tuple(faults),
        rival=figure,
    )


def _key(segmenter: Sam2Segmenter, parts: Parts, options: TuneOptions) -> str:
    """What must be the same for a training to be gone on with."""
    digests = [one.digest for one in (*parts.train, *parts.validation)]
    labels = [
        [(label, zlib.crc32(mask.data)) for label, mask in one.objects]
        for one in (*parts.train, *parts.validation)
    ]
    recipe = [segmenter.version, digests, labels, options.views, repr(options.recipe)]
    return sha256(json.dumps(recipe).encode()).hexdigest()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile; what a killed run left is removed.

    Raises:
        ConfigError: somebody does.
    """
    lock = FileLock(out / ".finetune.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{out}: another training runs there; wait for its end") from None
    try:
        for left in out.glob(f"{_VIEWS}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _loaded(config: str, path: Path, device: torch.device) -> Any:
    return load_model(config, path).to(device)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _readable(
    pictures: Sequence[AcceptedPicture],
    options: TuneOptions,
    faults: list[str],
    stop: threading.Event,
) -> Iterator[tuple[AcceptedPicture, Any]]:
    for one in pictures:
        if stop.is_set():
            raise Unavailable("interrupted before training began")
        if not one.objects:
            continue
        try:
            yield one, one.image(options.limits)
        except InputError as error:
            faults.append(str(error))


def _encoded(
    folder: Path,
    segmenter: Sam2Segmenter,
    pictures: Sequence[AcceptedPicture],
    options: TuneOptions,
    faults: list[str],
    stop: threading.Event,
) -> tuple[EncodedPictures, list[list[str]]]:
    found = EncodedPictures(_made(folder), segmenter.model, segmenter.device)
    labels = []
    for one, image in _readable(pictures, options, faults, stop):
        found.add(image, one.masks)
        labels.append(one.labels)
    return found, labels


@dataclass(eq=False)
class _Trained:
    """The best of the weights that learn so far, and where training is."""

    weights: dict[str, torch.Tensor]
    best: float
    epochs: int = 0
    since: int = 0  # epochs without a better one
    seconds: float = 0.0
    stopped: str | None = None


def _train(
    model: Any,
    views: EncodedViews,
    validation: EncodedPictures,
    out: Path,
    options: TuneOptions,
    stop: threading.Event,
    tell: Callable[[Progress], None],
    key: str,
) -> _Trained:
    device = next(model.parameters()).device
    trainer = SegmenterTrainer(model, views, options.recipe, device)
    trained = _Trained(trainer.averaged(), _mean(box_ious(model, validation)))
    if options.resume:
        _resume(out / _STATE, trainer, trained, key)
    while trained.epochs < options.epochs and trained.since < _PATIENCE:
        losses, trained.stopped = _epoch(trainer, trained, views, options, stop)
        if not losses:
            break
        trained.epochs += 1
        averaged = trainer.averaged()
        with _weights(model, averaged):
            figure = _mean(box_ious(model, validation))
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
        }
        _keep(out, row, trainer, trained, key)
        if trained.stopped is not None or done >= 1:
            break
    return trained


def _epoch(
    trainer: SegmenterTrainer,
    trained: _Trained,
    views: EncodedViews,
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


def _done(trained: _Trained, options: TuneOptions, by_epochs: float | None = None) -> float:
    by_epochs = trained.epochs / options.epochs if by_epochs is None else by_epochs
    if options.minutes is None:
        return by_epochs
    return max(by_epochs, trained.seconds / (60 * options.minutes))


def _mean(figures: Iterator[list[float]]) -> float:
    values = [value for of_picture in figures for value in of_picture]
    return float(np.mean(values)) if values else 0.0


@contextmanager
def _weights(model: Any, weights: dict[str, torch.Tensor]) -> Iterator[None]:
    """Other weights for a while, in the place of those that are called so."""
    state = model.state_dict()
    own = {name: state[name].clone() for name in weights}
    model.load_state_dict(weights, strict=False)
    try:
        yield
    finally:
        model.load_state_dict(own, strict=False)


def _keep(
    out: Path, row: dict[str, Any], trainer: SegmenterTrainer, trained: _Trained, key: str
) -> None:
    """Write a line of the log, and what a run after a kill goes on with.

    A disk that refuses ends nothing: the best weights are in memory, and room may be made for them
    before the end.
    """
    try:
        with (out / _LOG).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        _save_state(out / _STATE, trainer, trained, key)
    except (OSError, Unavailable) as error:
        logger.warning("epoch %d is not kept for a later run: %s", trained.epochs, error)


def _bytes_of(document: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(document, stream)
    return stream.getvalue()


def _save_state(path: Path, trainer: SegmenterTrainer, trained: _Trained, key: str) -> None:
    document = {
        "trainer": trainer.state(),
        "key": key,
        "weights": trained.weights,
        "best": trained.best,
        "epochs": trained.epochs,
        "since": trained.since,
        "seconds": trained.seconds,
    }
    write_atomic(path, _bytes_of(document))


def _resume(path: Path, trainer: SegmenterTrainer, trained: _Trained, key: str) -> None:
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


def _write(model: Any, out: Path) -> Path:
    """All weights of a model as sam2 reads them, in a file that its digest names."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    data = _bytes_of({"model": state})
    path = out / f"segmenter-{sha256(data).hexdigest()[:8]}.pt"
    write_atomic(path, data)
    return path


def _checked(path: Path, config: str, model: Any, held_out: EncodedPictures) -> list[list[float]]:
    """The figures of the file that was written, which are those of the model in memory.

    Raises:
        ConfigError: they are not.
    """
    wanted = list(box_ious(model, held_out))
    loaded = _loaded(config, path, next(model.parameters()).device)
    found = list(box_ious(loaded, held_out))
    differences = [
        abs(a - b)
        for one, other in zip(wanted, found, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    if max(differences, default=0.0) > _SAME:
        path.rename(path.with_suffix(".refused"))
        raise ConfigError(
            f"{path}: gives other masks than the model that was trained, by up to"
            f" {max(differences):.3g}; it is not used"
        )
    return found
