"""J and F of followed objects: by hand, and against the figures of the official code."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from backend.evaluation.video import contour_accuracy, followed, region_similarity, similarity
from tests.conftest import SHARED

# J, then F: what the benchmark's own code says of OSVOS, first and last frame left out.
OFFICIAL = {
    "blackswan": (0.9430, 0.9741),
    "car-shadow": (0.9284, 0.9174),
    "libby": (0.6230, 0.7512),
    "motocross-jump": (0.8156, 0.6207),
}


def _mask(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as image:
        return np.array(image) > 0


@pytest.mark.parametrize("name", OFFICIAL)
def test_figures_are_those_of_the_official_code(name: str) -> None:
    predicted = SHARED / "data" / "davis-osvos" / name
    truth = SHARED / "data" / "davis-voc" / "SegmentationObject" / name
    if not predicted.is_dir():
        pytest.skip(f"{predicted} is not here")
    paths = sorted(truth.glob("*.png"))
    found = followed((_mask(path), _mask(predicted / path.name)) for path in paths)
    assert len(found.frames_j) == len(paths)
    assert (found.j.mean, found.f.mean) == pytest.approx(OFFICIAL[name], abs=1e-4)
    assert found.j_and_f == pytest.approx(sum(OFFICIAL[name]) / 2, abs=1e-4)


def test_what_is_empty() -> None:
    nothing = np.zeros((20, 30), bool)
    something = nothing.copy()
    something[5:9, 5:9] = True
    assert region_similarity(nothing, nothing) == contour_accuracy(nothing, nothing) == 1
    for pair in ((nothing, something), (something, nothing)):
        assert region_similarity(*pair) == contour_accuracy(*pair) == 0
    assert math.isnan(followed([]).j.mean)
    assert math.isnan(similarity([1.0, 1.0, 1.0]).decay)


def test_outlines_that_are_too_far_apart_do_not_match() -> None:
    square = np.zeros((100, 100), bool)
    square[20:60, 20:60] = True  # 0.8 % of the diagonal is 1.13 pixels: two count as close
    assert contour_accuracy(square, np.roll(square, 2, axis=1)) == 1
    far = contour_accuracy(square, np.roll(square, 3, axis=1))
    assert 0.4 < far < 0.6  # only the sides along which it moved still match


def test_an_object_that_is_lost_decays() -> None:
    square = np.zeros((40, 40), bool)
    square[10:20, 10:20] = True
    nothing = np.zeros_like(square)
    frames = [(square, square)] * 11 + [(square, nothing)] * 11
    found = followed(frames)
    assert (found.j.mean, found.j.recall, found.j.decay) == (0.5, 0.5, 1.0)
    assert followed(frames, ends_count=True).j.mean == 0.5
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.random(int(rng.integers(4, 300))).tolist()
        assert -1 <= similarity(values).decay <= 1
