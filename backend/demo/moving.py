"""The demo of videos: the embedded models follow the objects of the bundled clip, compared with the
truth.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.config.models import Settings
from backend.core.masks import full_frame
from backend.core.tracks import Track, TrackedVideo
from backend.demo.run import DEMO_MARGIN, DEMO_MIN_PART, SAMPLES
from backend.drawing.overlays import contact_sheet, draw, encode_picture
from backend.errors import ConfigError
from backend.evaluation.video import followed
from backend.files.atomic import write_atomic
from backend.files.videos import FrameChoice, open_video
from backend.formats.tracks.youtube_vis import from_youtube_vis
from backend.labeling.load import build_cascade, video_segmenter_of
from backend.labeling.track_files import prediction_at, read_tracks, tracks_path
from backend.labeling.video import VideoRun, VideoRunOptions

CLIP = SAMPLES / "video" / "moving.mp4"
_SHOWN = 8  # frames of the sheet


@dataclass(frozen=True, kw_only=True)
class FollowedObject:
    """How one object of the truth was followed.

    Attributes:
        label: its class.
        frames: that it is seen in.
        track: number of the track that lies on it most; None for none.
        found_label: what that track is called.
        iou: mean over the frames that it is seen in.
        switches: how often another track took over.
    """

    label: str
    frames: int
    track: int | None
    found_label: str
    iou: float
    switches: int


def compare(truth: TrackedVideo, found: TrackedVideo) -> list[FollowedObject]:
    """Each object of the truth with the track that lies on it most."""
    rows = []
    for one in truth.tracks:
        owners = [_owner(truth, found, one, frame) for frame in one.seen]
        there = [owner for owner in owners if owner is not None]
        numbers = [track.id for track in there]
        most = max(set(numbers), key=numbers.count) if numbers else None
        track = next((track for track in found.tracks if track.id == most), None)
        switches = sum(a != b for a, b in pairwise(numbers))
        frames = [
            (_mask(one, frame, truth.size_hw), _mask(track, frame, truth.size_hw))
            for frame in one.seen
        ]
        iou = float(np.mean(followed(frames, ends_count=True).frames_j)) if frames else 0.0
        rows.append(
            FollowedObject(
                label=one.label,
                frames=len(one.seen),
                track=most,
                found_label="" if track is None else track.label,
                iou=iou,
                switches=switches,
            )
        )
    return rows


def _mask(track: Track | None, frame: int, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    mask = None if track is None or frame not in track.seen else track.seen[frame].mask
    return np.zeros(size_hw, np.bool_) if mask is None else full_frame(mask, size_hw)


def _owner(truth: TrackedVideo, found: TrackedVideo, one: Track, frame: int) -> Track | None:
    """The track that covers most of an object, if it covers half of their union."""
    true = _mask(one, frame, truth.size_hw)
    best: tuple[float, Track | None] = (0.5, None)
    for track, _ in found.at(frame):
        mask = _mask(track, frame, truth.size_hw)
        iou = float((true & mask).sum() / max(1, (true | mask).sum()))
        if iou > best[0]:
            best = (iou, track)
    return best[1]


def run_video_demo(out: Path, progress: bool = True) -> str:
    """Follow the objects of the bundled clip.

    Args:
        out: gets the drawn video, labelme JSON for each frame, the tracks and a contact sheet.
        progress: show a progress bar on stderr.

    Returns:
        How each object was followed, and what was written, as text.

    Raises:
        ConfigError: embedded files are missing, or the folder cannot be written.
    """
    start = time.perf_counter()
    try:
        (truth,), _ = from_youtube_vis(json.loads(CLIP.with_suffix(".json").read_text()))
    except OSError:
        told = f"{CLIP}: the bundled clip is missing; reinstall the package"
        raise ConfigError(told) from None
    settings = Settings(
        detector="demo",
        segmenter="demo",
        device="cpu",
        box_margin=DEMO_MARGIN,
        min_part=DEMO_MIN_PART,
    )
    cascade = build_cascade(settings)
    options = VideoRunOptions(overwrite=True, progress=progress)
    summary = VideoRun(cascade, video_segmenter_of(cascade), out, options).run([CLIP])
    kept = read_tracks(tracks_path(out, CLIP.stem))
    if summary.failed or kept is None:
        raise ConfigError("; ".join(reason for _, reason in summary.failed) or f"{out}: no tracks")
    _write_sheet(out, kept.video)
    took = time.perf_counter() - start
    lines = [
        (
            f"{kept.video.n_frames} frames, {len(kept.video.tracks)} tracks in {took:.1f} s, model"
            f" version {cascade.model_version}"
        ),
        "",
        "Each object, and the track that lies on it:",
        "object  frames  track      IoU  switches",
    ]
    for row in compare(truth, kept.video):
        track = "none" if row.track is None else f"{row.found_label} #{row.track}"
        lines.append(
            f"{row.label:<7} {row.frames:>6}  {track:<9} {row.iou:>5.3f}  {row.switches:>8}"
        )
    lines += [
        "",
        f"{out}/{CLIP.stem}.mp4              the clip with its tracks",
        f"{out}/{CLIP.stem}_sheet.png        frames of it",
        f"{out}/labelme/{CLIP.stem}/         labelme: each frame, the track as group_id",
        f"{out}/tracks/{CLIP.stem}.json      the tracks (YouTube-VIS)",
    ]
    return "\n".join(lines)


def _write_sheet(out: Path, video: TrackedVideo) -> None:
    every = max(1, video.n_frames // _SHOWN)
    pictures = [
        draw(frame.image, prediction_at(video, frame.number))
        for frame in open_video(CLIP).frames(FrameChoice(every=every))
    ]
    sheet = contact_sheet(pictures[:_SHOWN], 4, 1600)
    write_atomic(out / f"{CLIP.stem}_sheet.png", encode_picture(sheet, ".png"))
