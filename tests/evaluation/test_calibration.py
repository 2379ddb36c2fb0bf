"""Calibration, thresholds against trying every one, and confidence intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from backend.evaluation.accumulate import Rows
from backend.evaluation.calibration import calibration, suggest
from backend.evaluation.columns import COLUMNS, column
from backend.evaluation.intervals import intervals, resampled
from backend.formats.label_studio.label_config import parse_label_config


def test_calibration_by_hand() -> None:
    found = calibration(np.array([0.95, 0.85, 0.85, 0.15]), np.array([True, True, False, False]))
    assert found.hits.tolist() == [0] * 8 + [1, 1]
    assert found.misses.tolist() == [0, 1] + [0] * 6 + [1, 0]
    assert found.error == pytest.approx((0.05 + abs(1.7 - 1) + 0.15) / 4)
    assert np.isnan(calibration(np.zeros(0), np.zeros(0, bool)).error)


def test_calibration_equals_scikit_learn(rng: np.random.Generator) -> None:
    scores = rng.random(500)
    hits = rng.random(500) < scores**2
    found = calibration(scores, hits)
    share, mean = calibration_curve(hits, scores, n_bins=10)
    assert found.hits / (found.hits + found.misses) == pytest.approx(share)
    assert found.mean_scores == pytest.approx(mean)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=25),
    st.integers(0, 5),
    st.sampled_from([20.0, 2000.0, 300_000.0]),
)
def test_the_suggested_threshold_is_the_best_of_all(
    pairs: list[tuple[int, bool]], missed: int, parts: float
) -> None:
    scores = np.array([s / parts for s, _ in pairs])
    hits = np.array([h for _, h in pairs])
    n_true = int(hits.sum()) + missed

    def f1(threshold: float) -> float:
        kept = scores >= threshold
        return 2 * (hits & kept).sum() / (kept.sum() + n_true)

    found = suggest("car", scores, hits, n_true)
    if not n_true or scores.min() == scores.max():
        assert found is None
        return
    best = max(f1(t) for t in np.unique(scores))
    assert found.f1 == pytest.approx(best)
    assert found.n_kept == max(
        (scores >= t).sum() for t in np.unique(scores) if f1(t) == pytest.approx(best, abs=1e-12)
    )  # of equals the lowest
    assert f1(found.threshold) == pytest.approx(best)
    assert found.n_kept == (scores >= found.threshold).sum()
    assert found.f1_now == pytest.approx(f1(0))


def test_a_suggestion_is_read_by_our_own_parser() -> None:
    found = suggest(
        'car "small" & <fast>',
        np.array([0.9, 0.8, 0.3, 0.2]),
        np.array([True, True, False, False]),
        2,
    )
    assert found.threshold == 0.55
    config = (
        '<View><Image name="i" value="$image"/><BrushLabels name="b"'
        f' toName="i">{found.as_tag()}</BrushLabels></View>'
    )
    (label,) = parse_label_config(config).tags[0].labels
    assert (label.value, label.threshold) == ('car "small" & <fast>', 0.55)


def rows(n_images: int, seed: int = 0) -> tuple[Rows, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_images, len(COLUMNS)))
    counts[:, 0], counts[:, 1] = rng.binomial(100, 0.7, n_images), 100
    return Rows(np.arange(n_images), np.ones(n_images, np.int64), counts), np.arange(n_images)


def share(table: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "share": (
            column(table, "pixels_hit").sum(-1)
            / np.maximum(1, column(table, "pixels_true").sum(-1))
        )
    }


def test_intervals_equal_a_plain_bootstrap() -> None:
    some, units = rows(60)
    low, high = intervals(some, units, 2, share)["share"]
    rng = np.random.default_rng(1)
    plain = [some.counts[rng.integers(0, 60, 60), 0].sum() / 6000 for _ in range(4000)]
    assert [low, high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.003)
    assert low < share(np.stack([np.zeros(len(COLUMNS)), some.counts.sum(0)]))["share"] < high


def test_the_interval_contains_the_truth_about_as_often_as_it_says() -> None:
    inside = []
    for seed in range(200):
        some, units = rows(40, seed)
        low, high = intervals(some, units, 2, share, 300)["share"]
        inside.append(low <= 0.7 <= high)
    assert 0.86 < np.mean(inside) < 0.995


def test_images_are_drawn_with_all_that_belongs_to_them() -> None:
    # Two images, one of them annotated by nine people: a resample holds each image's rows together,
    # so the sum is one of three values.
    units = np.array([0] * 9 + [1])
    counts = np.zeros((10, len(COLUMNS)))
    counts[:, 1] = [1] * 9 + [100]
    total = np.concatenate(
        [
            column(t, "pixels_true")[:, 1]
            for t in resampled(Rows(units, np.ones(10, np.int64), counts), units, 2, 400)
        ]
    )
    assert set(total.tolist()) == {18.0, 109.0, 200.0}
    assert np.mean(total == 109) == pytest.approx(0.5, abs=0.1)


def test_images_without_any_row_are_drawn_too() -> None:
    some, _ = rows(1)
    total = np.concatenate(
        [column(t, "pixels_true")[:, 1] for t in resampled(some, np.arange(2), 2, 400)]
    )
    assert set(total.tolist()) == {0.0, 100.0, 200.0}


def test_one_image_has_no_interval() -> None:
    some, units = rows(1)
    assert intervals(some, units, 2, share) == {}


def test_a_figure_that_is_mostly_undefined_has_no_interval() -> None:
    counts = np.zeros((20, len(COLUMNS)))
    counts[0, :2] = 1, 2  # only one image of twenty has the class
    some = Rows(np.arange(20), np.ones(20, np.int64), counts)
    units = np.arange(20)

    def ratio(table: np.ndarray) -> dict[str, np.ndarray]:
        true = column(table, "pixels_true")[:, 1]
        return {
            "share": np.where(
                true > 0, column(table, "pixels_hit")[:, 1] / np.maximum(true, 1), np.nan
            )
        }

    assert np.isnan(intervals(some, units, 2, ratio)["share"]).all()


def test_images_without_a_row_may_come_first() -> None:
    counts = np.zeros((1, len(COLUMNS)))
    counts[:, 1] = 100
    rows_of_second = Rows(np.array([1]), np.ones(1, np.int64), counts)
    total = np.concatenate(
        [column(t, "pixels_true")[:, 1] for t in resampled(rows_of_second, np.arange(2), 2, 400)]
    )
    assert set(total.tolist()) == {0.0, 100.0, 200.0}
