"""Tracks from format to format: what comes back is what went in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.cli.convert import _TRACKS
from backend.core.tracks import TrackedVideo
from backend.demo.moving import CLIP
from backend.formats.json_text import json_bytes
from backend.formats.tracks.coco_tracks import from_coco_tracks
from backend.formats.tracks.cvat import from_cvat
from backend.formats.tracks.rectangle_tasks import FileSize, from_tasks
from backend.formats.tracks.youtube_vis import from_youtube_vis, to_youtube_vis
from backend.labeling.track_convert import convert_tracks
from backend.labeling.track_readers import FORMATS
from tests.formats.tracks.test_tracks import NAMES, of_clip, pixels


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two videos as ``yolosam2 video`` keeps them."""
    folder = tmp_path / "tracks"
    folder.mkdir()
    for seed, n_frames in ((1_000_201, 6), (1_000_251, 4)):
        video = of_clip(seed, n_frames)
        document = to_youtube_vis([(video, [])], NAMES)
        (folder / f"{video.name}.json").write_bytes(json_bytes(document))
    return folder


def read(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("*.json")):
        ((video,), faults) = from_youtube_vis(json.loads(path.read_text()))
        assert not faults
        found[video.name] = video
    return found


def test_the_formats_that_are_told_are_those_there_are() -> None:
    assert _TRACKS == FORMATS


@pytest.mark.parametrize("target", [one for one in FORMATS if one != "video-rectangle"])
def test_there_and_back(source: Path, tmp_path: Path, target: str) -> None:
    there = tmp_path / "there"
    back = tmp_path / "back"
    first = convert_tracks(source, there, target)
    assert first.videos == 2
    assert not first.failed
    assert bool(first.losses) == (target == "davis")
    second = convert_tracks(there, back, "youtube-vis")
    assert not second.failed
    before = read(source)
    after = read(back)
    assert set(after) == set(before)
    for name, video in before.items():
        expected = pixels(video)
        if target == "davis":
            masks = [sorted(one.items()) for _, one in pixels(after[name])]
            assert sorted(masks) == sorted(sorted(one.items()) for _, one in expected)
            assert {track.label for track in after[name].tracks} == {"object"}
        else:
            assert pixels(after[name]) == expected
    again = convert_tracks(source, there, target)
    assert not again.kept  # nothing changed


def boxes(video: TrackedVideo) -> dict[tuple[str, int], np.ndarray]:
    return {
        (f"{track.id} {track.label}", frame): one.xyxy
        for track in video.tracks
        for frame, one in track.seen.items()
    }


def far(a: TrackedVideo, b: TrackedVideo) -> float:
    """How far the sides of boxes are from one another, in pixels."""
    ours, theirs = boxes(a), boxes(b)
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[key] - theirs[key]).max()) for key in ours)


def test_boxes_of_label_studio_become_those_of_others(tmp_path: Path, run_cli: Any) -> None:
    """The clip of the package: masks to Label Studio, from there to CVAT, and to COCO."""
    truth = CLIP.with_suffix(".json")
    given = ["--images", CLIP.parent]
    prefix = ["--image-url-prefix", "/data/upload/7/1a2b3c4d-"]
    for source, target, *more in (
        (truth, "video-rectangle", *given, *prefix),
        ("video-rectangle", "cvat", *given),
        ("cvat", "coco-tracks"),
        ("coco-tracks", "cvat-again"),
        ("cvat", "video-rectangle-again", *given),
    ):
        to = target.removesuffix("-again")
        place = source if source == truth else tmp_path / source
        code, _, err = run_cli("convert", place, tmp_path / target, "--to", to, *more)
        assert code == 0, (target, err)
    (before,), _ = from_youtube_vis(json.loads(truth.read_text()))
    (task,) = json.loads((tmp_path / "video-rectangle" / "moving.json").read_text())
    assert task["data"]["video"] == "/data/upload/7/1a2b3c4d-moving.mp4"
    cvat, _ = from_cvat((tmp_path / "cvat" / "1a2b3c4d-moving.xml").read_bytes(), "v")
    assert (cvat.size_hw, cvat.n_frames) == (before.size_hw, before.n_frames)
    assert far(before, cvat) <= 1.6  # 1.5 of the key frames, and rounding
    document = json.loads((tmp_path / "coco-tracks" / "1a2b3c4d-moving.json").read_text())
    assert "segmentation" not in document["annotations"][0]
    (coco,), _ = from_coco_tracks(document)
    assert far(cvat, coco) <= 0.05
    again = tmp_path / "cvat-again" / "1a2b3c4d-moving.xml"
    assert far(cvat, from_cvat(again.read_bytes(), "v")[0]) <= 0.1
    tasks = json.loads((tmp_path / "video-rectangle-again" / "1a2b3c4d-moving.json").read_text())
    (boxes_again,), faults = from_tasks(tasks, lambda _: FileSize(cvat.size_hw, 72, 25.0))
    assert not faults
    assert far(cvat, boxes_again) <= 1.6


def test_boxes_have_no_place_among_masks(tmp_path: Path, run_cli: Any) -> None:
    prefix = ["--image-url-prefix", "/data/upload/7/"]
    given = ["--images", CLIP.parent]
    tasks = tmp_path / "tasks"
    run_cli("convert", CLIP.with_suffix(".json"), tasks, "--to", "video-rectangle", *given, *prefix)
    code, out, _ = run_cli("convert", tasks, tmp_path / "o", "--to", "youtube-vis", *given)
    assert code == 0
    assert "boxes without masks, which youtube-vis does not hold" in out
    code, out, _ = run_cli("convert", tasks, tmp_path / "p", "--to", "cvat")
    assert code == 1
    assert "moving.mp4 is not at hand" in out
    assert "--images DIR" in out


def test_the_newest_annotation_counts_and_bad_tasks_cost_themselves() -> None:
    def region(label: str, **told: Any) -> dict[str, Any]:
        row = {"frame": 1, "x": 10, "y": 10, "width": 20, "height": 20, "enabled": True, **told}
        value = {"framesCount": 4, "duration": 0.2, "sequence": [row], "labels": [label]}
        return {"type": "videorectangle", "score": 0.5, "value": value}

    data = {"video": "/data/local-files/?d=videos/a%20b.mp4"}
    annotated = {
        "data": data,
        "annotations": [
            {"result": [region("new"), region("bad", x="?")], "updated_at": "2026-11-02"},
            {"result": [region("old")], "updated_at": "2026-11-01"},
            {"result": [region("no")], "was_cancelled": True, "updated_at": "2026-11-03"},
        ],
        "predictions": [{"result": [region("guess")]}],
    }
    emptied = {"data": data, "annotations": [{"result": []}], "predictions": [{"result": [1]}]}
    predicted = {"data": data, "predictions": [{"result": [region("guess")]}]}
    tasks = [annotated, emptied, predicted, 7, {"annotations": [{"result": [region("a")]}]}]
    asked = []

    def measure(name: str) -> FileSize:
        asked.append(name)
        return FileSize((100, 200), 4, 25.0)

    videos, faults = from_tasks(tasks, measure)
    assert [[track.label for track in one.tracks] for one in videos] == [["new"], ["guess"]]
    assert set(asked) == {"videos/a b.mp4"}
    first = videos[0]
    assert [one.name for one in videos] == ["a b", "a b_task2"]
    assert (first.size_hw, first.n_frames, first.rate) == ((100, 200), 4, 25)
    assert first.tracks[0].seen[3].xyxy.tolist() == [20, 10, 60, 30]
    assert [fault.split(":")[0] for fault in faults] == [
        "[0].result[1].value.sequence[0]",
        "[3]",
        "[4].data",
    ]


def rectangle(frames: tuple[int, ...], count: int, duration: float, **told: Any) -> dict[str, Any]:
    """A box that moves by one percent a frame, and is gone after its last key frame."""
    sequence = [
        {"frame": k, "x": k, "y": 10, "width": 20, "height": 20, "enabled": k != frames[-1]}
        for k in frames
    ]
    value = {"framesCount": count, "duration": duration, "sequence": sequence, "labels": ["a"]}
    return {"type": "videorectangle", "value": {**value, **told}}


def test_frames_of_a_tag_with_another_rate_are_those_of_the_file() -> None:
    task = {
        "data": {"video": "/a.mp4"},
        "predictions": [{"result": [rectangle((1, 36), 36, 2.88)]}],
    }
    ((video,), faults) = from_tasks([task], lambda _: FileSize((100, 100), 72, 25.0))
    assert not faults
    assert (video.n_frames, video.rate) == (72, 25.0)
    (track,) = video.tracks
    assert (min(track.seen), max(track.seen)) == (0, 70)
    assert track.seen[35].xyxy[0] == pytest.approx(1 + 35 / 2, abs=0.01)
    damaged = {"predictions": [{"result": [rectangle((1, 4), 500_000, 10**400, labels=[None])]}]}
    ((video,), _) = from_tasks([{**task, **damaged}], lambda _: FileSize((9, 9), 8, 25.0))
    assert (video.n_frames, video.tracks[0].label, max(video.tracks[0].seen)) == (8, "object", 3)


@pytest.mark.parametrize(
    "data",
    [
        {"by": "Filmed by Mr. Smith", "thumb": "/t.jpg", "video": "/up/moving.mp4"},
        {"bad": "http://[draft/x", "video": "/data/local-files/?d=cams/1/moving.mp4"},
        {"video": "s3://bucket/../../cams/1/0123abcd-moving.mp4?x=1"},
        {"long": "/" + 400 * "x" + ".mp4", "video": "moving.mp4"},
    ],
)
def test_videos_are_found_by_what_tasks_call_them(data: dict[str, str], tmp_path: Path) -> None:
    images = tmp_path / "videos"
    place = images / "cams" / "1" if "cams" in str(data) else images
    place.mkdir(parents=True)
    (place / "moving.mp4").symlink_to(CLIP.resolve())
    tasks = tmp_path / "export.json"
    result = [rectangle((1, 9), 72, 2.88)]
    tasks.write_text(json.dumps([{"id": 1, "data": data, "annotations": [{"result": result}]}]))
    summary = convert_tracks(tasks, tmp_path / "out", "cvat", images=images)
    assert not summary.failed
    assert summary.per_class == {"a": 1}


def test_a_file_with_one_annotation_is_read(tmp_path: Path) -> None:
    """As Label Studio's target storages write them."""
    row = {"result": [rectangle((1, 9), 72, 2.88)], "task": {"data": {"video": "moving.mp4"}}}
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "1.json").write_text(json.dumps(row))
    summary = convert_tracks(tmp_path / "7", tmp_path / "out", "cvat", images=CLIP.parent)
    assert summary.videos == 1


def test_boxes_that_leave_the_picture_are_gone() -> None:
    shapes = "".join(
        f'<box frame="{k}" xtl="{x}" ytl="5" xbr="{x + 10}" ybr="15" outside="{out}"/>'
        for k, x, out in ((0, 20, 0), (5, 10, 0), (9, -40, 1), (20, 30, 0), (24, -10, 0))
    )
    size = "<original_size><width>50</width><height>40</height></original_size>"
    meta = f"<meta><task><size>30</size>{size}</task></meta>"
    text = f'<annotations>{meta}<track label="a">{shapes}</track></annotations>'
    video, faults = from_cvat(text.encode(), "v")
    assert not faults
    seen = sorted(video.tracks[0].seen)
    assert seen[0] == 0
    assert max(seen) < 24, "outside the picture at its last shape"
    assert not {9, 15, 19} & set(seen)


@pytest.mark.parametrize("option", ["--what=best", "--strict", "--shape=mask", "--card=a.html"])
def test_options_without_meaning_are_told(tmp_path: Path, run_cli: Any, option: str) -> None:
    source = CLIP.with_suffix(".json")
    code, _, err = run_cli("convert", source, tmp_path / "o", "--to", "cvat", option)
    assert code == 2
    assert f"{option.partition('=')[0]}: has no meaning for tracks of videos" in err
    code, _, err = run_cli("convert", source, tmp_path / "o", "--to", "cvat", "--images", "/nope")
    assert (code, "no such folder" in err) == (2, True)


def test_files_of_others_are_kept(source: Path, tmp_path: Path, run_cli: Any) -> None:
    out = tmp_path / "cvat"
    assert run_cli("convert", source, out, "--to", "cvat")[0] == 0
    (name,) = {path for path in out.iterdir() if "201" in path.name}
    name.write_text("mine")
    code, told, _ = run_cli("convert", source, out, "--to", "cvat")
    assert code == 1
    assert "which holds something else" in told
    assert name.read_text() == "mine"
    assert run_cli("convert", source, out, "--to", "cvat", "--overwrite")[0] == 0
    assert name.with_name(f"{name.name}.bak").read_text() == "mine"


def test_names_in_files_lead_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k, name in enumerate(("../../evil", "/tmp/evil2", "a\\b")):
        document = to_youtube_vis([(of_clip(1_000_201, 2), [])], NAMES)
        document["videos"][0]["name"] = name
        (folder / f"{k}.json").write_bytes(json_bytes(document))
    out = tmp_path / "out"
    for target in FORMATS:
        summary = convert_tracks(folder, out / target, target)
        assert not summary.failed
        assert all(path.is_relative_to(out) for path in summary.outputs)
    assert sorted(path.name for path in (out / "cvat").iterdir()) == [
        "a_b.xml",
        "evil.xml",
        "tmp_evil2.xml",
    ]


def test_only_some_classes(source: Path, tmp_path: Path, run_cli: Any) -> None:
    labels = [track.label for video in read(source).values() for track in video.tracks]
    out = tmp_path / "out"
    code, told, _ = run_cli("convert", source, out, "--to", "mots", "--classes", labels[0])
    assert code == 0
    assert f"left out: {sum(one != labels[0] for one in labels)} tracks of other classes" in told
    assert (out / "classes.txt").read_text() == f"1 {labels[0]}\n"


@pytest.mark.parametrize(
    ("made", "more", "said"),
    [
        ({}, [], "is in no format of tracks"),
        ({"a.json": "{"}, [], "is no JSON"),
        ({"a.xml": "<a/>"}, [], "expected <annotations>"),
        ({"a.txt": "x"}, [], "expected frame, id, class"),
        ({"a.json": "[]"}, ["--from", "youtube-vis"], "expected an object"),
        ({}, ["--from", "yolo"], "tracks of videos become tracks"),
        ({}, ["--from", "cvat"], "holds no cvat tracks"),
    ],
)
def test_what_cannot_be_read(
    tmp_path: Path, run_cli: Any, made: dict[str, str], more: list[str], said: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in made.items():
        (folder / name).write_text(text)
    code, out, err = run_cli("convert", folder, tmp_path / "out", "--to", "mots", *more)
    assert code != 0
    assert said in out + err
