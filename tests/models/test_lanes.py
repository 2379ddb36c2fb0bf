"""A model on several devices gives what one gives; two copies on the CPU stand for two GPUs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.config.models import Settings, load_settings
from backend.core.types import Detections, Image
from backend.demo.dataset import true_detections
from backend.demo.scenes.compose import Scene
from backend.errors import ConfigError, InputError
from backend.models.devices import (
    devices_in,
    gpus_of_actor,
    one_device,
    resolve_device,
    whole_batch,
)
from backend.models.lanes import DetectorLanes, shares
from backend.models.registry import load_detector, load_segmenter


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_all_of_it_in_order_and_equal(count: int, lanes: int) -> None:
    parts = shares(count, lanes)
    assert [k for part in parts for k in range(part.start, part.stop)] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert all(size >= 1 for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert len(parts) == min(lanes, count)


class _Brightness:
    """Finds one box, as wide as a picture is bright, once both lanes are at it."""

    version = "brightness"

    def __init__(self, both: threading.Barrier | None) -> None:
        self.names = {0: "cat"}
        self.both = both
        self.seen: list[int] = []

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        if self.both is not None:
            self.both.wait(5)
        self.seen.append(len(images))
        widths = [float(image[0, 0, 0]) for image in images]
        first = (np.zeros(1, np.int64), np.ones(1, np.float32))
        if 13 in widths:
            raise InputError("thirteen")
        return [Detections(np.array([[0, 0, width, 9]], np.float32), *first) for width in widths]


def _bright(*values: int) -> list[Image]:
    return [np.full((9, 9, 3), value, np.uint8) for value in values]


def test_devices_work_at_the_same_time_and_answers_keep_their_order() -> None:
    both = threading.Barrier(2)
    lanes = DetectorLanes([_Brightness(both), _Brightness(both)], ["cpu", "cpu"])
    found = lanes.detect(_bright(5, 4, 3, 2, 1))
    assert [one.xyxy[0, 2] for one in found] == [5, 4, 3, 2, 1]
    assert (lanes.names, lanes.version) == ({0: "cat"}, "brightness")


def test_a_single_picture_goes_to_the_first() -> None:
    one, other = _Brightness(None), _Brightness(None)
    DetectorLanes([one, other], ["cpu", "cpu"]).detect(_bright(7))
    assert (one.seen, other.seen) == ([1], [])
    assert DetectorLanes([one, other], ["cpu", "cpu"]).detect([]) == []


def test_what_fails_on_one_device_fails() -> None:
    lanes = DetectorLanes([_Brightness(None), _Brightness(None)], ["cpu", "cpu"])
    with pytest.raises(InputError, match="thirteen"):
        lanes.detect(_bright(1, 2, 3, 13))


def test_two_copies_of_the_models_answer_as_one(scenes: list[Scene]) -> None:
    images = [scene.image for scene in scenes[:5]]
    boxes = [true_detections(scene).xyxy for scene in scenes[:5]]
    boxes[3] = boxes[3][:0]
    settings = Settings(detector="demo", segmenter="demo")
    one, two = (load_detector(settings, device) for device in ("cpu", "cpu,cpu"))
    assert one.version == two.version
    for wanted, found in zip(one.detect(images), two.detect(images), strict=True):
        np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=1e-2)
    first, lanes = (load_segmenter(settings, device) for device in ("cpu", "cpu,cpu"))
    assert first.version == lanes.version
    for wanted_masks, masks in zip(
        first.segment(images, boxes), lanes.segment(images, boxes), strict=True
    ):
        assert masks.size_hw == wanted_masks.size_hw
        np.testing.assert_array_equal(masks.logits, wanted_masks.logits)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("cuda,cpu", "different GPUs, such as cuda:0,cuda:1"),
        ("auto,auto", "different GPUs"),
        ("cuda,cuda:1", "different GPUs"),
        ("cuda:1,cuda:1", "different GPUs"),
        ("cpu:0", "a number only behind cuda"),
        ("gpu", "expected one of auto, cpu"),
        ("cuda:x", "expected one of auto, cpu"),
        ("cpu,", "expected one of auto, cpu"),
    ],
)
def test_devices_that_cannot_be_are_told(given: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings({"device": given}, {})


def test_devices_are_named_with_commas() -> None:
    assert load_settings({"device": "CUDA:0, cuda:1"}, {}).device == "cuda:0,cuda:1"
    assert devices_in(resolve_device("cpu,cpu")) == ["cpu", "cpu"]
    assert one_device("cpu,cpu") == "cpu"
    assert (whole_batch(8, "cuda:0,cuda:1"), whole_batch(8, "auto")) == (16, 8)


def test_ray_gives_each_worker_one() -> None:
    assert gpus_of_actor("cpu") == 0
    with pytest.raises(ConfigError, match="--actors says how many"):
        gpus_of_actor("cuda:0,cuda:1")


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert resolve_device("cuda:0,cuda:1") == "cuda:0,cuda:1"
    with pytest.raises(ConfigError, match=r"cuda:2 is not available here; the last is cuda:1"):
        resolve_device("cuda:0,cuda:2")
