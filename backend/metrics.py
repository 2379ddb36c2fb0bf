"""Semantic segmentation metrics from integer confusion counts that add up over images. numpy only.

Ratios are taken once, at the end, from summed counts, so that every pixel of every image weighs the same. A class that
occurs in neither truth nor prediction has no IoU (``nan``), which is not the same as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.geometry import IGNORE
from backend.types import LabelMap


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pixels by true (row) and predicted (column) label map value."""

    counts: NDArray[np.int64]  # (C, C) with C = classes + background

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    @property
    def iou(self) -> NDArray[np.float64]:
        """(C,) intersection over union per value, nan where a value occurs on neither side."""
        hit = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hit
        return np.asarray(np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0))

    @property
    def mean_iou(self) -> float:
        """Mean of ``iou`` over the values that occur, background included; nan without any pixel."""
        present = self.iou[~np.isnan(self.iou)]
        return float(present.mean()) if len(present) else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels with the right value; nan without any pixel."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")


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
    """
    if truth.shape != predicted.shape:
        raise InputError(f"label maps of different size: truth {truth.shape}, prediction {predicted.shape}")
    counted = truth != IGNORE
    rows = truth[counted].astype(np.int64)
    columns = np.where(predicted == IGNORE, 0, predicted)[counted].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and values.max() >= n_values:
            raise InputError(f"{name}: value {values.max()} is beyond the {n_values - 1} classes")
    return Confusion(np.bincount(rows * n_values + columns, minlength=n_values * n_values).reshape(n_values, n_values))


def iou_table(total: Confusion, names: Sequence[str]) -> str:
    """Per-class IoU as text, one line per value: background, then the classes."""
    rows = [("background", total.iou[0]), *zip(names, total.iou[1:], strict=True), ("mean", total.mean_iou), ("pixel accuracy", total.pixel_accuracy)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {'n/a' if np.isnan(value) else f'{value:.3f}'}" for name, value in rows)
