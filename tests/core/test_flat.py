"""Masks that share no pixel, by hand and against the whole frame."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.masks import full_frame, mask_from_full, mask_xyxy
from backend.core.stacking import FLAT_ORDERS, flattened
from backend.core.types import Instance, Mask

SIZE = (18, 22)


def instance(mask: Mask | None, **what: float) -> Instance:
    return Instance("cat", 0, 0.5, np.zeros(4, np.float32), mask, **what)


@given(seed=st.integers(0, 5000), order=st.sampled_from(FLAT_ORDERS))
@settings(max_examples=80, deadline=None)
def test_each_pixel_belongs_to_the_best_mask_there(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(6):
        frame = np.zeros(SIZE, np.bool_)
        y, x = rng.integers(0, 14, 2)
        frame[y : y + rng.integers(1, 10), x : x + rng.integers(1, 10)] = True
        ranks = rng.integers(0, 4, 2) / 4  # with equals
        found.append(
            instance(mask_from_full(frame), quality=float(ranks[0]), stability=float(ranks[1]))
        )
    flat, rest = flattened(found, SIZE, order)
    frames = [full_frame(one.mask, SIZE) for one in found if one.mask]
    keys = {
        "predicted-iou": [one.quality for one in found],
        "stability": [one.stability for one in found],
        "smallest": [-frame.sum() for frame in frames],
    }[order]
    expected = np.zeros((len(found), *SIZE), np.bool_)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            there = [k for k, frame in enumerate(frames) if frame[y, x]]
            if there:  # the first of the best
                expected[max(there, key=lambda k: (keys[k], -k)), y, x] = True
    left = [frame for frame in expected if frame.any()]
    assert len(flat) == len(left)
    for one, frame in zip(flat, left, strict=True):
        assert one.mask is not None
        assert (full_frame(one.mask, SIZE) == frame).all()
        tight = mask_from_full(frame)
        assert tight is not None
        assert one.xyxy.tolist() == mask_xyxy(tight).tolist()
    uncovered = ~np.any(frames, axis=0)
    assert (full_frame(rest, SIZE) == uncovered).all() if rest else not uncovered.any()


def test_detected_masks_go_before_those_that_tell_their_stability() -> None:
    row = np.ones((1, 4), np.bool_)
    detected = instance(Mask(0, 0, row), quality=0.2)
    proposed = instance(Mask(2, 0, row), quality=0.9, stability=0.99)
    flat, _ = flattened([proposed, detected], SIZE, "stability")
    assert [one.mask.crop.shape[1] for one in flat if one.mask] == [2, 4]


def test_nothing_and_boxes_leave_the_whole_image() -> None:
    for found in ([], [instance(None)]):
        flat, rest = flattened(found, SIZE)
        assert flat == []
        assert rest is not None
        assert rest.crop.shape == SIZE
        assert rest.crop.all()
