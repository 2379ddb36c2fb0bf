"""What a person did to predicted tracks of boxes: which became which, and what was changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from backend.core.boxes import box_iou
from backend.formats.tracks.video_rectangle import KeyFrame

_MOVED = 0.5  # percent of the picture's sides, up to which a key frame counts as left alone
_SAME = 0.5  # mean overlap from which on two tracks are of the same object
_BONUS = 0.5  # overlap that a common id counts as, where the boxes overlap at all


@dataclass(frozen=True, eq=False)
class BoxTrack:
    """One region.

    Attributes:
        id: of the region.
        label: its first label.
        told: its key frames.
        boxes: XYXY in percent by frame, counted from 0; frames that it is not seen in have none.
    """

    id: str
    label: str
    told: list[KeyFrame]
    boxes: dict[int, NDArray[np.float64]]


@dataclass
class Effort:
    """What a person did to predicted tracks.

    Attributes:
        tracks: predicted ones, by what became of them: kept, changed, removed; and added ones.
        key_frames: likewise: kept, moved, added, removed.
        labels: tracks that got another label.
    """

    tracks: Counter[str] = field(default_factory=Counter)
    key_frames: Counter[str] = field(default_factory=Counter)
    labels: int = 0


Pair = tuple[BoxTrack | None, BoxTrack | None]  # predicted, accepted


def pair_tracks(accepted: Sequence[BoxTrack], predicted: Sequence[BoxTrack]) -> list[Pair]:
    """What became of each predicted track: by its boxes, and its id, which other predictions of the
    same task may share.

    Returns:
        Predicted and accepted; None for one that was removed or added.
    """
    pairs: list[Pair] = []
    by_id = {one.id: one for one in accepted}
    for one in predicted:  # what was left where it was needs no comparison with all others
        same = by_id.get(one.id)
        if same is not None and mean_overlap(one, same) >= _SAME:
            pairs.append((one, by_id.pop(one.id)))
    taken = {id(one) for pair in pairs for one in pair}
    left = [one for one in predicted if id(one) not in taken]
    new = [one for one in accepted if id(one) not in taken]
    overlap = np.array([[mean_overlap(a, b) for b in new] for a in left])
    overlap = overlap.reshape(len(left), len(new))
    same_id = np.array([[a.id == b.id for b in new] for a in left], bool)
    same_id = same_id.reshape(overlap.shape) & (overlap > 0)
    allowed = same_id | (overlap >= _SAME)
    worth = np.where(allowed, overlap + _BONUS * same_id, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    found = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if allowed[r, c]}
    pairs += [(left[r], new[c]) for r, c in found.items()]
    pairs += [(one, None) for r, one in enumerate(left) if r not in found]
    pairs += [(None, one) for c, one in enumerate(new) if c not in found.values()]
    return pairs


def count_effort(effort: Effort, pairs: Sequence[Pair]) -> None:
    """Add what was done to the tracks of a video."""
    for before, after in pairs:
        effort.tracks[what_became(before, after)] += 1
        for frame_is in key_frames(before, after).values():
            effort.key_frames[frame_is] += 1
        if before is not None and after is not None:
            effort.labels += before.label != after.label


def what_became(before: BoxTrack | None, after: BoxTrack | None) -> str:
    """``kept``, ``changed``, ``removed`` or ``added``."""
    if after is None:
        return "removed"
    if before is None:
        return "added"
    is_kept = before.label == after.label and set(key_frames(before, after).values()) <= {"kept"}
    return "kept" if is_kept else "changed"


def mean_overlap(a: BoxTrack, b: BoxTrack) -> float:
    """Over the frames that one of them is seen in."""
    frames = a.boxes.keys() | b.boxes.keys()
    both = a.boxes.keys() & b.boxes.keys()
    return sum(box_iou(a.boxes[k], b.boxes[k]) for k in both) / max(1, len(frames))


def key_frames(before: BoxTrack | None, after: BoxTrack | None) -> dict[int, str]:
    """What became of each key frame: ``kept``, ``moved``, ``removed`` or ``added``."""
    old = {} if before is None else {one.frame: one for one in before.told}
    new = {} if after is None else {one.frame: one for one in after.told}
    found = {}
    for frame in sorted(old.keys() | new.keys()):
        if frame not in new:
            found[frame] = "removed"
        elif frame not in old:
            found[frame] = "added"
        else:
            off = float(np.abs(old[frame].xyxy - new[frame].xyxy).max())
            same = off <= _MOVED and old[frame].enabled == new[frame].enabled
            found[frame] = "kept" if same else "moved"
    return found
