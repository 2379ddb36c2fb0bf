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
from backend.labeling.track_convert import FORMATS, convert_tracks
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


def test_boxes_have_no_place_among_masks(tmp_path: Path, run_cli: Any) -> None:
    prefix = ["--image-url-prefix", "/data/upload/7/"]
    given = ["--images", CLIP.parent]
    tasks = tmp_path / "tasks"
    run_cli("convert", CLIP.with_suffix(".json"), tasks, "--to", "video-rectangle", *given, *prefix)
    code, out, _ = run_cli("convert", tasks, tmp_path / "o", "--to", "youtube-vis", *given)
    assert code == 0
    assert "tracks of boxes without masks, which youtube-vis does not hold" in out
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
            {"result": [region("old")]},
            {"result": [region("new"), region("bad", x="?")]},
            {"result": [region("no")], "was_cancelled": True},
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
    assert set(asked) == {"a b.mp4"}
    first = videos[0]
    assert (first.name, first.size_hw, first.n_frames, first.rate) == ("a b", (100, 200), 4, 20)
    assert first.tracks[0].seen[3].xyxy.tolist() == [20, 10, 60, 30]
    assert [fault.split(":")[0] for fault in faults] == [
        "[0].result[1].value.sequence[0]",
        "[3]",
        "[4].data",
    ]


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
