"""Semantic metrics: by hand, against scikit-learn, additive, and where upstream's formula goes
another way.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, recall_score

from backend.errors import InputError
from backend.evaluation.boundaries import boundaries
from backend.evaluation.semantic import Areas, confusion, iou_table, mean_of, ratio


def maps(
    seed: int, n_values: int, smooth: bool = True, size_hw: tuple[int, int] = (64, 80)
) -> tuple[np.ndarray, np.ndarray]:
    """A truth with ignored pixels and a prediction that is partly right.

    Smooth as real label maps are, or noise.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_values, size_hw).astype(np.uint8)
    if smooth:
        truth = np.kron(truth[::8, ::8], np.ones((8, 8), np.uint8))
    found = np.where(
        rng.random(size_hw) < (0.01 if smooth else 0.5),
        rng.integers(0, n_values, size_hw),
        np.roll(truth, 2, 1),
    ).astype(np.uint8)
    truth[rng.random(size_hw) < 0.02] = 255
    return truth, found


def test_by_hand() -> None:
    truth = np.array([[0, 1, 1], [2, 2, 255], [0, 0, 0]], np.uint8)
    found = np.array([[0, 1, 2], [2, 2, 1], [0, 1, 0]], np.uint8)
    counts = confusion(truth, found, 4)
    assert counts.counts.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    assert counts.iou[:3] == pytest.approx([3 / 4, 1 / 3, 2 / 3])
    assert np.isnan(counts.iou[3])  # in neither: no number, not 0
    assert counts.mean_iou == pytest.approx((3 / 4 + 1 / 3 + 2 / 3) / 3)
    assert counts.pixel_accuracy == pytest.approx(6 / 8)
    assert counts.areas.mean_iou_of_classes == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert counts.areas.dice[:3] == pytest.approx([6 / 7, 1 / 2, 4 / 5])
    assert counts.areas.mean_dice == pytest.approx((6 / 7 + 1 / 2 + 4 / 5) / 3)
    assert counts.areas.mean_accuracy == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert counts.areas.frequency_weighted_iou == pytest.approx(
        (4 * 3 / 4 + 2 * 1 / 3 + 2 * 2 / 3) / 8
    )
    assert "n/a" in iou_table(counts, ["a", "b", "c"])


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("n_values", [2, 5, 33, 254, 255])
def test_equals_scikit_learn(n_values: int, smooth: bool) -> None:
    truth, found = maps(n_values, n_values, smooth)
    counts = confusion(truth, found, n_values)
    seen = truth != 255
    t = truth[seen]
    p = found[seen]
    labels = list(range(n_values))
    assert np.array_equal(counts.counts, confusion_matrix(t, p, labels=labels))
    occur = sorted(set(t) | set(p))
    assert counts.iou[occur] == pytest.approx(jaccard_score(t, p, labels=occur, average=None))
    assert counts.mean_iou == pytest.approx(jaccard_score(t, p, labels=occur, average="macro"))
    assert counts.pixel_accuracy == pytest.approx(accuracy_score(t, p))
    assert counts.areas.mean_accuracy == pytest.approx(
        recall_score(t, p, labels=sorted(set(t)), average="macro")
    )
    assert counts.areas.dice[occur] == pytest.approx(f1_score(t, p, labels=occur, average=None))
    assert counts.areas.frequency_weighted_iou == pytest.approx(
        jaccard_score(t, p, labels=occur, average="weighted")
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(2, 12), st.booleans())
def test_counts_of_halves_add_up_to_the_whole(seed: int, n_values: int, smooth: bool) -> None:
    truth, found = maps(seed, n_values, smooth)
    halves = confusion(truth[:30], found[:30], n_values) + confusion(
        truth[30:], found[30:], n_values
    )
    whole = confusion(truth, found, n_values)
    assert np.array_equal(whole.counts, halves.counts)
    assert whole.counts.sum() == np.count_nonzero(truth != 255)
    assert 0 <= whole.mean_iou <= whole.areas.mean_dice <= 1


def test_a_prediction_of_ignored_pixels_is_background() -> None:
    counts = confusion(np.array([[1, 0, 255]], np.uint8), np.array([[255, 255, 255]], np.uint8), 2)
    assert counts.counts.tolist() == [[1, 0], [1, 0]]


def test_wide_label_maps_count_the_same() -> None:
    truth, found = maps(1, 9)
    assert np.array_equal(
        confusion(truth.astype(np.uint16), found.astype(np.int64), 9).counts,
        confusion(truth, found, 9).counts,
    )


def test_more_pixels_than_a_float32_can_count() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((4200, 4200)) < 0.01).astype(
        np.uint8
    )  # 17.6 million, and noisy, so that the histogram counts them
    found = np.zeros_like(truth)
    found[::2, ::2] = rng.random((2100, 2100)) < 0.5
    counts = confusion(truth, found, 2).counts
    assert counts.sum() == truth.size
    assert counts[0, 0] == np.count_nonzero((truth == 0) & (found == 0))


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 7)])
def test_tiny_maps(shape: tuple[int, int]) -> None:
    counts = confusion(np.ones(shape, np.uint8), np.ones(shape, np.uint8), 2)
    assert counts.counts.tolist() == [[0, 0], [0, np.prod(shape)]]
    assert boundaries(np.ones(shape, np.uint8), np.ones(shape, np.uint8), 2).truth.sum() == 0
    if not counts.counts.any():
        assert np.isnan(counts.mean_iou)
        assert np.isnan(counts.pixel_accuracy)


def test_bad_maps_are_refused() -> None:
    with pytest.raises(InputError, match="different size"):
        confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
    for kind in (np.uint8, np.uint16, np.int64):
        with pytest.raises(InputError, match="truth: value 7 is beyond the 1 classes"):
            confusion(np.full((2, 2), 7, kind), np.zeros((2, 2), kind), 2)
        with pytest.raises(InputError, match="prediction: value 7 is beyond the 1 classes"):
            confusion(np.zeros((2, 2), kind), np.full((2, 2), 7, kind), 2)
    with pytest.raises(InputError, match="value -1 is below 0"):
        confusion(np.full((2, 2), -1), np.zeros((2, 2), np.uint8), 2)


def upstream(
    truths: list[np.ndarray], found: list[np.ndarray | None], n_values: int
) -> tuple[float, float]:
    """Pixel accuracy and mean IoU as upstream YOLO-SAM2 sums them: images without a detection are
    dropped, and every class counts.
    """
    correct = labelled = 0.0
    inter = np.zeros(n_values)
    union = np.zeros(n_values)
    for truth, predicted in zip(truths, found, strict=True):
        if predicted is None:
            continue
        correct = correct + (truth == predicted).sum()
        labelled = labelled + truth.size
        for value in range(n_values):
            a = truth == value
            b = predicted == value
            inter[value] += (a & b).sum()
            union[value] += (a | b).sum()
    return correct / labelled, float((inter / (union + np.spacing(1))).mean())


def test_where_upstream_goes_another_way() -> None:
    seen = np.zeros((10, 10), np.uint8)
    missed = np.zeros((10, 10), np.uint8)
    seen[:5], missed[:5] = 1, 1
    nothing = np.zeros_like(seen)
    one = confusion(seen, seen, 3)
    # All images are seen and all classes occur: both agree.
    both = np.where(seen, 1, 2).astype(np.uint8)
    assert upstream([both], [both], 3)[0] == confusion(both, both, 3).pixel_accuracy == 1
    # Misses cost nothing there, and everything here.
    accuracy, mean = upstream([seen, missed], [seen, None], 2)
    ours = one + confusion(missed, nothing, 3)
    assert (accuracy, mean) == pytest.approx((1, 1))
    assert ours.pixel_accuracy == pytest.approx(0.75)
    assert ours.mean_iou == pytest.approx((100 / 150 + 50 / 100) / 2)
    # A class that occurs nowhere is IoU 0 there, and no number here.
    assert upstream([seen], [seen], 3)[1] == pytest.approx(2 / 3)
    assert one.mean_iou == 1
    assert np.isnan(one.iou[2])


def slow_boundaries(
    truth: np.ndarray, found: np.ndarray, value: int, reach: float
) -> tuple[int, int, int, int]:
    """Boundary pixels and hits by comparing every pair of pixels."""

    def edge(label_map: np.ndarray) -> list[tuple[int, int]]:
        pixels = []
        for y, x in zip(*np.nonzero(label_map == value), strict=True):
            around = [(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
            inside = [
                (r, c)
                for r, c in around
                if 0 <= r < label_map.shape[0] and 0 <= c < label_map.shape[1]
            ]
            near = truth[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            if any(label_map[r, c] != value for r, c in inside) and not (near == 255).any():
                pixels.append((y, x))
        return pixels

    a = edge(truth)
    b = edge(found)
    hits = [
        sum(any(np.hypot(y - r, x - c) <= reach for r, c in other) for y, x in one)
        for one, other in ((a, b), (b, a))
    ]
    return len(a), hits[0], len(b), hits[1]


@pytest.mark.parametrize("seed", range(6))
def test_boundaries_equal_a_slow_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(40, 50)).astype(np.float32), (0, 0), 4)
    truth = np.digitize(noise, [-0.05, 0.05]).astype(np.uint8)
    found = np.roll(truth, (1, 3), (0, 1))
    truth[5:9, 5:9] = 255
    counted = boundaries(truth, found, 3, tolerance=0.03)
    for value in (1, 2):
        slow = slow_boundaries(truth, found, value, 0.03 * np.hypot(40, 50))
        assert (
            counted.truth[value],
            counted.truth_hit[value],
            counted.predicted[value],
            counted.predicted_hit[value],
        ) == slow
        precision = slow[3] / slow[2]
        recall = slow[1] / slow[0]
        assert counted.f_score[value] == pytest.approx(
            2 * precision * recall / (precision + recall)
        )


def test_boundary_f_by_hand() -> None:
    square = np.zeros((60, 80), np.uint8)
    shifted = np.zeros((60, 80), np.uint8)
    square[20:30, 20:30], shifted[20:30, 21:31] = 1, 1
    assert boundaries(square, square, 2).f_score[1] == 1
    assert (
        boundaries(square, shifted, 2).f_score[1] == 1
    )  # the tolerance is 0.75 % of the diagonal of 100, so a pixel
    assert boundaries(square, np.zeros_like(square), 2).f_score[1] == 0
    assert np.isnan(boundaries(np.zeros_like(square), np.zeros_like(square), 2).f_score[1])


def test_ratios_and_means_of_nothing() -> None:
    assert np.isnan(ratio(np.array([0]), np.array([0]))[0])
    assert mean_of(np.array([[np.nan, 1.0], [np.nan, np.nan]])) == pytest.approx(
        [1.0, np.nan], nan_ok=True
    )
    many = Areas(np.ones((5, 3)), np.ones((5, 3)), np.ones((5, 3)))
    assert many.mean_iou.shape == (5,)


def test_a_wrong_prediction_is_refused_where_truth_is_ignored_too() -> None:
    with pytest.raises(InputError, match="prediction: value 9 is beyond"):
        confusion(np.array([[255, 0]], np.uint8), np.array([[9, 0]], np.uint8), 3)
