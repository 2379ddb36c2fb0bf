"""Repairs of identities: tracks are joined, parted, dropped and renamed where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backend.core.tracks import Track, TrackedVideo
from backend.core.types import Instance
from backend.errors import InputError, counted
from backend.labeling.track_files import TRACKS, KeptTracks, read_tracks, rewrite_tracks


def merge(video: TrackedVideo, numbers: Sequence[int]) -> TrackedVideo:
    """Join tracks into the one that is named first.

    Where several are seen in a frame, the one that is named earlier stays.

    Raises:
        InputError: fewer than two tracks, or one that is not there.
    """
    if len(set(numbers)) < 2:
        raise InputError("merge: name two tracks or more")
    parts = [_track(video, number) for number in dict.fromkeys(numbers)]
    first = parts[0]
    seen: dict[int, Instance] = {}
    for part in parts:
        for frame, one in part.seen.items():
            class_id = next(iter(first.seen.values())).class_id
            seen.setdefault(frame, replace(one, label=first.label, class_id=class_id))
    joined = replace(first, seen=dict(sorted(seen.items())))
    others = [one for one in video.tracks if one.id not in numbers]
    return _with(video, [*others, joined])


def split(video: TrackedVideo, number: int, frame: int) -> tuple[TrackedVideo, int]:
    """Part a track in two: from a frame on it is another object.

    Args:
        video: with its tracks.
        number: of the track.
        frame: place of the first frame of the new track.

    Returns:
        The video, and the number of the new track.

    Raises:
        InputError: no such track, or one of both would be empty.
    """
    track = _track(video, number)
    before = {at: one for at, one in track.seen.items() if at < frame}
    after = {at: one for at, one in track.seen.items() if at >= frame}
    if not before or not after:
        raise InputError(f"split: track {number} is seen on one side of that frame only")
    new = 1 + max(one.id for one in video.tracks)
    others = [one for one in video.tracks if one.id != number]
    parts = [replace(track, seen=before), replace(track, id=new, seen=after)]
    return _with(video, [*others, *parts]), new


def drop(video: TrackedVideo, numbers: Sequence[int]) -> TrackedVideo:
    """Leave tracks out.

    Raises:
        InputError: one is not there.
    """
    gone = {_track(video, number).id for number in numbers}
    return _with(video, [one for one in video.tracks if one.id not in gone])


def rename(video: TrackedVideo, number: int, label: str, names: Sequence[str]) -> TrackedVideo:
    """Give a track another class.

    Args:
        video: with its tracks.
        number: of the track.
        label: the class.
        names: of all classes, in order.

    Raises:
        InputError: no such track, or no such class.
    """
    if label not in names:
        raise InputError(f"label: {label!r} is no class of this video; it has {', '.join(names)}")
    track = _track(video, number)
    class_id = list(names).index(label)
    seen = {
        frame: replace(one, label=label, class_id=class_id) for frame, one in track.seen.items()
    }
    others = [one for one in video.tracks if one.id != number]
    return _with(video, [*others, replace(track, label=label, seen=seen)])


def _track(video: TrackedVideo, number: int) -> Track:
    for one in video.tracks:
        if one.id == number:
            return one
    there = ", ".join(str(one.id) for one in video.tracks) or "none"
    raise InputError(f"{video.name}: has no track {number}; it has {there}")


def _with(video: TrackedVideo, tracks: Sequence[Track]) -> TrackedVideo:
    return replace(video, tracks=tuple(sorted(tracks, key=lambda one: one.id)))


def videos_in(out: Path) -> list[str]:
    """The videos whose tracks are kept in an output folder, in order of their names."""
    return sorted(path.stem for path in (out / TRACKS).glob("*.json"))


def open_tracks(out: Path, name: str) -> KeptTracks:
    """The tracks of a video.

    Raises:
        InputError: none are kept there.
    """
    kept = read_tracks(out / TRACKS / f"{name}.json")
    if kept is None:
        there = ", ".join(videos_in(out)) or "none"
        raise InputError(f"{out}: keeps no tracks of {name!r} that can be read; it has {there}")
    return kept


def place_of(kept: KeptTracks, number: int) -> int:
    """The place of a frame among those that were followed.

    Raises:
        InputError: it was not.
    """
    if number not in kept.frames:
        raise InputError(f"frame {number}: was not followed; {_range(kept)}")
    return kept.frames.index(number)


def _range(kept: KeptTracks) -> str:
    n = counted(len(kept.frames), "frame")
    return f"{n} from {kept.frames[0]} to {kept.frames[-1]} were"


def save(out: Path, kept: KeptTracks, video: TrackedVideo) -> Path:
    """Keep repaired tracks in the place of those that were there.

    Raises:
        Unavailable: the disk refuses.
    """
    return rewrite_tracks(out, replace(kept, video=video))


def listing(kept: KeptTracks) -> str:
    """The tracks of a video as text, a line each."""
    lines = [f"{kept.video.name}: {counted(len(kept.video.tracks), 'track')}"]
    for one in kept.video.tracks:
        if one.seen:
            first = kept.frames[min(one.seen)]
            last = kept.frames[max(one.seen)]
            n = counted(len(one.seen), "frame")
            lines.append(f"  {one.id:>3}  {one.label:<12} frames {first} to {last}, seen in {n}")
    return "\n".join(lines)
