"""What masks without classes find, and how right names are by how sure they are: by hand and
against brute force.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from backend.core.types import Mask
from backend.evaluation.instances import iou_matrix
from backend.evaluation.proposals import SIZES, ProposalCounts, count_proposals
from backend.evaluation.risk_coverage import risk_coverage


def block(x: int, y: int, w: int, h: int) -> Mask:
    return Mask(x, y, np.ones((h, w), np.bool_))


def test_objects_and_masks_count_under_their_own_sizes() -> None:
    truth = [block(0, 0, 20, 20), block(100, 0, 50, 50), block(200, 0, 100, 100)]
    masks = [
        block(0, 0, 20, 18),  # IoU 0.9 with the small one
        block(100, 0, 50, 30),  # 0.6 with the medium one
        block(200, 0, 100, 92),  # 0.92 with the large one, and itself medium
        block(0, 200, 10, 10),  # nothing
    ]
    counts = count_proposals(masks, np.array([0.9, 0.8, 0.7, 0.6]), truth)
    small, medium, large = (counts.of_size[size] for size in ("small", "medium", "large"))
    assert (small.recall, small.precision) == (1.0, 0.5)
    assert (medium.recall, medium.precision) == (0.0, 0.5)
    assert large.recall == 1.0
    assert np.isnan(large.precision), "no mask is large"
    assert (counts.total.recall, counts.total.precision) == (2 / 3, 0.5)
    both = counts + counts
    assert both.total.n_true == 6
    assert both.total.recall == counts.total.recall


def test_nothing_is_counted_as_nothing() -> None:
    counts = count_proposals([], np.zeros(0), [])
    assert counts == ProposalCounts()
    assert np.isnan(counts.total.recall)
    assert count_proposals([], np.zeros(0), [block(0, 0, 2, 2)]).total.recall == 0
    assert count_proposals([block(0, 0, 2, 2)], np.ones(1), []).total.precision == 0


@given(seed=st.integers(0, 5000), least=st.sampled_from([0.5, 0.75]))
@settings(max_examples=60, deadline=None)
def test_masks_that_do_not_overlap_are_matched_as_the_hungarian_method_does(
    seed: int, least: float
) -> None:
    rng = np.random.default_rng(seed)
    truth = [block(40 * k, 0, int(rng.integers(1, 40)), 30) for k in range(6)]
    masks = [block(40 * k, 0, int(rng.integers(1, 40)), 30) for k in rng.permutation(6)[:5]]
    counts = count_proposals(masks, rng.random(5), truth, least)
    iou = iou_matrix(masks, truth)
    rows, cols = linear_sum_assignment(-np.where(iou >= least, iou, 0))
    found = int((iou[rows, cols] >= least).sum())
    assert counts.total.n_found == counts.total.n_right == found
    assert sum(one.n_true for one in counts.of_size.values()) == 6
    assert set(counts.of_size) == set(SIZES)


@given(
    names=st.lists(
        st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.booleans()), max_size=30
    ),
    coverage=st.floats(0.01, 1),
    accuracy=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_the_curve_is_what_each_threshold_gives(
    names: list[tuple[float, bool]], coverage: float, accuracy: float
) -> None:
    scores = np.array([score for score, _ in names])
    right = np.array([hit for _, hit in names], np.bool_)
    curve = risk_coverage(scores, right)
    points = []
    for threshold in sorted(set(scores.tolist()), reverse=True):
        given_ones = scores >= threshold
        points.append((threshold, given_ones.mean(), right[given_ones].mean()))
    assert list(zip(curve.scores, curve.coverage, curve.accuracy, strict=True)) == [
        pytest.approx(point) for point in points
    ]
    reached = [a for _, c, a in points if c >= coverage - 1e-9]
    found = curve.accuracy_at(coverage)
    assert found == pytest.approx(reached[0]) if reached else np.isnan(found)
    enough = [t for t, _, a in points if a >= accuracy]
    assert curve.threshold_for(accuracy) == (min(enough) if enough else None)
