"""Which detection is which object: identities through a video, whatever follows the masks.

Every few frames a detector is asked, and what it finds is joined to the objects that are followed,
by the overlap of masks and the Hungarian method (Kuhn, 1955). An object is shown once several
detections have confirmed it; until then it is followed in silence. Its class is that of most votes,
each weighted by its score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.masks import mask_iou
from backend.core.types import Instance, Mask
from backend.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class IdentityOptions:
    """How identities are given.

    Attributes:
        join_iou: lowest overlap of a detection with the object that it is joined to.
        across_iou: the same where their classes differ.
        confirmations: detections that an object needs to be shown.
        rounds: of detections within which it must get them.
        duplicate_iou: overlap of two objects that are one.
        duplicate_rounds: rounds in which they must overlap so, before the younger one ends.
        most: objects that are followed at once.
    """

    join_iou: float = 0.3
    across_iou: float = 0.7
    confirmations: int = 2
    rounds: int = 3
    duplicate_iou: float = 0.7
    duplicate_rounds: int = 2
    most: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.confirmations <= self.rounds:
            raise ConfigError(
                f"confirmations: expected 1 to {self.rounds}, the rounds, got {self.confirmations}"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Round:
    """What came of one round of detections.

    Attributes:
        joined: the detection of each object that has one.
        begun: new objects, to be followed from this frame on, with their detections.
        confirmed: objects that are shown from now on, and from their first frame.
        ended: objects that are no longer followed: never confirmed, or the same as an older one.
        before: the frame of the detection before, of each object that was joined.
        merged: younger object to the older one that it turned out to be.
        n_refused: detections that would have been one object too many.
    """

    joined: Mapping[int, Instance]
    before: Mapping[int, int]
    begun: Mapping[int, Instance]
    confirmed: Sequence[int]
    ended: Sequence[int]
    merged: Mapping[int, int]
    n_refused: int


@dataclass
class _Object:
    first_frame: int
    looks: list[int] = field(default_factory=list)  # frames of its detections, in order
    rounds: int = 0
    is_confirmed: bool = False
    votes: dict[str, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)  # labels of its detections, in order


def overlaps(ours: Sequence[Mask], theirs: Sequence[Mask]) -> NDArray[np.float64]:
    """IoU of every pair of masks, (len(ours), len(theirs)).

    >>> mask = Mask(0, 0, np.ones((1, 2), np.bool_))
    >>> overlaps([mask], [mask, Mask(1, 0, np.ones((1, 2), np.bool_))]).round(2).tolist()
    [[1.0, 0.33]]
    """
    return np.array([[mask_iou(a, b) for b in theirs] for a in ours]).reshape(
        len(ours), len(theirs)
    )


def pairs_of(values: NDArray[np.float64], allowed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The pairs of rows and columns with the largest sum of values, each used once.

    Args:
        values: (R, C), 0 or more.
        allowed: (R, C), which pairs may be taken.

    >>> pairs_of(np.array([[0.9, 0.8], [0.8, 0.1]]), np.ones((2, 2), bool))
    [(0, 1), (1, 0)]
    """
    from scipy.optimize import linear_sum_assignment

    if not allowed.any():
        return []
    rows, columns = linear_sum_assignment(np.where(allowed, values, 0), maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]


class Identities:
    """The objects of one video, numbered from 1 on.

    Args:
        options: see ``IdentityOptions``.
    """

    def __init__(self, options: IdentityOptions | None = None) -> None:
        self._options = options or IdentityOptions()
        self._objects: dict[int, _Object] = {}
        self._n_given = 0
        self._alike: Counter[tuple[int, int]] = Counter()  # rounds in a row, older and younger
        self.n_refused = 0  # detections beyond the cap

    def saved(self) -> dict[str, Any]:
        """All that is known, as JSON holds it; ``restore`` takes it."""
        return {
            "objects": [[number, asdict(one)] for number, one in self._objects.items()],
            "n_given": self._n_given,
            "alike": [[*pair, count] for pair, count in self._alike.items()],
            "n_refused": self.n_refused,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``saved`` gave."""
        for number, row in saved["objects"]:
            self._objects[number] = _Object(**row)
        self._n_given = saved["n_given"]
        self._alike = Counter({(older, younger): n for older, younger, n in saved["alike"]})
        self.n_refused = saved["n_refused"]

    def label(self, number: int) -> str:
        """The class of an object by its votes; of equals the first."""
        votes = self._objects[number].votes
        return max(votes, key=lambda label: votes[label])

    def first_frame(self, number: int) -> int:
        """The frame of an object's first detection."""
        return self._objects[number].first_frame

    def is_confirmed(self, number: int) -> bool:
        """Whether an object is shown."""
        return self._objects[number].is_confirmed

    def flips(self, number: int) -> int:
        """How often an object's detections changed their class from one to the next."""
        said = self._objects[number].said
        return sum(a != b for a, b in pairwise(said))

    def finish(self, seen: Collection[int]) -> None:
        """The video is over: what every round so far confirmed needs no more of them.

        Args:
            seen: the objects that are seen in the last frame.
        """
        for number in seen:
            known = self._objects[number]
            if known.rounds < self._options.rounds and len(known.looks) == known.rounds:
                known.is_confirmed = True

    def end(self, number: int) -> None:
        """Forget that an object is followed, such as one that is lost; its number stays its own."""
        for pair in [pair for pair in self._alike if number in pair]:
            del self._alike[pair]

    def join(self, younger: int, older: int) -> None:
        """One object turned out to be another; its detections count for that one."""
        known = self._objects[younger]
        own = self._objects[older]
        for label, votes in known.votes.items():
            own.votes[label] = own.votes.get(label, 0.0) + votes
        own.said += known.said
        own.looks = sorted({*own.looks, *known.looks})
        is_enough = len(own.looks) >= self._options.confirmations
        own.is_confirmed = own.is_confirmed or known.is_confirmed or is_enough
        self.end(younger)

    def round(
        self,
        frame: int,
        detected: Sequence[Instance],
        followed: Mapping[int, Mask],
        hidden: Sequence[int] = (),
    ) -> Round:
        """Join detections to the objects that are followed.

        Args:
            frame: number of the frame.
            detected: what was found in it, with masks; others are passed over.
            followed: the mask of every object that is followed and seen in this frame.
            hidden: those that are followed and not seen in it.
        """
        options = self._options
        found = [one for one in detected if one.mask is not None]
        numbers = sorted(followed)
        iou = overlaps(
            [followed[number] for number in numbers],
            [one.mask for one in found if one.mask is not None],
        )
        same = np.array(
            [[self.label(number) == one.label for one in found] for number in numbers], bool
        ).reshape(iou.shape)
        allowed = iou >= np.where(same, options.join_iou, options.across_iou)
        joined = {numbers[r]: found[c] for r, c in pairs_of(iou, allowed)}
        before = {number: self._objects[number].looks[-1] for number in joined}
        for number, one in joined.items():
            self._vote(number, one, frame)
        merged = self._merge(numbers, followed, joined)
        begun, n_refused = self._begin(
            frame, found, joined, iou, len(numbers) + len(hidden) - len(merged)
        )
        confirmed, dropped = self._confirm([n for n in [*numbers, *hidden] if n not in merged])
        confirmed += [n for n in begun if self._objects[n].is_confirmed]
        return Round(
            joined=joined,
            before=before,
            begun=begun,
            confirmed=confirmed,
            ended=[*merged, *dropped],
            merged=merged,
            n_refused=n_refused,
        )

    def _vote(self, number: int, one: Instance, frame: int) -> None:
        known = self._objects[number]
        known.looks.append(frame)
        known.votes[one.label] = known.votes.get(one.label, 0.0) + float(one.score)
        known.said.append(one.label)

    def _merge(
        self, numbers: Sequence[int], followed: Mapping[int, Mask], joined: Collection[int]
    ) -> dict[int, int]:
        """Younger objects that lie on older ones for several rounds."""
        options = self._options
        merged: dict[int, int] = {}
        for k, older in enumerate(numbers):
            for younger in numbers[k + 1 :]:
                pair = (older, younger)
                if mask_iou(followed[older], followed[younger]) < options.duplicate_iou:
                    self._alike.pop(pair, None)
                    continue
                self._alike[pair] += 1
                # What nothing has confirmed yet is at once what it lies on, if it is of its class
                # and both were not just detected, each by itself.
                is_new = not self._objects[younger].is_confirmed
                is_same = is_new and self.label(younger) == self.label(older)
                is_same = is_same and not (older in joined and younger in joined)
                needed = 1 if is_same else options.duplicate_rounds
                if self._alike[pair] >= needed and older not in merged:
                    merged.setdefault(younger, older)
        for younger, older in merged.items():
            self.join(younger, older)
        return merged

    def _begin(
        self,
        frame: int,
        found: Sequence[Instance],
        joined: Mapping[int, Instance],
        iou: NDArray[np.float64],
        n_followed: int,
    ) -> tuple[dict[int, Instance], int]:
        """New objects of the detections that are no known one's."""
        taken = {id(one) for one in joined.values()}
        begun: dict[int, Instance] = {}
        n_refused = 0
        for column, one in enumerate(found):
            # One that lies on a known object is that one once more, under another name.
            repeats = len(iou) > 0 and iou[:, column].max() >= self._options.duplicate_iou
            if id(one) in taken or repeats:
                continue
            if n_followed + len(begun) >= self._options.most:
                n_refused += 1
                continue
            self._n_given += 1
            self._objects[self._n_given] = _Object(frame)
            self._vote(self._n_given, one, frame)
            self._objects[self._n_given].rounds = 1
            self._objects[self._n_given].is_confirmed = self._options.confirmations == 1
            begun[self._n_given] = one
        self.n_refused += n_refused
        return begun, n_refused

    def _confirm(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Objects that are now confirmed, and those that had their chance."""
        confirmed = []
        dropped = []
        for number in numbers:
            known = self._objects[number]
            if known.is_confirmed:
                continue
            known.rounds += 1
            if len(known.looks) >= self._options.confirmations:
                known.is_confirmed = True
                confirmed.append(number)
            elif known.rounds >= self._options.rounds:
                dropped.append(number)
                self.end(number)
        return confirmed, dropped
