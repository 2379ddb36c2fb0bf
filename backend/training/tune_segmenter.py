"""Fine-tune a segmenter on accepted pictures, keep the best weights, and say on held-out pictures
whether they are better than those it began with.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from backend.core.types import Image
from backend.drawing.overlays import encode_picture
from backend.errors import ConfigError, InputError, Unavailable
from backend.files.atomic import write_atomic
from backend.files.images import ImageLimits
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.preprocess import load_model
from backend.training.accepted import AcceptedPicture
from backend.training.compare import Difference, by_class, paired_difference
from backend.training.division import Parts, key_of
from backend.training.judged import EncodedPictures
from backend.training.judging import best_margin, box_ious, sheet_of
from backend.training.parts import DECODER, with_weights
from backend.training.segmenter_loop import (
    INTERRUPTED,
    STATE,
    Progress,
    TuneOptions,
    Work,
    bytes_of,
    mean_of,
    train_segmenter,
)
from backend.training.views import DrawnViews, EncodedViews, Views, bytes_of_view

logger = logging.getLogger(__name__)
VIEWS = ".yolosam2-views-"  # what the names of folders with encoded pictures begin with
_SHEET = "segmenter-validation.jpg"
_SHOWN = 6  # pictures in it
GIGA = 10**9
_MOST_BYTES = 1e18
_SAME = 1e-6  # of figures before and after a file was written and read


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
        margin: by which boxes are grown before outlines are cut to them; None where they are not.
    """

    path: Path
    every: Difference
    classes: dict[str, Difference]
    epochs: int
    stopped: str | None
    faults: tuple[str, ...]
    rival: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Rival:
    """Weights that a folder offers already.

    Attributes:
        path: of the file.
        margin: see ``TunedSegmenter``.
    """

    path: Path
    margin: float | None


def tune_segmenter(
    segmenter: Sam2Segmenter,
    config: str,
    parts: Parts,
    out: Path,
    options: TuneOptions,
    *,
    stop: threading.Event,
    tell: Callable[[Progress], None],
    work: Work = lambda what, done: None,
    rival: Rival | None = None,
    margin: float | None = None,
    margin_is_given: bool = False,
) -> TunedSegmenter:
    """Fine-tune a SAM 2; what it remembers of videos stays as it is.

    Args:
        segmenter: loaded; its weights are changed.
        config: what ``load_model`` needs beside a file of weights.
        parts: accepted pictures.
        out: folder of the run, locked by the caller.
        options: how long.
        stop: ends after the step in hand, and keeps the best so far.
        tell: hears of every epoch.
        work: hears of the encoding.
        rival: weights that the folder offers until now, to be compared with.
        margin: by which boxes are grown before outlines are cut to them, where that is given.
        margin_is_given: whether it is; else it is chosen by the validation part.

    Raises:
        ConfigError: no picture has an object to learn from.
        Unavailable: the disk refuses, or memory does not hold even one object.
    """
    model, device = segmenter.model, segmenter.device
    faults: list[str] = []
    reader = _Reader(parts, options, faults, stop, work)
    with tempfile.TemporaryDirectory(prefix=VIEWS, dir=out) as folder:
        root = Path(folder)
        count = _encoded_views(model, device, parts, options)
        live = not count
        kind = DrawnViews if live else EncodedViews
        views = kind(_made(root / "train"), model, device)
        _add(views, parts.train, count or options.views, reader)
        validation, choosing = _encoded(
            root / "validation", segmenter, parts.validation, reader, live=live
        )
        if not len(validation):
            raise ConfigError("no picture that is to choose the best weights has an object")
        held_out, judging = _encoded(
            root / "held-out", segmenter, parts.held_out, reader, live=True
        )
        if not len(held_out):
            raise ConfigError("no held-out picture has an object, so nothing can be proved")
        given = (margin,) if margin_is_given else ()
        chosen = partial(_margin, given, model, validation, options.recipe.seed)
        # What it began as is cut as suits it best, too, so that only learning makes a difference.
        before = list(box_ious(model, held_out, chosen()))
        key = _key(segmenter, parts, options, count)
        show = partial(_show, model, validation, choosing[:_SHOWN], out / _SHEET, options.limits)
        trained = train_segmenter(model, views, validation, out, options, stop, tell, key, show)
        with with_weights(model, trained.weights):
            path = _write(model, out)
            margin = chosen()
            after = _checked(path, config, model, held_out, margin)
        figure = None if rival is None else _figure_of(rival, config, device, held_out)
    if trained.stopped != INTERRUPTED:
        (out / STATE).unlink(missing_ok=True)
    return TunedSegmenter(
        path=path,
        every=paired_difference(before, after),
        classes=by_class([one.labels for one in judging], before, after),
        epochs=trained.epochs,
        stopped=trained.stopped,
        faults=tuple(faults),
        rival=figure,
        margin=margin,
    )


def _margin(
    given: Sequence[float | None], model: Any, validation: EncodedPictures, seed: int
) -> float | None:
    """The margin that was given, or the best one."""
    return given[0] if given else best_margin(model, validation, seed)


def _figure_of(rival: Rival, config: str, device: torch.device, held_out: EncodedPictures) -> float:
    return mean_of(box_ious(_loaded(config, rival.path, device), held_out, rival.margin))


def _encoded_views(model: Any, device: torch.device, parts: Parts, options: TuneOptions) -> int:
    """Of each picture so many views are encoded once; 0 where all are encoded as they are needed:
    the encoder learns, or the disk is not to hold them.
    """
    if options.recipe.parts != DECODER:
        return 0
    train, validation = (
        sum(bool(one.objects) for one in part) for part in (parts.train, parts.validation)
    )
    if not train:
        return options.views
    room = int(min(options.cache_bytes, _MOST_BYTES) // bytes_of_view(model, device))
    count = max(0, min(options.views, (room - validation) // train))
    if count < options.views:
        logger.warning(
            "--cache-gb %g has room for %d views, where %d pictures have %d each: %s",
            options.cache_bytes / GIGA,
            room,
            train,
            options.views,
            f"{count} of each are encoded" if count else "each is encoded anew when it is shown",
        )
    return count


def _add(
    views: Views,
    pictures: Sequence[AcceptedPicture],
    count: int,
    reader: _Reader,
) -> None:
    """Encode what is learned from, ``count`` views of each picture."""
    small = 0
    for k, (one, image) in enumerate(reader(pictures)):
        small += len(one.objects) - views.add(image, one.masks, count, k)
    if not len(views):
        raise ConfigError("no picture to train on has an object that is large enough")
    if small:
        logger.warning("%d objects are too small to be learned from", small)


def _show(
    model: Any,
    encoded: EncodedPictures,
    pictures: Sequence[AcceptedPicture],
    path: Path,
    limits: ImageLimits,
) -> None:
    """Write a picture of the masks of the best weights so far."""
    images = [one.image(limits) for one in pictures]
    sheet = sheet_of(model, encoded, images, [one.labels for one in pictures])
    try:
        write_atomic(path, encode_picture(sheet))
    except Unavailable as error:  # nothing ends for the lack of a picture
        logger.warning("%s", error)


def _key(segmenter: Sam2Segmenter, parts: Parts, options: TuneOptions, count: int) -> str:
    """What must be the same for a training to be gone on with."""
    recipe = [segmenter.version, key_of(parts), options.views, count, repr(options.recipe)]
    return sha256(json.dumps(recipe).encode()).hexdigest()


def _loaded(config: str, path: Path, device: torch.device) -> Any:
    return load_model(config, path).to(device)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class _Reader:
    """Reads the pictures of all parts that have an object, and tells how far it is.

    Args:
        parts: all pictures.
        options: limits of pictures.
        faults: takes a sentence for each that cannot be read.
        stop: ends it.
        work: hears how far it is.
    """

    def __init__(
        self,
        parts: Parts,
        options: TuneOptions,
        faults: list[str],
        stop: threading.Event,
        work: Work,
    ) -> None:
        self._limits = options.limits
        self._faults = faults
        self._stop = stop
        self._work = work
        self._done = 0
        self._total = sum(map(len, (parts.train, parts.validation, parts.held_out)))

    def __call__(
        self, pictures: Sequence[AcceptedPicture]
    ) -> Iterator[tuple[AcceptedPicture, Image]]:
        """Those of some pictures.

        Raises:
            Unavailable: it was stopped.
        """
        for one in pictures:
            if self._stop.is_set():
                raise Unavailable("interrupted before training began")
            if one.objects:
                try:
                    yield one, one.image(self._limits)
                except InputError as error:
                    self._faults.append(str(error))
            self._done += 1
            self._work("encoding", self._done / self._total)


def _encoded(
    folder: Path,
    segmenter: Sam2Segmenter,
    pictures: Sequence[AcceptedPicture],
    reader: _Reader,
    *,
    live: bool,
) -> tuple[EncodedPictures, list[AcceptedPicture]]:
    found = EncodedPictures(_made(folder), segmenter.model, segmenter.device, live=live)
    kept = []
    for one, image in reader(pictures):
        found.add(image, one.masks)
        kept.append(one)
    return found, kept


def _write(model: Any, out: Path) -> Path:
    """All weights of a model as sam2 reads them, in a file that its digest names."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    data = bytes_of({"model": state})
    path = out / f"segmenter-{sha256(data).hexdigest()[:8]}.pt"
    write_atomic(path, data)
    return path


def _checked(
    path: Path, config: str, model: Any, held_out: EncodedPictures, margin: float | None
) -> list[list[float]]:
    """The figures of the file that was written, which are those of the model in memory.

    Raises:
        ConfigError: they are not.
    """
    wanted = list(box_ious(model, held_out, margin))
    loaded = _loaded(config, path, next(model.parameters()).device)
    found = list(box_ious(loaded, held_out, margin))
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
