"""Tracks of videos out of files of any format."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from backend.core.classes import IGNORE
from backend.core.masks import mask_from_full
from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.errors import ConfigError, InputError, LabelingError
from backend.files.text import open_utf8, read_text
from backend.files.videos import FrameChoice, natural, open_video
from backend.formats.json_stream import read_tasks
from backend.formats.tracks.coco_tracks import from_coco_tracks
from backend.formats.tracks.cvat import from_cvat
from backend.formats.tracks.mots import from_mots
from backend.formats.tracks.rectangle_tasks import FileSize, from_tasks
from backend.formats.tracks.youtube_vis import from_youtube_vis
from backend.formats.voc.label_maps import read_label_map

FORMATS = ("youtube-vis", "coco-tracks", "cvat", "mots", "davis", "video-rectangle")
NO_CLASS = "object"  # what the objects of a format without classes are called
CLASSES = "classes.txt"  # of MOTS: a number and a name a line
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
Read = tuple[list[TrackedVideo], list[str]]


def kind_of(source: Path) -> str:
    """The format of a file or folder, by its name and content.

    Raises:
        ConfigError: none is recognised.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    files = [source] if source.is_file() else sorted(source.rglob("*"))[:1000]
    for path in files:
        if path.suffix == ".xml":
            return "cvat"
        if path.suffix == ".json":
            document = _json(path)
            if isinstance(document, list) or "data" in document or "result" in document:
                return "video-rectangle"
            rows = document.get("annotations")
            first = rows[0] if isinstance(rows, list) and rows else {}
            is_whole = isinstance(first, dict) and "segmentations" in first
            return "youtube-vis" if is_whole or "images" not in document else "coco-tracks"
        if path.suffix == ".txt" and path.name != CLASSES:
            return "mots"
        if path.suffix == ".png":
            return "davis"
    raise ConfigError(
        f"{source}: is in no format of tracks; --from names it, one of {', '.join(FORMATS)}"
    )


def _json(path: Path) -> dict[str, Any] | list[Any]:
    try:
        document = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from None
    if not isinstance(document, dict | list):
        raise InputError(f"{path}: expected an object or a list")
    return document


def _object(path: Path) -> dict[str, Any]:
    document = _json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected an object")
    return document


def read_videos(
    source: Path, kind: str, images: Path | None, failed: list[tuple[str, str]]
) -> Iterator[TrackedVideo]:
    """The videos of all files.

    Args:
        source: a file, or a folder of files.
        kind: of ``FORMATS``.
        images: folder of the videos; by default that of each file.
        failed: takes the file and a sentence for everything that cannot be read.
    """
    read, suffix = _READERS[kind]
    if kind == "video-rectangle":
        read = partial(_read_rectangles, images=images)
    if suffix is None:
        folders = sorted({path.parent for path in source.rglob("*.png")})
        paths = folders or [source]
    elif source.is_file():
        paths = [source]
    else:
        found = sorted(source.rglob(f"*{suffix}"), key=natural)
        paths = [path for path in found if path.name != CLASSES]
    for path in paths:
        try:
            videos, faults = read(path)
        except (LabelingError, OSError, ValueError, TypeError, LookupError) as error:
            failed.append((str(path), str(error)))
            continue
        failed += [(str(path), f"{path}: {fault}") for fault in faults]
        yield from videos


def _read_mots(path: Path) -> Read:
    names: dict[int, str] = {}
    listed = path.with_name(CLASSES)
    if listed.is_file():
        for line in read_text(listed).splitlines():
            number, _, name = line.strip().partition(" ")
            if number.isdecimal() and name:
                names[int(number)] = name
    video, faults = from_mots(read_text(path), names, path.stem)
    return [video], faults


def _read_davis(folder: Path) -> Read:
    """A folder of indexed pictures; the value of a pixel is its object."""
    seen: defaultdict[int, PackedInstances] = defaultdict(lambda: PackedInstances(NO_CLASS, 0))
    size_hw: tuple[int, int] | None = None
    paths = sorted(folder.glob("*.png"), key=natural)
    for frame, path in enumerate(paths):
        objects = read_label_map(path)
        own = (objects.shape[0], objects.shape[1])
        if size_hw not in (None, own):
            raise InputError(f"{path}: is {own[1]}x{own[0]}, those before it are not")
        size_hw = own
        for value in np.unique(objects):
            mask = mask_from_full(objects == value)
            if value not in (0, IGNORE) and mask is not None:
                seen[int(value)].add(frame, mask, 1.0)
    if size_hw is None:
        raise InputError(f"{folder}: holds no PNG")
    tracks = tuple(Track(id=k, label=NO_CLASS, seen=seen[k]) for k in sorted(seen))
    video = TrackedVideo(
        name=folder.name, size_hw=size_hw, n_frames=len(paths), rate=25.0, tracks=tracks
    )
    return [video], []


def _read_cvat(path: Path) -> Read:
    video, faults = from_cvat(path.read_bytes(), path.stem)
    return [video], faults


def _read_rectangles(path: Path, images: Path | None = None) -> Read:
    with open_utf8(path, None) as stream:
        return from_tasks(read_tasks(stream, path), partial(_measure, images or path.parent))


def _measure(folder: Path, told: str) -> FileSize | None:
    """A video by its path in a task.

    Raises:
        InputError: it cannot be read.
    """
    path = _video_file(folder, told)
    if path is None:
        return None
    video = open_video(path)
    for frame in video.frames(FrameChoice()):
        height, width = frame.image.shape[:2]
        return FileSize((height, width), video.info.n_frames or 0, video.info.rate)
    raise InputError(f"{path}: has no frame that can be read")


def _video_file(folder: Path, told: str) -> Path | None:
    """The file with the longest tail of a path, within a folder; Label Studio puts eight digits
    before the name of an upload.
    """
    parts = [part for part in PurePosixPath(told).parts if part not in ("/", "..")]
    for first in range(len(parts)):
        for name in dict.fromkeys((parts[-1], UPLOAD.sub("", parts[-1]))):
            path = folder.joinpath(*parts[first:-1], name)
            with suppress(OSError, ValueError):  # too long, or no name of a file
                if path.is_file():
                    return path
    return None


_READERS: dict[str, tuple[Callable[[Path], Read], str | None]] = {
    "youtube-vis": (lambda path: from_youtube_vis(_object(path)), ".json"),
    "coco-tracks": (lambda path: from_coco_tracks(_object(path)), ".json"),
    "video-rectangle": (_read_rectangles, ".json"),
    "cvat": (_read_cvat, ".xml"),
    "mots": (_read_mots, ".txt"),
    "davis": (_read_davis, None),
}
