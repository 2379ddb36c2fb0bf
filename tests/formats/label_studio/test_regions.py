"""Label Studio regions of every kind as masks, and what is wrong with bad ones."""

from __future__ import annotations

import base64
import io
import re

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from skimage.draw import polygon2mask
from skimage.measure import points_in_poly

from backend.core.masks import full_frame, mask_from_full, mask_iou, mask_xyxy, tidy_mask
from backend.core.rasterize import ellipse_mask, polygon_mask, polygon_of_edges, turned_box_mask
from backend.core.types import Instance, Prediction
from backend.errors import InputError
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.region_masks import masks_of, region_mask
from backend.formats.label_studio.regions import read_regions
from tests.conftest import random_mask
from tests.support.results import regions_of

SIZE = (60, 80)


def region(kind: str, label: str = "car", size_hw: tuple[int, int] = SIZE, **value: object) -> dict:
    return {
        "id": "r1",
        "type": kind,
        "from_name": "tag",
        "to_name": "image",
        "original_height": size_hw[0],
        "original_width": size_hw[1],
        "score": 0.5,
        "value": {**value, kind: [label]},
    }


def frame_of(one: dict) -> np.ndarray:
    (stored,) = read_regions([one], "result").regions
    mask = region_mask(stored)
    assert mask is not None
    return full_frame(mask, stored.size_hw)


def written(frame: np.ndarray, kind: str) -> list[dict]:
    """What we write for a mask."""
    mask = mask_from_full(frame)
    prediction = Prediction((Instance("car", 0, 0.5, mask_xyxy(mask), mask),), frame.shape, "v")
    return regions_of(prediction, [Output(kind, "tag", "image", {0: "car"}, {0: 0.0})])


@pytest.mark.parametrize("kind", ["brushlabels", "bitmasklabels"])
def test_brush_and_bitmask_come_back_as_they_were(rng: np.random.Generator, kind: str) -> None:
    for k in range(24):
        frame = random_mask(rng, 37, 53, k % 6)
        if frame.any():
            (one,) = written(frame, kind)
            assert np.array_equal(frame_of(one), frame)


def test_our_polygons_come_back_nearly_as_they_were(rng: np.random.Generator) -> None:
    found = []
    for _ in range(20):
        frame = random_mask(rng, 90, 120, 4)
        largest = tidy_mask(
            mask_from_full(frame), 1.0
        )  # one part without holes, which is what a ring can hold
        first = written(full_frame(largest, frame.shape), "polygonlabels")[0]
        found.append(mask_iou(mask_from_full(frame_of(first)), largest))
    assert min(found) > 0.85  # ragged noise is simplified by up to three quarters of a pixel
    assert np.mean(found) > 0.95


def test_a_polygon_of_pixel_centres_is_exact() -> None:
    frame = np.zeros(SIZE, bool)
    frame[10:21, 20:41] = True
    centres = [(20.5, 10.5), (40.5, 10.5), (40.5, 20.5), (20.5, 20.5)]
    points = [[100 * x / 80, 100 * y / 60] for x, y in centres]
    assert np.array_equal(frame_of(region("polygonlabels", points=points)), frame)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-20, 100), st.integers(-20, 80)), min_size=3, max_size=9, unique=True
    )
)
def test_polygons_agree_with_another_rasteriser_but_for_the_outline(
    points: list[tuple[int, int]],
) -> None:
    ring = [(float(x), float(y)) for x, y in cv2.convexHull(np.array(points, np.int32))[:, 0]]
    mask = polygon_mask(ring, SIZE) if len(ring) > 2 else None
    ours = np.zeros(SIZE, np.uint8) if mask is None else full_frame(mask, SIZE).astype(np.uint8)
    theirs = (
        polygon2mask(SIZE, [(y, x) for x, y in ring]).astype(np.uint8)
        if len(ring) > 2
        else np.zeros(SIZE, np.uint8)
    )
    for one, other in ((theirs, ours), (ours, theirs)):
        inner = cv2.erode(
            one, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
        )
        assert not (inner & ~other & 1).any()


def test_boxes_by_hand() -> None:
    frame = frame_of(region("rectanglelabels", x=25.0, y=50.0, width=12.5, height=10.0, rotation=0))
    expected = np.zeros(SIZE, bool)
    expected[30:36, 20:30] = True
    assert np.array_equal(frame, expected)
    turned = frame_of(
        region("rectanglelabels", x=50.0, y=50.0, width=12.5, height=10.0, rotation=90)
    )  # clockwise around its corner: down and to the left
    expected = np.zeros(SIZE, bool)
    expected[30:40, 34:40] = True
    assert np.array_equal(turned, expected)
    assert np.count_nonzero(
        frame_of(region("rectanglelabels", x=30.0, y=30.0, width=25.0, height=20.0, rotation=30))
    ) == pytest.approx(20 * 12, abs=6)


def test_ellipses_by_hand() -> None:
    frame = frame_of(
        region("ellipselabels", x=50.0, y=50.0, radiusX=25.0, radiusY=10.0, rotation=0)
    )
    assert np.count_nonzero(frame) == pytest.approx(np.pi * 20 * 6, rel=0.02)
    assert frame[30, 20:60].all()
    assert not frame[30, :20].any()
    upright = ellipse_mask(40, 30, 20, 6, 90, SIZE)
    assert upright.crop.shape == (40, 12)


def test_turned_boxes_keep_their_area() -> None:
    for degrees in (15, 45, 133, 270, 359):
        mask = turned_box_mask(40, 30, 15, 12, degrees, SIZE)
        assert np.count_nonzero(mask.crop) == pytest.approx(180, abs=8)
    assert turned_box_mask(500, 500, 5, 5, 10, SIZE) is None


def test_generic_labels_are_joined_to_their_brush() -> None:
    (brush,) = written(random_mask(np.random.default_rng(0), *SIZE, 4), "brushlabels")
    rle = brush["value"]["rle"]
    size = {"original_height": 60, "original_width": 80, "id": "g", "to_name": "image"}
    entries = [
        {**size, "type": "brush", "from_name": "brush", "value": {"format": "rle", "rle": rle}},
        {
            **size,
            "type": "labels",
            "from_name": "label",
            "value": {"format": "rle", "rle": rle, "labels": ["dog"]},
        },
        {**size, "type": "choices", "from_name": "sure", "value": {"choices": ["yes"]}},
    ]
    read = read_regions(entries, "result")
    assert [(one.kind, one.label, one.id) for one in read.regions] == [("brush", "dog", "g")]
    assert (read.n_others, read.faults) == (0, ())


def test_what_covers_no_area_is_counted() -> None:
    point = {
        "type": "keypointlabels",
        "value": {"x": 1, "y": 2, "width": 0.3, "keypointlabels": ["car"]},
        "original_height": 60,
        "original_width": 80,
    }
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    read = read_regions([point, relation], "result")
    assert (read.regions, read.n_others, read.faults) == ((), 1, ())


def without(one: dict, *path: str) -> dict:
    *outer, last = path
    target = one
    for name in outer:
        target = target[name]
    del target[last]
    return one


PNG = io.BytesIO()
PIL.Image.new("L", (5, 5)).save(PNG, "PNG")
SMALL = "data:image/png;base64," + base64.b64encode(PNG.getvalue()).decode()


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (7, r"result\[0\]: expected a region, got a number"),
        (
            without(region("brushlabels", rle=[1]), "original_height"),
            r"result\[0\]: original_height and original_width are missing",
        ),
        (
            {**region("brushlabels", rle=[1]), "original_width": True},
            r"result\[0\]: original_height and original_width are missing",
        ),
        (
            without(region("brushlabels", rle=[1]), "value", "brushlabels"),
            r"result\[0\]: the region has no label",
        ),
        (region("brushlabels", rle=[1]), r"result\[0\].value.rle: 1 bytes are too few"),
        (
            region("brushlabels", rle="abc"),
            r"value.rle: expected a list of integers 0..255, got text",
        ),
        (
            region("brushlabels", rle=10**11),
            r"value.rle: expected a list of integers 0..255, got a number",
        ),
        (
            region("polygonlabels", size_hw=(1, 1 << 28), points=[[0, 0], [9, 9], [0, 9]]),
            r"an image of 268435456x1 pixels is too large",
        ),
        ({**region("rectanglelabels"), "value": None}, r"value: expected an object, got nothing"),
        (
            {
                **region("brushlabels", rle=[1]),
                "value": {"rle": [1], "brushlabels": ["car", "dog"]},
            },
            r"has several labels, car, dog; only one can be compared",
        ),
        (region("brushlabels", label=" ", rle=[1]), r"the region has no label"),
        (region("brushlabels"), r"result\[0\].value: holds no brush"),
        (
            region("bitmasklabels", imageDataURL="http://x/y.png"),
            r"imageDataURL: expected a PNG as data URL",
        ),
        (
            region("bitmasklabels", imageDataURL="data:image/png;base64,AAAA"),
            r"imageDataURL: is no PNG",
        ),
        (region("bitmasklabels", imageDataURL=SMALL), r"imageDataURL: is 5x5, expected 80x60"),
        (region("polygonlabels", points=[[1, 2]]), r"points: expected at least three points"),
        (
            region("polygonlabels", points=[[1, 2], [3, 4], [5, None]]),
            r"points: expected pairs of numbers of percent",
        ),
        (
            region("polygonlabels", points=[[1, 2], [3, 4], [float("nan"), 1]]),
            r"points: expected pairs of numbers of percent",
        ),
        (
            region("rectanglelabels", x=1, y="2", width=3, height=4),
            r"value.y: expected a number of percent, got '2'",
        ),
        (
            region("rectanglelabels", x=1, y=2, width=3, height=1e9),
            r"value.height: expected a number of percent",
        ),
        (
            region("ellipselabels", x=1, y=2, radiusX=float("inf"), radiusY=1),
            r"value.radiusX: expected a number of percent",
        ),
    ],
)
def test_bad_regions_are_named_and_cost_only_themselves(bad: object, sentence: str) -> None:
    good = {**region("rectanglelabels", x=0, y=0, width=50, height=50), "id": "good"}
    good["to_name"] = "another image"
    read = read_regions([bad, good], "result")
    faults = list(read.faults)
    found = [one.id for one, _ in masks_of(read.regions, faults)]
    assert found == ["good"]
    (told,) = faults
    assert re.search(sentence, told)


def test_scores_that_are_none_cost_only_themselves() -> None:
    box = region("rectanglelabels", x=0, y=0, width=50, height=50)
    scores = [("0.9", 0.9), (7, None), ("high", None), (True, None), (float("nan"), None), (1, 1.0)]
    for given_score, expected in scores:
        (one,) = read_regions([{**box, "score": given_score}], "result").regions
        assert (one.score, one.odd_score) == (expected, expected is None)


def test_sizes_come_from_another_region() -> None:
    whole = region("rectanglelabels", x=0, y=0, width=50, height=50)
    for bad in (None, 0, "x", -5, float("inf")):
        bare = {**whole, "id": "bare", "original_height": bad}
        found = read_regions([bare, whole], "result").regions
        assert [one.size_hw for one in found] == [SIZE, SIZE]
    as_text = {**whole, "original_height": "60", "original_width": "80.0"}
    assert read_regions([as_text], "result").regions[0].size_hw == SIZE


def test_a_result_that_is_no_list() -> None:
    with pytest.raises(
        InputError, match="predictions.0..result: expected a list of regions, got nothing"
    ):
        read_regions(None, "predictions[0].result")


def test_two_regions_cannot_share_an_id() -> None:
    first = region("rectanglelabels", x=1, y=2, width=30, height=40)
    second = region("rectanglelabels", x=9, y=2, width=30, height=40)
    read = read_regions([first, second], "result")
    assert len(read.regions) == 1
    assert re.search(r"result\[1\].id: 'r1' is the id of result\[0\] too", read.faults[0])


def test_a_polygon_with_the_corners_of_a_rectangle_covers_what_it_covers() -> None:
    box = frame_of(region("rectanglelabels", x=25, y=50, width=12.5, height=10, rotation=0))
    points = [[25, 50], [37.5, 50], [37.5, 60], [25, 60]]
    assert np.array_equal(frame_of(region("polygonlabels", points=points)), box)


def test_small_polygons_cover_their_exact_area_on_average() -> None:
    """By the area of the ring itself (shoelace), and by pycocotools' rule."""
    rng = np.random.default_rng(7)
    ours, theirs, exact = 0, 0, 0.0
    for _ in range(300):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 8))
        radii = rng.uniform(5, 10, 8)
        ring = np.stack([40 + radii * np.cos(angles), 30 + radii * np.sin(angles)], 1)
        points = (ring * 100 / [80, 60]).tolist()
        ours += int(frame_of(region("polygonlabels", points=points)).sum())
        theirs += int(coco_mask.area(coco_mask.frPyObjects([ring.ravel().tolist()], *SIZE))[0])
        x, y = ring.T
        exact += abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    assert ours / exact == pytest.approx(1, abs=0.005)
    assert ours / theirs == pytest.approx(1, abs=0.01)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-20, 100), st.floats(-20, 80)), min_size=3, max_size=9, unique=True
    )
)
def test_polygons_hold_the_pixels_whose_centres_lie_inside(points: list) -> None:
    """By skimage's test of points, but for centres that lie next to an edge."""
    mask = polygon_of_edges(points, SIZE)
    ours = np.zeros(SIZE, bool) if mask is None else full_frame(mask, SIZE)
    centres = np.stack(np.mgrid[: SIZE[0], : SIZE[1]], -1).reshape(-1, 2)[:, ::-1] + 0.5
    ring = np.array(points)
    theirs = points_in_poly(centres, ring).reshape(SIZE)
    start, end = ring, np.roll(ring, -1, 0)
    along = end - start
    length = np.maximum((along**2).sum(1), 1e-12)
    share = (((centres[:, None] - start) * along).sum(-1) / length).clip(0, 1)
    away = np.linalg.norm(centres[:, None] - start - share[..., None] * along, axis=-1).min(1)
    clear = (away > 0.05).reshape(SIZE)
    assert np.array_equal(ours[clear], theirs[clear])
