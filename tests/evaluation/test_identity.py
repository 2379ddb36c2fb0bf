"""HOTA, IDF1 and switches: TrackEval's figures, properties, and an example by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import Mask
from backend.evaluation.identity import IdentityCounts, Overlaps, count_identities, overlaps_of


def sequence(seed: int) -> tuple[list[Overlaps], int, int]:
    """Tracks that mostly lie on their object, now and then change it, and are missing at times."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 6))
    columns = int(rng.integers(1, 7))
    owner = rng.permutation(max(rows, columns))
    frames = []
    for _ in range(int(rng.integers(1, 40))):
        if rng.random() < 0.06:
            owner = rng.permutation(max(rows, columns))
        truth = np.flatnonzero(rng.random(rows) < 0.8)
        found = np.flatnonzero(rng.random(columns) < 0.8)
        iou = rng.random((len(truth), len(found))) * 0.3
        belongs = owner[truth][:, None] == found[None]
        frames.append(
            Overlaps(truth, found, np.where(belongs, rng.uniform(0.3, 1, iou.shape), iou))
        )
    return frames, rows, columns


def of_trackeval(frames: list[Overlaps], rows: int, columns: int) -> dict[str, float]:
    from trackeval.metrics.clear import CLEAR
    from trackeval.metrics.hota import HOTA
    from trackeval.metrics.identity import Identity

    data: dict[str, Any] = {
        "num_gt_dets": sum(len(one.truth) for one in frames),
        "num_tracker_dets": sum(len(one.found) for one in frames),
        "num_gt_ids": rows,
        "num_tracker_ids": columns,
        "gt_ids": [one.truth for one in frames],
        "tracker_ids": [one.found for one in frames],
        "similarity_scores": [one.iou for one in frames],
        "num_timesteps": len(frames),
    }
    with np.errstate(invalid="ignore"):  # of objects that are never seen
        higher = HOTA().eval_sequence(data)
    return {
        "hota": float(higher["HOTA"].mean()),
        "det_a": float(higher["DetA"].mean()),
        "ass_a": float(higher["AssA"].mean()),
        "loc_a": float(higher["LocA"].mean()),
        "idf1": float(Identity().eval_sequence(data).get("IDF1", 0)),
        "switches": int(CLEAR().eval_sequence(data)["IDSW"]),
    }


@pytest.mark.parametrize("seed", range(60))
def test_figures_are_those_of_trackeval(seed: int) -> None:
    frames, rows, columns = sequence(seed)
    ours = count_identities(frames).figures
    for name, value in of_trackeval(frames, rows, columns).items():
        assert getattr(ours, name) == pytest.approx(value, abs=1e-9), name


def test_by_hand() -> None:
    """One object of four frames, followed by one track for three and by another for one."""
    one = np.ones((1, 1))
    first = Overlaps(np.array([0]), np.array([0]), one)
    second = Overlaps(np.array([0]), np.array([1]), one)
    figures = count_identities([first, first, first, second]).figures
    assert figures.det_a == 1.0
    # Three matches of 3 / (4 + 3 - 3), and one of 1 / (4 + 1 - 1).
    assert figures.ass_a == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)
    assert figures.hota == pytest.approx(np.sqrt(figures.ass_a))
    assert figures.idf1 == pytest.approx(2 * 3 / 8)
    assert figures.switches == 1


@given(seed=st.integers(0, 10_000))
def test_the_order_of_tracks_does_not_matter(seed: int) -> None:
    frames, _, columns = sequence(seed)
    order = np.random.default_rng(seed).permutation(columns)
    turned = [Overlaps(one.truth, order[one.found], one.iou) for one in frames]
    a = count_identities(frames).figures
    b = count_identities(turned).figures
    assert a.hota == pytest.approx(b.hota)
    assert (a.idf1, a.switches) == (pytest.approx(b.idf1), b.switches)
    assert 0 <= a.hota <= 1


def test_counts_of_videos_add_up() -> None:
    made = [count_identities(sequence(seed)[0]) for seed in (1, 2, 3)]
    total: IdentityCounts = made[0] + made[1] + made[2]
    assert total.n_truth == sum(one.n_truth for one in made)
    assert total.switches == sum(one.switches for one in made)
    figures = [one.figures.hota for one in made]
    assert min(figures) <= total.figures.hota <= max(figures)


def test_nothing_at_all() -> None:
    none = np.zeros(0, np.int64)
    empty = Overlaps(none, none, np.zeros((0, 0)))
    assert count_identities([empty]).figures.hota == 0
    missed = Overlaps(np.array([0]), none, np.zeros((1, 0)))
    figures = count_identities([missed]).figures
    assert (figures.hota, figures.idf1, figures.switches) == (0, 0, 0)


def test_masks_of_tracks_are_compared() -> None:
    def video(shift: int, number: int) -> TrackedVideo:
        seen = PackedInstances("cat", 0, number)
        for frame in range(3):
            seen.add(frame, Mask(10 + frame + shift, 5, np.ones((10, 10), np.bool_)), 1.0)
        track = Track(id=number, label="cat", seen=seen)
        return TrackedVideo(name="v", size_hw=(40, 60), n_frames=3, rate=25.0, tracks=(track,))

    same = count_identities(overlaps_of(video(0, 1), video(0, 7))).figures
    assert same.hota == pytest.approx(1.0)
    assert same.loc_a == pytest.approx(1.0)
    near = count_identities(overlaps_of(video(0, 1), video(2, 7)))
    assert near.location[0] == pytest.approx(3 * 80 / 120)
    assert near.figures.idf1 == 1.0
