"""The tracks of a video as they are kept: ``tracks/<video>.json``, in the format of YouTube-VIS.

All other files are made of it (see ``track_outputs``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from backend.core.tracks import TrackedVideo
from backend.core.types import Prediction
from backend.errors import InputError
from backend.files.atomic import write_atomic
from backend.formats.json_text import json_bytes
from backend.formats.tracks.youtube_vis import from_youtube_vis, to_youtube_vis

TRACKS = "tracks"


def tracks_path(out: Path, name: str) -> Path:
    """Where the tracks of a video are kept."""
    return out / TRACKS / f"{name}.json"


def partial_path(out: Path, name: str) -> Path:
    """Where the work on a video is kept until it is done."""
    return out / TRACKS / f".{name}.partial"


def frame_names(name: str, frames: Sequence[int]) -> list[str]:
    """What the pictures of a video's frames are called.

    >>> frame_names("street", [0, 12])
    ['street/00000.jpg', 'street/00012.jpg']
    """
    return [f"{name}/{number:05d}.jpg" for number in frames]


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
    document = to_youtube_vis([(video, frame_names(video.name, frames))], names)
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
    # The name is that of the file, whatever is in it: other files are called by it.
    found = replace(video, name=path.stem, model_version=str(info.get("model_version", "")))
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
