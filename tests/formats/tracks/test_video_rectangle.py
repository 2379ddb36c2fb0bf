"""Tracks as key frames of Label Studio, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface
from numpy.typing import NDArray

from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import Instance, Mask
from backend.errors import InputError
from backend.formats.label_studio.make_config import make_video_config
from backend.formats.tracks.video_rectangle import (
    KeyFrame,
    between,
    from_region,
    key_frames,
    to_region,
    to_task,
)

SIZE = (120, 200)


def walk(seed: int, n: int) -> dict[int, NDArray[np.float32]]:
    """A box that wanders, grows, and is now and then not seen."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 3, (n, 4)).cumsum(0)
    gone = rng.random(n).cumsum() % 7 < 1
    boxes = {}
    for k in range(n):
        x, y, w, h = steps[k] + (60, 40, 50, 30)
        if not gone[k]:
            boxes[k] = np.array([x, y, x + max(5, w), y + max(5, h)], np.float32)
    return boxes


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), tolerance=st.floats(0.2, 8))
def test_no_side_is_further_off_than_allowed(seed: int, n: int, tolerance: float) -> None:
    boxes = walk(seed, n)
    told = key_frames(boxes, tolerance)
    drawn = between(told, n)
    assert set(drawn) == set(boxes)
    for frame, box in boxes.items():
        assert np.abs(drawn[frame] - box).max() <= tolerance + 1e-4
    assert len(told) <= len(boxes)


def test_even_movement_needs_its_ends_only() -> None:
    boxes = {k: np.array([2 * k, k, 2 * k + 30, k + 20], np.float32) for k in range(40)}
    assert [one.frame for one in key_frames(boxes)] == [0, 39]


def test_gaps_close_and_open_again() -> None:
    box = np.array([10, 10, 30, 30], np.float32)
    told = key_frames(dict.fromkeys([0, 1, 2, 6, 9, 10], box))
    assert [(one.frame, one.enabled) for one in told] == [
        (0, True),
        (2, False),
        (6, False),
        (9, True),
        (10, False),
    ]


def test_last_enabled_key_frame_lasts_to_the_end() -> None:
    """As Label Studio shows a region that a person drew once."""
    square = np.array([0.0, 0, 4, 4])
    assert set(between([KeyFrame(3, square, True)], 6)) == {3, 4, 5}


def tracked(boxes: Mapping[int, NDArray[np.float32]], n: int = 60) -> TrackedVideo:
    seen = {frame: Instance("cat", 0, 0.5 + frame / 200, box) for frame, box in boxes.items()}
    track = Track(id=3, label="cat", seen=seen)
    return TrackedVideo(
        name="v", size_hw=SIZE, n_frames=n, rate=25.0, tracks=(track,), model_version="m"
    )


@given(seed=st.integers(0, 10_000))
def test_region_tells_the_boxes(seed: int) -> None:
    boxes = {
        frame: np.clip(box, 0, (SIZE[1], SIZE[0]) * 2).astype(np.float32)
        for frame, box in walk(seed, 60).items()
    }
    video = tracked(boxes)
    region = to_region(video.tracks[0], video, from_name="box", to_name="video")
    if region is None:
        assert not boxes
        return
    for row in region["value"]["sequence"]:
        assert row["frame"] >= 1
        assert 0 <= row["x"] <= 100
        assert 0 <= row["y"] <= 100
        assert row["x"] + row["width"] <= 100.0005
        assert row["y"] + row["height"] <= 100.0005
    drawn = between(from_region(region, SIZE, "r"), 60)
    for frame, box in boxes.items():
        assert np.abs(drawn[frame] - box).max() <= 1.5 + 0.02


def test_by_hand() -> None:
    box = np.array([20, 12, 60, 36], np.float32)
    video = tracked({0: box, 1: box, 2: box})
    task = to_task(video, "/data/upload/v.mp4")
    assert task["data"] == {"video": "/data/upload/v.mp4"}
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "m"
    (region,) = prediction["result"]
    assert region["type"] == "videorectangle"
    assert (region["from_name"], region["to_name"]) == ("box", "video")
    assert region["value"]["labels"] == ["cat"]
    assert region["value"]["framesCount"] == 60
    assert region["value"]["duration"] == 2.4
    place = {"x": 10.0, "y": 10.0, "width": 20.0, "height": 20.0, "rotation": 0}
    assert region["value"]["sequence"] == [
        {"frame": 1, "time": 0.0, **place, "enabled": True},
        {"frame": 3, "time": 0.08, **place, "enabled": False},
    ]
    assert region["meta"] == {"track": 3, "scores": [0.5, 0.51]}


def test_the_sdk_accepts_the_prediction() -> None:
    boxes = {
        frame: np.clip(box, 0, (SIZE[1], SIZE[0]) * 2).astype(np.float32)
        for frame, box in walk(3, 60).items()
    }
    task = to_task(tracked(boxes), "/data/upload/v.mp4")
    interface = LabelInterface(make_video_config(["cat"], 25.0))
    interface.validate()
    assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []


def test_masks_give_their_boxes() -> None:
    seen = PackedInstances("cat", 0, 1)
    seen.add(4, Mask(10, 6, np.ones((12, 20), np.bool_)), 0.5)
    track = Track(id=1, label="cat", seen=seen)
    video = TrackedVideo(name="v", size_hw=SIZE, n_frames=9, rate=25.0, tracks=(track,))
    region = to_region(track, video, from_name="box", to_name="video")
    assert region is not None
    (one,) = from_region(region, SIZE, "r")
    np.testing.assert_allclose(one.xyxy, [10, 6, 30, 18], atol=0.01)
    assert not one.enabled


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({}, "value.sequence: expected a list"),
        ({"value": {"sequence": [3]}}, "sequence\\[0\\]: expected an object"),
        ({"value": {"sequence": [{"frame": 1}]}}, "expected numbers for frame, x, y"),
        (
            {"value": {"sequence": [{"frame": 0, "x": 1, "y": 1, "width": 1, "height": 1}]}},
            "frame: expected 1 to 2,000,000, got 0",
        ),
    ],
)
def test_what_cannot_be_read_is_told(region: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_region(region, SIZE, "r")
