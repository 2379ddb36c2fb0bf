"""Masks in Label Studio's other shapes, rasterised back by independent code."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
import PIL.Image
import pytest

from backend.core.masks import full_frame, mask_from_full
from backend.core.outlines import outlines
from backend.core.types import Instance, Mask, Prediction
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.bitmask import bitmask_url
from backend.formats.label_studio.results import result_of, shown_instances
from tests.conftest import random_mask
from tests.support.results import regions_of


def decode_bitmask(url: str) -> np.ndarray:
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    assert (picture.mode, picture.info["transparency"]) == ("P", 0)
    return np.array(picture.convert("RGBA"))[..., 3] > 0


@pytest.mark.parametrize("seed", range(30))
def test_bitmasks_are_exact_and_one_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = random_mask(
        rng, int(rng.integers(8, 80)), int(rng.integers(8, 80)), [0, 2, 3, 4, 5][seed % 5]
    )
    mask = mask_from_full(frame)
    assert mask is not None
    url = bitmask_url(mask, frame.shape)
    assert (decode_bitmask(url) == frame).all()
    assert base64.b64decode(url.split(",")[1])[24:26] == bytes([1, 3]), (
        "bit depth 1, colour type palette"
    )


def test_outlines_give_the_parts_back_the_largest_first() -> None:
    frame = np.zeros((200, 300), np.uint8)
    cv2.circle(frame, (80, 100), 60, 1, -1)
    cv2.circle(frame, (80, 100), 20, 0, -1)
    cv2.rectangle(frame, (200, 50), (260, 90), 1, -1)
    rings = outlines(mask_from_full(frame))
    assert [ring.n_holes for ring in rings] == [1, 0]
    back = np.zeros_like(frame)
    cv2.fillPoly(back, [np.floor(ring.points_xy).astype(np.int32) for ring in rings], 1)
    cv2.circle(frame, (80, 100), 20, 1, -1)
    assert np.count_nonzero(back & frame) / np.count_nonzero(back | frame) > 0.97
    assert len(rings[0].points_xy) < 60, "few enough points to drag"


@pytest.mark.parametrize("crop", [[[1]], [[1, 1, 1, 1]], [[1], [1], [1]], [[1, 0], [0, 1]]])
def test_thin_parts_still_have_an_outline(crop: list[list[int]]) -> None:
    rings = outlines(Mask(5, 6, np.array(crop, bool)))
    assert rings
    assert all(len(ring.points_xy) >= 3 for ring in rings)


def test_a_thin_diagonal_line_does_not_become_a_large_box() -> None:
    (ring,) = outlines(Mask(0, 0, np.eye(200, dtype=bool)))
    assert cv2.contourArea(ring.points_xy.astype(np.float32)) < 500


def test_specks_of_a_mask_are_no_polygons_where_a_tag_has_a_least_area() -> None:
    frame = np.zeros((100, 100), bool)
    frame[10:50, 10:50] = True
    frame[60:95:5, 60:95:5] = True
    whole = Prediction(
        (Instance("cat", 0, 0.9, np.array([10, 10, 95, 95], np.float32), mask_from_full(frame)),),
        (100, 100),
        "v",
    )
    assert len(regions_of(whole, [output("polygonlabels")])) == 20, (
        "and never more than twenty for one instance"
    )
    assert len(regions_of(whole, [output("polygonlabels", min_area=50.0)])) == 1


def prediction() -> Prediction:
    frame = np.zeros((100, 200), bool)
    frame[10:60, 20:120] = True
    frame[20:30, 40:60] = False
    big = Instance(
        "cat", 0, 0.6, np.array([20, 10, 120, 60], np.float32), mask_from_full(frame), 0.9
    )
    small = Instance(
        "dog",
        1,
        0.9,
        np.array([150, 50, 160, 60], np.float32),
        Mask(150, 50, np.ones((10, 10), bool)),
        0.8,
    )
    return Prediction((big, small), (100, 200), "v1")


def output(kind: str, **more: object) -> Output:
    return Output(kind, "tag", "image", {0: "Cat", 1: "Dog"}, {0: 0.5, 1: 0.5}, **more)


def test_every_kind_carries_its_label_and_place() -> None:
    kinds = ("brushlabels", "bitmasklabels", "polygonlabels", "rectanglelabels")
    outputs = [output(kind) for kind in kinds]
    regions = regions_of(prediction(), outputs)
    result = result_of(prediction(), outputs)
    assert [region["type"] for region in regions] == [kind for kind in kinds for _ in range(2)]
    assert all(
        region["value"][region["type"]] == [label]
        for region, label in zip(regions, ["Cat", "Dog"] * 4, strict=True)
    )
    assert all(
        (region["original_width"], region["original_height"], region["image_rotation"])
        == (200, 100, 0)
        for region in regions
    )
    assert (
        decode_bitmask(regions[2]["value"]["imageDataURL"])
        == full_frame(prediction().instances[0].mask, (100, 200))
    ).all()
    assert (result.n_holed, result.n_instances) == (1, 2)
    assert regions[4]["meta"]["text"] == ["1 hole not shown: a polygon cannot have any"]
    assert regions[6]["value"]["x"] == 10
    assert regions[6]["value"]["height"] == 50


def test_what_a_tag_shows_is_limited() -> None:
    assert shown_instances(prediction(), output("brushlabels")) == [0, 1]
    assert shown_instances(prediction(), output("brushlabels", max_regions=1)) == [1], (
        "the best one"
    )
    assert shown_instances(prediction(), output("brushlabels", min_area=101.0)) == [0]
    assert (
        shown_instances(prediction(), Output("brushlabels", "t", "i", {0: "Cat"}, {0: 0.61})) == []
    )


def test_label_studio_accepts_every_kind() -> None:
    from label_studio_sdk.label_interface import LabelInterface

    labels = '<Label value="Cat"/><Label value="Dog"/>'
    tags = {
        "brushlabels": "BrushLabels",
        "polygonlabels": "PolygonLabels",
        "rectanglelabels": "RectangleLabels",
    }
    config = "".join(
        f'<{tag} name="{kind}" toName="image">{labels}</{tag}>' for kind, tag in tags.items()
    )
    interface = LabelInterface(f'<View><Image name="image" value="$image"/>{config}</View>')
    outs = [Output(kind, kind, "image", {0: "Cat", 1: "Dog"}, {0: 0, 1: 0}) for kind in tags]
    regions = regions_of(prediction(), outs)
    assert (
        interface.validate_prediction({"model_version": "v", "score": 0.5, "result": regions})
        is True
    )
