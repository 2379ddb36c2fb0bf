"""Files of tracks as TrackEval's own readers take them, and HOTA as it computes it from them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.core.masks import full_frame
from backend.core.tracks import Track, TrackedVideo
from backend.evaluation.identity import count_identities, overlaps_of
from backend.formats.tracks.mots import class_numbers, to_mots
from backend.formats.tracks.youtube_vis import to_youtube_vis
from tests.formats.tracks.test_tracks import SIZE, instance, of_clip

CLASSES = ["car", "pedestrian"]  # of KITTI MOTS


def videos() -> tuple[TrackedVideo, TrackedVideo]:
    """The truth, and what somebody found: masks that are off, and a track that was broken."""
    clip = of_clip(1_000_204, 10)
    tracks = [replace(track, label=CLASSES[track.id % 2]) for track in clip.tracks]
    truth = replace(clip, tracks=tuple(tracks))
    found: list[Track] = []
    for track in tracks:
        moved = {}
        for frame, one in track.seen.items():
            assert one.mask is not None
            full = np.roll(full_frame(one.mask, SIZE), 2, axis=1)
            moved[frame] = replace(instance("ball", full, 0.8), label=track.label)
        if track.id == 1:
            early = {frame: one for frame, one in moved.items() if frame < 5}
            found.append(Track(id=90, label=track.label, seen=early))
            moved = {frame: one for frame, one in moved.items() if frame >= 5}
        found.append(Track(id=len(found) + 1, label=track.label, seen=moved))
    return truth, replace(clip, tracks=tuple(found))


def of_class(video: TrackedVideo, label: str) -> TrackedVideo:
    return replace(video, tracks=tuple(one for one in video.tracks if one.label == label))


def ours(truth: TrackedVideo, found: TrackedVideo, label: str) -> float:
    frames = overlaps_of(of_class(truth, label), of_class(found, label))
    return count_identities(frames).figures.hota


def theirs(dataset: Any, sequence: str, label: str) -> float:
    from trackeval.metrics import HOTA

    with contextlib.redirect_stdout(io.StringIO()):
        raw = dataset.get_raw_seq_data("mine", sequence)
        data = dataset.get_preprocessed_seq_data(raw, label)
        metric: Mapping[str, Any] = HOTA().eval_sequence(data)
    return float(np.mean(metric["HOTA"]))


def test_text_of_mots(tmp_path: Path) -> None:
    from trackeval.datasets import KittiMOTS

    truth, found = videos()
    numbers = class_numbers(CLASSES)
    assert numbers == {"car": 1, "pedestrian": 2}
    for folder, video in (("gt/label_02", truth), ("trackers/mine/data", found)):
        path = tmp_path / folder / "0000.txt"
        path.parent.mkdir(parents=True)
        path.write_text(to_mots(video, numbers)[0])
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = KittiMOTS(
            {
                "GT_FOLDER": str(tmp_path / "gt"),
                "TRACKERS_FOLDER": str(tmp_path / "trackers"),
                "SEQ_INFO": {"0000": truth.n_frames},
                "PRINT_CONFIG": False,
            }
        )
    for label in CLASSES:
        assert theirs(dataset, "0000", label) == pytest.approx(ours(truth, found, label), abs=1e-9)


def test_files_of_youtube_vis(tmp_path: Path) -> None:
    from trackeval.datasets import YouTubeVIS

    truth, found = videos()
    files = [f"{truth.name}/{k:05d}.jpg" for k in range(truth.n_frames)]
    right = to_youtube_vis([(truth, files)], CLASSES)
    for row in right["annotations"]:  # the truth has its run lengths as lists
        row["segmentations"] = [
            None if one is None else _as_lists(one) for one in row["segmentations"]
        ]
    mine = to_youtube_vis([(found, files)], CLASSES)["annotations"]
    for folder, content in (("gt/youtube_vis_val", right), ("t/youtube_vis_val/mine/data", mine)):
        path = tmp_path / folder / "tracks.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = YouTubeVIS(
            {
                "GT_FOLDER": f"{tmp_path}/gt/",
                "TRACKERS_FOLDER": f"{tmp_path}/t/",
                "SPLIT_TO_EVAL": "val",
                "PRINT_CONFIG": False,
            }
        )
    for label in CLASSES:
        told = theirs(dataset, truth.name, label)
        assert told == pytest.approx(ours(truth, found, label), abs=1e-9)


def _as_lists(segmentation: Mapping[str, Any]) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    mask = coco_mask.decode({**segmentation, "counts": segmentation["counts"].encode()})
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    return {"size": list(mask.shape), "counts": counts}
