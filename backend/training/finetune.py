"""One run of fine-tuning, from accepted pictures to weights that are offered if they are better."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.config.models import Settings
from backend.errors import ConfigError
from backend.files.images import ImageLimits
from backend.models.devices import resolve_device
from backend.models.registry import is_published, load_segmenter, segmenter_recipe, tuned_of
from backend.models.sam2.image import Sam2Segmenter
from backend.models.tuned import Tuned, describe_tuned, is_tuned, read_tuned
from backend.training.accepted import Accepted, read_accepted
from backend.training.compare import BETTER
from backend.training.division import Parts, divide, record, with_hashes
from backend.training.segmenter import Recipe
from backend.training.segmenter_loop import Progress, TuneOptions
from backend.training.tune_segmenter import TunedSegmenter, tune_segmenter


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest:
    """What to train on, and how long.

    Attributes:
        source: accepted annotations, in any format that ``convert`` reads.
        images: where the pictures are, if not beside it.
        out: folder of the run.
        classes: whose objects count; None for all.
        share: of the pictures that is held out where no list says which, 0..1.
        held_out_list: the list of the source that is held out.
        minutes: of training; None for no limit.
        epochs: at most.
        views: of each picture.
        rate: highest learning rate; None for what suits the model.
        seed: of chance.
        accept: whether weights that are not better are offered all the same.
    """

    source: Path
    images: Path | None
    out: Path
    classes: Sequence[str] | None
    share: float
    held_out_list: str | None
    minutes: float | None
    epochs: int
    views: int
    rate: float | None
    seed: int
    accept: bool


@dataclass(frozen=True, kw_only=True)
class FinetuneSummary:
    """What came of a run.

    Attributes:
        train: pictures that were learned from.
        validation: pictures that chose the best weights.
        held_out: pictures that judged.
        remarks: how pictures were divided and what was left out, for people.
        segmenter: its figures and weights.
        offered: whether ``--segmenter`` takes them from the folder now.
    """

    train: int
    validation: int
    held_out: int
    remarks: tuple[str, ...]
    segmenter: TunedSegmenter
    offered: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        one = self.segmenter
        return {
            "pictures": {
                "train": self.train,
                "validation": self.validation,
                "held_out": self.held_out,
            },
            "remarks": list(self.remarks),
            "segmenter": {
                "weights": str(one.path),
                "offered": self.offered,
                "epochs": one.epochs,
                "stopped": one.stopped,
                **_figures(one),
            },
            "failed": list(one.faults),
        }


def _figures(one: TunedSegmenter) -> dict[str, Any]:
    return {
        "iou_from_true_boxes": one.every.as_dict(),
        "classes": {name: found.as_dict() for name, found in one.classes.items()},
    }


def _about(request: FinetuneRequest, parts: Parts, found: TunedSegmenter) -> dict[str, Any]:
    """What weights were made of, and how good they are."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(request.source),
        "pictures": {
            "train": [one.digest for one in parts.train],
            "validation": [one.digest for one in parts.validation],
            "held_out": [one.digest for one in parts.held_out],
        },
        "settings": {
            "minutes": request.minutes,
            "epochs": found.epochs,
            "views": request.views,
            "rate": request.rate,
            "seed": request.seed,
        },
        "figures": _figures(found),
    }


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


def _base(settings: Settings) -> tuple[Sam2Segmenter, str, str]:
    """The model to begin with, its name, and what its module needs beside its weights."""
    segmenter = load_segmenter(settings, resolve_device(settings.device))
    if not isinstance(segmenter, Sam2Segmenter):
        raise ConfigError("--segmenter: only a SAM 2 can be fine-tuned")
    base, config = segmenter_recipe(settings)
    if config is None:
        raise ConfigError("--segmenter-config: is needed for a checkpoint of your own")
    return segmenter, base, config


def finetune(
    request: FinetuneRequest,
    settings: Settings,
    *,
    stop: threading.Event,
    tell: Callable[[Progress], None],
    remark: Callable[[str], None],
) -> FinetuneSummary:
    """Fine-tune the segmenter that the settings name.

    Args:
        request: what on.
        settings: ``segmenter`` is the base.
        stop: ends after the step in hand, and keeps the best so far.
        tell: hears of every epoch.
        remark: hears what is worth knowing before training begins.

    Raises:
        ConfigError: nothing to train on, or a base that is no SAM 2.
        Unavailable: the disk refuses, or memory does not hold even one object.
    """
    limits = ImageLimits(max_pixels=settings.max_pixels)
    begun = tuned_of("segmenter", settings)
    trained = [] if begun is None else _learned(begun)
    accepted = read_accepted(request.source, request.images, request.classes)
    faults = list(accepted.faults)
    remarks = [*accepted.remarks, *(f"left out: {n} {t}" for t, n in accepted.left_out.items())]
    parts = _parts(request, accepted, limits, trained, faults)
    remarks += parts.remarks
    for text in remarks:
        remark(text)
    segmenter, base, config = _base(settings)
    if not any(one.objects for one in parts.train):
        raise ConfigError("no picture to train on has an object")
    record(request.out, parts)
    rival = read_tuned(request.out, "segmenter") if is_tuned(request.out, "segmenter") else None
    options = TuneOptions(
        minutes=request.minutes,
        epochs=request.epochs,
        views=request.views,
        recipe=Recipe(rate=request.rate, seed=request.seed),
        limits=limits,
    )
    found = tune_segmenter(
        segmenter,
        config,
        parts,
        request.out,
        options,
        stop=stop,
        tell=tell,
        rival=None if rival is None else rival.path,
    )
    is_best = found.rival is None or found.every.after >= found.rival
    offered = request.accept or (found.every.verdict == BETTER and is_best)
    if offered:
        about = {**_about(request, parts, found), "learned_before": trained}
        about["started_from"] = segmenter.version
        own = settings.segmenter_config is not None or not is_published("segmenter", base)
        describe_tuned(request.out, "segmenter", found.path, base, config if own else None, about)
    return FinetuneSummary(
        train=len(parts.train),
        validation=len(parts.validation),
        held_out=len(parts.held_out),
        remarks=tuple(remarks),
        segmenter=replace(found, faults=(*faults, *found.faults)),
        offered=offered,
    )
