"""Rings, YOLO lines and COCO run lengths of masks: against OpenCV, Pillow and pycocotools, by hand,
and with damage.
"""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from backend.core import rings
from backend.core.masks import full_frame, join_masks, mask_from_full
from backend.core.types import Mask
from backend.errors import ConfigError, InputError
from backend.formats.coco import segmentation as coco
from backend.formats.yolo import labels as yolo
from tests.conftest import random_mask

FRAMES = hnp.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)))


def pillow(ring: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    picture = PIL.Image.new("L", size_hw[::-1])
    points = [(float(x), float(y)) for x, y in ring]
    PIL.ImageDraw.Draw(picture).polygon(points + points[-1:] * (3 - len(points)), outline=1, fill=1)
    return np.array(picture) > 0


@settings(max_examples=300, deadline=None)
@given(FRAMES)
def test_rings_give_the_mask_back(frame: np.ndarray) -> None:
    mask = mask_from_full(frame)
    if mask is None:
        return
    found = rings.part_rings(mask)
    drawn = join_masks(
        [one for ring in found if (one := rings.ring_mask(ring, frame.shape)) is not None]
    )
    assert np.array_equal(full_frame(drawn, frame.shape), frame)
    assert np.array_equal(np.any([pillow(ring, frame.shape) for ring in found], 0), frame)
    ring, bridges = rings.single_ring(mask)
    assert bridges == len(found) - 1
    whole = full_frame(rings.ring_mask(ring, frame.shape), frame.shape)
    assert not (frame & ~whole).any()
    if not bridges:
        assert np.array_equal(whole, frame)


@pytest.mark.parametrize("kind", [0, 2, 4, 5])
def test_large_masks_too(rng: np.random.Generator, kind: int) -> None:
    frame = random_mask(rng, 240, 320, kind)
    mask = mask_from_full(frame)
    line, bridges = yolo.line(2, mask, frame.shape)
    row = yolo.read_line(line, frame.shape, 3, "x")
    after = full_frame(row.mask, frame.shape)
    assert (row.class_id, row.is_box, row.score) == (2, False, None)
    assert np.array_equal(after, frame) if not bridges else not (frame & ~after).any()


def test_a_hole_by_hand() -> None:
    """A frame of five by five with a hole of one pixel: out to the hole, around it, and back, all
    within the foreground.
    """
    crop = np.ones((5, 5), bool)
    crop[2, 2] = False
    (ring,) = rings.part_rings(Mask(10, 20, crop))
    points = {tuple(point) for point in ring.tolist()}
    assert points >= {(10, 20), (14, 20), (14, 24), (10, 24), (11, 22), (10, 22)}
    assert points <= {(x, y) for x in range(10, 15) for y in range(20, 25)} - {(12, 22)}
    assert (
        yolo.line(0, Mask(0, 0, np.ones((2, 4), bool)), (4, 8))[0]
        == "0 0.0625 0.125 0.0625 0.375 0.4375 0.375 0.4375 0.125"
    )


def test_simpler_rings_have_fewer_points_and_stay_near() -> None:
    rows, columns = np.mgrid[:80, :80]
    frame = np.hypot(rows - 40, columns - 40) < 30
    mask = mask_from_full(frame)
    (exact,), (simple,) = rings.part_rings(mask), rings.part_rings(mask, 1.0)
    assert len(simple) < len(exact) / 3
    changed = full_frame(rings.ring_mask(simple, frame.shape), frame.shape) != frame
    assert 0 < changed.sum() < 0.03 * frame.sum()


@settings(max_examples=300, deadline=None)
@given(FRAMES)
def test_run_lengths_equal_pycocotools(frame: np.ndarray) -> None:
    mask = mask_from_full(frame)
    if mask is None:
        return
    ours = coco.encode_segmentation(mask, frame.shape)
    theirs = coco_mask.encode(np.asfortranarray(frame.astype(np.uint8)))
    assert (ours["size"], ours["counts"]) == (theirs["size"], theirs["counts"].decode())
    assert np.array_equal(
        full_frame(coco.decode_segmentation(ours, frame.shape), frame.shape), frame
    )


def test_run_lengths_of_a_photograph(rng: np.random.Generator) -> None:
    for kind in (0, 4, 5):
        frame = random_mask(rng, 1080, 1920, kind)
        ours = coco.encode_segmentation(mask_from_full(frame), frame.shape)
        assert (
            ours["counts"]
            == coco_mask.encode(np.asfortranarray(frame.astype(np.uint8)))["counts"].decode()
        )
        assert np.array_equal(
            full_frame(coco.decode_segmentation(ours, frame.shape), frame.shape), frame
        )


def test_run_lengths_by_hand() -> None:
    """Column by column: two background, three foreground, one background in a frame of three by
    two.
    """
    mask = mask_from_full(np.array([[0, 1], [0, 1], [1, 0]], bool))
    assert coco.encode_segmentation(mask, (3, 2)) == {"size": [3, 2], "counts": "231"}
    assert coco.decode_segmentation({"size": [3, 2], "counts": [6]}, (3, 2)) is None
    assert coco.decode_segmentation([], (3, 2)) is None


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        ({"size": [3, 2], "counts": "2319"}, "do not add up to 6"),
        ({"size": [3, 2], "counts": "23"}, "do not add up to 6"),
        ({"size": [3, 2], "counts": [2, 3, -5, 6]}, "do not add up"),
        ({"size": [3, 2], "counts": [1 << 70]}, "do not add up"),
        ({"size": [3, 2], "counts": [2.5, 3.5]}, "expected text or a list of whole numbers"),
        ({"size": [3, 2], "counts": "2é1"}, "characters that no run lengths have"),
        ({"size": [3, 2], "counts": "P"}, "cut off"),
        ({"size": [3, 2], "counts": "oooooooooo0"}, "larger than any image"),
        ({"size": [3, 2], "counts": ""}, "cut off"),
        ({"size": [2, 3], "counts": "231"}, r"size: is \[2, 3\], the image is \[3, 2\]"),
        ({"size": [3, 2]}, "counts: expected text"),
        ("231", "expected polygons or run lengths, got text"),
        ([[1, 2, 3, 4]], r"\[0\]: expected a polygon"),
        ([[1, 2, 3, 4, 5]], r"\[0\]: expected a polygon"),
        ([[0, 0, 1, 1, 2, 2], [1, 2, 3, 4, 5, float("nan")]], r"\[1\]: expected a polygon"),
        ([[0, 0, 1, 1, 2, 1e9]], r"\[0\]: expected a polygon"),
        ([[0, 0, 1, 1, 2, "3"]], r"\[0\]: expected a polygon"),
    ],
)
def test_damaged_segmentations_are_named(segmentation: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        coco.decode_segmentation(segmentation, (3, 2), "annotation 7: segmentation")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=115), max_size=30))
def test_no_text_gets_past_the_check(counts: str) -> None:
    try:
        mask = coco.decode_segmentation({"size": [9, 7], "counts": counts}, (9, 7))
    except InputError:
        return
    if mask is not None:
        assert np.array_equal(
            full_frame(mask, (9, 7)),
            coco_mask.decode({"size": [9, 7], "counts": counts.encode()}).astype(bool),
        )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("5 0 0 1 0 1 1", "line 3: class 5 is not an index into the 3 names"),
        ("-1 0 0 1 0 1 1", "class -1"),
        ("0.5 0 0 1 0 1 1", "class 0.5"),
        ("cat 0 0 1 0 1 1", "expected numbers"),
        ("0 0 0 1 0 1 nan", "expected finite numbers"),
        ("0 0 0", "at least three corners, got 1"),
        ("0", "at least three corners, got 0"),
        ("0 0 0 1 0 1 30", "expected shares of the image from 0 to 1, got 30"),
        ("0 0 0 1 0 1 1 7", "or a score from 0 to 1 behind them, got 7 numbers, the last 7"),
    ],
)
def test_damaged_lines_are_named(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        yolo.read_line(text, (10, 20), 3, "a.txt: line 3")


def test_boxes_and_scores_are_read() -> None:
    row = yolo.read_line("1 0.5 0.5 0.5 0.2 0.75", (10, 20), 3, "x")
    assert (row.class_id, row.is_box, row.score) == (1, True, 0.75)
    assert (row.mask.x, row.mask.y, row.mask.crop.shape) == (5, 4, (2, 10))
    assert yolo.read_line("1 0 0 1 0 1 1 0.5", (10, 20), 3, "x").score == 0.5


def test_data_files() -> None:
    text = yolo.data_yaml(["cat", "Straßenbahn 電車", "yes"], ["train"])
    assert yolo.read_data_yaml(text, "x") == (
        ("cat", "Straßenbahn 電車", "yes"),
        {"train": ["images/train"], "val": ["images/train"]},
        "",
    )
    assert list(
        yolo.read_data_yaml(yolo.data_yaml(["a"], ["val2017", "train", "test"]), "x")[1]
    ) == ["train", "val", "test"]
    assert yolo.read_data_yaml("names: {1: b, 0: a}\npath: /x", "x") == (("a", "b"), {}, "/x")
    for bad, sentence in (
        ("names: {0: a, 2: b}", "every index"),
        ("names:", "the names of the classes"),
        ("- 1", "got a list"),
        ("a: [", "not valid YAML"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            yolo.read_data_yaml(bad, "data.yaml")


def test_rings_in_odd_places() -> None:
    assert rings.ring_mask(np.array([[-5, -5], [-2, -5], [-2, -1]], np.int32), (9, 9)) is None
    cut = rings.ring_mask(np.array([[-3, -3], [4, -3], [4, 4], [-3, 4]], np.int32), (9, 9))
    assert (cut.x, cut.y, cut.crop.shape) == (0, 0, (5, 5))
    small_first = np.zeros((30, 30), bool)
    small_first[1:4, 1:4] = small_first[8:28, 5:28] = True
    large, small = rings.part_rings(mask_from_full(small_first))
    assert large[:, 1].min() >= 8 > small[:, 1].max()
    ring, bridges = rings.single_ring(mask_from_full(small_first))
    assert (bridges, len(ring)) == (1, 10)  # four corners each, and the ends of the bridge twice
    extra = full_frame(rings.ring_mask(ring, (30, 30)), (30, 30)) & ~small_first
    assert extra.sum() == 4  # the shortest way between them
    thin = rings.part_rings(Mask(0, 0, np.ones((1, 30), bool)), 5.0)
    assert thin[0].tolist() == [[0, 0], [29, 0]]


def test_thousands_of_parts_are_bridged_in_rows(rng: np.random.Generator) -> None:
    frame = np.zeros((120, 120), bool)
    frame[::3, ::3] = True
    ring, bridges = rings.single_ring(mask_from_full(frame))
    whole = full_frame(rings.ring_mask(ring, frame.shape), frame.shape)
    assert bridges == 1599
    assert not (frame & ~whole).any()
    assert whole.sum() < 3.5 * frame.sum()


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        ({"size": [3, 2], "counts": [True, 5]}, "expected text"),
        ([[0, 0, 1, 1, 2, True]], "expected a polygon"),
        ([[0, 0, 1, 1, 2, 2, 3]], "expected a polygon"),
        ({"size": [3, 2], "counts": "2p1"}, "no compressed text"),
        ({"size": [3, 2], "counts": [9, -3]}, "do not add up"),
    ],
)
def test_more_damage(segmentation: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        coco.decode_segmentation(segmentation, (3, 2))


def test_a_polygon_without_end_is_refused_before_any_memory_is_taken() -> None:
    ring = [-3000, -3000, 3000, 3000] * 3000
    with pytest.raises(InputError, match="pixels all round, the limit is"):
        coco.decode_segmentation([ring], (800, 900))
    assert (
        coco.decode_segmentation({"size": [3, 2], "counts": [0, 2, 0, 4]}, (3, 2)).crop.sum() == 6
    )
    with pytest.raises(InputError, match="do not add up to 6"):
        coco.decode_segmentation({"size": [3, 2], "counts": []}, (3, 2))
