"""Tracks from format to format: what comes back is what went in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.cli.convert import _TRACKS
from backend.formats.json_text import json_bytes
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


@pytest.mark.parametrize("target", FORMATS)
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
