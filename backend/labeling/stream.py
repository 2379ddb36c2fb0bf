"""Frames while they are gone through: the last ones at hand, and where the scene changes."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from backend.core.types import Image

_THUMBNAIL = 32  # pixels; two frames are compared at this size
_CUT = 45.0  # mean difference of grey values, of 255, from which on a frame is of another scene


class Paused(Exception):
    """Raised by a stream of frames: the rest is for another time."""


class Recent:
    """The last frames of a stream, by their numbers; older ones are gone.

    Args:
        images: the stream, from frame 0 on.
        keep: how many frames stay at hand.
    """

    def __init__(self, images: Iterable[Image], keep: int) -> None:
        self._images = iter(images)
        self._keep = keep
        self._kept: dict[int, Image] = {}
        self._next = 0

    def advance(self) -> Image | None:
        """The next frame of the stream, which is at hand from now on; None at its end."""
        image = next(self._images, None)
        if image is not None:
            self._kept[self._next] = image
            self._kept.pop(self._next - self._keep, None)
            self._next += 1
        return image

    def __getitem__(self, number: int) -> Image:
        if number not in self._kept:
            raise IndexError(number)
        return self._kept[number]


class Scenes:
    """Tells where a video changes its scene."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None

    def changed(self, image: Image) -> bool:
        """Whether a frame is of another scene than the one before."""
        small = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        before = self._before
        self._before = grey
        return before is not None and float(np.abs(grey - before).mean()) > _CUT
