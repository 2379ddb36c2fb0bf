"""Detector, then segmenter: named instances with masks. Class names are resolved here, once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from backend.core.boxes import check_boxes, usable_boxes
from backend.core.calibrator import Calibrator
from backend.core.effort import chance_of_right
from backend.core.masks import clip_mask, tidy_mask
from backend.core.protocols import BoxSegmenter, Detector, PointSegmenter, VideoSegmenter
from backend.core.types import Detections, Image, Instance, Mask, Masks, Prediction
from backend.core.upsample import crop_masks
from backend.errors import ConfigError, InputError

_FORMAT = 1  # part of every model_version; raised when the same models come to give other results


@dataclass(frozen=True, eq=False)
class Raw:
    """What the models said about one image, before pixels are made of it.

    ``masks`` is None where only boxes are wanted.
    """

    detections: Detections
    masks: Masks | None
    size_hw: tuple[int, int]


def _name_of(version: str) -> str:
    """A model's version without the digest behind its last dash: the whole stem of its file."""
    return version.rpartition("-")[0] or version


class Cascade:
    """Both models and everything that decides their results.

    Args:
        detector: gives boxes and names; None if all boxes are given.
        segmenter: outlines what is in a box; None for boxes only, or for a detector's own masks.
        names: class index to name; None takes the detector's.
        conf: given boxes below this score are dropped, 0..1 (a detector has its own).
        box_margin: masks are cut to their box grown by this share of its sides; None leaves them
            whole.
        min_part: parts and holes smaller than this share of a mask are dropped and filled; None
            leaves them.
        given_version: identifies the source of given boxes.
        calibrator: how often what is found is right; None where that is not known.

    Raises:
        ConfigError: neither a detector nor names.
    """

    def __init__(
        self,
        detector: Detector | None,
        segmenter: BoxSegmenter | None,
        *,
        names: Mapping[int, str] | None = None,
        conf: float = 0.0,
        box_margin: float | None = None,
        min_part: float | None = None,
        given_version: str = "",
        calibrator: Calibrator | None = None,
    ) -> None:
        if detector is None and names is None:
            raise ConfigError(
                "without a detector, class names are needed: name them with --classes"
            )
        self._detector = detector
        self._segmenter = segmenter
        self.names: Mapping[int, str] = dict(
            names if names is not None else detector.names if detector else {}
        )
        self._conf = conf
        self._box_margin = box_margin
        self._min_part = min_part
        self._calibrator = calibrator
        parts = [
            detector.version if detector else f"prompts-{given_version}",
            segmenter.version if segmenter else "boxes",
        ]
        recipe = json.dumps(
            [
                *(_FORMAT, parts, sorted(self.names.items()), conf, box_margin, min_part),
                *(() if calibrator is None else (calibrator.as_dict(),)),
            ]
        )
        digest = sha256(recipe.encode()).hexdigest()[:10]
        self.model_version = f"{_name_of(parts[0])}+{_name_of(parts[1])}-{digest}"

    def infer(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None] | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> list[Raw]:
        """Run the models on a batch.

        Args:
            images: RGB uint8 (H, W, 3), any sizes.
            given: detections to use instead of the detector's, per image; None for none given.
            thresholds: class index to lowest score; other classes are dropped before the segmenter
                sees them. None keeps all.

        Returns:
            Per image the usable detections (clipped to the image, at least a pixel wide) and their
            masks.

        Raises:
            InputError: given boxes that are not finite, or an image without given boxes where there
                is no detector.
        """
        detections = self._detections(images, given or [None] * len(images))
        kept = [
            self._usable(one, image, is_given=is_given, thresholds=thresholds)
            for (one, is_given), image in zip(detections, images, strict=True)
        ]
        masks: Sequence[Masks | None] = [detections.masks for detections in kept]
        if self._segmenter is not None:
            masks = self._segmenter.segment(images, [d.xyxy for d in kept])
        return [
            Raw(d, m, (image.shape[0], image.shape[1]))
            for d, m, image in zip(kept, masks, images, strict=True)
        ]

    def _detections(
        self, images: Sequence[Image], given: Sequence[Detections | None]
    ) -> list[tuple[Detections, bool]]:
        """The detections of each image, and whether they were given; the detector sees the others.

        Raises:
            InputError: an image without given boxes where there is no detector.
        """
        without = [image for image, own in zip(images, given, strict=True) if own is None]
        if without and self._detector is None:
            raise InputError("no boxes were given for this image, and there is no detector")
        found = iter(self._detector.detect(without) if without and self._detector else ())
        return [(next(found), False) if own is None else (own, True) for own in given]

    def _usable(
        self,
        detections: Detections,
        image: Image,
        *,
        is_given: bool,
        thresholds: Mapping[int, float] | None,
    ) -> Detections:
        boxes, keep = usable_boxes(check_boxes(detections.xyxy), (image.shape[0], image.shape[1]))
        if is_given:
            keep &= detections.scores >= self._conf
        keep &= np.isfinite(detections.scores)
        if thresholds is not None:
            lowest = [thresholds.get(int(k), np.inf) for k in detections.class_ids]
            keep &= detections.scores >= np.array(lowest, np.float32)
        return replace(detections, xyxy=boxes).keep(keep)

    def finish(self, raw: Raw) -> Prediction:
        """Turn a model answer into a prediction; runs on any thread.

        Instances whose mask is empty are left out.
        """
        masks = [None] * len(raw.detections) if raw.masks is None else crop_masks(raw.masks)
        instances = []
        for k, mask in enumerate(masks):
            box = raw.detections.xyxy[k]
            if mask is not None and self._box_margin is not None:
                mask = clip_mask(mask, box, self._box_margin)
            if mask is not None and self._min_part is not None:
                mask = tidy_mask(mask, self._min_part)
            if mask is None and raw.masks is not None:
                continue
            class_id = int(raw.detections.class_ids[k])
            quality = None if raw.masks is None else float(raw.masks.quality[k])
            label, score = self.names[class_id], float(raw.detections.scores[k])
            one = Instance(label, class_id, score, box, mask, quality)
            if self._calibrator is not None:
                chance = self._calibrator.chance(label, chance_of_right(one))
                one = replace(one, chance=chance)
            instances.append(one)
        return Prediction(tuple(instances), raw.size_hw, self.model_version)

    @property
    def detector(self) -> Detector | None:
        """What finds boxes; None where all are given."""
        return self._detector

    @property
    def segmenter(self) -> BoxSegmenter | None:
        """What outlines boxes; None where nothing does."""
        return self._segmenter

    @property
    def point_segmenter(self) -> PointSegmenter | None:
        """The segmenter, if it also answers the prompts of a person."""
        return self._segmenter if isinstance(self._segmenter, PointSegmenter) else None

    @property
    def video_segmenter(self) -> VideoSegmenter | None:
        """The segmenter, if it also follows objects through videos."""
        return self._segmenter if isinstance(self._segmenter, VideoSegmenter) else None

    def outline(self, masks: Masks) -> list[Mask | None]:
        """Pixel masks of a segmenter's answer, tidied as all others are; runs on any thread."""
        found = crop_masks(masks)
        return (
            found
            if self._min_part is None
            else [None if mask is None else tidy_mask(mask, self._min_part) for mask in found]
        )

    def predict(
        self, images: Sequence[Image], given: Sequence[Detections | None] | None = None
    ) -> list[Prediction]:
        """``infer`` and ``finish`` in one call."""
        return [self.finish(raw) for raw in self.infer(images, given)]
