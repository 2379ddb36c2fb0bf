"""Tracks from one format to another."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from backend.core.classes import IGNORE
from backend.core.masks import mask_from_full
from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import Prediction
from backend.errors import ConfigError, InputError, LabelingError, counted, how_it_ended
from backend.files.atomic import ensure_writable, set_aside, write_atomic
from backend.files.text import open_utf8, read_text
from backend.files.videos import FrameChoice, natural, open_video
from backend.formats.json_stream import read_tasks
from backend.formats.json_text import json_bytes
from backend.formats.tracks.coco_tracks import from_coco_tracks, to_coco_tracks
from backend.formats.tracks.cvat import from_cvat, to_cvat
from backend.formats.tracks.mots import class_numbers, from_mots, to_mots
from backend.formats.tracks.rectangle_tasks import VIDEO_SUFFIXES, FileSize, from_tasks
from backend.formats.tracks.video_rectangle import to_task
from backend.formats.tracks.youtube_vis import from_youtube_vis, to_youtube_vis
from backend.formats.voc.label_maps import encode_png, label_maps, read_label_map
from backend.labeling.track_files import frame_names, prediction_at

FORMATS = ("youtube-vis", "coco-tracks", "cvat", "mots", "davis", "video-rectangle")
_OF_MASKS = ("youtube-vis", "mots", "davis")  # formats that hold no boxes without masks
_NO_CLASS = "object"  # what the objects of a format without classes are called
_LONGEST_NAME = 200  # bytes, as file systems take 255 with the suffix
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_CLASSES = "classes.txt"  # of MOTS: a number and a name a line
Read = tuple[list[TrackedVideo], list[str]]


@dataclass
class TrackSummary:
    """What was converted."""

    videos: int = 0
    per_class: Counter[str] = field(default_factory=Counter)  # tracks
    losses: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)
    stopped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "videos": self.videos,
            "tracks": dict(self.per_class),
            "left_out": dict(self.losses),
            "failed": [{"file": where, "reason": reason} for where, reason in self.failed],
            "kept": [str(path) for path in self.kept],
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people."""
        n_tracks = sum(self.per_class.values())
        lines = [f"{counted(n_tracks, 'track')} in {counted(self.videos, 'video')}"]
        lines += [f"  {name}: {count}" for name, count in self.per_class.most_common()]
        lines += [f"left out: {n} {what}" for what, n in self.losses.items()]
        lines += [f"wrote {path}" for path in self.outputs]
        lines += [
            f"kept {path}, which holds something else (--overwrite replaces it, with a .bak copy)"
            for path in self.kept
        ]
        return "\n".join([*lines, *how_it_ended(self.failed, self.stopped)])


def convert_tracks(
    source: Path,
    out: Path,
    target: str,
    kind: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    images: Path | None = None,
    url_prefix: str = "",
    overwrite: bool = False,
) -> TrackSummary:
    """Convert tracks.

    Args:
        source: a file, or a folder of files.
        out: folder for the target, made if missing.
        target: of ``FORMATS``.
        kind: of the source; None looks.
        classes: in their order; others are left out. None takes them as they come.
        images: folder of the videos, whose size tasks of Label Studio do not tell.
        url_prefix: before the names of videos in such tasks.
        overwrite: whether files that hold something else are replaced, after a copy.

    Raises:
        ConfigError: there is nothing to convert, or nowhere to put it.
    """
    ensure_writable(out)
    kind = kind or _kind_of(source)
    summary = TrackSummary()
    videos = list(_read_all(source, kind, summary, images))
    if not videos and not summary.failed:
        raise ConfigError(f"{source}: holds no {kind} tracks")
    found = dict.fromkeys(track.label for video in videos for track in video.tracks)
    names = list(classes) if classes is not None else list(found)
    videos = [replace(video, name=_file_name(video.name)) for video in videos]
    for name, count in Counter(video.name for video in videos).items():
        if count > 1:
            raise ConfigError(f"{source}: two videos are called {name!r}")
    for video in videos:
        kept = tuple(track for track in video.tracks if track.label in names)
        if len(kept) < len(video.tracks):
            summary.losses["tracks of other classes"] += len(video.tracks) - len(kept)
        if target in _OF_MASKS:
            n_boxes = sum(one.mask is None for track in kept for one in track.seen.values())
            if n_boxes:
                summary.losses[f"boxes without masks, which {target} does not hold"] += n_boxes
            kept = tuple(track for track in kept if not _is_of_boxes(track))
        chosen = replace(video, tracks=kept)
        summary.videos += 1
        summary.per_class.update(track.label for track in kept)
        places = _Places(out, url_prefix, images)
        for path, data in _encoded(chosen, target, names, places, summary.losses):
            _put(path, data, summary, overwrite=overwrite)
    summary.outputs = [out, *(path for path in summary.outputs if path.parent == out)]
    return summary


def _is_of_boxes(track: Track) -> bool:
    return bool(track.seen) and all(one.mask is None for one in track.seen.values())


def _file_name(name: str) -> str:
    """What files of a video are called: its name comes from a file, and may not lead elsewhere.

    >>> _file_name("../../x"), _file_name("a/b")
    ('x', 'a_b')
    """
    plain = "".join("_" if one in "/\\:" or not one.isprintable() else one for one in name)
    return plain.strip("._ ").encode()[:_LONGEST_NAME].decode(errors="ignore") or "video"


def _put(path: Path, data: bytes, summary: TrackSummary, *, overwrite: bool) -> None:
    if path.exists() and path.read_bytes() != data:
        if not overwrite:
            summary.kept.append(path)
            return
        set_aside(path)
    write_atomic(path, data)
    summary.outputs.append(path)


def _kind_of(source: Path) -> str:
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
        if path.suffix == ".txt" and path.name != _CLASSES:
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


def _read_all(
    source: Path, kind: str, summary: TrackSummary, images: Path | None
) -> Iterator[TrackedVideo]:
    """The videos of all files; a file that cannot be read costs itself."""
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
        paths = [path for path in found if path.name != _CLASSES]
    for path in paths:
        try:
            videos, faults = read(path)
        except (LabelingError, OSError, ValueError, TypeError, LookupError) as error:
            summary.failed.append((str(path), str(error)))
            continue
        summary.failed += [(str(path), f"{path}: {fault}") for fault in faults]
        yield from videos


def _read_mots(path: Path) -> Read:
    names: dict[int, str] = {}
    listed = path.with_name(_CLASSES)
    if listed.is_file():
        for line in read_text(listed).splitlines():
            number, _, name = line.strip().partition(" ")
            if number.isdecimal() and name:
                names[int(number)] = name
    video, faults = from_mots(read_text(path), names, path.stem)
    return [video], faults


def _read_davis(folder: Path) -> Read:
    """A folder of indexed pictures; the value of a pixel is its object."""
    seen: defaultdict[int, PackedInstances] = defaultdict(lambda: PackedInstances(_NO_CLASS, 0))
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
    tracks = tuple(Track(id=k, label=_NO_CLASS, seen=seen[k]) for k in sorted(seen))
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
        for name in dict.fromkeys((parts[-1], _UPLOAD.sub("", parts[-1]))):
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


@dataclass(frozen=True)
class _Places:
    out: Path
    url_prefix: str
    images: Path | None

    def video(self, name: str) -> Path | None:
        """The file of a video, if it is at hand."""
        if self.images is None:
            return None
        found = sorted(self.images.glob(f"{escape(_UPLOAD.sub('', name))}.*"))
        return next((path for path in found if path.suffix.lower() in VIDEO_SUFFIXES), None)


def _task(video: TrackedVideo, places: _Places) -> dict[str, Any]:
    """A task of Label Studio; the frame rate is that of the file, where it is at hand."""
    path = places.video(video.name)
    suffix = ".mp4" if path is None else path.suffix
    if path is not None:
        video = replace(video, rate=open_video(path).info.rate)
    return to_task(video, places.url_prefix + quote(f"{video.name}{suffix}"))


def _encoded(
    video: TrackedVideo,
    target: str,
    names: Sequence[str],
    places: _Places,
    losses: Counter[str],
) -> Iterator[tuple[Path, bytes]]:
    """The files of a video."""
    out = places.out
    files = frame_names(video.name, range(video.n_frames))
    if target == "youtube-vis":
        document = to_youtube_vis([(video, files)], names)
        yield out / f"{video.name}.json", json_bytes(document) + b"\n"
    elif target == "coco-tracks":
        yield out / f"{video.name}.json", json_bytes(to_coco_tracks(video, files, names)) + b"\n"
    elif target == "video-rectangle":
        yield out / f"{video.name}.json", json_bytes([_task(video, places)]) + b"\n"
    elif target == "cvat":
        yield out / f"{video.name}.xml", to_cvat(video, names)
    elif target == "mots":
        numbers = class_numbers(names)
        text, own = to_mots(video, numbers)
        losses.update(own)
        yield out / f"{video.name}.txt", text.encode()
        listed = "".join(f"{number} {name}\n" for name, number in numbers.items())
        yield out / _CLASSES, listed.encode()
    else:
        if any(track.label != _NO_CLASS for track in video.tracks):
            losses["classes of tracks, which DAVIS does not have"] += len(video.tracks)
        for frame in range(video.n_frames):
            prediction: Prediction = prediction_at(video, frame)
            _, objects = label_maps(prediction)
            yield out / video.name / f"{frame:05d}.png", encode_png(objects)
