"""Frames of videos: of files made here with PyAV, and of folders, good and bad."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from backend.errors import ConfigError, InputError
from backend.files.videos import FrameChoice, open_video
from tests.conftest import SHARED

WIDTH = 64
HEIGHT = 48


def picture(k: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A frame whose grey tells its number, with a bright upper left corner."""
    made = np.full((size[1], size[0], 3), 20 + 3 * k, np.uint8)
    made[:16, :16] = 250
    return made


def number_in(image: np.ndarray) -> int:
    return round((float(image[24:40, 24:40].mean()) - 20) / 3)


def write_video(
    path: Path,
    count: int = 20,
    *,
    rate: int = 10,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = WIDTH
        stream.height = HEIGHT
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "g": "5", "bf": "0"}
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(picture(k), format="rgb24")
            frame.pts = k if times is None else times[k]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "street.mp4")


def test_frames_come_in_order_with_numbers_and_times(video: Path) -> None:
    opened = open_video(video)
    assert (opened.info.rate, opened.info.n_frames) == (10, 20)
    found = list(opened.frames(FrameChoice()))
    assert [frame.number for frame in found] == list(range(20))
    assert [round(frame.time_s, 3) for frame in found] == [k / 10 for k in range(20)]
    assert [number_in(frame.image) for frame in found] == list(range(20))
    assert found[0].image.shape == (HEIGHT, WIDTH, 3)
    assert opened.info.faults == opened.info.notes == []


def test_every_start_end_and_size(video: Path) -> None:
    choice = FrameChoice(every=3, start_s=0.5, end_s=1.5, max_side=32)
    found = list(open_video(video).frames(choice))
    assert [frame.number for frame in found] == [6, 9, 12]
    assert {frame.image.shape for frame in found} == {(24, 32, 3)}
    for bad in ({"every": 0}, {"start_s": 2.0, "end_s": 1.0}, {"max_side": 2}):
        with pytest.raises(ConfigError):
            FrameChoice(**bad)


def test_a_turned_video_is_upright(video: Path) -> None:
    data = bytearray(video.read_bytes())
    # The matrix of the track header: players turn the picture by a quarter, clockwise.
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(
        ">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30
    )
    video.write_bytes(data)
    frame = next(iter(open_video(video).frames(FrameChoice())))
    assert frame.image.shape == (WIDTH, HEIGHT, 3)
    assert frame.image[:12, -12:].mean() > 200  # the corner went from the left to the right
    assert frame.image[:12, :12].mean() < 100


def test_a_rate_that_varies_is_told(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 8, 9, 10, 15, 16, 17]
    path = write_video(tmp_path / "phone.mp4", 10, times=times)
    opened = open_video(path)
    found = list(opened.frames(FrameChoice()))
    assert [round(10 * frame.time_s) for frame in found] == times
    assert "its frame rate varies, from 2 to 10 a second" in opened.info.notes[0]


def test_a_video_that_is_cut_off_gives_what_there_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mkv", 60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    opened = open_video(path)
    found = list(opened.frames(FrameChoice()))
    assert 20 < len(found) < 60
    assert [number_in(frame.image) for frame in found[:20]] == list(range(20))


def test_damaged_frames_cost_themselves(tmp_path: Path) -> None:
    path = write_video(tmp_path / "damaged.mp4", 60)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 3
    data[middle : middle + 300] = b"\xff" * 300
    path.write_bytes(data)
    opened = open_video(path)
    found = list(opened.frames(FrameChoice()))
    assert len(found) >= 30
    damaged = [number_in(frame.image) != round(10 * frame.time_s) for frame in found]
    assert opened.info.faults or any(damaged), "the damage was there to be seen"
    assert not any(damaged[:10])
    assert not any(damaged[-10:]), "what comes after the next whole picture is right"


def no_video(path: Path) -> None:
    path.write_bytes(b"this is no video" * 100)


def no_end(path: Path) -> None:
    write_video(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def only_sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        for k in range(4):
            samples = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 8000
            frame.pts = 1024 * k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_video, "is no video that FFmpeg can read"),
        (no_end, "is no video that FFmpeg can read, or is cut off"),
        (only_sound, "has no pictures, only audio"),
        (lambda path: path.write_bytes(b""), "is no video that FFmpeg can read"),
    ],
)
def test_what_is_no_video_is_told(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(InputError, match=said):
        list(open_video(path).frames(FrameChoice()))


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for k in (0, 1, 2, 9, 10, 11):
        cv2.imwrite(str(tmp_path / f"{k}.png"), picture(k))
    (tmp_path / "notes.txt").write_text("no picture")
    opened = open_video(tmp_path)
    found = list(opened.frames(FrameChoice()))
    assert [number_in(frame.image) for frame in found] == [0, 1, 2, 9, 10, 11]
    assert "6 frames missing by the numbers" in opened.info.notes[0]
    (tmp_path / "2.png").write_bytes(b"broken")
    opened = open_video(tmp_path)
    assert len(list(opened.frames(FrameChoice()))) == 5
    assert "2.png" in opened.info.faults[0]
    cv2.imwrite(str(tmp_path / "10.png"), picture(10, (80, 60)))
    with pytest.raises(InputError, match="frame 4 is 80x60, those before it 64x48"):
        list(open_video(tmp_path).frames(FrameChoice()))
    with pytest.raises(InputError, match="holds no pictures"):
        open_video(Path(tmp_path / "empty").mkdir() or tmp_path / "empty")


def test_frames_are_written_once(run_cli, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--out", out, "--every", "4", "--no-progress")
    code, text, err = run_cli("frames", video, *options)
    assert code == 0, err
    assert "wrote 5 frames of 1 video" in text
    names = sorted(path.name for path in out.glob("*.jpg"))
    assert names == ["00000.jpg", "00004.jpg", "00008.jpg", "00012.jpg", "00016.jpg"]
    table = json.loads((out / "frames.json").read_text())
    assert table["frames"][1] == {"file": "00004.jpg", "frame": 4, "seconds": 0.4}
    written = cv2.imread(str(out / "00008.jpg"))
    assert written is not None
    assert number_in(written) == 8
    (out / "00004.jpg").unlink()
    code, text, _ = run_cli("frames", video, *options)
    assert "wrote 1 frame of 1 video" in text
    assert "4 frames there before" in text
    # Other frames of the same video join them; another video, or another size, does not.
    run_cli("frames", video, "--out", out, "--every", "6", "--no-progress")
    table = json.loads((out / "frames.json").read_text())
    assert [row["frame"] for row in table["frames"]] == [0, 4, 6, 8, 12, 16, 18]
    other = write_video(tmp_path / "other.mp4", 4)
    for source, more in ((other, ()), (video, ("--max-side", "32"))):
        code, text, _ = run_cli("frames", source, "--out", out, "--no-progress", *more)
        assert code == 1
        assert "name another --out, or --overwrite" in text
    assert number_in(cv2.imread(str(out / "00008.jpg"))) == 8


def test_frames_beyond_the_limit_are_refused(
    run_cli, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_IMAGE_PIXELS", "1000")
    code, text, _ = run_cli("frames", video, "--out", tmp_path / "out", "--no-progress")
    assert code == 1
    assert "its pictures are 64x48, the limit is 0.001 megapixels" in text


def test_one_bad_video_does_not_stop_the_others(run_cli, video: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    no_video(bad)
    out = tmp_path / "out"
    options = ("--out", out, "--start", "0:01", "--end", "1.35", "--no-progress")
    code, text, _ = run_cli("frames", bad, video, *options)
    assert code == 1
    assert sorted(path.name for path in (out / "street").glob("*.jpg")) == [
        f"{k:05d}.jpg" for k in (10, 11, 12, 13)
    ]
    assert "bad.mp4: is no video that FFmpeg can read" in text
    for options, said in (
        (("--start", "x"), "--start: expected seconds"),
        (("--every", "0"), "--every: expected 1 or more"),
    ):
        code, _, err = run_cli("frames", video, "--out", out, *options)
        assert code == 2
        assert said in err


def test_a_real_clip(tmp_path: Path) -> None:
    path = SHARED / "data" / "clips" / "opossum_snow_short.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    opened = open_video(path)
    n_read = sum(1 for _ in opened.frames(FrameChoice(max_side=64)))
    assert n_read == opened.info.n_frames
    assert opened.info.faults == []
