"""Objects followed backwards from a detection, through the frames that are still at hand: a new one
to where it was first seen, one that had drifted away to where it was still right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from backend.core.masks import mask_iou
from backend.core.protocols import InteractiveLabeler, VideoSession
from backend.core.tracks import PackedInstances
from backend.core.types import Mask

SEEN = 0.5  # presence from which on an object counts as seen
_MISSES = 12  # frames in a row without an object, after which it is not followed further
_AGAIN_IOU = 0.5  # overlap at which a new object is one that was lost, which it was followed to


class Backwards(Protocol):
    """What is done with an object that is followed backwards."""

    def visit(self, frame: int, mask: Mask | None, presence: float) -> bool:
        """Take the object in a frame.

        Args:
            frame: its number; they come one by one, downwards.
            mask: of the object; None where it is not seen.
            presence: 0..1.

        Returns:
            Whether to follow it further.
        """


def follow_back(
    session: VideoSession,
    labeler: InteractiveLabeler,
    number: int,
    first: int,
    starts: Mapping[int, tuple[Mask, Backwards]],
) -> None:
    """Follow objects backwards.

    Args:
        session: in which nothing was prompted yet.
        labeler: outlines what was found.
        number: of the frame to begin at.
        first: the first frame of its scene, at which all end.
        starts: by object, its mask in that frame and what is done with it.
    """
    if number <= first:
        return
    going = dict(starts)
    for object_id, (start, _) in going.items():
        session.prompt_mask(number, object_id, start)
    while going and (answer := session.step(backward=True)) is not None and answer.frame >= first:
        outlines = labeler.outline(answer.masks)
        for k, object_id in enumerate(answer.object_ids):
            presence = float(answer.masks.quality[k])
            mask = outlines[k] if presence >= SEEN else None
            if not going[object_id][1].visit(answer.frame, mask, presence):
                session.drop(object_id)
                del going[object_id]


class ToFirstSight:
    """A new object: it is noted in all frames up to where it was first seen, or to where an object
    lies that is known already. If that one is out of sight by now, the two are one.

    Args:
        own: where it was seen; grows.
        known_at: the known objects in a frame, by number.
        lost: those that it may turn out to be.
        join_iou: overlap at which it lies where a known one does.
    """

    def __init__(
        self,
        own: PackedInstances,
        known_at: Callable[[int], Mapping[int, Mask]],
        lost: Sequence[int],
        join_iou: float,
    ) -> None:
        self._own = own
        self._known_at = known_at
        self._lost = set(lost)
        self._join_iou = join_iou
        self._misses = 0
        self.is_of: int | None = None  # the known object that it turned out to be

    def visit(self, frame: int, mask: Mask | None, presence: float) -> bool:
        if mask is None:
            self._misses += 1
            return self._misses < _MISSES
        overlaps = {k: mask_iou(mask, one) for k, one in self._known_at(frame).items()}
        nearest = max(overlaps, key=lambda k: overlaps[k], default=None)
        if nearest is not None and overlaps[nearest] >= self._join_iou:
            if nearest in self._lost and overlaps[nearest] >= _AGAIN_IOU:
                self.is_of = nearest
            return False
        self._misses = 0
        self._own.add(frame, mask, presence)
        return True


class ToAgreement:
    """An object that had drifted away from its detection: its masks are replaced back to where they
    were still right. If they never agree, those nearer to this detection than to the one before are
    replaced.

    Args:
        own: where it was seen; its masks are replaced.
        number: the frame of the detection.
        since: the frame of the detection before.
        agreed_iou: overlap at which the old mask is right.
    """

    def __init__(self, own: PackedInstances, number: int, since: int, agreed_iou: float) -> None:
        self._own = own
        self._since = since
        self._middle = (number + since) / 2
        self._agreed_iou = agreed_iou
        self._kept: list[tuple[int, Mask, float]] = []  # of the farther half

    def visit(self, frame: int, mask: Mask | None, presence: float) -> bool:
        if frame <= self._since or mask is None:
            return False
        if frame in self._own and mask_iou(mask, self._own.mask(frame)) >= self._agreed_iou:
            for kept in self._kept:
                self._own.add(*kept)
            return False
        if frame > self._middle:
            self._own.add(frame, mask, presence)
        else:
            self._kept.append((frame, mask, presence))
        return True
