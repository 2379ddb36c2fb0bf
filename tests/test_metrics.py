"""Confusion counts and IoU: by hand, and additive."""

from __future__ import annotations

import numpy as np
import pytest

from backend.errors import InputError
from backend.metrics import confusion, iou_table


def test_by_hand() -> None:
    truth = np.array([[0, 1, 1], [2, 2, 255], [0, 0, 0]], np.uint8)
    found = np.array([[0, 1, 2], [2, 2, 1], [0, 1, 0]], np.uint8)
    counts = confusion(truth, found, 4)
    assert counts.counts.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    assert counts.iou[:3] == pytest.approx([3 / 4, 1 / 3, 2 / 3])
    assert np.isnan(counts.iou[3])  # in neither: no number, not 0
    assert counts.mean_iou == pytest.approx((3 / 4 + 1 / 3 + 2 / 3) / 3)
    assert counts.pixel_accuracy == pytest.approx(6 / 8)
    assert "n/a" in iou_table(counts, ["a", "b", "c"])


def test_counts_add_up() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 5, (2, 30, 20)), rng.integers(0, 5, (2, 30, 20))
    whole = confusion(truth.reshape(60, 20), found.reshape(60, 20), 5)
    parts = confusion(truth[0], found[0], 5) + confusion(truth[1], found[1], 5)
    assert np.array_equal(whole.counts, parts.counts)


def test_bad_maps_are_refused() -> None:
    with pytest.raises(InputError, match="different size"):
        confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
    with pytest.raises(InputError, match="truth: value 7 is beyond the 1 classes"):
        confusion(np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.uint8), 2)
