"""Boxes and masks; the fast upsampling against torch's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from backend.core.boxes import check_boxes, usable_boxes
from backend.core.masks import (
    check_mask,
    clip_mask,
    full_frame,
    mask_from_full,
    mask_iou,
    tidy_mask,
)
from backend.core.stacking import paint, painting_order
from backend.core.types import Area, Detections, Instance, Mask, Masks
from backend.core.upsample import crop_mask, crop_masks
from backend.errors import InputError


def reference(logits: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    up = F.interpolate(
        torch.from_numpy(logits.astype(np.float32))[None, None],
        size_hw,
        mode="bilinear",
        align_corners=False,
    )
    return (up[0, 0] > 0).numpy()


def fast(logits: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    mask = crop_mask(logits, size_hw)
    return np.zeros(size_hw, bool) if mask is None else full_frame(mask, size_hw)


@pytest.mark.parametrize("grid", [(256, 256), (112, 112), (64, 48), (7, 9), (1, 1), (2, 300)])
@pytest.mark.parametrize("size_hw", [(1080, 1920), (480, 640), (37, 91), (20, 15), (300, 64)])
def test_crop_mask_equals_torch(grid: tuple[int, int], size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(grid[0] * 7 + size_hw[0])
    wrong = total = 0
    for sigma in (0.5, 1, 3):
        logits = cv2.GaussianBlur(
            rng.normal(size=grid).astype(np.float32), (0, 0), sigma
        ) - np.float32(rng.uniform(-0.02, 0.1))
        expected = reference(logits, size_hw)
        wrong += int((fast(logits, size_hw) != expected).sum())
        total += max(1, int(expected.sum()))
    assert wrong <= max(1, total // 100_000)  # rounding at the zero line


def test_crop_mask_of_nothing() -> None:
    assert crop_mask(np.full((8, 8), -1.0, np.float32), (40, 40)) is None


def test_crop_mask_of_everything() -> None:
    mask = crop_mask(np.ones((8, 8), np.float32), (40, 130))
    assert mask is not None
    assert mask.crop.shape == (40, 130)
    assert mask.crop.all()


def test_crop_mask_by_hand() -> None:
    # One row of four cells over eight pixels: 1, 1, -1, -1 changes sign between the centres of
    # cells 1 and 2, at pixel edge 4.
    mask = crop_mask(np.array([[1, 1, -1, -1]], np.float32), (1, 8))
    assert mask is not None
    assert (mask.x, mask.y, mask.crop.tolist()) == (0, 0, [[True] * 4])


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.sampled_from([-3.0, -1.0, -0.5, 0.25, 1.0, 2.0]),
    ),
    st.integers(1, 140),
    st.integers(1, 140),
)
def test_crop_mask_on_any_grid(logits: np.ndarray, height: int, width: int) -> None:
    grid = torch.from_numpy(logits.astype(np.float64))[None, None]
    exact = F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    clear = np.abs(exact) > 1e-4
    assert np.array_equal(fast(logits, (height, width))[clear], (exact > 0)[clear])


def test_crop_masks_accepts_none() -> None:
    assert crop_masks(Masks(np.zeros((0, 4, 4), np.float16), np.zeros(0, np.float32), (9, 9))) == []


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_crop_and_frame_are_inverse(frame: np.ndarray) -> None:
    mask = mask_from_full(frame)
    if mask is None:
        assert not frame.any()
        return
    assert np.array_equal(full_frame(mask, frame.shape), frame)
    assert mask.crop.any(0)[[0, -1]].all()
    assert mask.crop.any(1)[[0, -1]].all()


def test_mask_iou_equals_full_frames(rng: np.random.Generator) -> None:
    for _ in range(50):
        a, b = (rng.random((20, 30)) < 0.4 for _ in range(2))
        a[:, :10] = False
        b[10:] = False
        mask_a = mask_from_full(a)
        mask_b = mask_from_full(b)
        assert mask_iou(mask_a, mask_b) == pytest.approx((a & b).sum() / (a | b).sum())


def test_usable_boxes() -> None:
    boxes = np.array(
        [[-5, -5, 10, 10], [95, 10, 200, 20], [120, 0, 130, 5], [5, 5, 5.4, 9]], np.float32
    )
    clipped, keep = usable_boxes(boxes, (50, 100))
    assert keep.tolist() == [True, True, False, False]
    assert clipped[0].tolist() == [0, 0, 10, 10]
    assert clipped[1].tolist() == [95, 10, 100, 20]
    assert len(usable_boxes(np.zeros((0, 4), np.float32), (5, 5))[0]) == 0


@pytest.mark.parametrize("boxes", [np.zeros((3, 5)), np.zeros(4), np.array([[0, 0, np.nan, 1]])])
def test_bad_boxes_are_refused(boxes: np.ndarray) -> None:
    with pytest.raises(InputError, match="boxes"):
        check_boxes(boxes)


@pytest.mark.parametrize(
    "mask",
    [
        Mask(0, 0, np.zeros((2, 2), bool)),
        Mask(-1, 0, np.ones((2, 2), bool)),
        Mask(9, 0, np.ones((2, 2), bool)),
        Mask(0, 0, np.ones((2, 2), np.uint8)),
    ],
)
def test_bad_masks_are_refused(mask: Mask) -> None:
    with pytest.raises(InputError, match="mask"):
        check_mask(mask, (10, 10))


def test_clip_mask_cuts_to_the_grown_box() -> None:
    mask = Mask(0, 0, np.ones((100, 100), bool))
    cut = clip_mask(mask, np.array([20, 30, 60, 70], np.float32), 0.1)
    assert cut is not None
    assert (cut.x, cut.y, cut.crop.shape) == (16, 26, (48, 48))
    assert clip_mask(mask, np.array([200, 200, 220, 220], np.float32), 0.1) is None
    assert clip_mask(mask, np.array([0, 0, 100, 100], np.float32), 0.1) is mask


def test_tidy_mask_by_hand() -> None:
    crop = np.zeros((30, 40), bool)
    crop[2:22, 2:22] = True  # the object
    crop[10, 10] = False  # a pinhole
    crop[4:10, 12:18] = False  # a real hole
    crop[28, 38] = True  # a speck
    crop[24:28, 5:15] = True  # a real second part
    tidy = tidy_mask(Mask(5, 6, crop), 0.05)
    frame = full_frame(tidy, (60, 60))[6:36, 5:45]
    expected = crop.copy()
    expected[10, 10] = True
    expected[28, 38] = False
    assert np.array_equal(frame, expected)
    alone = Mask(0, 0, np.ones((1, 1), bool))
    assert tidy_mask(alone, 0.5).crop.tolist() == [[True]]


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(2, 20), st.integers(2, 20))), st.floats(0, 1))
def test_tidy_mask_keeps_something_and_nothing_changes_at_zero(
    frame: np.ndarray, share: float
) -> None:
    mask = mask_from_full(frame)
    if mask is not None:
        assert tidy_mask(mask, share).crop.any()
        assert np.array_equal(tidy_mask(mask, 0).crop, mask.crop)


def test_painting_puts_small_and_sure_on_top() -> None:
    def instance(side: int, score: float) -> Instance:
        return Instance(
            "a", 0, score, np.zeros(4, np.float32), Mask(0, 0, np.ones((side, side), bool))
        )

    order = painting_order([instance(2, 0.1), instance(9, 0.9), instance(4, 0.8), instance(4, 0.3)])
    assert order == [1, 3, 2, 0]


def test_paint_widens_beyond_254_values() -> None:
    one = np.ones((1, 1), bool)
    assert paint([(Mask(0, 0, one), 254)], (2, 2)).dtype == np.uint8
    wide = paint([(Mask(0, 0, one), 1000), (Mask(1, 1, one), 3)], (2, 2))
    assert wide.tolist() == [[1000, 0], [0, 3]]
    assert paint([], (3, 4)).shape == (3, 4)


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (Area(2.0, 0.0, 4.0, 1.0), [2, 3]),  # four cells over pixels 2..5
        (Area(-2.0, 0.0, 8.0, 1.0), [0, 1]),  # the first two pixels of the grid are padding
        (Area(6.0, 0.0, 8.0, 1.0), [6, 7]),  # the rest lies beyond the image
        (Area(8.0, 0.0, 8.0, 1.0), []),
        (Area(0.0, 3.0, 8.0, 1.0), []),
    ],
)
def test_a_grid_lies_where_its_area_says(area: Area, expected: list[int]) -> None:
    """Cells 0 and 1 of four are inside."""
    mask = crop_mask(np.array([[1, 1, -1, -1]], np.float32), (1, 8), area)
    frame = np.zeros((1, 8), bool) if mask is None else full_frame(mask, (1, 8))
    assert np.flatnonzero(frame[0]).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float32, (5, 4), elements=st.sampled_from([-2.0, -0.5, 0.25, 1.0])),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_the_grid_of_a_padded_image(
    logits: np.ndarray, left: int, top: int, right: int, bottom: int
) -> None:
    """A grid over an image with a border gives the picture that is cut out of the bordered one."""
    size = (17, 23)
    whole = fast(logits, (size[0] + top + bottom, size[1] + left + right))
    area = Area(-left, -top, size[1] + left + right, size[0] + top + bottom)
    mask = crop_mask(logits, size, area)
    found = np.zeros(size, bool) if mask is None else full_frame(mask, size)
    grid = torch.from_numpy(logits.astype(np.float64))[None, None]
    exact = F.interpolate(grid, whole.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    inner = np.s_[top : top + size[0], left : left + size[1]]
    clear = np.abs(exact[inner]) > 1e-4
    assert np.array_equal(found[clear], (exact[inner] > 0)[clear])


def test_rows_of_detections_and_masks_stay_together() -> None:
    logits = np.arange(3, dtype=np.float32).reshape(3, 1, 1)
    masks = Masks(logits, np.array([0.1, 0.2, 0.3], np.float32), (4, 4), Area(0, 0, 4, 4))
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = Detections(boxes, np.arange(3), np.array([0.9, 0.8, 0.7], np.float32), masks)
    kept = found.keep(np.array([True, False, True]))
    assert kept.xyxy[:, 0].tolist() == [0, 8]
    assert kept.class_ids.tolist() == [0, 2]
    assert kept.masks is not None
    assert kept.masks.logits.ravel().tolist() == [0, 2]
    assert kept.masks.quality.tolist() == pytest.approx([0.1, 0.3])
    assert kept.masks.area == masks.area
