"""``yolosam2 video`` with the embedded models on a small generated video."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from defusedxml.ElementTree import fromstring
from label_studio_sdk.label_interface import LabelInterface

from backend.cli.main import main
from backend.cli.video import _FORMATS
from backend.core.masks import mask_iou
from backend.demo.dataset import write_clips, write_film
from backend.demo.scenes.objects import CLASS_NAMES
from backend.formats.tracks.coco_tracks import from_coco_tracks
from backend.formats.tracks.cvat import from_cvat
from backend.formats.tracks.mots import from_mots
from backend.formats.tracks.video_rectangle import between, from_region
from backend.formats.tracks.youtube_vis import from_youtube_vis
from backend.formats.voc.label_maps import decode_png
from backend.labeling.track_outputs import FORMATS
from tests.conftest import PYTHON, ROOT

SEED = 3_000_004
N_FRAMES = 14
MODELS = ("--detector", "demo", "--segmenter", "demo", "--no-progress", "--detect-every", "6")
ALL = ",".join(FORMATS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clip")
    write_clips(root, SEED, 1, N_FRAMES)
    return root / "JPEGImages" / f"{SEED}"


@pytest.fixture(scope="module")
def made(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    assert main(["video", str(clip), "--out", str(out), *MODELS, "--format", ALL]) == 0
    return out


def truth(clip: Path, number: int) -> np.ndarray:
    path = clip.parents[1] / "SegmentationObject" / f"{SEED}" / f"{number:05d}.png"
    return decode_png(path.read_bytes(), path.name)


def tracks(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_tracks_lie_on_the_objects(clip: Path, made: Path) -> None:
    document = tracks(made / "tracks" / f"{SEED}.json")
    videos, faults = from_youtube_vis(document)
    assert not faults
    (video,) = videos
    assert video.n_frames == N_FRAMES
    assert len(video.tracks) == 3
    found = []
    for number in range(N_FRAMES):
        path = made / "davis" / f"{SEED}" / f"{number:05d}.png"
        objects = decode_png(path.read_bytes(), path.name)
        there = truth(clip, number)
        for k in np.unique(there[there > 0]):
            owner = [(objects == track.id) for track in video.tracks]
            best = max(((there == k) & one).sum() / ((there == k) | one).sum() for one in owner)
            found.append(best)
    assert np.mean(found) > 0.8


def test_every_format_tells_the_same(made: Path) -> None:
    (video,), _ = from_youtube_vis(tracks(made / "tracks" / f"{SEED}.json"))
    text = (made / "mots" / f"{SEED}.txt").read_text()
    names = dict(
        line.split(" ", 1) for line in (made / "mots" / "classes.txt").read_text().splitlines()
    )
    told, faults = from_mots(text, {int(k): v for k, v in names.items()}, "v")
    assert not faults
    assert sorted(t.label for t in told.tracks) == sorted(t.label for t in video.tracks)
    for number in (0, N_FRAMES - 1):
        document = json.loads((made / "labelme" / f"{SEED}" / f"{number:05d}.json").read_text())
        assert document["imagePath"] == f"{number:05d}.jpg"
        assert (made / "labelme" / f"{SEED}" / document["imagePath"]).is_file()
        groups = {shape["group_id"]: shape["label"] for shape in document["shapes"]}
        assert groups == {track.id: one.label for track, one in video.at(number)}
        for track, one in video.at(number):
            other = [t.seen[number].mask for t in told.tracks if number in t.seen]
            assert one.mask is not None
            assert max(mask_iou(one.mask, mask) for mask in other if mask is not None) > 0.85, (
                track.id
            )


def test_the_formats_that_are_told_are_those_there_are() -> None:
    assert _FORMATS == FORMATS


def test_a_page_tells_where_to_look_first(made: Path) -> None:
    page = (made / f"{SEED}.html").read_text()
    (video,), _ = from_youtube_vis(tracks(made / "tracks" / f"{SEED}.json"))
    for track in video.tracks:
        assert f'aria-label="track {track.id}, {track.label}"' in page
    assert "data:image/jpeg;base64," in page


def test_other_tools_read_the_tracks(made: Path) -> None:
    (video,), _ = from_youtube_vis(tracks(made / "tracks" / f"{SEED}.json"))
    by_cvat, faults = from_cvat((made / "cvat" / f"{SEED}.xml").read_bytes(), "v")
    (by_coco,), more = from_coco_tracks(tracks(made / "coco" / f"{SEED}.json"))
    assert not faults
    assert not more
    maps = sorted((made / "mots" / "instances" / f"{SEED}").iterdir())
    assert len(maps) == N_FRAMES
    for track in video.tracks:
        for other in (by_cvat, by_coco):
            same = other.tracks[track.id - 1]
            assert same.label == track.label
            assert set(same.seen) == set(track.seen)
            for frame, one in track.seen.items():
                there = same.seen[frame].mask
                assert one.mask is not None
                assert there is not None
                assert mask_iou(one.mask, there) == 1


def test_tasks_of_frames_with_brush_masks(made: Path) -> None:
    (video,), _ = from_youtube_vis(tracks(made / "tracks" / f"{SEED}.json"))
    root = made / "label-studio-frames"
    tasks = json.loads((root / "import.json").read_text())
    assert len(tasks) == N_FRAMES
    objects = LabelInterface((root / "label_config.xml").read_text())
    for frame, task in enumerate(tasks):
        path = task["data"]["image"].partition("?d=")[2]
        assert (root / "images" / path).is_file()
        assert path == f"{SEED}/{frame:05d}.jpg"
        (prediction,) = task["predictions"]
        assert objects.validate_prediction(prediction) is True
        brushes = [one for one in prediction["result"] if one["type"] == "brushlabels"]
        there = video.at(frame)
        assert [one["meta"]["track"] for one in brushes] == [track.id for track, _ in there]
        assert [one["meta"]["score"] for one in brushes] == [
            pytest.approx(one.score, abs=1e-3) for _, one in there
        ]


def test_a_task_of_label_studio(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.mp4"
    write_film(film, SEED, N_FRAMES)
    prefix = ("--image-url-prefix", "/data/local-files/?d=videos/")
    out = tmp_path / "out"
    command = ["video", str(film), "--out", str(out), *MODELS, "--format", "label-studio", *prefix]
    assert main(command) == 0
    (task,) = json.loads((out / "label-studio" / "film.json").read_text())
    assert task["data"] == {"video": "/data/local-files/?d=videos/film.mp4"}
    (video,), _ = from_youtube_vis(tracks(out / "tracks" / "film.json"))
    (prediction,) = task["predictions"]
    assert prediction["model_version"].startswith("demo_yolov8+demo_sam2.1-")
    assert [one["meta"]["track"] for one in prediction["result"]] == [t.id for t in video.tracks]
    for track, region in zip(video.tracks, prediction["result"], strict=True):
        drawn = between(from_region(region, video.size_hw, "r"), N_FRAMES)
        assert set(drawn) == set(track.seen)
        for frame, box in drawn.items():
            assert np.abs(box - track.seen[frame].xyxy).max() < 1.6
    config = (out / "label-studio" / "film.xml").read_text()
    assert 'frameRate="25"' in config
    capsys.readouterr()


def test_drawn_video_plays(made: Path) -> None:
    with av.open(str(made / f"{SEED}.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 25
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == N_FRAMES
    assert frames[0].shape == (240, 320, 3)


def test_the_maps_are_a_dataset_of_videos(
    clip: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = (made / "voc" / "ImageSets" / "Segmentation" / "val_videos.txt").read_text()
    assert listed == f"{SEED}\n"
    path = str(made / "voc" / "SegmentationClass")
    root = str(clip.parents[1])
    code = main(["evaluate", root, "--predictions", path, "--split", "val", "--no-progress"])
    assert code == 0
    assert "Mean_IOU" in capsys.readouterr().out


def test_same_command_does_nothing_twice(
    clip: Path, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.labeling.follow.Follower.run", None)
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    code = main(["video", str(clip), "--out", str(made), *MODELS, "--format", ALL, "--json"])
    assert code == 0
    assert json.loads(capsys.readouterr().out)["followed_before"] == 1
    after = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert after == before


def kept_frames(path: Path) -> int:
    try:
        with closing(sqlite3.connect(path)) as database:
            (number,) = database.execute("SELECT number FROM state").fetchone() or (0,)
            return int(number)
    except sqlite3.OperationalError:  # being written
        return 0


def test_a_run_that_is_killed_goes_on_where_it_was(clip: Path, made: Path, tmp_path: Path) -> None:
    """kill -9 while the video is followed, then the same command: the same files."""
    out = tmp_path / "out"
    command = [PYTHON, "-m", "backend", "video", str(clip), "--out", str(out), *MODELS]
    command += ["--format", ALL, "--checkpoint", "4", "--json"]
    partial = out / "tracks" / f".{SEED}.partial"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as first:
        while not partial.is_file() or not kept_frames(partial):
            assert first.poll() is None, "it was done before it could be killed"
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    assert not (out / "tracks" / f"{SEED}.json").exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "went on at frame" in json.loads(done.stdout)["notes"][0]
    files = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == files
    for path in files:
        assert (out / path).read_bytes() == (made / path).read_bytes(), path


def test_a_corrected_frame_is_kept(
    clip: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made / "labelme" / f"{SEED}" / "00003.json"
    document = json.loads(path.read_text())
    document["shapes"] = document["shapes"][:1]
    path.write_text(json.dumps(document))
    before = path.read_bytes()
    assert main(["video", str(clip), "--out", str(made), *MODELS, "--format", "labelme"]) == 0
    assert path.read_bytes() == before
    assert "kept the files of 1 frame that a person made or changed" in capsys.readouterr().out


def test_prompts_of_a_frame_in_the_place_of_a_detector(clip: Path, tmp_path: Path) -> None:
    there = truth(clip, 0)
    rows, columns = np.nonzero(there == 2)
    box = [int(columns.min()), int(rows.min()), int(columns.max() + 1), int(rows.max() + 1)]
    prompts = tmp_path / "prompts.json"
    row = {"image_id": f"{SEED}/00000", "category_id": 1, "bbox": box, "score": 1.0}
    prompts.write_text(json.dumps([row]))
    code = main(
        [
            *("video", str(clip), "--out", str(tmp_path / "out"), *MODELS, "--format", "davis"),
            *("--prompts", str(prompts), "--classes", ",".join(CLASS_NAMES)),
        ]
    )
    assert code == 0
    (video,), _ = from_youtube_vis(tracks(tmp_path / "out" / "tracks" / f"{SEED}.json"))
    (track,) = video.tracks
    assert track.label == CLASS_NAMES[1]
    assert len(track.seen) == N_FRAMES


def test_prompts_for_another_video(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.json"
    row = {"image_id": "other/00000", "category_id": 0, "bbox": [1, 1, 30, 30], "score": 1.0}
    prompts.write_text(json.dumps([row]))
    code = main(
        [
            *("video", str(clip), "--out", str(tmp_path / "out"), *MODELS),
            *("--prompts", str(prompts), "--classes", ",".join(CLASS_NAMES)),
        ]
    )
    assert code == 1
    told = capsys.readouterr().out
    assert f"has no boxes for {SEED}" in told
    assert "'other/00000'" in told


def test_what_is_no_video_is_told_and_the_others_are_done(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    odd = tmp_path / "odd"
    odd.mkdir()
    for number, path in enumerate(sorted(clip.iterdir())[:4]):
        picture = cv2.imread(str(path))
        cv2.imwrite(str(odd / path.name), picture if number < 3 else picture[:100])
    out = tmp_path / "out"
    code = main(
        ["video", str(broken), str(odd), "--out", str(out), *MODELS, "--format", "davis", "--json"]
    )
    assert code == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["videos"] == 1
    assert summary["frames"] == 3
    reasons = [one["reason"] for one in summary["failed"]]
    assert any("broken.mp4" in reason for reason in reasons)
    assert any("what was before it is kept" in reason for reason in reasons)
    assert len(list((out / "davis" / "odd").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "gif"], "--format: unknown gif; known are labelme, voc, "),
        (["--detect-every", "0"], "--detect-every: expected 1 or more, got 0"),
        (["--every", "0"], "--every: expected 1 or more, got 0"),
        (["--confirm", "0"], "--confirm: expected 1 or more, got 0"),
    ],
)
def test_options_that_cannot_be(
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert main(["video", str(clip), "--out", str(tmp_path / "out"), *MODELS, *options]) == 2
    assert said in capsys.readouterr().err


def test_labeling_config_for_videos(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["make-config", "--video", "--classes", "cat,dog & co", "--frame-rate", "29.97"]
    assert main(options) == 0
    root = fromstring(capsys.readouterr().out)
    assert [one.get("value") for one in root.iter("Label")] == ["cat", "dog & co"]
    (video,) = root.iter("Video")
    assert video.get("frameRate") == "29.97"
    (box,) = root.iter("VideoRectangle")
    assert box.get("toName") == video.get("name")
    assert main(["make-config", "--video", "--classes", "cat", "--frame-rate", "0"]) == 2
    assert "--frame-rate: expected more than 0, got 0" in capsys.readouterr().err


def test_identities_are_repaired(
    clip: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made / "tracks", out / "tracks")
    name = f"{SEED}"
    assert main(["tracks", "list", str(out)]) == 0
    assert f"{name}: 3 tracks" in capsys.readouterr().out
    assert main(["tracks", "split", str(out), name, "1", "6"]) == 0
    assert "the new track is 4" in capsys.readouterr().out
    (video,), _ = from_youtube_vis(tracks(out / "tracks" / f"{name}.json"))
    parts = {track.id: sorted(track.seen) for track in video.tracks}
    assert max(parts[1]) == 5
    assert min(parts[4]) == 6
    assert main(["tracks", "label", str(out), name, "4", "cup"]) == 0
    assert main(["tracks", "merge", str(out), name, "1", "4"]) == 0
    assert main(["tracks", "drop", str(out), name, "2"]) == 0
    (video,), _ = from_youtube_vis(tracks(out / "tracks" / f"{name}.json"))
    (before,), _ = from_youtube_vis(tracks(made / "tracks" / f"{name}.json"))
    assert [track.id for track in video.tracks] == [1, 3]
    assert video.tracks[0].label == before.tracks[0].label
    for frame, one in before.tracks[0].seen.items():
        again = video.tracks[0].seen[frame]
        assert one.mask is not None
        assert again.mask is not None
        assert mask_iou(one.mask, again.mask) == 1
        assert again.score == one.score
    capsys.readouterr()
    code = main(["video", str(clip), "--out", str(out), *MODELS, "--format", "davis", "--json"])
    assert code == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["followed_before"] == 1
    path = out / "davis" / name / "00000.png"
    assert set(np.unique(decode_png(path.read_bytes(), path.name))) <= {0, 1, 3}
    repaired = (out / "tracks" / f"{name}.json").read_bytes()
    other = ["--format", "davis", "--keep-alive", "9"]  # other settings follow it again
    assert main(["video", str(clip), "--out", str(out), *MODELS, *other]) == 0
    assert (out / "tracks" / f"{name}.json.bak").read_bytes() == repaired
    assert f"kept what was there as {name}.json.bak" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["merge", "OUT", f"{SEED}", "1"], "merge OUT: expected VIDEO TRACK TRACK"),
        (["merge", "OUT", f"{SEED}", "1", "1"], "merge: name two tracks or more"),
        (["drop", "OUT", f"{SEED}", "9"], "has no track 9; it has 1, 2, 3"),
        (["drop", "OUT", f"{SEED}", "x"], "expected whole numbers, got 'x'"),
        (
            ["drop", "OUT", "other", "1"],
            "keeps no tracks of 'other' that can be read",
        ),
        (["split", "OUT", f"{SEED}", "1", "0"], "seen on one side of that frame only"),
        (["split", "OUT", f"{SEED}", "1", "99"], "frame 99: was not followed"),
        (["label", "OUT", f"{SEED}", "1", "dog"], "'dog' is no class of this video"),
    ],
)
def test_repairs_that_cannot_be(
    made: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    before = (made / "tracks" / f"{SEED}.json").read_bytes()
    code = main(["tracks", *[str(made) if word == "OUT" else word for word in words]])
    assert code != 0
    assert said in capsys.readouterr().err
    assert (made / "tracks" / f"{SEED}.json").read_bytes() == before


def test_frames_of_a_list_of_a_dataset(clip: Path, tmp_path: Path, run_cli: Any) -> None:
    """``val_videos.txt`` names folders of frames."""
    root = clip.parents[1]
    listed = root / "ImageSets" / "Segmentation" / "val_videos.txt"
    assert listed.is_file()
    out = tmp_path / "out"
    assert run_cli("frames", listed, "--out", out, "--no-progress")[0] == 0
    assert len(list(out.rglob("*.jpg"))) == N_FRAMES
    other = tmp_path / "ImageSets" / "Segmentation" / "val_videos.txt"
    other.parent.mkdir(parents=True)
    other.write_text("gone\n")
    code, _, err = run_cli("frames", other, "--out", out)
    assert code == 2
    assert "names 'gone', but" in err
    other.write_text("\n")
    assert "names no video" in run_cli("frames", other, "--out", out)[2]


def test_a_video_of_an_address(tmp_path: Path, run_cli: Any) -> None:
    served = tmp_path / "served"
    served.mkdir()
    write_film(served / "film.mp4", SEED, 5)
    out = tmp_path / "out"
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        where = f"http://127.0.0.1:{server.server_port}"
        try:
            for _ in range(2):
                code, _, err = run_cli("frames", f"{where}/film.mp4", "--out", out, "--no-progress")
                assert code == 0, err
            code, _, err = run_cli("frames", f"{where}/none.mp4", "--out", out, "--no-progress")
        finally:
            server.shutdown()
            thread.join()
    assert code != 0
    assert "answered 404" in err
    assert [path.name for path in (out / "downloads").rglob("*.*")] == ["film.mp4"]
    assert len(list(out.glob("*.jpg"))) == 5


def test_only_gaps_between_corrected_frames_are_done_again(
    made: Path, clip: Path, tmp_path: Path, run_cli: Any
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    command = ["video", clip, "--out", out, *MODELS, "--format", "labelme", "--between-accepted"]
    code, told, _ = run_cli(*command)
    assert code == 1
    assert "needs two frames or more" in told
    folder = out / "labelme" / f"{SEED}"
    before = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    corrected = {}
    for number in (3, 9):
        path = folder / f"{number:05d}.json"
        document = json.loads(path.read_text())
        for shape in document["shapes"]:
            if shape["group_id"] == 1:
                shape["label"] = "star"
        corrected[path.name] = json.dumps(document).encode()
        path.write_bytes(corrected[path.name])
    code, told, err = run_cli(*command)
    assert code == 0, err
    assert "followed anew between 2 accepted frames" in told
    (video,), _ = from_youtube_vis(tracks(out / "tracks" / f"{SEED}.json"))
    assert next(track for track in video.tracks if track.id == 1).label == "star"
    for name, content in corrected.items():
        assert (folder / name).read_bytes() == content
    # Outside the gap only the name is another.
    (old,), _ = from_youtube_vis(tracks(made / "tracks" / f"{SEED}.json"))
    for track, other in zip(video.tracks, old.tracks, strict=True):
        for frame in (0, 2, 10, N_FRAMES - 1):
            assert (frame in track.seen) == (frame in other.seen)
            if frame in track.seen:
                a, b = track.seen[frame].mask, other.seen[frame].mask
                assert a is not None
                assert b is not None
                assert mask_iou(a, b) == 1
    changed = {n for n, content in before.items() if (folder / n).read_bytes() != content}
    assert changed >= set(corrected)
    assert json.loads((folder / "00005.json").read_text())["shapes"]


def test_objects_that_are_outlined_already(clip: Path, tmp_path: Path, run_cli: Any) -> None:
    """The first frame's truth in the place of a detector, as DAVIS gives it."""
    masks = tmp_path / "masks"
    (masks / f"{SEED}").mkdir(parents=True)
    path = clip.parents[1] / "SegmentationObject" / f"{SEED}" / "00000.png"
    shutil.copy(path, masks / f"{SEED}" / "00000.png")
    out = tmp_path / "out"
    options = ["--segmenter", "demo", "--no-progress", "--masks", masks, "--format", "davis"]
    code, _, err = run_cli("video", clip, "--out", out, *options)
    assert code == 0, err
    first = decode_png((out / "davis" / f"{SEED}" / "00000.png").read_bytes(), "first")
    expected = truth(clip, 0)
    assert set(np.unique(first)) == set(np.unique(expected))
    for value in np.unique(expected[expected > 0]):
        both = ((first == value) & (expected == value)).sum()
        assert both / ((first == value) | (expected == value)).sum() > 0.8
    last = decode_png((out / "davis" / f"{SEED}" / f"{N_FRAMES - 1:05d}.png").read_bytes(), "last")
    there = truth(clip, N_FRAMES - 1)
    best = [
        ((last == v) & (there == v)).sum() / max(1, ((last == v) | (there == v)).sum())
        for v in np.unique(there[there > 0])
    ]
    assert max(best) > 0.7
    (video,), _ = from_youtube_vis(tracks(out / "tracks" / f"{SEED}.json"))
    assert {track.label for track in video.tracks} == {"object"}
    code, _, err = run_cli("video", clip, "--out", out, *options, "--masks", tmp_path)
    assert code != 0
    code, out_text, err = run_cli(
        "video", clip, "--out", tmp_path / "o", "--masks", tmp_path / "none", *options[:3]
    )
    assert code != 0
    assert "holds no PNG" in out_text + err


def test_a_drawn_video_never_replaces_its_source(tmp_path: Path, run_cli: Any) -> None:
    film = tmp_path / "film.mp4"
    write_film(film, SEED, 3)
    before = film.read_bytes()
    code, _, err = run_cli("video", film, "--out", tmp_path, *MODELS)
    assert code == 2
    assert "would be replaced by the drawn video" in err
    assert film.read_bytes() == before


def test_other_frames_than_those_that_were_followed_are_refused(
    made: Path, clip: Path, tmp_path: Path, run_cli: Any
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    for number in (2, 4):
        path = out / "labelme" / f"{SEED}" / f"{number:05d}.json"
        document = json.loads(path.read_text())
        document["shapes"][0]["label"] = "star"
        path.write_text(json.dumps(document))
    kept = (out / "tracks" / f"{SEED}.json").read_bytes()
    command = ["video", clip, "--out", out, *MODELS, "--format", "labelme", "--between-accepted"]
    code, told, _ = run_cli(*command, "--every", "2")
    assert code == 1
    assert "these are other frames than those that were followed" in told
    assert (out / "tracks" / f"{SEED}.json").read_bytes() == kept
    assert run_cli(*command, "--overwrite")[0] == 2


def test_given_frames_are_told_by_their_numbers(clip: Path, tmp_path: Path, run_cli: Any) -> None:
    """Whatever frames are chosen."""
    masks = tmp_path / "masks"
    masks.mkdir()
    number = 6
    path = clip.parents[1] / "SegmentationObject" / f"{SEED}" / f"{number:05d}.png"
    shutil.copy(path, masks / path.name)
    out = tmp_path / "out"
    options = ["--segmenter", "demo", "--no-progress", "--masks", masks, "--format", "davis"]
    code, _, err = run_cli("video", clip, "--out", out, *options, "--every", "2", "--start", "0.15")
    assert code == 0, err
    drawn = decode_png((out / "davis" / f"{SEED}" / path.name).read_bytes(), "mask")
    expected = truth(clip, number)
    assert ((drawn > 0) == (expected > 0)).mean() > 0.97
