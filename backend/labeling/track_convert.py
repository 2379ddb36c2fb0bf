"""Tracks from one format to another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backend.core.tracks import Track, TrackedVideo
from backend.core.types import Prediction
from backend.errors import ConfigError, counted, how_it_ended
from backend.files.atomic import ensure_writable, set_aside, write_atomic
from backend.files.videos import open_video
from backend.formats.json_text import json_bytes
from backend.formats.tracks.coco_tracks import to_coco_tracks
from backend.formats.tracks.cvat import to_cvat
from backend.formats.tracks.mots import class_numbers, to_mots
from backend.formats.tracks.rectangle_tasks import VIDEO_SUFFIXES
from backend.formats.tracks.video_rectangle import to_task
from backend.formats.tracks.youtube_vis import to_youtube_vis
from backend.formats.voc.label_maps import encode_png, label_maps
from backend.labeling.track_files import frame_names, prediction_at
from backend.labeling.track_readers import CLASSES, NO_CLASS, UPLOAD, kind_of, read_videos

_OF_MASKS = ("youtube-vis", "mots", "davis")  # formats that hold no boxes without masks
_LONGEST_NAME = 200  # bytes, as file systems take 255 with the suffix


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
        target: of ``track_readers.FORMATS``.
        kind: of the source; None looks.
        classes: in their order; others are left out. None takes them as they come.
        images: folder of the videos, whose size tasks of Label Studio do not tell.
        url_prefix: before the names of videos in such tasks.
        overwrite: whether files that hold something else are replaced, after a copy.

    Raises:
        ConfigError: there is nothing to convert, or nowhere to put it.
    """
    ensure_writable(out)
    kind = kind or kind_of(source)
    summary = TrackSummary()
    videos = list(read_videos(source, kind, images, summary.failed))
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


@dataclass(frozen=True)
class _Places:
    out: Path
    url_prefix: str
    images: Path | None

    def video(self, name: str) -> Path | None:
        """The file of a video, if it is at hand."""
        if self.images is None:
            return None
        found = sorted(self.images.glob(f"{escape(UPLOAD.sub('', name))}.*"))
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
        yield out / CLASSES, listed.encode()
    else:
        if any(track.label != NO_CLASS for track in video.tracks):
            losses["classes of tracks, which DAVIS does not have"] += len(video.tracks)
        for frame in range(video.n_frames):
            prediction: Prediction = prediction_at(video, frame)
            _, objects = label_maps(prediction)
            yield out / video.name / f"{frame:05d}.png", encode_png(objects)
