"""Figures of the embedded models where nobody points at anything: masks of everything, their names,
and what is said of clutter that the namer never saw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backend.core.masks import mask_from_full
from backend.core.naming import Words, decided
from backend.core.protocols import Namer, Proposer
from backend.core.stacking import FLAT_ORDERS
from backend.core.types import ClassProbabilities, Mask, Prediction, Proposals
from backend.demo.dataset import class_map, true_masks
from backend.demo.scenes.compose import Scene
from backend.demo.scenes.objects import CLASS_NAMES
from backend.demo.training_crops import NEVER_SHOWN
from backend.evaluation.proposals import ProposalCounts, count_proposals, matches
from backend.evaluation.risk_coverage import risk_coverage
from backend.evaluation.semantic import Confusion, confusion
from backend.formats.voc.label_maps import label_maps
from backend.labeling.automatic import AutomaticLabeler, AutomaticRules
from backend.labeling.cascade import Cascade
from backend.labeling.flat import FlatLabeler

CLASSES = tuple(Words(name) for name in CLASS_NAMES)
_FEWEST_PIXELS = 100  # of a piece of clutter that is asked about
_BATCH = 4  # scenes
_MIN_PART = 0.02  # as in the demo
_NOTHING = Confusion(np.zeros((len(CLASSES) + 1, len(CLASSES) + 1), np.int64))


def clutter_never_seen(scene: Scene) -> list[Mask]:
    """What is visible of the clutter that the namer never saw."""
    if scene.clutter is None:
        return []
    found = [
        mask_from_full(scene.clutter == k + 1)
        for k, kind in enumerate(scene.clutter_kinds)
        if kind in NEVER_SHOWN
    ]
    return [m for m in found if m is not None and m.area >= _FEWEST_PIXELS]


class AutomaticFigures:
    """Figures over scenes that are added one by one.

    Args:
        namer: of ``CLASSES``.
        rules: of names.
    """

    def __init__(self, namer: Namer, rules: AutomaticRules) -> None:
        self._namer = namer
        self._rules = rules
        self._proposals = ProposalCounts()
        self._sure: list[float] = []
        self._right: list[bool] = []
        self._foreign: list[bool] = []

    def add(self, scene: Scene, found: Proposals) -> None:
        """Count a scene and what was proposed for it."""
        truth = true_masks(scene)
        scores = found.predicted_iou * found.stability
        self._proposals += count_proposals(found.masks, scores, truth)
        objects = matches(found.masks, scores, truth, 0.75)
        rows = np.flatnonzero(objects >= 0)
        foreign = clutter_never_seen(scene)
        asked = [*(found.masks[k] for k in rows), *foreign]
        (names,) = self._namer.name([scene.image], [asked])
        best = names.probabilities.argmax(1) if asked else np.zeros(0, np.intp)
        expected = [scene.class_ids[objects[k]] for k in rows]
        self._sure += names.probabilities.max(1, initial=0)[: len(rows)].tolist()
        self._right += [int(a) == b for a, b in zip(best, expected, strict=False)]
        of_clutter = ClassProbabilities(
            names.probabilities[len(rows) :], names.background[len(rows) :]
        )
        classes, _ = decided(of_clutter, self._rules.name_min, self._rules.name_margin)
        self._foreign += (classes < 0).tolist()

    def figures(self) -> dict[str, float]:
        """By name."""
        curve = risk_coverage(np.array(self._sure), np.array(self._right, np.bool_))
        return {
            "automatic_recall75": self._proposals.total.recall,
            "automatic_precision75": self._proposals.total.precision,
            "name_accuracy": curve.accuracy_at(1.0),
            "name_accuracy_at_80": curve.accuracy_at(0.8),
            "clutter_refused": float(np.mean(self._foreign)) if self._foreign else float("nan"),
            "clutter_asked": float(len(self._foreign)),
        }


def automatic_figures(
    proposer: Proposer, namer: Namer, cascade: Cascade, scenes: Sequence[Scene]
) -> dict[str, float]:
    """Proposals, names and the semantic map of everything.

    Args:
        proposer: outlines everything.
        namer: of ``CLASSES``.
        cascade: what the flat map is compared with.
        scenes: with truth.
    """
    rules = AutomaticRules(keep_unsure=False)
    counted = AutomaticFigures(namer, rules)
    flat_maps = detected_maps = _NOTHING
    for start in range(0, len(scenes), _BATCH):
        part = scenes[start : start + _BATCH]
        proposed = proposer.propose([scene.image for scene in part])
        everything = AutomaticLabeler(
            _Known(proposed), namer, rules, outlines=cascade, detect=False, min_part=_MIN_PART
        )
        flat = FlatLabeler(everything, FLAT_ORDERS[0], None)
        images = [scene.image for scene in part]
        flat_maps += _confusion(part, [flat.finish(raw) for raw in flat.infer(images)])
        detected_maps += _confusion(part, cascade.predict(images))
        for scene, found in zip(part, proposed, strict=True):
            counted.add(scene, found)
    return {
        **counted.figures(),
        "flat_miou": flat_maps.mean_iou,
        "flat_over_cascade_miou": flat_maps.mean_iou - detected_maps.mean_iou,
    }


def _confusion(scenes: Sequence[Scene], predictions: Sequence[Prediction]) -> Confusion:
    """Of the classes of all pixels, with the truth."""
    total = _NOTHING
    for scene, prediction in zip(scenes, predictions, strict=True):
        total += confusion(class_map(scene), label_maps(prediction)[0], len(CLASSES) + 1)
    return total


class _Known:
    """A proposer that was asked before."""

    version = "known"

    def __init__(self, proposed: list[Proposals]) -> None:
        self._proposed = proposed

    def propose(self, images: Sequence[object]) -> list[Proposals]:
        return self._proposed
