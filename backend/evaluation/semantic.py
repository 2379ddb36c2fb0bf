"""Semantic segmentation metrics from integer counts that add up over images. numpy only.

Ratios are taken once, at the end, from summed counts, so that every pixel of every image weighs the
same. A class that occurs in neither truth nor prediction has no IoU (``nan``), which is not the
same as 0.

Definitions: IoU, pixel accuracy, mean accuracy and frequency-weighted IoU as in Long, Shelhamer,
Darrell, "Fully convolutional networks for semantic segmentation", 2015; Dice is 2 IoU / (1 + IoU);
the boundary F-score as in Csurka, Larlus, Perronnin, "What is a good evaluation measure for
semantic segmentation?", 2013, except that boundary pixels are summed over images before dividing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core import kernels
from backend.core.classes import IGNORE
from backend.core.types import LabelMap
from backend.errors import InputError

Counts = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
Ratios = NDArray[np.float64]


def ratio(part: Counts, whole: Counts) -> Ratios:
    """``part / whole`` where there is something to divide by, else nan.

    Any shapes that broadcast.

    >>> ratio(np.array([1, 2]), np.array([2, 0])).tolist()
    [0.5, nan]
    """
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def mean_of(values: Ratios) -> Ratios:
    """Mean over the last axis of what is not nan; nan where nothing is left.

    >>> float(mean_of(np.array([0.5, np.nan, 1.0])))
    0.75
    """
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0).sum(-1), there.sum(-1))


@dataclass(frozen=True, eq=False)
class Areas:
    """Pixels per label map value: in both truth and prediction, in truth, in the prediction.

    Leading axes are resamples or images.
    """

    hit: Counts  # (..., C) with C = classes + background
    truth: Counts  # (..., C)
    predicted: Counts  # (..., C)

    @property
    def iou(self) -> Ratios:
        """(..., C) intersection over union, nan where a value occurs on neither side."""
        return ratio(self.hit, self.truth + self.predicted - self.hit)

    @property
    def dice(self) -> Ratios:
        """(..., C) twice the intersection over the sum of both areas."""
        return ratio(2 * self.hit, self.truth + self.predicted)

    @property
    def accuracy(self) -> Ratios:
        """(..., C) share of a value's true pixels that were found; nan where truth has none."""
        return ratio(self.hit, self.truth)

    @property
    def mean_iou(self) -> Ratios:
        """Mean of ``iou`` over the values that occur, background included."""
        return mean_of(self.iou)

    @property
    def mean_iou_of_classes(self) -> Ratios:
        """Mean of ``iou`` over the classes that occur, without background."""
        return mean_of(self.iou[..., 1:])

    @property
    def mean_accuracy(self) -> Ratios:
        """Mean of ``accuracy`` over the values that occur in truth."""
        return mean_of(self.accuracy)

    @property
    def mean_dice(self) -> Ratios:
        """Mean of ``dice`` over the values that occur, background included."""
        return mean_of(self.dice)

    @property
    def pixel_accuracy(self) -> Ratios:
        """Share of pixels with the right value; nan without any pixel."""
        return ratio(self.hit.sum(-1), self.truth.sum(-1))

    @property
    def frequency_weighted_iou(self) -> Ratios:
        """``iou`` weighted by each value's share of the true pixels."""
        return ratio((np.nan_to_num(self.iou) * self.truth).sum(-1), self.truth.sum(-1))


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pixels by true (row) and predicted (column) label map value."""

    counts: NDArray[np.int64]  # (C, C) with C = classes + background

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    @cached_property
    def areas(self) -> Areas:
        """The counts per value, from which all ratios come."""
        return Areas(np.diag(self.counts), self.counts.sum(1), self.counts.sum(0))

    @property
    def iou(self) -> Ratios:
        """(C,) intersection over union per value, nan where a value occurs on neither side."""
        return self.areas.iou

    @property
    def mean_iou(self) -> float:
        """Mean of ``iou`` over the values that occur, background included.

        Nan without any pixel.
        """
        return float(self.areas.mean_iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels with the right value; nan without any pixel."""
        return float(self.areas.pixel_accuracy)


def _refuse_large(values: LabelMap, n_values: int, name: str) -> None:
    """Raise for the largest value beyond the classes; 255 is none."""
    largest = max((int(v) for v in np.unique(values) if v != IGNORE), default=0)
    if largest >= n_values:
        raise InputError(f"{name}: value {largest} is beyond the {n_values - 1} classes")


def as_bytes(values: LabelMap, n_values: int, name: str) -> NDArray[np.uint8]:
    """A label map of any kind of numbers as uint8, contiguous.

    Args:
        values: (H, W) index image.
        n_values: number of classes plus one for background.
        name: for messages.

    Raises:
        InputError: a value that uint8 cannot hold.

    >>> as_bytes(np.array([[0, 1, 255]]), 2, "truth").dtype.name
    'uint8'
    """
    if values.dtype != np.uint8:
        _refuse_large(values, n_values, name)
        if values.size and values.min() < 0:
            raise InputError(f"{name}: value {int(values.min())} is below 0")
    return np.ascontiguousarray(values, np.uint8)


def confusion(truth: LabelMap, predicted: LabelMap, n_values: int) -> Confusion:
    """Count pixels by true and predicted value.

    Args:
        truth: (H, W) index image; 255 is ignored.
        predicted: (H, W) index image; 255 counts as background.
        n_values: number of classes plus one for background, at most 255.

    Returns:
        The counts of this image.

    Raises:
        InputError: shapes differ, or a value is beyond ``n_values``.

    >>> truth = np.array([[0, 0, 1, 1, 255]])
    >>> found = confusion(truth, np.array([[0, 1, 1, 1, 1]]), n_values=2)
    >>> found.counts.tolist(), found.pixel_accuracy
    ([[1, 1], [0, 2]], 0.75)
    >>> found.iou.round(3).tolist(), round(found.mean_iou, 3)  # 1 pixel of 2, 2 of 3
    ([0.5, 0.667], 0.583)
    """
    if truth.shape != predicted.shape:
        raise InputError(
            f"label maps of different size: truth {truth.shape}, prediction {predicted.shape}"
        )
    if not truth.size:
        return Confusion(np.zeros((n_values, n_values), np.int64))
    rows = as_bytes(truth, n_values, "truth")
    columns = as_bytes(predicted, n_values, "prediction")
    counts = kernels.counting.pairs(rows.ravel(), columns.ravel())
    if counts[n_values:IGNORE].any() or counts[:, n_values:IGNORE].any():
        _refuse_large(rows, n_values, "truth")
        _refuse_large(columns, n_values, "prediction")
    counts[:, 0] += counts[:, IGNORE]
    return Confusion(np.ascontiguousarray(counts[:n_values, :n_values]))


def iou_table(total: Confusion, names: Sequence[str]) -> str:
    """Per-class IoU as text, one line per value: background, then the classes.

    >>> print(iou_table(Confusion(np.array([[1, 1], [0, 2]])), ["cat"]))
    background      0.500
    cat             0.667
    mean            0.583
    pixel accuracy  0.750
    """
    rows = [
        ("background", total.iou[0]),
        *zip(names, total.iou[1:], strict=True),
        ("mean", total.mean_iou),
        ("pixel accuracy", total.pixel_accuracy),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        f"{name:<{width}}  {'n/a' if np.isnan(value) else f'{value:.3f}'}" for name, value in rows
    )
