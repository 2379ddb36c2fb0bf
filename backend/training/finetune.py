"""One run of fine-tuning, from accepted pictures to weights that are offered if they are better."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from backend.config.models import Settings
from backend.errors import ConfigError
from backend.files.images import ImageLimits
from backend.models.registry import tuned_of
from backend.models.tuned import Tuned
from backend.training.accepted import Accepted, AcceptedPicture, read_accepted
from backend.training.curves import with_curves
from backend.training.division import Parts, divide, record, with_hashes
from backend.training.lock import alone
from backend.training.models_run import ModelsRun
from backend.training.request import DETECTOR, SEGMENTER, FinetuneRequest, FinetuneSummary
from backend.training.segmenter import Recipe
from backend.training.segmenter_loop import Progress, TuneOptions, Work
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
        outlines=SEGMENTER in request.kinds,
    )


def _possible(request: FinetuneRequest, accepted: Accepted, remarks: list[str]) -> FinetuneRequest:
    """The request without the segmenter, where both are to learn and nothing is outlined."""
    if len(request.kinds) == 1 or any(one.objects for one in accepted.pictures):
        return request
    remarks.append("nothing is outlined, so only the detector learns")
    return replace(request, kinds=(DETECTOR,))


def _check(parts: Parts, request: FinetuneRequest) -> None:
    """Refuse parts that nothing can be learned from or proved by, before an hour of training.

    Raises:
        ConfigError: naming the part.
    """
    outlines = SEGMENTER in request.kinds
    kind = "outlined object" if outlines else "object"

    def shown(members: Sequence[AcceptedPicture]) -> bool:
        return any(one.objects if outlines else one.every_label for one in members)

    if not shown(parts.train):
        raise ConfigError(f"no picture to train on has an {kind}")
    if not shown(parts.held_out):
        raise ConfigError(f"no held-out picture has an {kind}, so nothing can be proved")


def finetune(
    request: FinetuneRequest,
    settings: Settings,
    *,
    stop: threading.Event,
    tell: Callable[[Progress], None],
    remark: Callable[[str], None],
    work: Work = lambda what, done: None,
) -> FinetuneSummary:
    """Fine-tune the models that the settings name.

    Args:
        request: what on.
        settings: ``detector`` and ``segmenter`` are the bases.
        stop: ends after the step in hand, and keeps the best so far.
        tell: hears of every epoch.
        remark: hears what is worth knowing before training begins.
        work: hears of encoding and judging.

    Raises:
        ConfigError: nothing to train on, or a base that cannot learn.
        Unavailable: the disk refuses, or memory does not hold even one object.
    """
    limits = ImageLimits(max_pixels=settings.max_pixels)
    trained = {
        kind: [] if (begun := tuned_of(kind, settings)) is None else _learned(begun)
        for kind in (DETECTOR, SEGMENTER)
    }
    accepted = read_accepted(request.source, request.images, request.classes, request.annotators)
    faults = list(accepted.faults)
    remarks = [*accepted.remarks, *(f"left out: {n} {t}" for t, n in accepted.left_out.items())]
    request = _possible(request, accepted, remarks)
    learned = [digest for digests in trained.values() for digest in digests]
    parts = _parts(request, accepted, limits, learned, faults)
    remarks += parts.remarks
    for text in remarks:
        remark(text)
    _check(parts, request)
    each = None if request.minutes is None else request.minutes / len(request.kinds)
    options = TuneOptions(
        minutes=each,
        epochs=request.epochs,
        views=request.views,
        cache_bytes=request.cache_bytes,
        recipe=Recipe(rate=request.rate, seed=request.seed, parts=request.parts),
        limits=limits,
    )
    with alone(request.out), with_curves(request.out, tell) as told:
        run = ModelsRun(request, settings, parts, options, trained, stop, told, work)
        record(request.out, parts)
        run.train()
        if not stop.is_set():  # else the same command goes on
            shutil.rmtree(request.out / STATE_FOLDER, ignore_errors=True)
    for one in (run.detector, run.segmenter):
        faults += () if one is None else one.faults
    faults += run.faults
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
