"""Detections become tracks: a detector looks every few frames, a video segmenter follows what it
found.

A new object is followed backwards as well, to where it was first seen, through the frames that are
still at hand. Nothing else of the video is kept but the masks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from backend.core.masks import check_mask, mask_iou
from backend.core.protocols import InteractiveLabeler, VideoSegmenter, VideoSession
from backend.core.tracks import PackedInstances, Track
from backend.core.types import Detections, FrameMasks, Image, Instance, Mask
from backend.errors import ConfigError
from backend.labeling.checkpoint import Checkpoint, State
from backend.labeling.follow_back import SEEN, Backwards, ToAgreement, ToFirstSight, follow_back
from backend.labeling.followed import Followed
from backend.labeling.identities import Identities, IdentityOptions, Round
from backend.labeling.stream import Paused, Recent, Scenes

_EXPLODED = 0.8  # share of the picture that no mask grows to from one frame to the next
_GROWN = 3.0  # times that it must have grown
_MOST_ANCHORS = 4  # of an object, before its memory begins anew


@dataclass(frozen=True, kw_only=True)
class FollowOptions:
    """How a video is gone through.

    Attributes:
        every: the detector looks at each n-th frame, and where the scene changes.
        keep_alive: frames that an object may be out of sight before it ends.
        back: frames that are kept to follow new objects backwards.
        anchor_iou: overlap of an object with its detection below which the detection's mask takes
            its place, as it has drifted away.
        identities: how detections are joined to objects.
    """

    every: int = 12
    keep_alive: int = 45
    back: int = 36
    anchor_iou: float = 0.75
    identities: IdentityOptions = field(default_factory=IdentityOptions)

    def __post_init__(self) -> None:
        for name in ("every", "keep_alive", "back"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected 1 or more, got {getattr(self, name)}")


class Follower:
    """Follows the objects of one video.

    Args:
        labeler: detects, and outlines what it detected.
        segmenter: follows the outlines.
        options: see ``FollowOptions``.
        thresholds: lowest scores by class index; classes that are not among them are dropped. None
            keeps all.
    """

    def __init__(
        self,
        labeler: InteractiveLabeler,
        segmenter: VideoSegmenter,
        options: FollowOptions | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> None:
        self._thresholds = thresholds
        self._labeler = labeler
        self._segmenter = segmenter
        self._options = options or FollowOptions()
        self._identities = Identities(self._options.identities)
        self._seen: defaultdict[int, PackedInstances] = defaultdict(PackedInstances)
        self._missing: Counter[int] = Counter()  # frames in a row out of sight, of those followed
        self._anchors: Counter[int] = Counter()  # how often an object was set right
        self._alive: set[int] = set()
        self._scene_from = 0  # the first frame of the scene
        self.began_at = 0  # the first frame that was not done by an earlier run

    def run(
        self,
        images: Iterable[Image],
        given: Mapping[int, Detections | Sequence[Instance]] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Followed:
        """Go through a video.

        Args:
            images: its frames, RGB uint8 (H, W, 3), all of one size; they may raise ``Paused``.
            given: detections by frame, in the place of the detector, or objects with their masks;
                frames that are not among them are not looked at.
            checkpoint: where the work is kept every so many frames, and taken up where it was left.

        Raises:
            InputError: frames of several sizes.
            Unavailable: the disk refuses a checkpoint.
        """
        recent = Recent(images, self._options.back + 1)
        scenes = Scenes()
        n_cuts = 0
        state = None if checkpoint is None else checkpoint.load()
        number, n_looks = (0, 0) if state is None else self._restore(state)
        size_hw = (0, 0)
        try:
            for done in range(number):  # what was gone through is decoded only
                if (image := recent.advance()) is not None:
                    size_hw = (image.shape[0], image.shape[1])
                    n_cuts += self._changes(scenes, image, done)
        except Paused:  # there is not even time for that
            return replace(self._result(size_hw, number, n_looks, n_cuts), is_whole=False)
        session = self._segmenter.start(recent, None if state is None else state.session)
        is_whole = True

        def keep() -> None:
            if checkpoint is not None and number:
                checkpoint.save(self._state(number, n_looks, session), self._options.back)

        while True:
            try:
                image = recent.advance()
            except Paused:
                keep()
                is_whole = False
                break
            except BaseException:
                keep()  # the user wants to end, or the rest cannot be read
                raise
            if image is None:
                break
            size_hw = (image.shape[0], image.shape[1])
            is_cut = self._changes(scenes, image, number)
            n_cuts += is_cut
            masks = self._step(session, number, size_hw)
            looks = number % self._options.every == 0 or is_cut
            if number in given if given is not None else looks:
                n_looks += 1
                found = self._detect(image, None if given is None else given[number])
                self._join(session, recent, number, found, masks)
            session.forget(number)
            number += 1
            if checkpoint is not None and checkpoint.is_due(number):
                keep()
        self._identities.finish([k for k in self._alive if number - 1 in self._seen[k]])
        return replace(self._result(size_hw, number, n_looks, n_cuts), is_whole=is_whole)

    def _changes(self, scenes: Scenes, image: Image, number: int) -> bool:
        is_cut = scenes.changed(image)
        if is_cut:
            self._scene_from = number
        return is_cut

    def _state(self, number: int, n_looks: int, session: VideoSession) -> State:
        return State(
            number=number,
            n_looks=n_looks,
            session=session.saved(),
            identities=self._identities.saved(),
            missing=dict(self._missing),
            anchors=dict(self._anchors),
            alive=sorted(self._alive),
            seen=self._seen,
        )

    def _restore(self, state: State) -> tuple[int, int]:
        """Go on from a state; returns how many frames and looks it has behind it."""
        self._identities.restore(state.identities)
        self._missing.update(state.missing)
        self._anchors.update(state.anchors)
        self._alive = set(state.alive)
        self._seen.update(state.seen)
        self.began_at = state.number
        return state.number, state.n_looks

    def _step(
        self, session: VideoSession, number: int, size_hw: tuple[int, int]
    ) -> dict[int, Mask]:
        """Follow what is followed into a frame; returns the masks of what is seen in it."""
        if not self._alive:
            return {}
        answer = session.step()
        if answer is None or answer.frame != number:
            raise IndexError(number)
        masks = self._masks(answer, size_hw)
        for object_id in sorted(self._alive):
            if object_id in masks:
                self._missing[object_id] = 0
                continue
            self._missing[object_id] += 1
            if self._missing[object_id] > self._options.keep_alive:
                self._end(session, object_id)
        return masks

    def _masks(self, answer: FrameMasks, size_hw: tuple[int, int]) -> dict[int, Mask]:
        """Note what is seen in a frame."""
        outlines = self._labeler.outline(answer.masks)
        masks = {}
        for k, object_id in enumerate(answer.object_ids):
            mask = outlines[k]
            presence = float(answer.masks.quality[k])
            if mask is None or presence < SEEN or object_id not in self._alive:
                continue
            if self._is_exploded(object_id, answer.frame, mask, size_hw):
                continue
            masks[object_id] = mask
            self._seen[object_id].add(answer.frame, mask, presence)
        return masks

    def _is_exploded(
        self, object_id: int, frame: int, mask: Mask, size_hw: tuple[int, int]
    ) -> bool:
        """A lost object's mask can come to fill the picture at once."""
        area = int(mask.crop.sum())
        before = self._seen[object_id]
        if area < _EXPLODED * size_hw[0] * size_hw[1] or frame - 1 not in before:
            return False
        return area > _GROWN * int(before.mask(frame - 1).crop.sum())

    def _detect(
        self, image: Image, given: Detections | Sequence[Instance] | None
    ) -> list[Instance]:
        if given is not None and not isinstance(given, Detections):
            for one in given:
                if one.mask is not None:
                    check_mask(one.mask, (image.shape[0], image.shape[1]))
            return list(given)
        boxes = None if given is None else [given]
        raw = self._labeler.infer([image], boxes, thresholds=self._thresholds)
        return list(self._labeler.finish(raw[0]).instances)

    def _join(
        self,
        session: VideoSession,
        recent: Recent,
        number: int,
        found: Sequence[Instance],
        masks: Mapping[int, Mask],
    ) -> None:
        """One round of detections."""
        hidden = sorted(self._alive - set(masks))
        made = self._identities.round(number, found, masks, hidden)
        for younger, older in made.merged.items():
            self._seen[older].join(self._seen.pop(younger))
        drifted = []
        for object_id, instance in made.joined.items():
            if object_id in made.merged:
                continue  # it is part of an older one by now
            if self._anchor(session, number, object_id, instance, masks[object_id]):
                drifted.append(object_id)
        for object_id in made.ended:
            self._end(session, object_id)
        for object_id, instance in made.begun.items():
            if instance.mask is None:
                continue
            session.prompt_mask(number, object_id, instance.mask)
            self._alive.add(object_id)
            self._missing[object_id] = 0
            self._seen[object_id].add(number, instance.mask, instance.score)
        self._go_back(session, recent, number, made, drifted, hidden)

    def _anchor(
        self, session: VideoSession, number: int, object_id: int, one: Instance, mask: Mask
    ) -> bool:
        """Set an object right if it has drifted away from its detection."""
        if one.mask is None or mask_iou(one.mask, mask) >= self._options.anchor_iou:
            return False
        self._anchors[object_id] += 1
        if self._anchors[object_id] % _MOST_ANCHORS == 0:
            session.drop(object_id)  # what was set right is read for ever, and would grow
        session.prompt_mask(number, object_id, one.mask)
        self._seen[object_id].add(number, one.mask, one.score)
        return True

    def _may_be(self, younger: int, hidden: Sequence[int]) -> list[int]:
        """The objects that a new one may turn out to be: of its class, and out of sight now."""
        label = self._identities.label(younger)
        there = [k for k in hidden if k in self._alive]
        return [k for k in there if self._identities.label(k) == label]

    def _found_again(self, session: VideoSession, number: int, younger: int, older: int) -> None:
        """A new object turned out to be one that was lost."""
        session.drop(younger)
        session.drop(older)  # its memory lost it, and prompts are read for ever
        found = self._seen.pop(younger)
        session.prompt_mask(number, older, found.mask(number))
        for row in found.rows():
            self._seen[older].put(*row)
        self._alive.discard(younger)
        self._missing[older] = 0
        self._identities.join(younger, older)

    def _go_back(
        self,
        session: VideoSession,
        recent: Recent,
        number: int,
        made: Round,
        drifted: Sequence[int],
        hidden: Sequence[int],
    ) -> None:
        """Follow new objects to where they were first seen, and put right how others drifted."""
        join_iou = self._options.identities.join_iou

        @lru_cache(maxsize=1)
        def known_at(frame: int) -> dict[int, Mask]:
            return {
                k: seen.mask(frame)
                for k, seen in self._seen.items()
                if k not in made.begun and frame in seen
            }

        new = {
            k: ToFirstSight(self._seen[k], known_at, self._may_be(k, hidden), join_iou)
            for k, one in made.begun.items()
            if one.mask is not None
        }
        starts: dict[int, tuple[Mask, Backwards]] = {}
        for k in drifted:  # first, so that new ones are compared with what is right
            right = ToAgreement(self._seen[k], number, made.before[k], self._options.anchor_iou)
            starts[k] = (self._seen[k].mask(number), right)
        starts |= {k: (self._seen[k].mask(number), visitor) for k, visitor in new.items()}
        if starts:
            session_back = self._segmenter.start(recent)
            follow_back(session_back, self._labeler, number, self._scene_from, starts)
        lost = set(self._alive)
        for younger, visitor in new.items():
            if visitor.is_of in lost:
                lost.discard(visitor.is_of)
                self._found_again(session, number, younger, visitor.is_of)

    def _end(self, session: VideoSession, object_id: int) -> None:
        session.drop(object_id)
        self._alive.discard(object_id)
        self._identities.end(object_id)
        if not self._identities.is_confirmed(object_id):
            # It is never shown, and must not stop others that are followed back to its place.
            self._seen.pop(object_id, None)

    def _result(
        self, size_hw: tuple[int, int], n_frames: int, n_looks: int, n_cuts: int
    ) -> Followed:
        class_ids = {name: k for k, name in self._labeler.names.items()}
        shown = [k for k in sorted(self._seen) if self._identities.is_confirmed(k)]
        tracks = []
        flips = {}
        for number, object_id in enumerate(shown, 1):
            label = self._identities.label(object_id)
            seen = self._seen[object_id].named(label, class_ids.get(label, 0), number)
            tracks.append(Track(id=number, label=label, seen=seen))
            flips[number] = self._identities.flips(object_id)
        return Followed(
            tracks=tuple(tracks),
            size_hw=size_hw,
            n_frames=n_frames,
            n_looks=n_looks,
            n_cuts=n_cuts,
            n_refused=self._identities.n_refused,
            flips=flips,
        )
