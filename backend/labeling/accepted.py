"""Frames that a person accepted are fixed ends: only the gaps between them are followed anew.

A frame counts as accepted where its labelme file is not as it was written, as somebody corrected
it. The number of a shape's group is its track; shapes without one begin new tracks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

from backend.core.classes import ClassNames
from backend.core.masks import mask_iou
from backend.core.protocols import InteractiveLabeler, VideoSegmenter, VideoSession
from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import FrameMasks, Image, Mask
from backend.errors import InputError
from backend.files.pictures import Pictures
from backend.formats.base import FileReader, ReadRequest
from backend.formats.options import ReadOptions
from backend.formats.registry import format_of
from backend.labeling.follow_back import SEEN
from backend.labeling.stream import Recent

_FORMAT = "labelme"
_SAME = 0.98  # overlap of a mask with itself, as it was written and read
_BACK = 36  # frames that are followed from the end of a gap backwards


@dataclass(frozen=True, eq=False)
class Accepted:
    """What a person left in a frame: track to label and mask."""

    objects: Mapping[int, tuple[str, Mask]]


def accepted_frames(
    folder: Path, numbers: Sequence[int], video: TrackedVideo
) -> tuple[dict[int, Accepted], list[str]]:
    """The frames of a video that somebody corrected.

    Args:
        folder: of its labelme files, which are called by the numbers of their frames.
        numbers: of the frames that were followed.
        video: as it was followed before; a shape without a group that is one of its objects, as
            an earlier run made it of that shape, keeps its number.

    Returns:
        The frames by their place, and a sentence for every file that cannot be read.
    """
    made = format_of(_FORMAT)
    changed = {
        place: path
        for place, number in enumerate(numbers)
        if (path := folder / f"{number:05d}.json").is_file() and not made.is_marked(path)
    }
    if not changed:
        return {}, []
    request = ReadRequest(
        source=folder,
        names=ClassNames(),
        pictures=Pictures([folder], None),
        options=ReadOptions(),
    )
    reader = cast(FileReader, made.read(request))
    highest = max((track.id for track in video.tracks), default=0)
    found: dict[int, Accepted] = {}
    faults = []
    for place, path in changed.items():
        try:
            sample = reader.read(Path(path.name))
        except InputError as error:
            faults.append(str(error))
            continue
        objects: dict[int, tuple[str, Mask]] = {}
        for one in sample.instances:
            group = one.notes.get("group_id")
            if not one.parts:
                continue
            if not isinstance(group, int) or group < 1 or group in objects:
                group = _same_object(video, place, one.mask, objects)
            if group is None:
                group = highest + 1
            highest = max(highest, group)
            objects[group] = (one.label, one.mask)
        found[place] = Accepted(objects)
    return found, faults


def _same_object(video: TrackedVideo, place: int, mask: Mask, taken: Collection[int]) -> int | None:
    """The track that has this very mask in a frame."""
    for track, one in video.at(place):
        same = one.mask is not None and mask_iou(one.mask, mask) > _SAME
        if same and track.id not in taken:
            return track.id
    return None


class GapFollower:
    """Follows what accepted frames hold through the frames between them.

    Args:
        labeler: makes pixels of masks.
        segmenter: follows.
        back: frames that are followed from the end of a gap backwards.
    """

    def __init__(
        self, labeler: InteractiveLabeler, segmenter: VideoSegmenter, back: int = _BACK
    ) -> None:
        self._labeler = labeler
        self._segmenter = segmenter
        self._back = back
        self._seen: defaultdict[int, PackedInstances] = defaultdict(PackedInstances)

    def run(
        self, video: TrackedVideo, images: Iterable[Image], fixed: Mapping[int, Accepted]
    ) -> TrackedVideo:
        """Fill the gaps.

        The first half of a gap comes from its begin, the second from its end, as far as frames
        are at hand. Tracks that are in neither end stay as they were, and so does what lies
        outside the gaps.

        Args:
            video: as it was followed before.
            images: its frames, from the first on.
            fixed: the accepted frames, by their place.

        Raises:
            InputError: there are fewer frames than accepted ones.
        """
        places = sorted(fixed)
        recent = Recent(images, self._back + 1)
        session: VideoSession | None = None
        begin = -1
        number = 0
        while number <= places[-1] and recent.advance() is not None:
            if session is not None and (answer := session.step()) is not None:
                self._note(answer, number)
            if number in fixed:
                for seen in self._seen.values():
                    seen.discard(number)  # what the person took away stays away
                if begin >= 0:
                    self._backwards(recent, begin, number, fixed[number])
                for object_id, (_, mask) in fixed[number].objects.items():
                    self._seen[object_id].add(number, mask, 1.0)
                session = self._begun(recent, number, fixed[number])
                begin = number
            if session is not None:
                session.forget(number)
            number += 1
        if number <= places[-1]:
            raise InputError(
                f"{video.name}: ends after {number} frames that can be read, before the accepted"
                f" frame {places[-1]}; nothing was changed"
            )
        return self._joined(video, fixed)

    def _begun(self, recent: Recent, number: int, there: Accepted) -> VideoSession | None:
        """A session with the objects of an accepted frame."""
        if not there.objects:
            return None
        session = self._segmenter.start(recent)
        for object_id, (_, mask) in there.objects.items():
            session.prompt_mask(number, object_id, mask)
        return session

    def _backwards(self, recent: Recent, begin: int, end: int, there: Accepted) -> None:
        """From the end of a gap to its middle; what was followed forward until there goes."""
        session = self._begun(recent, end, there)
        while session is not None and (answer := session.step(backward=True)) is not None:
            middle = (begin + end) // 2
            if answer.frame <= begin:
                return
            known = {k for k in there.objects if begin in self._seen[k]}
            late = set(there.objects) - known  # that begin inside the gap
            if answer.frame <= middle and not late:
                return
            self._note(answer, answer.frame, only=late if answer.frame <= middle else None)

    def _note(self, answer: FrameMasks, frame: int, only: set[int] | None = None) -> None:
        outlines = self._labeler.outline(answer.masks)
        for k, object_id in enumerate(answer.object_ids):
            mask = outlines[k]
            presence = float(answer.masks.quality[k])
            if only is not None and object_id not in only:
                continue
            if mask is None or presence < SEEN:
                self._seen[object_id].discard(frame)
            else:
                self._seen[object_id].add(frame, mask, presence)

    def _joined(self, video: TrackedVideo, fixed: Mapping[int, Accepted]) -> TrackedVideo:
        """What was followed anew in the place of what was there."""
        places = sorted(fixed)
        old = {track.id: track for track in video.tracks}
        labels: defaultdict[int, Counter[str]] = defaultdict(Counter)
        redone: defaultdict[int, set[int]] = defaultdict(set)  # frames, by track
        for place in places:
            for object_id, (label, _) in fixed[place].objects.items():
                labels[object_id][label] += 1
        for begin, end in pairwise(places):
            inside = set(range(begin + 1, end))
            for object_id in {*fixed[begin].objects, *fixed[end].objects}:
                redone[object_id] |= inside
        tracks = []
        for object_id in sorted({*old, *self._seen}):
            track = old.get(object_id)
            label = labels[object_id].most_common(1)[0][0] if labels[object_id] else ""
            label = label or (track.label if track is not None else "")
            seen = PackedInstances(label, 0)
            for frame, one in () if track is None else track.seen.items():
                if frame not in redone[object_id] and frame not in fixed and one.mask is not None:
                    seen.add(frame, one.mask, one.score)
            for frame, packed, score in self._seen[object_id].rows():
                if frame in redone[object_id] or frame in fixed:
                    seen.put(frame, packed, score)
            if len(seen):
                class_id = next(iter(track.seen.values())).class_id if track and track.seen else 0
                tracks.append(
                    Track(id=object_id, label=label, seen=seen.named(label, class_id, object_id))
                )
        return replace(video, tracks=tuple(tracks))
