"""The tracks of a video as files: those of whole tracks, and those of its frames.

What is found is kept as ``tracks/<video>.json`` first, in the format of YouTube-VIS; all other
files are made of it and of the video, frame by frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from backend.core.tracks import TrackedVideo
from backend.core.types import Prediction
from backend.drawing.overlays import draw, encode_picture
from backend.drawing.video import Mp4Writer
from backend.errors import InputError
from backend.files.atomic import temporary_beside, write_atomic
from backend.files.ownership import write_together
from backend.files.videos import Frame
from backend.formats.json_text import json_bytes
from backend.formats.label_studio.make_config import make_video_config
from backend.formats.tracks.mots import class_numbers, to_mots
from backend.formats.tracks.video_rectangle import to_task
from backend.formats.tracks.youtube_vis import from_youtube_vis, to_youtube_vis
from backend.formats.voc.label_maps import encode_png, label_maps
from backend.labeling.outputs import make_outputs
from backend.labeling.sources import ImageItem

TRACKS = "tracks"
FORMATS = ("labelme", "mp4", "voc", "davis", "mots", "youtube-vis", "label-studio")
_PICTURES = {"labelme": "labelme", "voc": "voc/JPEGImages"}  # format to the folder of its frames


def tracks_path(out: Path, name: str) -> Path:
    """Where the tracks of a video are kept."""
    return out / TRACKS / f"{name}.json"


def write_tracks(
    out: Path,
    video: TrackedVideo,
    names: Sequence[str],
    frames: Sequence[int],
    made: str,
    repaired: bool = False,
) -> None:
    """Keep what was found in a video.

    Args:
        out: output folder.
        video: with its tracks.
        names: of the classes, in order.
        frames: their numbers in the whole video.
        made: identifies the models and settings.
        repaired: whether a person changed the tracks since.

    Raises:
        Unavailable: the disk refuses.
    """
    files = [f"{video.name}/{number:05d}.jpg" for number in frames]
    document = to_youtube_vis([(video, files)], names)
    document["info"] |= {
        "made": made,
        "model_version": video.model_version,
        "repaired": repaired,
    }
    write_atomic(tracks_path(out, video.name), json_bytes(document) + b"\n")


@dataclass(frozen=True, eq=False)
class KeptTracks:
    """What a tracks file holds."""

    video: TrackedVideo
    frames: tuple[int, ...]  # numbers of the frames in the whole video
    made: str  # by which models and settings
    names: tuple[str, ...] = ()  # of the classes, in order
    repaired: bool = False  # whether a person changed the tracks since


def read_tracks(path: Path) -> KeptTracks | None:
    """What ``write_tracks`` wrote; None where it is not there or is not whole."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        videos, faults = from_youtube_vis(document)
        (video,) = videos
        info = document["info"]
        names = tuple(str(row["name"]) for row in document["categories"])
        numbers = [int(PurePosixPath(name).stem) for name in document["videos"][0]["file_names"]]
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None
    if faults:
        return None
    found = replace(video, model_version=str(info.get("model_version", "")))
    return KeptTracks(
        found, tuple(numbers), str(info.get("made", "")), names, bool(info.get("repaired"))
    )


def rewrite_tracks(out: Path, kept: KeptTracks) -> Path:
    """Keep the tracks of a video as a person repaired them, in the place of those that are there.

    Raises:
        Unavailable: the disk refuses.
    """
    write_tracks(out, kept.video, kept.names, kept.frames, kept.made, repaired=True)
    return tracks_path(out, kept.video.name)


def prediction_at(video: TrackedVideo, frame: int) -> Prediction:
    """What is seen in a frame, each instance with the number of its track."""
    there = tuple(replace(one, track=track.id) for track, one in video.at(frame))
    return Prediction(there, video.size_hw, video.model_version)


class _FrameFiles(Protocol):
    """Gets every frame of a video, in order, with what is seen in it."""

    def add(self, frame: Frame, prediction: Prediction) -> bool:
        """Write what belongs to a frame; False where a person's file was kept instead."""

    def close(self) -> Path:
        """Write what belongs to the video; gives the file or folder to point the user at."""

    def abort(self) -> None:
        """Leave nothing that is half done."""


class _Annotations:
    """Frames as pictures, with a file of an annotation format for each."""

    def __init__(
        self, made: str, out: Path, name: str, names: Sequence[str], overwrite: bool
    ) -> None:
        self._pictures = out / _PICTURES[made]
        self._root = out / made
        self._name = name
        self._overwrite = overwrite
        self._is_voc = made == "voc"
        (self._output,) = make_outputs([made], self._root, names, "")

    def add(self, frame: Frame, prediction: Prediction) -> bool:
        relative = PurePosixPath(self._name) / f"{frame.number:05d}.jpg"
        path = self._pictures / relative
        write_atomic(path, encode_picture(frame.image))
        item = ImageItem(path, relative, relative.with_suffix("").as_posix())
        files = list(self._output.encode(item, frame.image, prediction))
        return write_together(files, self._output.is_ours, overwrite=self._overwrite)

    def close(self) -> Path:
        for target, data in self._output.class_files():
            write_atomic(target, data)
        if self._is_voc:
            names = sorted(path.name for path in self._pictures.iterdir() if path.is_dir())
            listed = self._root / "ImageSets" / "Segmentation" / "val_videos.txt"
            write_atomic(listed, "".join(f"{name}\n" for name in names).encode())
        return self._root

    def abort(self) -> None:
        """Files of frames are whole, each by itself."""


class _Maps:
    """Indexed PNGs as DAVIS has them: the value of a pixel is the number of its track."""

    def __init__(self, out: Path, name: str) -> None:
        self._folder = out / "davis" / name

    def add(self, frame: Frame, prediction: Prediction) -> bool:
        _, objects = label_maps(prediction)
        write_atomic(self._folder / f"{frame.number:05d}.png", encode_png(objects))
        return True

    def close(self) -> Path:
        return self._folder

    def abort(self) -> None:
        """Files of frames are whole, each by itself."""


class _Drawn:
    """The video with its tracks drawn over it."""

    def __init__(self, out: Path, video: TrackedVideo) -> None:
        self._path = out / f"{video.name}.mp4"
        self._temporary = temporary_beside(self._path)
        self._writer = Mp4Writer(self._temporary, video.size_hw, video.rate)

    def add(self, frame: Frame, prediction: Prediction) -> bool:
        self._writer.add(draw(frame.image, prediction))
        return True

    def close(self) -> Path:
        self._writer.close()
        os.replace(self._temporary, self._path)
        return self._path

    def abort(self) -> None:
        self._writer.abort()


def _frame_files(
    formats: Sequence[str],
    out: Path,
    video: TrackedVideo,
    names: Sequence[str],
    overwrite: bool,
) -> Iterator[_FrameFiles]:
    for made in formats:
        if made in _PICTURES:
            yield _Annotations(made, out, video.name, names, overwrite)
        elif made == "davis":
            yield _Maps(out, video.name)
        elif made == "mp4":
            yield _Drawn(out, video)


def needs_frames(formats: Sequence[str]) -> bool:
    """Whether some of the formats are made frame by frame."""
    return bool(set(formats) - {"mots", "youtube-vis", "label-studio"})


@dataclass
class FrameFiles:
    """What came of ``write_frame_files``."""

    outputs: list[Path] = field(default_factory=list)
    n_kept: int = 0  # files of frames that a person made or changed


def write_frame_files(
    kept: KeptTracks,
    frames: Iterator[Frame],
    formats: Sequence[str],
    out: Path,
    names: Sequence[str],
    overwrite: bool,
) -> FrameFiles:
    """Write what is made frame by frame.

    Args:
        kept: the tracks.
        frames: of the video, the same that were followed.
        formats: of ``FORMATS``.
        out: output folder.
        names: of the classes, in order.
        overwrite: whether files that a person made or changed are replaced, after a copy.

    Raises:
        Unavailable: the disk refuses.
    """
    video = kept.video
    made = FrameFiles()
    outputs = list(_frame_files(formats, out, video, names, overwrite))
    try:
        for place, frame in zip(range(video.n_frames), frames, strict=False):
            prediction = prediction_at(video, place)
            made.n_kept += sum(not output.add(frame, prediction) for output in outputs)
    except BaseException:
        for output in outputs:
            output.abort()
        raise
    made.outputs = [output.close() for output in outputs]
    return made


def write_whole_files(
    kept: KeptTracks, formats: Sequence[str], out: Path, names: Sequence[str], address: str
) -> tuple[list[Path], dict[str, int]]:
    """Write what holds whole tracks.

    Args:
        kept: the tracks.
        formats: of ``FORMATS``.
        out: output folder.
        names: of the classes, in order.
        address: of the video, as Label Studio reaches it.

    Returns:
        The files, and what could not be held, with how many.

    Raises:
        Unavailable: the disk refuses.
    """
    video = kept.video
    paths = []
    losses: dict[str, int] = {}
    if "mots" in formats:
        numbers = class_numbers(names)
        text, losses = to_mots(video, numbers)
        path = out / "mots" / f"{video.name}.txt"
        write_atomic(path, text.encode())
        listed = "".join(f"{number} {name}\n" for name, number in numbers.items())
        write_atomic(out / "mots" / "classes.txt", listed.encode())
        paths.append(path)
    if "label-studio" in formats:
        path = out / "label-studio" / f"{video.name}.json"
        write_atomic(path, json_bytes([to_task(video, address)]) + b"\n")
        config = make_video_config(names, video.rate)
        write_atomic(path.with_suffix(".xml"), config.encode())
        paths.append(path)
    if "youtube-vis" in formats:
        paths.append(tracks_path(out, video.name))
    return paths, losses


def summary_of(video: TrackedVideo) -> list[dict[str, Any]]:
    """Each track in numbers, for ``--json``."""
    return [
        {
            "track": track.id,
            "label": track.label,
            "first_frame": min(track.seen),
            "last_frame": max(track.seen),
            "frames": len(track.seen),
        }
        for track in video.tracks
        if track.seen
    ]
