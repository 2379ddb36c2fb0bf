"""Formats of tracks: what is written is read again, an independent reader agrees, and one bad line
costs itself.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from lxml import etree
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from backend.core.masks import full_frame, mask_from_full, mask_xyxy
from backend.core.tracks import Track, TrackedVideo, parted
from backend.core.types import Instance
from backend.demo.scenes.clips import Clip
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import InputError
from backend.formats.tracks.coco_tracks import from_coco_tracks, to_coco_tracks
from backend.formats.tracks.cvat import from_cvat, to_cvat
from backend.formats.tracks.mots import (
    beyond_maps,
    class_numbers,
    from_mots,
    to_mots,
    to_mots_maps,
)
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


@pytest.mark.parametrize("seed", range(1_000_200, 1_000_204))
def test_coco_comes_back(seed: int, tmp_path: Path) -> None:
    video = of_clip(seed)
    files = [f"{video.name}/{k:05d}.jpg" for k in range(video.n_frames)]
    document = json.loads(json.dumps(to_coco_tracks(video, files, NAMES)))
    (again,), faults = from_coco_tracks(document)
    assert faults == []
    assert pixels(again) == pixels(video)
    assert (again.name, again.n_frames, again.rate) == (video.name, video.n_frames, video.rate)
    # A program that knows nothing of tracks reads it as well.
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(document))
    read = COCO(str(path))
    assert len(read.getImgIds()) == video.n_frames
    for row in document["annotations"]:
        assert int(read.annToMask(row).sum()) == row["area"]
    objects = {(row["image_id"], row["track_id"]) for row in document["annotations"]}
    assert len(objects) == len(document["annotations"])


def test_one_bad_annotation_costs_itself() -> None:
    video = of_clip(1_000_201, 4)
    document = to_coco_tracks(video, [f"{k}.jpg" for k in range(4)], NAMES)
    first = document["annotations"][0]
    other = next(k for k, name in enumerate(NAMES, 1) if k != first["category_id"])
    document["annotations"] += [
        {**first, "image_id": 99},
        {**first, "category_id": 99},
        {**first, "track_id": None},
        "text",
        {**first, "segmentation": {"size": [1, 1], "counts": "1"}},
        {**first, "category_id": other},
    ]
    (again,), faults = from_coco_tracks(document)
    assert len(faults) == 6
    assert pixels(again) == pixels(video)
    for bad in ({}, {"images": [], "categories": [], "annotations": []}):
        with pytest.raises(InputError, match="images"):
            from_coco_tracks(bad)


@pytest.mark.parametrize("seed", range(1_000_300, 1_000_304))
def test_cvat_comes_back(seed: int) -> None:
    video = of_clip(seed)
    text = to_cvat(video, NAMES)
    schema = etree.XMLSchema(etree.parse(str(Path(__file__).with_name("cvat_video.xsd"))))
    schema.assertValid(etree.fromstring(text))
    again, faults = from_cvat(text, "v")
    assert faults == []
    assert pixels(again) == pixels(video)
    assert (again.name, again.n_frames, again.size_hw) == (video.name, video.n_frames, SIZE)
    # Runs count row by row inside the box, beginning with background.
    shape = etree.fromstring(text).find("track/mask")
    counts = [int(one) for one in shape.get("rle").split(",")]
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    box = values.reshape(int(shape.get("height")), int(shape.get("width")))
    own = next(t for t in video.tracks if t.seen).seen[int(shape.get("frame"))].mask
    assert own is not None
    assert np.array_equal(box, own.crop)


def test_cvat_tells_when_an_object_is_gone() -> None:
    mask = np.zeros(SIZE, bool)
    mask[5:9, 5:9] = True
    seen = {k: instance("ball", mask) for k in (1, 2, 5)}
    track = Track(id=1, label="ball", seen=seen)
    video = TrackedVideo(name="v", size_hw=SIZE, n_frames=8, rate=25.0, tracks=(track,))
    text = to_cvat(video, NAMES, [10 * k for k in range(8)])
    shapes = etree.fromstring(text).findall("track/mask")
    told = [(one.get("frame"), one.get("outside")) for one in shapes]
    assert told == [("10", "0"), ("20", "0"), ("30", "1"), ("50", "0"), ("60", "1")]
    assert etree.fromstring(text).findtext("meta/task/frame_filter") == "step=10"
    for numbers in (None, [10 * k for k in range(8)], [100 + k for k in range(8)]):
        again, _ = from_cvat(to_cvat(video, NAMES, numbers), "v")
        assert sorted(again.tracks[0].seen) == [1, 2, 5]
        assert again.n_frames == 8


def test_one_bad_shape_costs_itself() -> None:
    video = of_clip(1_000_301, 4)
    text = to_cvat(video, NAMES).decode()
    bad = (
        '<mask frame="x" left="0" top="0" width="1" height="1" rle="0, 1"/>'
        '<mask frame="0" left="99" top="0" width="1" height="1" rle="0, 1"/>'
        '<mask frame="0" left="0" top="0" width="2" height="1" rle="0, 1"/>'
        '<box frame="0" xtl="1" ytl="1" xbr="2"/>'
        '<box frame="0" xtl="1" ytl="1" xbr="nan" ybr="2"/>'
        '<box frame="0" xtl="9" ytl="1" xbr="2" ybr="2"/>'
        '<polygon frame="0" points="1,1;2,2;3,1"/>'
    )
    spoiled = text.replace("</annotations>", f'<track id="9" label="ball">{bad}</track><track/>')
    again, faults = from_cvat((spoiled + "</annotations>").encode(), "v")
    assert len(faults) == 8
    assert pixels(again) == pixels(video)
    for broken, said in (
        ("<annotations", "no XML"),
        ("<a/>", "expected <annotations>"),
        ("<annotations><meta/></annotations>", "original_size"),
    ):
        with pytest.raises(InputError, match=said):
            from_cvat(broken.encode(), "v")


def test_numbers_that_no_video_has_are_refused() -> None:
    video = of_clip(1_000_301, 3)
    far = to_cvat(video, NAMES).replace(b'frame="0"', b'frame="999999999"')
    again, faults = from_cvat(far.replace(b"<size>3</size>", b"<size>200000</size>"), "v")
    assert any("999,999,999 is no frame of a video" in fault for fault in faults)
    assert again.n_frames <= 2_000_000
    document = to_coco_tracks(video, ["a", "b", "c"], NAMES)
    document["images"][0]["frame_id"] = -1
    document["images"][1]["id"] = [1]
    document["annotations"][-1]["image_id"] = [1]
    (one,), faults = from_coco_tracks(document)
    assert one.n_frames == 1
    assert faults
    text = to_mots(video, class_numbers(NAMES))[0]
    _, faults = from_mots(text.replace("\n2 ", "\n1999999999 "), {}, "v")
    assert any("no video has 1,999,999,999 frames" in fault for fault in faults)
    whole = to_youtube_vis([(video, [])], NAMES)
    whole["videos"][0]["length"] = 2
    (short,), faults = from_youtube_vis(whole)
    assert any("has more than the 2 of its video" in fault for fault in faults)
    assert all(max(track.seen) < 2 for track in short.tracks)


def test_frames_of_coco_may_begin_at_one() -> None:
    video = of_clip(1_000_301, 3)
    document = to_coco_tracks(video, ["a", "b", "c"], NAMES)
    for image in document["images"]:
        image["frame_id"] += 1
    (again,), _ = from_coco_tracks(document)
    assert pixels(again) == pixels(video)
    assert again.n_frames == 3


def test_classes_beyond_what_a_picture_holds_are_told() -> None:
    video = of_clip(1_000_100, 3)
    classes = {name: 60 + 4 * k for k, name in enumerate(NAMES)}
    n_beyond = sum(classes[track.label] * 1000 >= 65000 for track in video.tracks)
    told = beyond_maps(video, classes)
    assert sum(told.values()) == n_beyond
    assert len(list(to_mots_maps(video, classes))) == 3


def test_pictures_of_mots_are_those_of_its_text() -> None:
    video = of_clip(1_000_100)
    classes = class_numbers(NAMES)
    text, _ = to_mots(video, classes)
    maps = [np.array(Image.open(BytesIO(data))) for data in to_mots_maps(video, classes)]
    assert len(maps) == video.n_frames
    assert all(one.dtype == np.uint16 and one.shape == SIZE for one in maps)
    for line in text.splitlines():
        frame, number, _, height, width, counts = line.split()
        mask = coco_mask.decode({"size": [int(height), int(width)], "counts": counts.encode()})
        assert np.array_equal(maps[int(frame)] == int(number), mask > 0)


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
    left, n_cut = parted([one for _, one in video.at(0)])
    assert n_cut == 2
    total = np.zeros(SIZE, int)
    for mask in left.values():
        total += full_frame(mask, SIZE)
    assert total.max() == 1
    assert np.array_equal(total > 0, np.logical_or.reduce(masks))
    surest = int(np.argmax(scores))
    assert np.array_equal(full_frame(left[surest], SIZE), masks[surest])
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
