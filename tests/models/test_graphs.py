"""What is recorded and replayed, with a recorder that only does the work again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.core.types import Boxes
from backend.demo.scenes.compose import Scene
from backend.models.graphs import Function, Graphs, Recording, padded_count
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.running import Replayed
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG


@pytest.fixture(scope="module")
def segmenter() -> Sam2Segmenter:
    return Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu")


def again(function: Function, inputs: tuple[Tensor, ...], pool: Any) -> Recording:
    """As on a GPU: input and output have their places, and the work is done from one to the other,
    whatever the caller does to its own tensors.
    """
    outputs = tuple(one.clone() for one in function(*inputs))

    def replay() -> None:
        for place, made in zip(outputs, function(*inputs), strict=True):
            place.copy_(made)

    return Recording(inputs, outputs, replay)


def test_a_call_is_recorded_when_it_comes_again() -> None:
    graphs = Graphs(again)
    calls = []

    def double(x: Tensor) -> tuple[Tensor]:
        calls.append(x)
        return (2 * x,)

    answers = [graphs.run("double", double, torch.tensor([float(k)]))[0] for k in range(5)]
    assert [float(one) for one in answers] == [0, 2, 4, 6, 8]  # each belongs to its caller
    # Once as it is, once to record, and each replay on the tensor of the recording.
    assert len(calls) == 2 + 4
    assert len({id(x) for x in calls[1:]}) == 1


def test_old_recordings_make_room() -> None:
    graphs = Graphs(again)
    for _ in range(2):
        for k in range(40):
            graphs.run(k, lambda x: (x + 1,), torch.zeros(1))
    assert len(graphs._recordings) <= 16
    assert float(graphs.run(39, lambda x: (x + 1,), torch.ones(1))[0]) == 2


def test_what_cannot_be_recorded_is_worked_out(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def never(function: Function, inputs: tuple[Tensor, ...], room: Any) -> Recording:
        tried.append(inputs)
        raise RuntimeError("out of memory")

    graphs = Graphs(never)
    answers = [graphs.run("a", lambda x: (x + 1,), torch.tensor([float(k)])) for k in range(5)]
    assert [float(one[0]) for one in answers] == [1, 2, 3, 4, 5]
    assert len(tried) == 1
    assert "not recorded: out of memory" in caplog.text


def test_numbers_of_boxes_share_recordings() -> None:
    counts = {padded_count(count, 128) for count in range(1, 129)}
    assert len(counts) <= 10
    assert all(padded_count(count, 128) >= count for count in range(1, 129))
    assert padded_count(80, 128) == 80  # ten boxes of eight pictures
    assert padded_count(300, 300) == 300


@pytest.mark.parametrize("most", [4, 16])
def test_replayed_masks_are_those_of_the_model(
    segmenter: Sam2Segmenter, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    images = [scene.image for scene in scenes[:3]]
    rng = np.random.default_rng(0)

    def some(count: int) -> Boxes:
        corner = rng.uniform(0, 100, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(20, 120, (count, 2))], 1).astype(
            np.float32
        )

    monkeypatch.setattr(segmenter, "chunk", most)
    batches = [
        [some(2), some(5), some(3)],
        [some(1), some(0), some(2)],
        [some(2), some(4), some(4)],
    ]
    expected = [segmenter.segment(images, boxes) for boxes in batches]
    replayed = Replayed(segmenter.model, segmenter.device, most, Graphs(again))
    monkeypatch.setattr(segmenter, "_running", replayed)
    for _ in range(3):
        for boxes, wanted in zip(batches, expected, strict=True):
            for ours, theirs in zip(segmenter.segment(images, boxes), wanted, strict=True):
                assert ours.logits.shape == theirs.logits.shape
                np.testing.assert_allclose(ours.logits, theirs.logits, atol=0.02)
                np.testing.assert_allclose(ours.quality, theirs.quality, atol=1e-3)
