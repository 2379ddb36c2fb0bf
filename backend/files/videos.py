"""The frames of a video, one at a time: of a file that FFmpeg reads, or of a folder of pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from backend.core.types import Image
from backend.errors import ConfigError, InputError, counted
from backend.files.images import DEFAULT_LIMITS, SUFFIXES, ImageLimits, read_image

_FOLDER_RATE = 25.0  # frames per second of a folder of pictures, which tells none
_UNEVEN = 1.5  # the longest step between frames over the shortest, from which on a rate varies
_DIGITS = re.compile(r"(\d+)")
# What FFmpeg may take a file for. Playlists (HLS, concat, DASH, SDP) are not among it: they name
# other files, which whoever sends a video could read that way.
_CONTAINERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,ogg,flv,live_flv,asf,h264,hevc,av1,obu,ivf,"
    "gif,mxf,nut,rm,dv,wtv,yuv4mpegpipe,mjpeg,mjpeg_2000,apng,vc1,dirac,swf,vob,3dostr,nsv"
)
_RATES = (0.001, 10_000)  # frames a second
_MOST_DAMAGED = 100  # faults of one video that are listed


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video."""

    number: int  # in the whole video, from 0
    time_s: float  # from the first frame, as players show it
    image: Image  # (H, W, 3) RGB, upright


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """Which frames are wanted, and how large.

    Attributes:
        every: each n-th frame, from the first one of the video.
        start_s: from this time on, in seconds.
        end_s: up to before this time; None for the end.
        max_side: longer sides are scaled down to it, in pixels; None for none.
    """

    every: int = 1
    start_s: float = 0.0
    end_s: float | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"--every: expected 1 or more, got {self.every}")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(f"--end {self.end_s:g} s is not after --start {self.start_s:g} s")
        if self.max_side is not None and self.max_side < 8:
            raise ConfigError(f"--max-side: expected 8 or more pixels, got {self.max_side}")

    def wants(self, number: int, time_s: float) -> bool:
        """Whether a frame is one of them.

        >>> [FrameChoice(every=2, start_s=1.0).wants(n, n / 2) for n in range(5)]
        [False, False, True, False, True]
        """
        return number % self.every == 0 and time_s >= self.start_s and not self.is_past(time_s)

    def is_past(self, time_s: float) -> bool:
        """Whether no later frame can be one of them."""
        return self.end_s is not None and time_s >= self.end_s


@dataclass
class VideoInfo:
    """What is known of a video; ``notes`` and ``faults`` grow while its frames are read."""

    name: str
    rate: float  # frames per second, on average
    n_frames: int | None  # as the file says; it may be wrong
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # frames that cannot be read


class Video(Protocol):
    """A video whose frames are read one after the other, each decoded once."""

    @property
    def info(self) -> VideoInfo: ...
    def frames(self, choice: FrameChoice) -> Iterator[Frame]: ...


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts names as people count: ``2.jpg`` before ``10.jpg``.

    >>> [path.name for path in sorted([Path("10.jpg"), Path("2.jpg")], key=natural)]
    ['2.jpg', '10.jpg']
    """
    parts = _DIGITS.split(path.name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]


def open_video(
    source: Path, limits: ImageLimits = DEFAULT_LIMITS, name: str | None = None
) -> Video:
    """A video file, or a folder of pictures in the natural order of their names.

    Args:
        source: the file or folder.
        limits: frames that are larger are refused.
        name: what to call it in messages; by default its path.

    Raises:
        InputError: not there, or not a video.
    """
    if source.is_dir():
        return FolderVideo(source, limits)
    if not source.is_file():
        raise InputError(f"{source}: no such file or folder")
    return FileVideo(source, limits, name)


def _scaled(image: Image, max_side: int | None) -> Image:
    longest = max(image.shape[:2])
    if max_side is None or longest <= max_side:
        return image
    scale = max_side / longest
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


class _SameSize:
    """Refuses a video whose pictures change their size, as a mask cannot follow that."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._size: tuple[int, int] | None = None

    def check(self, number: int, image: Image) -> None:
        size = (image.shape[1], image.shape[0])
        if self._size not in (None, size):
            first = f"{self._size[0]}x{self._size[1]}" if self._size else ""
            raise InputError(
                f"{self._name}: frame {number} is {size[0]}x{size[1]}, those before it {first}; cut"
                " the video there (--end, then --start), or scale its frames to one size"
            )
        self._size = size


class FolderVideo:
    """A folder of pictures, each one frame."""

    def __init__(self, folder: Path, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        paths = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
        if not paths:
            raise InputError(f"{folder}: holds no pictures; looked for {', '.join(SUFFIXES)}")
        self._paths = sorted(paths, key=natural)
        self._limits = limits
        self.info = VideoInfo(folder.name, _FOLDER_RATE, len(paths))
        self.info.notes += _gaps(folder, self._paths)

    def frames(self, choice: FrameChoice) -> Iterator[Frame]:
        """The wanted frames; one that cannot be read is listed in ``info.faults``.

        Raises:
            InputError: the pictures are of several sizes.
        """
        same = _SameSize(self.info.name)
        for number, path in enumerate(self._paths):
            time_s = number / _FOLDER_RATE
            if choice.is_past(time_s):
                return
            if not choice.wants(number, time_s):
                continue
            try:
                image = read_image(path, self._limits)
            except InputError as error:
                self.info.faults.append(str(error))
                continue
            same.check(number, image)
            yield Frame(number, time_s, _scaled(image, choice.max_side))


def _gaps(folder: Path, paths: list[Path]) -> list[str]:
    """What to tell of frames that are missing by their numbers."""
    if not all(path.stem.isdigit() for path in paths):
        return []
    numbers = [int(path.stem) for path in paths]
    steps = [after - before for before, after in pairwise(numbers)]
    usual = min(steps, default=1)
    missing = [
        number
        for number, step in zip(numbers, steps, strict=False)
        for number in range(number + usual, number + step, max(1, usual))
    ]
    if not missing or usual < 1:
        return []
    such = ", ".join(str(number) for number in missing[:5])
    return [
        f"{folder}: {counted(len(missing), 'frame')} missing by the numbers of its pictures, such"
        f" as {such}"
    ]


class FileVideo:
    """A video file.

    Args:
        path: of the file, in any container and codec that FFmpeg reads.
        limits: frames that are larger are refused.
        name: what to call it in messages; by default its path.

    Raises:
        InputError: FFmpeg cannot read it, or it has no pictures.
    """

    def __init__(
        self, path: Path, limits: ImageLimits = DEFAULT_LIMITS, name: str | None = None
    ) -> None:
        self._path = path
        self._name = name or str(path)
        self._limits = limits
        container = self._open()
        with container:
            stream = container.streams.video[0]
            width = int(stream.codec_context.width)
            height = int(stream.codec_context.height)
            if width * height > limits.max_pixels:
                raise InputError(
                    f"{self._name}: its pictures are {width}x{height}, the limit is"
                    f" {limits.max_pixels / 1e6:g} megapixels (MAX_IMAGE_PIXELS)"
                )
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            if not _RATES[0] <= rate <= _RATES[1]:
                raise InputError(f"{self._name}: {float(rate):g} is no frame rate of a video")
            n_frames = int(stream.frames) or None
            if n_frames is None and container.duration:
                n_frames = round(float(container.duration / 1_000_000 * rate))
        self.info = VideoInfo(path.name, float(rate), n_frames)

    def _open(self) -> Any:
        import av

        try:
            container = av.open(
                str(self._path),
                "r",
                metadata_errors="replace",
                options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"{self._name}: is no video that FFmpeg can read, or is cut off: {_reason(error)}"
            ) from None
        if not container.streams.video:
            has = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            container.close()
            raise InputError(f"{self._name}: has no pictures, only {has}")
        return container

    def frames(self, choice: FrameChoice) -> Iterator[Frame]:
        """The wanted frames; what cannot be decoded is listed in ``info.faults``.

        Raises:
            InputError: the pictures change their size.
        """
        same = _SameSize(self.info.name)
        first: float | None = None
        steps = (math.inf, 0.0)  # the shortest and the longest
        before = math.nan
        number = -1
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for decoded in self._decoded(container, stream):
                number += 1
                shown = decoded.time
                if shown is None:
                    shown = (first or 0.0) + number / self.info.rate
                first = shown if first is None else first
                time_s = float(shown - first)
                if time_s > before:
                    steps = (min(steps[0], time_s - before), max(steps[1], time_s - before))
                before = time_s
                if choice.is_past(time_s):
                    break
                if not choice.wants(number, time_s):
                    continue
                image = _upright(decoded)
                same.check(number, image)
                yield Frame(number, time_s, _scaled(image, choice.max_side))
            else:
                self._tell_end(number + 1)
        if number < 0:
            raise InputError(f"{self._name}: has no frame that can be read")
        self._tell_rate(*steps)

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """All frames; a packet that cannot be decoded costs itself."""
        import av

        n_decoded = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self._fault(f"after frame {n_decoded - 1}: cannot be read on: {_reason(error)}")
                return
            try:
                for frame in packet.decode():
                    n_decoded += 1
                    yield frame
            except av.FFmpegError as error:
                self._fault(f"after frame {n_decoded - 1}: a frame is damaged: {_reason(error)}")

    def _fault(self, sentence: str) -> None:
        if len(self.info.faults) < _MOST_DAMAGED:
            self.info.faults.append(f"{self._name}: {sentence}")

    def _tell_end(self, n_read: int) -> None:
        said = self.info.n_frames
        if said is not None and n_read < 0.98 * said - 1:
            self._fault(f"ends after {counted(n_read, 'frame')} of about {said}; it may be cut off")

    def _tell_rate(self, shortest: float, longest: float) -> None:
        if longest > _UNEVEN * shortest:
            self.info.notes.append(
                f"{self.info.name}: its frame rate varies, from {1 / longest:.3g} to"
                f" {1 / shortest:.3g} a second; frames are told by their numbers and times"
            )


def _upright(decoded: Any) -> Image:
    """The pixels of a decoded frame, turned as players turn it."""
    pixels = np.asarray(decoded.to_ndarray(format="rgb24"), np.uint8)
    turns = round(float(getattr(decoded, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _reason(error: Exception) -> str:
    return (str(getattr(error, "strerror", "") or error).splitlines() or ["unknown"])[0][:120]
