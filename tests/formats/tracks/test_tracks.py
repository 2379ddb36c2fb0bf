"""Formats of tracks: what is written is read again, an independent reader agrees, and one bad line
costs itself.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from backend.core.masks import full_frame, mask_from_full, mask_xyxy
from backend.core.tracks import Track, TrackedVideo, without_overlaps
from backend.core.types import Instance
from backend.demo.scenes.clips import Clip
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import InputError
from backend.formats.tracks.mots import class_numbers, from_mots, to_mots
from backend.formats.tracks.youtube_vis import from_youtube_vis, to_youtube_vis

SIZE = (60, 80)
NAMES = list(CLASS_NAMES)


def instance(label: str, mask: np.ndarray, score: float = 1.0) -> Instance:
    found = mask_from_full(mask)
    assert found is not None
    return Instance(label, NAMES.index(label), score, mask_xyxy(found).astype(np.float32), found)


def of_clip(seed: int, n_frames: int = 12) -> TrackedVideo:
    """The truth of a generated clip."""
    clip = Clip(seed, SIZE)
    labels = [NAMES[class_id] for class_id in clip.class_ids]
    seen: list[dict[int, Instance]] = [{} for _ in labels]
    for frame in clip.frames(n_frames):
        for k, label in enumerate(labels):
            if (frame.objects == k + 1).any():
                seen[k][frame.number] = instance(label, frame.objects == k + 1)
    tracks = [
        Track(id=k, label=label, seen=own)
        for k, (label, own) in enumerate(zip(labels, seen, strict=True), 1)
    ]
    return TrackedVideo(
        name=f"clip{seed}", size_hw=SIZE, n_frames=n_frames, rate=25.0, tracks=tuple(tracks)
    )


def pixels(video: TrackedVideo) -> list[tuple[str, dict[int, bytes]]]:
    """Labels and masks of the tracks that are seen, in an order that no number decides."""
    found = []
    for track in video.tracks:
        masks = {
            frame: full_frame(one.mask, video.size_hw).tobytes()
            for frame, one in track.seen.items()
            if one.mask is not None
        }
        if masks:
            found.append((track.label, masks))
    return sorted(found, key=lambda pair: (pair[0], sorted(pair[1].items())))


@pytest.mark.parametrize("seed", range(1_000_100, 1_000_106))
@pytest.mark.parametrize("first_frame", [0, 1])
def test_mots_comes_back(seed: int, first_frame: int) -> None:
    video = of_clip(seed)
    classes = class_numbers(NAMES)
    text, losses = to_mots(video, classes, first_frame)
    assert losses == {}  # the truth does not overlap
    names = {number: name for name, number in classes.items()}
    again, faults = from_mots(text, names, video.name, first_frame)
    assert faults == []
    assert pixels(again) == pixels(video)
    # Every line as pycocotools reads it.
    seen = {(int(f), int(i)) for f, i, *_ in (line.split() for line in text.splitlines())}
    assert len(seen) == len(text.splitlines())
    for line in text.splitlines()[:20]:
        frame, object_id, number, height, width, counts = line.split()
        mask = coco_mask.decode({"size": [int(height), int(width)], "counts": counts.encode()})
        assert mask.shape == SIZE
        assert int(object_id) // 1000 == int(number)
        own = Clip(seed, SIZE).frame(int(frame) - first_frame).objects
        assert any(np.array_equal(mask > 0, own == k) for k in np.unique(own))


@pytest.mark.parametrize("seed", range(1_000_200, 1_000_204))
def test_youtube_vis_comes_back(seed: int) -> None:
    videos = [of_clip(seed), of_clip(seed + 50, 5)]
    files = [[f"{video.name}/{k:05d}.jpg" for k in range(video.n_frames)] for video in videos]
    document = json.loads(json.dumps(to_youtube_vis(list(zip(videos, files, strict=True)), NAMES)))
    again, faults = from_youtube_vis(document)
    assert faults == []
    assert [pixels(one) for one in again] == [pixels(one) for one in videos]
    assert [(one.name, one.n_frames, one.rate) for one in again] == [
        (one.name, one.n_frames, one.rate) for one in videos
    ]
    for row in document["annotations"]:
        assert len(row["segmentations"]) == len(row["bboxes"]) == len(row["areas"])
        for segmentation, box, area in zip(
            row["segmentations"], row["bboxes"], row["areas"], strict=True
        ):
            assert (segmentation is None) == (box is None) == (area is None)
            if segmentation is not None:
                rle = {**segmentation, "counts": segmentation["counts"].encode()}
                assert int(coco_mask.area(rle)) == area
                assert coco_mask.toBbox(rle).tolist() == box


def test_masks_that_overlap_are_cut_and_told() -> None:
    rng = np.random.default_rng(5)
    masks = [np.zeros(SIZE, bool) for _ in range(3)]
    for k, mask in enumerate(masks):
        mask[10 + 5 * k : 40 + 5 * k, 10 + 6 * k : 50 + 6 * k] = True
    scores = rng.permutation([0.3, 0.6, 0.9]).tolist()
    tracks = tuple(
        Track(id=k, label="ball", seen={0: instance("ball", mask, score)})
        for k, (mask, score) in enumerate(zip(masks, scores, strict=True), 1)
    )
    video = TrackedVideo(name="v", size_hw=SIZE, n_frames=1, rate=25.0, tracks=tracks)
    parted, n_cut = without_overlaps(video)
    assert n_cut == 2
    total = np.zeros(SIZE, int)
    for track in parted.tracks:
        total += full_frame(track.seen[0].mask, SIZE)
    assert total.max() == 1
    assert np.array_equal(total > 0, np.logical_or.reduce(masks))
    surest = parted.tracks[int(np.argmax(scores))]
    assert np.array_equal(full_frame(surest.seen[0].mask, SIZE), masks[int(np.argmax(scores))])
    assert to_mots(video, {"ball": 1})[1] == {"masks that overlapped and were cut": 2}


def test_one_bad_line_costs_itself() -> None:
    video = of_clip(1_000_100, 4)
    text = to_mots(video, class_numbers(NAMES))[0]
    lines = text.splitlines()
    spoiled = "\n".join(
        ["", "1 2", "a b c 60 80 x", f"0 1001 1 60 80 {'~' * 5}", "0 10000 10 60 80 PPl0", *lines]
    )
    names = {number: name for name, number in class_numbers(NAMES).items()}
    again, faults = from_mots(spoiled, names, "v")
    assert pixels(again) == pixels(video)
    assert len(faults) == 3
    assert "v: line 2: expected frame, id, class" in faults[0]
    for bad, said in (
        ("", "holds no line"),
        ("0 1001 1 0 80 x", "is no size"),
        (f"{lines[0]}\n0 1001 1 61 80 x", "those before it are not"),
    ):
        with pytest.raises(InputError, match=said):
            from_mots(bad, names, "v")


def test_one_bad_track_costs_itself() -> None:
    video = of_clip(1_000_201, 4)
    document = to_youtube_vis([(video, [])], NAMES)
    good = len(document["annotations"])
    first = dict(document["annotations"][0])
    document["annotations"] += [
        {**first, "video_id": 99},
        {**first, "category_id": 99},
        "text",
        {**first, "segmentations": [{"size": [1, 1], "counts": "1"}, None]},
    ]
    (again,), faults = from_youtube_vis(document)
    assert len(faults) == 4
    assert len(again.tracks) == good + 1  # the last one has no frame, and a number of its own
    assert len({track.id for track in again.tracks}) == good + 1
    assert pixels(again) == pixels(video)
    with pytest.raises(InputError, match="videos: expected a list"):
        from_youtube_vis({"videos": None})
