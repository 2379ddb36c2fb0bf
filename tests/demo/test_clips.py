"""Generated videos: a function of seed and number, with objects that hide, leave and return."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from backend.demo.dataset import write_clips
from backend.demo.scenes.clips import SIZE_HW, Clip
from backend.demo.scenes.compose import VALIDATION_SEEDS
from backend.formats.voc.dataset import open_voc

SEEDS = VALIDATION_SEEDS[:12]


def test_every_frame_is_a_function_of_its_number() -> None:
    clip = Clip(SEEDS[0])
    later = clip.frame(40)
    first = clip.frame(0)
    again = [frame.image for frame in Clip(SEEDS[0]).frames(41)]
    assert np.array_equal(again[0], first.image)
    assert np.array_equal(again[40], later.image)
    assert first.image.shape == (*SIZE_HW, 3)
    assert first.image.dtype == first.objects.dtype == np.uint8
    assert not np.array_equal(Clip(SEEDS[1]).frame(0).image, first.image)
    assert Clip(3, (90, 120)).frame(7).image.shape == (90, 120, 3)


def test_masks_are_where_the_pixels_moved() -> None:
    """On a still ground, what changes between two frames is objects, their shadows and grain."""
    still = next(clip for clip in map(Clip, SEEDS) if _is_still(clip))
    one = still.frame(3)
    other = still.frame(4)
    changed = np.abs(one.image.astype(int) - other.image).max(2) > 60
    near = (one.objects > 0) | (other.objects > 0)
    assert changed.any()
    assert near[changed].mean() > 0.9


def _is_still(clip: Clip) -> bool:
    first = clip.frame(0)
    later = clip.frame(30)
    ground = (first.objects == 0) & (later.objects == 0)
    return bool(np.abs(first.image.astype(int) - later.image)[ground].mean() < 8)


def test_objects_hide_each_other_leave_and_return() -> None:
    gone = returned = occluded = 0
    for seed in SEEDS:
        clip = Clip(seed)
        n = len(clip.class_ids)
        assert 2 <= n <= 7
        areas = np.array(
            [
                np.bincount(clip.frame(k).objects.ravel(), minlength=n + 1)[1:]
                for k in range(0, 120, 4)
            ]
        )
        for track in areas.T:
            seen = np.flatnonzero(track)
            absent = np.flatnonzero(track == 0)
            gone += len(absent) > 0
            returned += bool(len(seen) and len(absent) and (absent < seen[-1]).any())
            occluded += bool((track < 0.5 * np.median(track)).any())
    assert gone >= 5
    assert returned >= 3
    assert occluded >= 8
    assert 2 <= sum(_is_still(Clip(seed)) for seed in SEEDS) <= 10


def test_clips_are_a_dataset_of_videos(tmp_path: Path) -> None:
    write_clips(tmp_path, SEEDS[0], 2, 3)
    dataset = open_voc(tmp_path, "val")
    assert len(dataset.image_ids) == 6
    clip = Clip(SEEDS[1])
    name = f"{SEEDS[1]:07d}"
    classes, objects = dataset.maps(f"{name}/00002")
    assert objects is not None
    assert np.array_equal(objects, clip.frame(2).objects)
    assert np.array_equal(classes > 0, objects > 0)
    rows = json.loads((tmp_path / "prediction.json").read_text())
    own = [row for row in rows if row["image_id"] == f"{name}/00002"]
    assert len(own) == len(np.unique(objects)) - 1
    with PIL.Image.open(tmp_path / "JPEGImages" / name / "00002.jpg") as image:
        error = np.abs(np.asarray(image).astype(int) - clip.frame(2).image).mean()
    assert error == pytest.approx(2, abs=2)
