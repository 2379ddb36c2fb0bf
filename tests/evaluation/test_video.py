"""J and F of followed objects: by hand, and against the figures of the official code."""

from __future__ import annotations

import json
import math
import shutil
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


def _video_dataset(root: Path, n_frames: int = 8) -> Path:
    """Two objects that move, the second from frame 3 on."""
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder / "street").mkdir(parents=True)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val_videos.txt").write_text("street\n")
    (root / "class_names.txt").write_text("_background_\ncar\n")
    for k in range(n_frames):
        objects = np.zeros((60, 80), np.uint8)
        objects[10:30, 5 + k : 25 + k] = 1
        if k >= 3:
            objects[35:50, 40 - k : 60 - k] = 2
        name = f"street/{k:05d}.png"
        PIL.Image.fromarray(objects).save(root / "SegmentationObject" / name)
        PIL.Image.fromarray((objects > 0).astype(np.uint8)).save(root / "SegmentationClass" / name)
        grey = PIL.Image.fromarray(np.full((60, 80, 3), 90, np.uint8))
        grey.save(root / "JPEGImages" / f"street/{k:05d}.jpg")
    return root


def test_tracks_of_label_maps_are_judged(run_cli, tmp_path: Path) -> None:
    truth = _video_dataset(tmp_path / "truth")
    found = tmp_path / "found"
    for folder in ("SegmentationClass", "SegmentationObject"):
        shutil.copytree(truth / folder, found / folder)
    path = found / "SegmentationObject" / "street" / "00004.png"
    swapped = np.array(PIL.Image.open(path))
    swapped = np.choose(swapped, (0, 2, 1)).astype(np.uint8)  # a switch of identities in one frame
    PIL.Image.fromarray(swapped).save(path)
    (found / "SegmentationClass" / "street" / "00006.png").unlink()
    options = ("--predictions", found, "--tracks", "--no-progress", "--resamples", "0")
    code, out, err = run_cli("evaluate", truth, *options, "--json", "-")
    assert code in (0, 1), err
    tracks = json.loads(out)["tracks"]
    first, second = tracks["objects"]
    assert (first["object"], first["frames"]) == (1, 8)
    assert first["frames_j"] == [1, 1, 1, 1, 0, 1, 0, 1]
    assert first["j"] == pytest.approx(4 / 6, abs=1e-6)  # first and last frame do not count
    assert second["frames_j"] == [1, 1, 1, 1, 0, 1, 0, 1]  # empty on both sides is right
    assert tracks["mean"]["j"] == pytest.approx(4 / 6, abs=1e-6)
    assert tracks["identity"]["switches"] == 4  # both objects there and back
    assert tracks["identity"]["idf1"] == pytest.approx(2 * (6 + 3) / (13 + 11))
    assert "00006.png: is missing" in tracks["failed"][0]
    text = run_cli("evaluate", truth, *options)[1]
    assert "mean over objects" in text
    assert "IDF1 0.7500, 4 switches" in text
    assert "1 frame without a prediction that can be read, taken as empty" in text
    code, _, err = run_cli("evaluate", truth, "--tracks", "--detector", "demo")
    assert code == 2
    assert "--tracks: compares label maps" in err
