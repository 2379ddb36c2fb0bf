"""Crops, grids and duplicates of automatic masks, against the package's own and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sam2.utils import amg

from backend.core.masks import common_pixels, full_frame, mask_from_full, mask_iou
from backend.core.proposing import (
    LEAST_SHARE_OF_NESTED,
    Crop,
    crops_of,
    distinct,
    distinct_grids,
    is_cut,
    point_grid,
)
from backend.core.types import Mask

SIZES = [(480, 640), (33, 64), (7, 5), (1, 1), (1, 900), (2000, 3000)]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("n_layers", [0, 1, 2])
@pytest.mark.parametrize("overlap", [0.0, 512 / 1500, 0.5])
def test_crops_are_those_of_the_package_and_cover_the_picture(
    size_hw: tuple[int, int], n_layers: int, overlap: float
) -> None:
    crops = crops_of(size_hw, n_layers, overlap)
    boxes, layers = amg.generate_crop_boxes(size_hw, n_layers, overlap)
    theirs = [
        (*box, layer)
        for box, layer in zip(boxes, layers, strict=True)
        if box[0] < box[2] and box[1] < box[3]
    ]
    assert [(c.x0, c.y0, c.x1, c.y1, c.layer) for c in crops] == theirs
    for layer in range(n_layers + 1):
        covered = np.zeros(size_hw, np.bool_)
        for crop in crops:
            if crop.layer == layer:
                covered[crop.y0 : crop.y1, crop.x0 : crop.x1] = True
        assert covered.all(), f"layer {layer}"


@pytest.mark.parametrize("per_side", [1, 2, 7, 32])
def test_grids_are_those_of_the_package(per_side: int) -> None:
    assert np.allclose(point_grid(per_side), amg.build_point_grid(per_side), atol=1e-6)


@given(
    box=st.tuples(*[st.integers(0, 300)] * 4),
    corner=st.tuples(st.integers(0, 100), st.integers(0, 100)),
)
@settings(max_examples=100, deadline=None)
def test_cut_boxes_are_those_of_the_package(
    box: tuple[int, int, int, int], corner: tuple[int, int]
) -> None:
    crop = Crop(corner[0], corner[1], corner[0] + 200, corner[1] + 180, 1)
    size_hw = (400, 360)
    inner = np.array(box, np.float32) - [crop.x0, crop.y0, crop.x0, crop.y0]
    expected = amg.is_box_near_crop_edge(
        torch.tensor(inner[None]), [crop.x0, crop.y0, crop.x1, crop.y1], [0, 0, 360, 400]
    )
    assert is_cut(np.array(box, np.float32), crop, size_hw) == bool(expected[0])


def same(a: Mask, b: Mask, most_iou: float, most_nested: float) -> bool:
    """The rule once more, on whole frames."""
    one, other = full_frame(a, (24, 24)), full_frame(b, (24, 24))
    common = int((one & other).sum())
    small, large = sorted((int(one.sum()), int(other.sum())))
    if common / int((one | other).sum()) > most_iou:
        return True
    return small >= LEAST_SHARE_OF_NESTED * large and common / small > most_nested


@given(seed=st.integers(0, 10_000), most_iou=st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=60, deadline=None)
def test_no_two_chosen_masks_are_one_thing_and_each_left_one_has_a_better_twin(
    seed: int, most_iou: float
) -> None:
    rng = np.random.default_rng(seed)
    frames = np.zeros((14, 24, 24), np.bool_)
    for frame in frames:
        y, x = rng.integers(0, 14, 2)
        h, w = rng.integers(1, 11, 2)
        frame[y : y + h, x : x + w] = True
    masks = [mask for mask in map(mask_from_full, frames) if mask is not None]
    scores = rng.permutation(len(masks)) / len(masks)
    nested = float(rng.choice([0.8, 1.0]))
    kept = distinct(masks, scores, most_iou, nested)
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    for k in kept:
        for j in kept:
            assert k == j or not same(masks[k], masks[j], most_iou, nested)
    for k in set(range(len(masks))) - set(kept):
        assert any(
            scores[j] > scores[k] and same(masks[k], masks[j], most_iou, nested) for j in kept
        )
    assert distinct_grids(frames, scores, most_iou, nested) == kept


def test_a_table_does_not_swallow_what_lies_on_it() -> None:
    table = Mask(0, 0, np.ones((40, 40), np.bool_))
    cup = Mask(5, 5, np.ones((8, 8), np.bool_))
    half = Mask(0, 0, np.ones((40, 20), np.bool_))
    assert common_pixels(table, cup) == 64
    assert mask_iou(table, half) == 0.5
    kept = distinct([table, cup, half], np.array([0.9, 0.8, 0.7]), 0.7, 0.9)
    assert kept == [0, 1], "the cup is kept; half of the table is the table"


def test_nothing_gives_nothing() -> None:
    assert distinct([], np.zeros(0), 0.7, 0.9) == []
    assert distinct_grids(np.zeros((0, 4, 4), np.bool_), np.zeros(0), 0.7, 0.9) == []
