"""The models of one run of fine-tuning: trained, judged, and offered if they are better."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from backend.config.models import Settings
from backend.errors import ConfigError, Unavailable
from backend.labeling.load import box_margin_of
from backend.models.devices import resolve_device
from backend.models.registry import detector_file, load_segmenter, segmenter_recipe, weights_of
from backend.models.sam2.image import Sam2Segmenter
from backend.models.table import is_published, licence_of
from backend.models.tuned import describe_tuned, is_tuned, margin_of, read_tuned
from backend.training.cascades import (
    AFTER,
    ALONE,
    BEFORE,
    OFFERED,
    Together,
    Trust,
    compare_cascades,
    trust_in,
)
from backend.training.compare import BETTER
from backend.training.division import Parts
from backend.training.logs import read_curves
from backend.training.parts import check_parts
from backend.training.request import (
    DETECTOR,
    SEGMENTER,
    FinetuneRequest,
    segmenter_figures,
    together_figures,
)
from backend.training.segmenter_loop import Progress, TuneOptions, Work
from backend.training.tune_detector import TunedDetector, tune_detector
from backend.training.tune_segmenter import Rival, TunedSegmenter, tune_segmenter

logger = logging.getLogger(__name__)


def _base(settings: Settings) -> tuple[Sam2Segmenter, str, str]:
    """The model to begin with, its name, and what its module needs beside its weights."""
    settings = replace(settings, runtime="torch")  # which learns
    segmenter = load_segmenter(settings, resolve_device(settings.device))
    if not isinstance(segmenter, Sam2Segmenter):
        raise ConfigError("--segmenter: only a SAM 2 can be fine-tuned")
    base, config = segmenter_recipe(settings)
    if config is None:
        raise ConfigError("--segmenter-config: is needed for a checkpoint of your own")
    return segmenter, base, config


@dataclass(eq=False)
class ModelsRun:
    """The models of a run, one after the other; what is better is offered by the folder."""

    request: FinetuneRequest
    settings: Settings
    parts: Parts
    options: TuneOptions
    trained: Mapping[str, Sequence[str]]
    stop: threading.Event
    tell: Callable[[Progress], None]
    work: Work
    segmenter: TunedSegmenter | None = None
    detector: TunedDetector | None = None
    together: Together | None = None
    faults: list[str] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)

    def train(self) -> None:
        if "," in self.settings.device:
            raise ConfigError("--device: a model learns on one device; name one")
        if self.stop.is_set():
            raise Unavailable("interrupted before training began")
        # The bases are looked at before the first of them learns for an hour.
        base = None
        if SEGMENTER in self.request.kinds:
            check_parts(self.request.parts)
            base = _base(self.settings)
        before = replace(self.settings, classes=None)
        if base is not None:  # by its file, as the folder it came from may offer another later
            weights = weights_of(SEGMENTER, self.settings)
            before = replace(
                before,
                segmenter=str(weights),
                segmenter_config=base[2],
                box_margin=box_margin_of(self.settings),
            )
        file = detector_file(self.settings) if DETECTOR in self.request.kinds else None
        if file is not None:
            self.detector = tune_detector(
                file[1],
                self.parts,
                self.request.out,
                self.options,
                device=resolve_device(self.settings.device),
                scratch=self.request.scratch,
                stop=self.stop,
                tell=self.tell,
            )
        if base is not None and not self.stop.is_set():
            self._segmenter(*base)
        if file is not None and not self.stop.is_set():
            self._detector(file[0], before)

    def _segmenter(self, segmenter: Sam2Segmenter, base: str, config: str) -> None:
        out = self.request.out
        rival = read_tuned(out, SEGMENTER) if is_tuned(out, SEGMENTER) else None
        version = segmenter.version
        found = self.segmenter = tune_segmenter(
            segmenter,
            config,
            self.parts,
            out,
            self.options,
            stop=self.stop,
            tell=self.tell,
            work=self.work,
            rival=None if rival is None else Rival(rival.path, margin_of(rival)),
            margin=self.settings.box_margin,
            margin_is_given=self.settings.box_margin is not None,
        )
        is_best = found.rival is None or found.every.after >= found.rival
        if self.request.accept or (found.every.verdict == BETTER and is_best):
            own = self.settings.segmenter_config is not None or not is_published(SEGMENTER, base)
            about = self._about(SEGMENTER, base, found.epochs, segmenter_figures(found))
            about["started_from"] = version
            about["box_margin"] = found.margin
            describe_tuned(out, SEGMENTER, found.path, base, config if own else None, about)
            self.offered.append(SEGMENTER)

    def _detector(self, base: str, before: Settings) -> None:
        """Judge the detector, with what outlines its boxes."""
        found, out = self.detector, self.request.out
        if found is None:
            return
        report = out / "report.html"
        try:
            versions, trusted = self._versions(before, found.path)
            together = self.together = compare_cascades(
                versions,
                self.parts.held_out,
                found.names,
                self.options.limits,
                report,
                self.stop,
                partial(self.work, "judging"),
                read_curves(out, self.request.kinds),
            )
        except Unavailable:
            if not self.stop.is_set():
                raise
            return  # not judged, so not offered
        self.faults += [one["reason"] for one in together.document["failed"]]
        is_best = OFFERED not in versions or together.value(AFTER) >= together.value(OFFERED)
        if self.request.accept or (together.verdict == BETTER and is_best):
            about = self._about(DETECTOR, base, found.epochs, together_figures(together))
            about["classes"] = list(found.names)
            about["calibration"] = trusted.calibration
            about["conf"] = trusted.conf if self.settings.conf is None else None
            describe_tuned(out, DETECTOR, found.path, base, None, about)
            self.offered.append(DETECTOR)

    def _trust(self, settings: Settings) -> Trust:
        """How far models can be trusted, by the pictures that chose the weights."""
        return trust_in(settings, self.parts.validation, self.options.limits, self.stop)

    def _versions(self, before: Settings, path: Path) -> tuple[dict[str, Settings], Trust]:
        """What is compared, each with the threshold of scores that suits it best where none was
        given, so that only learning makes a difference; and how far the new models can be trusted.
        """
        out, alone = self.request.out, before
        if SEGMENTER in self.offered:
            margin = self.settings.box_margin
            alone = replace(before, segmenter=str(out), segmenter_config=None, box_margin=margin)
        after = replace(alone, detector=str(path))
        trusted = self._trust(after)
        offered = replace(alone, detector=str(out))
        if self.settings.conf is None:
            after = replace(after, conf=trusted.conf)
            conf = self._trust(alone).conf
            before, alone = replace(before, conf=conf), replace(alone, conf=conf)
        versions = {BEFORE: before, AFTER: after}
        if SEGMENTER in self.offered:
            versions[ALONE] = alone
        if is_tuned(out, DETECTOR):
            versions[OFFERED] = offered
        return versions, trusted

    def _about(
        self, kind: str, base: str, epochs: int, figures: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What weights were made of, and how good they are."""
        request, parts = self.request, self.parts
        own = (
            {"views": request.views, "rate": request.rate, "parts": request.parts}
            if kind == SEGMENTER
            else {"scratch": request.scratch}
        )
        return {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "source": str(request.source),
            "licence": licence_of(kind, base),
            "pictures": {
                "train": [one.digest for one in parts.train],
                "validation": [one.digest for one in parts.validation],
                "held_out": [one.digest for one in parts.held_out],
            },
            "settings": {
                "minutes": self.options.minutes,
                "epochs": epochs,
                "seed": request.seed,
                **own,
            },
            "figures": figures,
            "learned_before": list(self.trained[kind]),
        }
