"""Objects followed through a video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from backend.core.masks import PackedMask, mask_xyxy, pack_mask, subtract_masks, unpack_mask
from backend.core.stacking import stacking_order
from backend.core.types import Instance, Mask


@dataclass(frozen=True, eq=False)
class _Packed:
    mask: PackedMask
    score: float


class PackedInstances(Mapping[int, Instance]):
    """One object in the frames of a video, in little memory: a mask is unpacked when it is asked
    for.

    Args:
        label: of the object.
        class_id: of the label.
        track: number of its track, if it has one already.

    >>> import numpy as np
    >>> seen = PackedInstances("cat", 0, 1)
    >>> seen.add(7, Mask(2, 0, np.ones((1, 3), np.bool_)), 0.5)
    >>> list(seen), seen[7].xyxy.tolist(), seen[7].score
    ([7], [2.0, 0.0, 5.0, 1.0], 0.5)
    """

    def __init__(self, label: str = "", class_id: int = 0, track: int | None = None) -> None:
        self._label = label
        self._class_id = class_id
        self._track = track
        self._seen: dict[int, _Packed] = {}

    def add(self, frame: int, mask: Mask, score: float) -> None:
        """Note the object in a frame; what was noted of that frame before is forgotten.

        Args:
            frame: its number.
            mask: of the object, not empty.
            score: 0..1.
        """
        self._seen[frame] = _Packed(pack_mask(mask), score)

    def join(self, other: PackedInstances) -> None:
        """Take the frames of another that this one is not in."""
        for frame, one in other._seen.items():
            self._seen.setdefault(frame, one)

    def mask(self, frame: int) -> Mask:
        """The mask in a frame.

        Raises:
            KeyError: it is not seen there.
        """
        return unpack_mask(self._seen[frame].mask)

    def named(self, label: str, class_id: int, track: int) -> PackedInstances:
        """The same under a name, in order of the frames."""
        made = PackedInstances(label, class_id, track)
        made._seen = dict(sorted(self._seen.items()))
        return made

    def __getitem__(self, frame: int) -> Instance:
        mask = self.mask(frame)
        box = mask_xyxy(mask).astype(np.float32)
        score = self._seen[frame].score
        return Instance(self._label, self._class_id, score, box, mask, None, self._track)

    def __iter__(self) -> Iterator[int]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)


@dataclass(frozen=True, eq=False, kw_only=True)
class Track:
    """One object through a video.

    Attributes:
        id: number in its video, from 1 on.
        label: of the whole track.
        seen: the object by the number of the frame, where it is seen.
    """

    id: int
    label: str
    seen: Mapping[int, Instance]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrackedVideo:
    """The tracks of one video.

    Attributes:
        name: of the video.
        size_hw: of its frames, in pixels.
        n_frames: how many there are.
        rate: frames a second, on average.
        tracks: in order of their numbers.
        model_version: of what followed the objects; empty for a person.
    """

    name: str
    size_hw: tuple[int, int]
    n_frames: int
    rate: float
    tracks: tuple[Track, ...]
    model_version: str = ""

    def at(self, frame: int) -> list[tuple[Track, Instance]]:
        """What is seen in a frame, in order of the tracks."""
        return [(one, one.seen[frame]) for one in self.tracks if frame in one.seen]


def without_overlaps(video: TrackedVideo) -> tuple[TrackedVideo, int]:
    """The same tracks with masks that do not overlap in any frame, as some formats ask.

    Where objects overlap, the surer one keeps the pixels, of equals the later one. A mask of which
    nothing is left goes.

    Returns:
        The video, and how many masks lost pixels.

    >>> import numpy as np
    >>> from backend.core.types import Mask
    >>> box = np.zeros(4, np.float32)
    >>> wide = Instance("a", 0, 0.5, box, Mask(0, 0, np.ones((1, 3), np.bool_)))
    >>> sure = Instance("a", 0, 0.9, box, Mask(2, 0, np.ones((1, 3), np.bool_)))
    >>> tracks = [Track(id=k, label="a", seen={0: one}) for k, one in ((1, wide), (2, sure))]
    >>> video = TrackedVideo(
    ...     name="v", size_hw=(1, 5), n_frames=1, rate=25, tracks=tuple(tracks)
    ... )
    >>> parted, n = without_overlaps(video)
    >>> parted.tracks[0].seen[0].mask.crop.shape, n
    ((1, 2), 1)
    """
    seen: defaultdict[int, dict[int, Instance]] = defaultdict(dict)
    n_cut = 0
    for frame in range(video.n_frames):
        there = video.at(frame)
        instances = [instance for _, instance in there]
        on_top: list[Mask] = []
        for k in reversed(stacking_order(instances)):
            mask = instances[k].mask
            if mask is None:
                continue
            left = subtract_masks(mask, on_top)
            on_top.append(mask)
            n_cut += left is None or bool(left.crop.sum() < mask.crop.sum())
            if left is not None:
                seen[there[k][0].id][frame] = replace(instances[k], mask=left)
    tracks = tuple(replace(track, seen=dict(seen[track.id])) for track in video.tracks)
    return replace(video, tracks=tracks), n_cut
