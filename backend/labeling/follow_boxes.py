"""Boxes that a person drew on a video, followed through the frames after them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.core.protocols import InteractiveLabeler, VideoSegmenter
from backend.core.tracks import PackedInstances
from backend.core.types import FrameMasks, Image, Prompts
from backend.labeling.follow_back import SEEN
from backend.labeling.stream import Paused, Recent

KEEP_ALIVE = 45  # frames that an object may be out of sight before it is followed no longer


@dataclass(frozen=True, eq=False)
class GivenBox:
    """A box in a frame.

    Attributes:
        xyxy: (4,) in pixels.
        goes_on: whether the object is seen after this frame.
    """

    xyxy: NDArray[np.float64]
    goes_on: bool = True


@dataclass(frozen=True, eq=False)
class FollowedBoxes:
    """What came of boxes.

    Attributes:
        seen: each object by its id, in the frames that it is seen in.
        size_hw: of the frames, in pixels.
        n_frames: how many were gone through.
        is_whole: whether the end was reached, or the last object lost.
    """

    seen: Mapping[int, PackedInstances]
    size_hw: tuple[int, int]
    n_frames: int
    is_whole: bool


class BoxFollower:
    """Follows boxes, each until it is lost or somebody says that it is gone.

    Args:
        labeler: makes pixels of the masks.
        segmenter: follows.
        keep_alive: see ``KEEP_ALIVE``.
    """

    def __init__(
        self,
        labeler: InteractiveLabeler,
        segmenter: VideoSegmenter,
        keep_alive: int = KEEP_ALIVE,
    ) -> None:
        self._labeler = labeler
        self._segmenter = segmenter
        self._keep_alive = keep_alive
        self._seen: defaultdict[int, PackedInstances] = defaultdict(PackedInstances)
        self._missing: Counter[int] = Counter()  # frames in a row, of those that are followed

    def run(
        self, images: Iterable[Image], given: Mapping[int, Mapping[int, GivenBox]]
    ) -> FollowedBoxes:
        """Go through a video.

        Args:
            images: its frames, RGB uint8 (H, W, 3), all of one size; they may raise ``Paused``.
            given: object id to its boxes by frame. One in a frame that the object was followed
                into corrects it.

        Raises:
            InputError: frames of several sizes.
        """
        recent = Recent(images, 2)
        session = self._segmenter.start(recent)
        last_given = max((frame for boxes in given.values() for frame in boxes), default=-1)
        number = 0
        size_hw = (0, 0)
        is_whole = True
        while self._missing or number <= last_given:
            try:
                image = recent.advance()
            except Paused:
                is_whole = False
                break
            if image is None:
                break
            size_hw = (image.shape[0], image.shape[1])
            if self._missing and (answer := session.step()) is not None:
                self._note(answer)
            for object_id, boxes in given.items():
                box = boxes.get(number)
                if box is None:
                    continue
                limits = np.array([size_hw[1], size_hw[0]] * 2, np.float64)
                inside = np.clip(box.xyxy, 0, limits).astype(np.float32)
                if (inside[2:] - inside[:2] >= 1).all():
                    self._missing[object_id] = 0
                    self._note(session.prompt(number, object_id, Prompts(inside)))
                if not box.goes_on:
                    self._missing[object_id] = self._keep_alive + 1
            for object_id in [k for k, n in self._missing.items() if n > self._keep_alive]:
                session.drop(object_id)
                del self._missing[object_id]
            session.forget(number)
            number += 1
        return FollowedBoxes(dict(self._seen), size_hw, number, is_whole)

    def _note(self, answer: FrameMasks) -> None:
        outlines = self._labeler.outline(answer.masks)
        for k, object_id in enumerate(answer.object_ids):
            mask = outlines[k]
            presence = float(answer.masks.quality[k])
            if mask is None or presence < SEEN:
                self._missing[object_id] += 1
            else:
                self._missing[object_id] = 0
                self._seen[object_id].add(answer.frame, mask, presence)
