"""Proposer, then namer: masks of everything in an image, with names where these are sure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from backend.core.classes import class_names
from backend.core.masks import mask_xyxy, subtract_masks, tidy_mask
from backend.core.naming import NO_CLASS, NOT_SURE, UNNAMED, UNSURE, decided
from backend.core.protocols import Namer, PointSegmenter, Proposer, VideoSegmenter
from backend.core.types import (
    ClassProbabilities,
    Detections,
    Image,
    Instance,
    Mask,
    Masks,
    NamedProposals,
    Prediction,
    Proposals,
)
from backend.labeling.cascade import Cascade

_COVERED = 0.5  # a proposal of which so much lies under detected objects shows one of them


@dataclass(frozen=True, kw_only=True)
class AutomaticRules:
    """Which masks are kept, and when a name is sure.

    Attributes:
        name_min: lowest probability of a sure name, 0..1.
        name_margin: how much likelier it must be than the next, 0..1.
        keep_unsure: whether masks without a sure name are kept under the label ``unsure``.
        least_area: of a mask, as a share of the image.
        most_area: of a mask, as a share of the image.
        max_regions: most automatic masks of an image.
    """

    name_min: float = 0.5
    name_margin: float = 0.1
    keep_unsure: bool = True
    least_area: float = 0.0
    most_area: float = 1.0
    max_regions: int = 100


class AutomaticLabeler:
    """Automatic masks as a labeler.

    Args:
        proposer: outlines everything.
        namer: names masks; None leaves them ``object``.
        rules: which masks are kept.
        outlines: a cascade whose segmenter answers prompts of a person. Its detections come first
            and automatic masks fill what is left, unless it is there for prompts alone.
        detect: whether its detections are wanted.
        min_part: parts and holes smaller than this share of a mask are dropped and filled.
    """

    def __init__(
        self,
        proposer: Proposer,
        namer: Namer | None,
        rules: AutomaticRules,
        *,
        outlines: Cascade,
        detect: bool,
        min_part: float | None = None,
    ) -> None:
        self._proposer = proposer
        self._namer = namer
        self._rules = rules
        self._outlines = outlines
        self._detect = detect
        self._min_part = min_part
        named = [UNNAMED] if namer is None else [namer.names[k] for k in sorted(namer.names)]
        if namer is not None and rules.keep_unsure:
            named.append(UNSURE)
        self.names: Mapping[int, str] = class_names(outlines.names if detect else {}, named)
        ids = {name.casefold(): k for k, name in reversed(list(self.names.items()))}
        self._ids = [ids[name.casefold()] for name in named]
        parts = [proposer.version]
        if namer is not None:
            parts.append(namer.version)
        if detect:
            parts.insert(0, outlines.model_version)
        recipe = json.dumps([parts, sorted(self.names.items()), repr(rules), min_part])
        stems = "+".join(part.rpartition("-")[0] or part for part in parts)
        self.model_version = f"{stems}-{sha256(recipe.encode()).hexdigest()[:10]}"

    def infer(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None] | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> list[Prediction]:
        """Run the models on a batch; see ``Labeler``.

        Returns:
            Finished predictions: a namer needs pixels, so nothing is left to ``finish``.
        """
        detected = [
            self._outlines.finish(raw).instances
            for raw in (self._outlines.infer(images, given, thresholds) if self._detect else ())
        ] or [()] * len(images)
        proposed = self._proposer.propose(images)
        kept: list[Proposals] = []
        left_out: list[Counter[str]] = []
        for proposals, instances in zip(proposed, detected, strict=True):
            some, without = self._fitting(proposals, instances)
            kept.append(some)
            left_out.append(without)
        found = self._names_of(images, kept)
        answers = []
        for k, image in enumerate(images):
            named = self._instances(kept[k], found[k], left_out[k], thresholds)
            answers.append(
                Prediction(
                    (*detected[k], *named),
                    (image.shape[0], image.shape[1]),
                    self.model_version,
                    dict(left_out[k]),
                    self._everything(kept[k], found[k]),
                )
            )
        return answers

    def _names_of(
        self, images: Sequence[Image], kept: Sequence[Proposals]
    ) -> list[ClassProbabilities]:
        if self._namer is None:
            return [
                ClassProbabilities(
                    np.ones((len(one), 1), np.float32), np.zeros(len(one), np.float32)
                )
                for one in kept
            ]
        return self._namer.name(images, [one.masks for one in kept])

    def _everything(self, kept: Proposals, found: ClassProbabilities) -> NamedProposals | None:
        if self._namer is None:
            return None
        return NamedProposals(kept, found, tuple(self._ids[: len(self._namer.names)]))

    def _fitting(
        self, proposals: Proposals, detected: Sequence[Instance]
    ) -> tuple[Proposals, Counter[str]]:
        """What size and detections leave, and how many fell to what."""
        pixels = proposals.size_hw[0] * proposals.size_hw[1]
        over = [instance.mask for instance in detected if instance.mask is not None]
        rows: list[int] = []
        masks: list[Mask] = []
        without: Counter[str] = Counter()
        for k, mask in enumerate(proposals.masks):
            if self._min_part is not None:
                mask = tidy_mask(mask, self._min_part)
            area = mask.area
            rest = subtract_masks(mask, over) if over else mask
            left = 0 if rest is None else rest.area
            if left < (1 - _COVERED) * area:
                without["detected already"] += 1
                continue
            share = left / pixels
            if rest is None or share < self._rules.least_area:
                without["too small"] += 1
            elif share > self._rules.most_area:
                without["too large"] += 1
            else:
                rows.append(k)
                masks.append(rest)
        some = proposals.keep(rows)
        return Proposals(tuple(masks), some.predicted_iou, some.stability, some.size_hw), without

    def _instances(
        self,
        proposals: Proposals,
        found: ClassProbabilities,
        without: Counter[str],
        thresholds: Mapping[int, float] | None,
    ) -> list[Instance]:
        rules = self._rules
        classes, likeliest = decided(found, rules.name_min, rules.name_margin)
        instances: list[Instance] = []
        for k, mask in enumerate(proposals.masks):
            known = int(classes[k])
            if known == NO_CLASS:
                without["background"] += 1
                continue
            if known == NOT_SURE and not rules.keep_unsure:
                without["unsure"] += 1
                continue
            class_id = self._ids[-1 if known == NOT_SURE else known]  # unsure is the last
            quality = float(proposals.predicted_iou[k])
            score = quality if self._namer is None else float(likeliest[k])
            if thresholds is not None and score < thresholds.get(class_id, np.inf):
                without["below a threshold"] += 1
                continue
            if len(instances) == rules.max_regions:
                without["more than --max-regions"] += 1
                continue
            instances.append(
                Instance(
                    self.names[class_id],
                    class_id,
                    score,
                    mask_xyxy(mask),
                    mask,
                    quality=quality,
                    stability=float(proposals.stability[k]),
                )
            )
        return instances

    def finish(self, raw: Prediction) -> Prediction:
        """The answer of ``infer``, as it is."""
        return raw

    @property
    def point_segmenter(self) -> PointSegmenter | None:
        """The segmenter, if it also answers the prompts of a person."""
        return self._outlines.point_segmenter

    @property
    def video_segmenter(self) -> VideoSegmenter | None:
        """The segmenter, if it also follows objects through videos."""
        return self._outlines.video_segmenter

    def outline(self, masks: Masks) -> list[Mask | None]:
        """Pixel masks of a segmenter's answer; see ``Cascade.outline``."""
        return self._outlines.outline(masks)

    def predict(self, images: Sequence[Image]) -> list[Prediction]:
        """``infer`` and ``finish`` in one call."""
        return self.infer(images)
