"""Files that are made of the tracks of a video: those of whole tracks, and those of its frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import cv2
import numpy as np

from backend.core.tracks import TrackedVideo
from backend.core.types import Prediction
from backend.drawing.overlays import draw, encode_picture
from backend.drawing.video import Mp4Writer
from backend.files.atomic import temporary_beside, write_atomic
from backend.files.ownership import write_together
from backend.files.videos import Frame
from backend.formats.json_text import json_bytes
from backend.formats.label_studio.make_config import make_video_config
from backend.formats.registry import format_of
from backend.formats.tracks.coco_tracks import to_coco_tracks
from backend.formats.tracks.cvat import to_cvat
from backend.formats.tracks.mots import beyond_maps, class_numbers, to_mots, to_mots_maps
from backend.formats.tracks.video_rectangle import to_task
from backend.formats.voc.label_maps import encode_png, label_maps
from backend.labeling.annotation_files import AnnotationFiles
from backend.labeling.review import frames_to_look_at
from backend.labeling.sources import ImageItem
from backend.labeling.track_files import (
    KeptTracks,
    frame_names,
    prediction_at,
    tracks_path,
)
from backend.labeling.track_page import render_tracks

# Format to the folder of the pictures of its frames, and the annotation format of their files.
_ANNOTATIONS = {
    "labelme": ("labelme", "labelme"),
    "voc": ("voc/JPEGImages", "voc"),
    "label-studio-frames": ("label-studio-frames/images", "label-studio"),
}
_OF_FRAMES = (*_ANNOTATIONS, "davis", "mp4", "page")
_OF_TRACKS = ("mots", "youtube-vis", "coco", "cvat", "label-studio")
_PICTURE_WIDTH = 640  # of a page's pictures
FORMATS = (*_OF_FRAMES, *_OF_TRACKS)


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
        self,
        made: str,
        out: Path,
        name: str,
        names: Sequence[str],
        url_prefix: str,
        *,
        overwrite: bool,
    ) -> None:
        pictures, annotations = _ANNOTATIONS[made]
        self._pictures = out / pictures
        self._root = out / made
        self._name = name
        self._overwrite = overwrite
        self._made = made
        self._output = AnnotationFiles(
            format_of(annotations),
            self._root,
            names,
            url_prefix=url_prefix,
            with_class_files=made != "labelme",
        )

    def add(self, frame: Frame, prediction: Prediction) -> bool:
        relative = PurePosixPath(self._name) / f"{frame.number:05d}.jpg"
        path = self._pictures / relative
        write_atomic(path, encode_picture(frame.image))
        item = ImageItem(path, relative, relative.with_suffix("").as_posix())
        files = list(self._output.encode(item, frame.image, prediction))
        return write_together(files, self._output.is_ours, overwrite=self._overwrite)

    def close(self) -> Path:
        if self._made == "label-studio-frames":
            paths, _ = self._output.close(self._overwrite)  # all tasks in one file
            return paths[0]
        for target, data in self._output.class_files():
            write_atomic(target, data)
        if self._made == "voc":
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


class _Page:
    """A page with a timeline, and the frames to look at first."""

    def __init__(self, out: Path, kept: KeptTracks) -> None:
        self._path = out / f"{kept.video.name}.html"
        self._kept = kept
        self._looks = frames_to_look_at(kept.video)
        self._wanted = {look.frame for look in self._looks}
        self._pictures: dict[int, bytes] = {}
        self._place = 0

    def add(self, frame: Frame, prediction: Prediction) -> bool:
        if self._place in self._wanted:
            scale = min(1.0, _PICTURE_WIDTH / frame.image.shape[1])
            drawn = draw(frame.image, prediction)
            if scale < 1:
                size = (_PICTURE_WIDTH, max(1, round(frame.image.shape[0] * scale)))
                drawn = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)
            self._pictures[self._place] = encode_picture(drawn)
        self._place += 1
        return True

    def close(self) -> Path:
        kept = self._kept
        page = render_tracks(kept.video, self._looks, self._pictures, kept.frames)
        write_atomic(self._path, page.encode())
        return self._path

    def abort(self) -> None:
        """Nothing is written before the end."""


def _frame_files(
    formats: Sequence[str],
    out: Path,
    kept: KeptTracks,
    names: Sequence[str],
    url_prefix: str,
    *,
    overwrite: bool,
) -> Iterator[_FrameFiles]:
    video = kept.video
    for made in formats:
        if made in _ANNOTATIONS:
            yield _Annotations(made, out, video.name, names, url_prefix, overwrite=overwrite)
        elif made == "davis":
            yield _Maps(out, video.name)
        elif made == "mp4":
            yield _Drawn(out, video)
        elif made == "page":
            yield _Page(out, kept)


def needs_frames(formats: Sequence[str]) -> bool:
    """Whether some of the formats are made frame by frame."""
    return bool(set(formats) - set(_OF_TRACKS))


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
    url_prefix: str,
    *,
    overwrite: bool,
) -> FrameFiles:
    """Write what is made frame by frame.

    Args:
        kept: the tracks.
        frames: of the video, the same that were followed.
        formats: of ``FORMATS``.
        out: output folder.
        names: of the classes, in order.
        url_prefix: put before the path of a frame's picture to make its address in Label Studio.
        overwrite: whether files that a person made or changed are replaced, after a copy.

    Raises:
        Unavailable: the disk refuses.
    """
    video = kept.video
    made = FrameFiles()
    outputs = list(_frame_files(formats, out, kept, names, url_prefix, overwrite=overwrite))
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
    paths: list[Path] = []
    losses: dict[str, int] = {}
    if "mots" in formats:
        path, losses = _write_mots(video, out / "mots", names)
        paths.append(path)
    if "coco" in formats:
        document = to_coco_tracks(video, frame_names(video.name, kept.frames), names)
        paths.append(out / "coco" / f"{video.name}.json")
        write_atomic(paths[-1], json_bytes(document) + b"\n")
    if "cvat" in formats:
        paths.append(out / "cvat" / f"{video.name}.xml")
        write_atomic(paths[-1], to_cvat(video, names, kept.frames))
    if "label-studio" in formats:
        paths.append(out / "label-studio" / f"{video.name}.json")
        write_atomic(paths[-1], json_bytes([to_task(video, address)]) + b"\n")
        config = make_video_config(names, video.rate)
        write_atomic(paths[-1].with_suffix(".xml"), config.encode())
    if "youtube-vis" in formats:
        paths.append(tracks_path(out, video.name))
    return paths, losses


def _write_mots(
    video: TrackedVideo, root: Path, names: Sequence[str]
) -> tuple[Path, dict[str, int]]:
    """Text, a folder of 16-bit pictures as KITTI MOTS has them, and what the classes are called."""
    numbers = class_numbers(names)
    text, losses = to_mots(video, numbers)
    losses |= beyond_maps(video, numbers)
    path = root / f"{video.name}.txt"
    write_atomic(path, text.encode())
    for frame, data in enumerate(to_mots_maps(video, numbers)):
        write_atomic(root / "instances" / video.name / f"{frame:06d}.png", data)
    listed = "".join(f"{number} {name}\n" for name, number in numbers.items())
    write_atomic(root / "classes.txt", listed.encode())
    return path, losses
