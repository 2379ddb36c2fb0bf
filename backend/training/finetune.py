"""One run of fine-tuning, from accepted pictures to weights that are offered if they are better."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence

from backend.config.models import Settings
from backend.errors import ConfigError
from backend.files.images import ImageLimits
from backend.models.registry import tuned_of
from backend.models.tuned import Tuned
from backend.training.accepted import Accepted, read_accepted
from backend.training.division import Parts, divide, record, with_hashes
from backend.training.lock import alone
from backend.training.models_run import ModelsRun
from backend.training.request import DETECTOR, FinetuneRequest, FinetuneSummary
from backend.training.segmenter import Recipe
from backend.training.segmenter_loop import Progress, TuneOptions
from backend.training.tune_detector import STATE_FOLDER


def _learned(tuned: Tuned) -> list[str]:
    """The digests of all pictures that a tuned model learned from, and its bases before it."""
    pictures = tuned.about.get("pictures", {})
    return [
        *pictures.get("train", []),
        *pictures.get("validation", []),
        *tuned.about.get("learned_before", []),
    ]


def _parts(
    request: FinetuneRequest,
    accepted: Accepted,
    limits: ImageLimits,
    trained: Sequence[str],
    faults: list[str],
) -> Parts:
    pictures, hashes = with_hashes(accepted.pictures, limits, faults)
    return divide(
        pictures,
        hashes,
        request.out,
        share=request.share,
        seed=request.seed,
        held_out_list=request.held_out_list,
        trained=trained,
    )


def finetune(
    request: FinetuneRequest,
    settings: Settings,
    *,
    stop: threading.Event,
    tell: Callable[[Progress], None],
    remark: Callable[[str], None],
) -> FinetuneSummary:
    """Fine-tune the models that the settings name.

    Args:
        request: what on.
        settings: ``detector`` and ``segmenter`` are the bases.
        stop: ends after the step in hand, and keeps the best so far.
        tell: hears of every epoch.
        remark: hears what is worth knowing before training begins.

    Raises:
        ConfigError: nothing to train on, or a base that cannot learn.
        Unavailable: the disk refuses, or memory does not hold even one object.
    """
    limits = ImageLimits(max_pixels=settings.max_pixels)
    trained = {
        kind: [] if (begun := tuned_of(kind, settings)) is None else _learned(begun)
        for kind in request.kinds
    }
    accepted = read_accepted(request.source, request.images, request.classes)
    faults = list(accepted.faults)
    remarks = [*accepted.remarks, *(f"left out: {n} {t}" for t, n in accepted.left_out.items())]
    learned = [digest for digests in trained.values() for digest in digests]
    parts = _parts(request, accepted, limits, learned, faults)
    remarks += parts.remarks
    for text in remarks:
        remark(text)
    wanted = "every_label" if DETECTOR in request.kinds else "objects"
    if not any(getattr(one, wanted) for one in parts.train):
        raise ConfigError("no picture to train on has an object")
    each = None if request.minutes is None else request.minutes / len(request.kinds)
    options = TuneOptions(
        minutes=each,
        epochs=request.epochs,
        views=request.views,
        recipe=Recipe(rate=request.rate, seed=request.seed, parts=request.parts),
        limits=limits,
    )
    run = ModelsRun(request, settings, parts, options, trained, stop, tell)
    with alone(request.out):
        record(request.out, parts)
        run.train()
        if not stop.is_set():  # else the same command goes on
            shutil.rmtree(request.out / STATE_FOLDER, ignore_errors=True)
    for one in (run.detector, run.segmenter):
        faults += () if one is None else one.faults
    return FinetuneSummary(
        train=len(parts.train),
        validation=len(parts.validation),
        held_out=len(parts.held_out),
        remarks=tuple(remarks),
        segmenter=run.segmenter,
        detector=run.detector,
        together=run.together,
        offered=tuple(run.offered),
        faults=tuple(dict.fromkeys(faults)),
    )
