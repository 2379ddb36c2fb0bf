"""What a run of fine-tuning is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.training.cascades import Together
from backend.training.parts import DECODER as MASK_DECODER
from backend.training.tune_detector import TunedDetector
from backend.training.tune_segmenter import TunedSegmenter

DETECTOR, SEGMENTER = "detector", "segmenter"


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
        cache_bytes: that encoded views may take on the disk.
        rate: highest learning rate; None for what suits the model.
        seed: of chance.
        accept: whether weights that are not better are offered all the same.
        kinds: of models that learn.
        annotators: whose annotations count; none for everybody's.
        parts: of the segmenter that learn, see ``parts.PARTS``.
        scratch: whether the weights of the detector begin anew.
    """

    source: Path
    out: Path
    images: Path | None = None
    classes: Sequence[str] | None = None
    share: float = 0.2
    held_out_list: str | None = None
    minutes: float | None = None
    epochs: int = 60
    views: int = 6
    cache_bytes: float = 20e9
    rate: float | None = None
    seed: int = 0
    accept: bool = False
    kinds: tuple[str, ...] = (DETECTOR, SEGMENTER)
    parts: str = MASK_DECODER
    scratch: bool = False
    annotators: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FinetuneSummary:
    """What came of a run.

    Attributes:
        train: pictures that were learned from.
        validation: pictures that chose the best weights.
        held_out: pictures that judged.
        remarks: how pictures were divided and what was left out, for people.
        segmenter: its figures and weights; None where it did not learn.
        detector: its weights; None where it did not learn.
        together: both before and after, see ``compare_cascades``; None where the detector did not
            learn.
        offered: the kinds that ``--detector`` and ``--segmenter`` take from the folder now.
        faults: a sentence for each picture or region that could not be used.
    """

    train: int
    validation: int
    held_out: int
    remarks: tuple[str, ...]
    segmenter: TunedSegmenter | None
    detector: TunedDetector | None
    together: Together | None
    offered: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def stopped(self) -> str | None:
        """Why a training ended before its time; None where none did."""
        found = (one.stopped for one in (self.detector, self.segmenter) if one is not None)
        return next((reason for reason in found if reason is not None), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {
            "pictures": {
                "train": self.train,
                "validation": self.validation,
                "held_out": self.held_out,
            },
            "remarks": list(self.remarks),
        }
        for kind, one in (("detector", self.detector), ("segmenter", self.segmenter)):
            if one is not None:
                found[kind] = {
                    "weights": str(one.path),
                    "offered": kind in self.offered,
                    "epochs": one.epochs,
                    "stopped": one.stopped,
                }
        if self.segmenter is not None:
            found["segmenter"] |= segmenter_figures(self.segmenter)
        if self.together is not None:
            found["together"] = together_figures(self.together)
        return {**found, "failed": list(self.faults)}


def together_figures(together: Together) -> dict[str, Any]:
    """What is kept of a comparison of both models."""
    compared = together.document["comparison"]
    views = {
        view["model_version"]: {name: one["value"] for name, one in view["figures"].items()}
        for view in together.document["views"]
        if view["model_version"] is not None
    }
    return {
        "decides": together.figure,
        "verdict": together.verdict,
        "figures": compared["figures"],
        "iou_by_class": compared["iou_by_class"],
        "versions": views,
        "recall_by_size": together.document["recall_by_size"],
    }


def segmenter_figures(one: TunedSegmenter) -> dict[str, Any]:
    return {
        "iou_from_true_boxes": one.every.as_dict(),
        "box_margin": one.margin,
        "classes": {name: found.as_dict() for name, found in one.classes.items()},
    }
