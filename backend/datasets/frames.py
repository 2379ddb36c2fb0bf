"""Frames of videos as numbered pictures."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from backend.errors import ConfigError, InputError, counted, how_it_ended, is_disk_full
from backend.files.atomic import ensure_writable, sweep_stale, write_atomic
from backend.files.images import DEFAULT_LIMITS, ImageLimits
from backend.files.videos import Frame, FrameChoice, open_video

_QUALITY = 95  # of the JPEGs
TABLE = "frames.json"


@dataclass
class FramesSummary:
    """What was written."""

    written: int = 0
    there: int = 0  # that were there already
    videos: int = 0
    notes: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)
    stopped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "videos": self.videos,
            "written": self.written,
            "there": self.there,
            "notes": self.notes,
            "failed": [{"video": where, "reason": reason} for where, reason in self.failed],
            "stopped": self.stopped,
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        lines = [f"wrote {counted(self.written, 'frame')} of {counted(self.videos, 'video')}"]
        if self.there:
            lines.append(f"{counted(self.there, 'frame')} there before (--overwrite writes anew)")
        lines += self.notes
        lines += [f"wrote {path}" for path in self.outputs]
        return "\n".join([*lines, *how_it_ended(self.failed, self.stopped)])


def write_frames(
    sources: Sequence[Path],
    out: Path,
    choice: FrameChoice,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    overwrite: bool = False,
    progress: bool = True,
    stop: threading.Event | None = None,
) -> FramesSummary:
    """Write frames as ``<number>.jpg``, and ``frames.json`` with their times beside them.

    The number is that of the frame in its video, five digits from 0. Several videos get a folder
    each, by their names. A video that cannot be read does not stop the others.

    Args:
        sources: video files and folders of pictures.
        out: folder, made if missing.
        choice: which frames.
        limits: of a frame.
        overwrite: whether to write frames anew that are there.
        progress: whether to show a bar.
        stop: set it to end early.

    Raises:
        ConfigError: two videos of one name, or nowhere to write.
    """
    folders = {source: out / source.stem if len(sources) > 1 else out for source in sources}
    if len(set(folders.values())) < len(folders):
        raise ConfigError("two of the videos have one name; run the command once for each")
    for source, folder in folders.items():
        if source.is_dir() and folder.resolve() == source.resolve():
            raise ConfigError(f"{folder}: is the folder that the frames come from")
    ensure_writable(out)
    sweep_stale(out)
    summary = FramesSummary()
    for source, folder in folders.items():
        try:
            _write(source, folder, choice, limits, overwrite, progress, summary, stop)
        except InputError as error:
            summary.failed.append((str(source), str(error)))
        except OSError as error:
            summary.failed.append((str(source), str(error)))
        if stop is not None and stop.is_set():
            summary.stopped = "interrupted"
        if summary.stopped:
            break
    return summary


def _write(
    source: Path,
    folder: Path,
    choice: FrameChoice,
    limits: ImageLimits,
    overwrite: bool,
    progress: bool,
    summary: FramesSummary,
    stop: threading.Event | None,
) -> None:
    video = open_video(source, limits)
    made_of = {
        "video": video.info.name,
        "frames_per_second": video.info.rate,
        "max_side": choice.max_side,
    }
    listed: dict[str, dict[str, Any]] = {} if overwrite else _earlier(folder, made_of)
    n_before = len(listed)
    total = None if video.info.n_frames is None else -(-video.info.n_frames // choice.every)
    with tqdm(
        total=total,
        unit="frame",
        desc=video.info.name[:30],
        disable=not progress,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        try:
            for frame in video.frames(choice):
                path = folder / f"{frame.number:05d}.jpg"
                if overwrite or not path.exists():
                    _write_one(path, frame)
                    summary.written += 1
                else:
                    summary.there += 1
                listed[path.name] = {
                    "file": path.name,
                    "frame": frame.number,
                    "seconds": round(frame.time_s, 6),
                }
                bar.update()
                if stop is not None and stop.is_set():
                    return
        except Exception as error:
            if is_disk_full(error):
                summary.stopped = str(error)
                summary.failed.append((str(source), str(error)))
                return
            raise
        finally:
            summary.notes += video.info.notes
            summary.failed += [(str(source), sentence) for sentence in video.info.faults]
            if len(listed) > n_before or summary.there:
                summary.videos += 1
                rows = sorted(listed.values(), key=lambda row: int(row["frame"]))
                table = json.dumps({**made_of, "frames": rows}, indent=1) + "\n"
                write_atomic(folder / TABLE, table.encode())
                summary.outputs.append(folder)


def _write_one(path: Path, frame: Frame) -> None:
    made, data = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not made:
        raise InputError(f"{path}: the frame cannot be written as JPEG")
    write_atomic(path, data.tobytes())


def _earlier(folder: Path, made_of: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The frames that an earlier run listed in a folder, by their files.

    Raises:
        InputError: they are of another video, or of another size.
    """
    path = folder / TABLE
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        rows = {str(row["file"]): dict(row) for row in before["frames"]}
    except (OSError, ValueError, KeyError, TypeError):  # none, or nothing of ours
        return {}
    for key, value in made_of.items():
        if before.get(key) != value:
            raise InputError(
                f"{folder}: holds frames whose {key} is {before.get(key)}, and not {value}; name"
                " another --out, or --overwrite"
            )
    return {name: row for name, row in rows.items() if (folder / name).is_file()}
