"""Which predicted instance is which true one, and the counts that instance measures come from.

Numpy only.

Matching is COCO's: predictions in order of descending score each take the free true instance of
their class with the largest IoU, if that reaches the threshold. Dropping the least sure predictions
therefore never changes what the others matched. Panoptic quality is defined in Kirillov, He,
Girshick, Rother, Dollar, "Panoptic segmentation", 2019; for instances that do not overlap this
matching is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backend.core.masks import common_pixels, mask_from_full
from backend.core.types import Instance, Mask
from backend.evaluation.semantic import Counts, Ratios, mean_of, ratio

THRESHOLDS = (0.5, 0.75)
# A prediction with more than this share on ignored pixels is no false alarm (Kirillov et al.,
# 2019).
_MOSTLY = 0.5


def iou_matrix(first: Sequence[Mask], second: Sequence[Mask]) -> NDArray[np.float64]:
    """Intersection over union of every mask with every other, without full frames.

    Returns:
        (A, B) 0..1.

    >>> row = np.ones((1, 4), np.bool_)
    >>> iou_matrix([Mask(0, 0, row)], [Mask(0, 0, row), Mask(1, 0, row), Mask(4, 0, row)]).tolist()
    [[1.0, 0.6, 0.0]]
    """
    table = np.zeros((len(first), len(second)))
    if not table.size:
        return table
    boxes = [
        np.array([(m.x, m.y, m.x + m.crop.shape[1], m.y + m.crop.shape[0]) for m in masks])
        for masks in (first, second)
    ]
    areas = [np.array([m.area for m in masks]) for masks in (first, second)]
    low = np.maximum(boxes[0][:, None, :2], boxes[1][None, :, :2])
    high = np.minimum(boxes[0][:, None, 2:], boxes[1][None, :, 2:])
    for a, b in zip(*np.nonzero((low < high).all(2)), strict=True):
        common = common_pixels(first[a], second[b])
        union = areas[0][a] + areas[1][b] - common
        table[a, b] = common / union if union else 0.0
    return table


def outside_void(
    instances: Sequence[Instance], void: NDArray[np.bool_] | None
) -> tuple[list[Instance], NDArray[np.bool_]]:
    """Take ignored pixels out of predicted instances.

    Args:
        instances: with masks.
        void: (H, W), True where truth is ignored; None for nowhere.

    Returns:
        The instances that have pixels left, and for each whether most of it was ignored: it may
        match, but is no false alarm.

    >>> mask = Mask(0, 0, np.ones((1, 3), np.bool_))
    >>> cat = Instance("cat", 0, 0.9, np.zeros(4, np.float32), mask)
    >>> kept, mostly_void = outside_void([cat], np.array([[True, True, False]]))
    >>> kept[0].mask, mostly_void.tolist()
    (Mask(x=2, y=0, crop=array([[ True]])), [True])
    """
    if void is None or not void.any():
        return list(instances), np.zeros(len(instances), np.bool_)
    kept = []
    mostly = []
    for instance in instances:
        mask = instance.mask
        if mask is None:
            continue
        h, w = mask.crop.shape
        inner = mask_from_full(mask.crop & ~void[mask.y : mask.y + h, mask.x : mask.x + w])
        if inner is None:
            continue
        moved = Mask(mask.x + inner.x, mask.y + inner.y, inner.crop)
        kept.append(replace(instance, mask=moved))
        mostly.append(inner.area < (1 - _MOSTLY) * mask.area)
    return kept, np.array(mostly, np.bool_)


def match(
    iou: NDArray[np.float64],
    scores: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.intp]:
    """Match predictions to true instances, the surest first.

    Args:
        iou: (P, T).
        scores: (P,) of the predictions.
        allowed: (P, T), False where the classes differ.
        threshold: lowest IoU of a match.

    Returns:
        (P,) index of the true instance, -1 for none.

    >>> iou = np.array([[0.9, 0.6], [0.8, 0.1]])
    >>> match(iou, np.array([0.5, 0.7]), np.ones((2, 2), np.bool_), threshold=0.5).tolist()
    [1, 0]
    """
    found = np.full(len(scores), -1, np.intp)
    free = np.where(allowed & (iou >= threshold), iou, -1.0)
    for k in np.argsort(-scores, kind="stable") if free.size else ():
        best = int(free[k].argmax())
        if free[k, best] >= 0:
            found[k] = best
            free[:, best] = -1
    return found


@dataclass(frozen=True, eq=False)
class InstanceCounts:
    """Instances per class. Leading axes are resamples or images."""

    truth: Counts  # (..., C)
    predicted: Counts  # (..., C)
    hit50: Counts  # (..., C) matched at IoU >= 0.5
    hit75: Counts  # (..., C)
    iou_sum: Counts  # (..., C) of the matches with IoU > 0.5
    hit_above50: Counts  # (..., C) matches with IoU > 0.5, as panoptic quality counts them

    def _hits(self, threshold: float) -> Counts:
        return {0.5: self.hit50, 0.75: self.hit75}[threshold]

    def precision(self, threshold: float = 0.5) -> Ratios:
        """(..., C) share of predicted instances that are matched; nan without any."""
        return ratio(self._hits(threshold), self.predicted)

    def recall(self, threshold: float = 0.5) -> Ratios:
        """(..., C) share of true instances that are matched; nan without any."""
        return ratio(self._hits(threshold), self.truth)

    def f1(self, threshold: float = 0.5) -> Ratios:
        """(..., C) harmonic mean of both; nan where there is no instance on either side."""
        return ratio(2 * self._hits(threshold), self.truth + self.predicted)

    def total_f1(self, threshold: float = 0.5) -> Ratios:
        """F1 over the instances of all classes together."""
        return ratio(2 * self._hits(threshold).sum(-1), self.truth.sum(-1) + self.predicted.sum(-1))

    @property
    def segmentation_quality(self) -> Ratios:
        """(..., C) mean IoU of the matches."""
        return ratio(self.iou_sum, self.hit_above50)

    @property
    def recognition_quality(self) -> Ratios:
        """(..., C) F1 with matches at IoU > 0.5."""
        return ratio(2 * self.hit_above50, self.truth + self.predicted)

    @property
    def panoptic_quality(self) -> Ratios:
        """(..., C) segmentation quality times recognition quality; 0 where nothing matches."""
        return ratio(2 * self.iou_sum, self.truth + self.predicted)

    @property
    def mean_panoptic_quality(self) -> Ratios:
        """Mean over the classes that occur."""
        return mean_of(self.panoptic_quality)


@dataclass(frozen=True, eq=False)
class Matched:
    """The instances of one image after matching."""

    counts: InstanceCounts  # (C,) without background
    iou: NDArray[np.float64]  # (P, T) of the predictions that count
    predicted: tuple[Instance, ...]  # P of them
    hits50: NDArray[np.bool_]  # (P,)


def match_instances(
    truth: Sequence[Instance],
    predicted: Sequence[Instance],
    n_classes: int,
    void: NDArray[np.bool_] | None = None,
) -> Matched:
    """Match the instances of one image and count.

    Args:
        truth: with masks.
        predicted: with masks.
        n_classes: class indices lie below.
        void: (H, W), True where truth is ignored.

    Returns:
        Counts per class, and what matched. Predictions that lie mostly on ignored pixels and match
        nothing are left out.

    >>> row = np.ones((1, 4), np.bool_)
    >>> truth = Instance("cat", 0, 1.0, np.zeros(4, np.float32), Mask(0, 0, row))
    >>> counts = match_instances([truth], [replace(truth, mask=Mask(1, 0, row))], 1).counts
    >>> counts.f1(0.5).tolist(), counts.f1(0.75).tolist(), counts.panoptic_quality.tolist()
    ([1.0], [0.0], [0.6])
    """
    kept, mostly_void = outside_void([i for i in predicted if i.mask is not None], void)
    iou = iou_matrix(
        [i.mask for i in kept if i.mask is not None], [i.mask for i in truth if i.mask is not None]
    )
    classes = (
        np.array([i.class_id for i in kept], np.intp),
        np.array([i.class_id for i in truth], np.intp),
    )
    same = classes[0][:, None] == classes[1][None, :]
    scores = np.array([i.score for i in kept], np.float64)
    at50 = match(iou, scores, same, THRESHOLDS[0])
    counted = (at50 >= 0) | ~mostly_void
    kept = [i for i, c in zip(kept, counted, strict=True) if c]
    iou = iou[counted]
    same = same[counted]
    at50 = at50[counted]
    at75 = match(iou, scores[counted], same, THRESHOLDS[1])
    own = classes[0][counted]

    def per_class(
        ids: NDArray[np.intp], weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        return np.bincount(ids, weights, n_classes).astype(np.float64)

    hits = np.flatnonzero(at50 >= 0)
    values = iou[hits, at50[hits]]
    above = values > THRESHOLDS[0]
    counts = InstanceCounts(
        per_class(classes[1]),
        per_class(own),
        per_class(own[hits]),
        per_class(own[at75 >= 0]),
        per_class(own[hits[above]], values[above]),
        per_class(own[hits[above]]),
    )
    return Matched(counts, iou, tuple(kept), at50 >= 0)
