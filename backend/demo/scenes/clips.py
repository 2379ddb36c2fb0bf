"""Generated videos of moving objects with exact masks: every frame is a pure function of the seed
and its number.

Objects cross the picture and come back, bounce, or circle; they turn, grow and shrink, hide each
other, leave and return. The ground stands still, or drifts as under a moving camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.demo.scenes.compose import Camera, lamp, place, shadow
from backend.demo.scenes.grounds import lay
from backend.demo.scenes.objects import CLASS_NAMES, Floats, Patch, Rng, draw_object

SIZE_HW = (240, 320)
_DRIFTING = 0.55  # share of clips whose ground drifts
_FEWEST = 2
_MOST = 7
_CLIP = 2  # tells the random numbers of clips from those of pictures
_NOISE = 3


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """A frame and its truth."""

    number: int
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    objects: NDArray[np.uint8]  # (H, W), k where the k-th object is visible, 0 = background


@dataclass(frozen=True, eq=False)
class _Mover:
    """One object: how it looks, and where it is when."""

    patch: Patch
    radius: float  # of the patch, in pixels
    way: str  # cross, bounce or circle
    start: Floats  # (2,) share of the way, x and y
    speed: Floats  # (2,) shares a frame
    turn: float  # radians
    turning: float  # a frame
    swell: float  # share by which it grows and shrinks
    swelling: float  # periods a frame

    def at(self, number: int, height: int, width: int) -> tuple[float, float, float, float]:
        """Centre x and y in pixels, angle in radians, and scale."""
        share = self.start + self.speed * number
        beyond = 1.3 * self.radius  # so far outside nothing of it is seen
        if self.way == "circle":
            ring = 0.5 + 0.42 * np.array(
                [np.cos(2 * np.pi * share[0]), np.sin(2 * np.pi * share[1])]
            )
            x = float(ring[0]) * width
            y = float(ring[1]) * height
        elif self.way == "bounce":
            there = 1 - np.abs(share % 2 - 1)
            x = float(there[0]) * width
            y = float(there[1]) * height
        else:  # leaves on one side and comes back on the other
            there = share % 1
            x = float(there[0]) * (width + 2 * beyond) - beyond
            y = float(there[1]) * (height + 2 * beyond) - beyond
        scale = 1 + self.swell * float(np.sin(2 * np.pi * self.swelling * number))
        return x, y, self.turn + self.turning * number, scale


def _mover(rng: Rng, height: int, width: int, light: Floats) -> tuple[int, _Mover]:
    class_id = int(rng.integers(len(CLASS_NAMES)))
    short = min(height, width)
    radius = short * float(np.exp(rng.uniform(np.log(0.09), np.log(0.2))))
    patch = draw_object(CLASS_NAMES[class_id], 1.3 * radius, light, rng)
    way = ("cross", "bounce", "circle")[int(rng.integers(3))]
    around = rng.uniform(0, 2 * np.pi)
    pace = rng.uniform(0.008, 0.03)  # of the picture a frame
    speed = pace * np.array([np.cos(around), np.sin(around)])
    if way == "circle":
        speed = np.full(2, pace / 2.5) * rng.choice([-1, 1])
    return class_id, _Mover(
        patch=patch,
        radius=radius,
        way=way,
        start=rng.random(2).astype(np.float32),
        speed=speed.astype(np.float32),
        turn=rng.uniform(0, 2 * np.pi),
        turning=rng.uniform(-0.07, 0.07),
        swell=rng.uniform(0, 0.25),
        swelling=rng.uniform(0.01, 0.04),
    )


def _warped(mover: _Mover, angle: float, scale: float) -> Patch:
    """The patch turned and scaled, square around its centre."""
    n = mover.patch.alpha.shape[0]
    factor = scale / 1.3  # it was drawn larger, so that it is never blown up
    side = int(np.ceil(n * factor * 1.05)) + 2
    turn = np.asarray(
        cv2.getRotationMatrix2D((n / 2, n / 2), float(np.degrees(angle)), factor), np.float64
    )
    turn[:, 2] += (side - n) / 2
    flags = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
    rgb = cv2.warpAffine(mover.patch.rgb, turn, (side, side), flags=flags)
    alpha = cv2.warpAffine(mover.patch.alpha, turn, (side, side), flags=flags)
    return Patch(np.asarray(rgb, np.float32), np.asarray(np.clip(alpha, 0, 1), np.float32))


class Clip:
    """A generated video.

    Attributes:
        class_ids: index into ``CLASS_NAMES`` of each object, in order of their numbers from 1 on;
            a larger number lies on top.

    Args:
        seed: any non-negative integer; the same seed gives the same clip.
        size_hw: height and width in pixels.
    """

    def __init__(self, seed: int, size_hw: tuple[int, int] = SIZE_HW) -> None:
        rng = np.random.default_rng([2026, seed, _CLIP])
        self._seed = seed
        self._size_hw = size_hw
        height, width = size_hw
        light, self._shift = lamp(rng)
        self._drift = rng.uniform(0.004, 0.02, 2) if rng.random() < _DRIFTING else np.zeros(2)
        self._phase = rng.random(2)
        # Drawn at twice the size, so that there is somewhere to drift to.
        self._ground = lay(rng, 2 * height, 2 * width, self._shift).light
        made = [
            _mover(rng, height, width, light) for _ in range(int(rng.integers(_FEWEST, _MOST + 1)))
        ]
        self.class_ids = tuple(class_id for class_id, _ in made)
        self._movers = [mover for _, mover in made]
        self._camera = Camera.of(rng, size_hw)

    def frame(self, number: int) -> ClipFrame:
        """A frame, whichever was asked for before.

        >>> clip = Clip(7)
        >>> bool((clip.frame(5).image == Clip(7).frame(5).image).all())
        True
        """
        height, width = self._size_hw
        swing = 0.5 + 0.5 * np.sin(2 * np.pi * (self._phase + self._drift * number))
        top = int(swing[0] * height)
        left = int(swing[1] * width)
        frame = self._ground[top : top + height, left : left + width].copy()
        objects = np.zeros(self._size_hw, np.uint8)
        for k, mover in enumerate(self._movers):
            x, y, angle, scale = mover.at(number, height, width)
            patch = _warped(mover, angle, scale)
            half = patch.alpha.shape[0] / 2
            corner = (round(x - half), round(y - half))
            rows, cols, patch_rows, patch_cols = place(patch, *corner, height, width)
            if rows.start >= rows.stop or cols.start >= cols.stop:
                continue
            alpha = patch.alpha[patch_rows, patch_cols]
            shadow(frame, patch, *corner, self._shift, mover.radius)
            frame[rows, cols] *= 1 - alpha[..., None]
            frame[rows, cols] += patch.rgb[patch_rows, patch_cols]
            objects[rows, cols][alpha > 0.5] = k + 1
        noise = np.random.default_rng([2026, self._seed, _NOISE, number])
        return ClipFrame(number, self._camera.take(noise, frame), objects)

    def frames(self, count: int, start: int = 0) -> Iterator[ClipFrame]:
        """Frames one after the other."""
        for number in range(start, start + count):
            yield self.frame(number)
