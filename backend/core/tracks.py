"""Objects followed through a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.core.masks import PackedMask, mask_xyxy, pack_mask, subtract_masks, unpack_mask
from backend.core.stacking import stacking_order
from backend.core.types import Instance, Mask

MOST_FRAMES = 2_000_000  # of a video: almost a day; a file that tells more is damaged


@dataclass(frozen=True, eq=False)
class _Packed:
    mask: PackedMask | None
    score: float
    xyxy: NDArray[np.float32] | None = None  # of one without a mask


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
        self._seen[frame] = _Packed(pack_mask(mask), float(score))

    def add_box(self, frame: int, xyxy: NDArray[np.float32], score: float) -> None:
        """Note the object in a frame by its box alone.

        Args:
            frame: its number.
            xyxy: (4,) in pixels.
            score: 0..1.
        """
        self._seen[frame] = _Packed(None, float(score), xyxy)

    def discard(self, frame: int) -> None:
        """Forget that the object is seen in a frame, if it is."""
        self._seen.pop(frame, None)

    def rows(self, first: int = 0) -> Iterator[tuple[int, PackedMask, float]]:
        """Frame, mask and score of all frames with masks from one on, as ``put`` takes them."""
        for frame, one in self._seen.items():
            if frame >= first and one.mask is not None:
                yield frame, one.mask, one.score

    def put(self, frame: int, mask: PackedMask, score: float) -> None:
        """Note the object in a frame, as ``rows`` gave it."""
        self._seen[frame] = _Packed(mask, score)

    def join(self, other: PackedInstances) -> None:
        """Take the frames of another that this one is not in."""
        for frame, one in other._seen.items():
            self._seen.setdefault(frame, one)

    def mask(self, frame: int) -> Mask:
        """The mask in a frame.

        Raises:
            KeyError: it is not seen there, or only by its box.
        """
        packed = self._seen[frame].mask
        if packed is None:
            raise KeyError(frame)
        return unpack_mask(packed)

    def named(self, label: str, class_id: int, track: int) -> PackedInstances:
        """The same under a name, in order of the frames."""
        made = PackedInstances(label, class_id, track)
        made._seen = dict(sorted(self._seen.items()))
        return made

    def __getitem__(self, frame: int) -> Instance:
        score, xyxy = self._seen[frame].score, self._seen[frame].xyxy
        if xyxy is not None:
            return Instance(self._label, self._class_id, score, xyxy, None, None, self._track)
        mask = self.mask(frame)
        box = mask_xyxy(mask).astype(np.float32)
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


def parted(instances: Sequence[Instance]) -> tuple[dict[int, Mask], int]:
    """Masks of a frame that do not overlap, as some formats ask.

    Where objects overlap, the surer one keeps the pixels, of equals the later one.

    Returns:
        What is left of each mask, by the place of its instance, without those of which nothing is
        left; and how many masks lost pixels.

    >>> import numpy as np
    >>> box = np.zeros(4, np.float32)
    >>> wide = Instance("a", 0, 0.5, box, Mask(0, 0, np.ones((1, 3), np.bool_)))
    >>> sure = Instance("a", 0, 0.9, box, Mask(2, 0, np.ones((1, 3), np.bool_)))
    >>> masks, n = parted([wide, sure])
    >>> masks[0].crop.shape, n
    ((1, 2), 1)
    """
    left: dict[int, Mask] = {}
    on_top: list[Mask] = []
    n_cut = 0
    for k in reversed(stacking_order(instances)):
        mask = instances[k].mask
        if mask is None:
            continue
        rest = subtract_masks(mask, on_top)
        on_top.append(mask)
        n_cut += rest is None or bool(rest.crop.sum() < mask.crop.sum())
        if rest is not None:
            left[k] = rest
    return left, n_cut
