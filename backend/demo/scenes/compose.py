"""Generated pictures of six kinds of object with exact instance masks: a pure function of the seed.

They stand in for photographs wherever none may be had: the embedded models are trained on them, the
bundled samples come from here, and so does the ground truth of every test of the whole chain.

    python -m backend.demo.scenes --seed 7 --count 20 --out DIR      writes a VOC dataset
    and a prompt file of true boxes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.demo.scenes.grounds import lay
from backend.demo.scenes.objects import CLASS_NAMES, Floats, Patch, Rng, draw_object

SIZES_HW: tuple[tuple[int, int], ...] = ((480, 640), (375, 500), (640, 480), (427, 640), (512, 512))
_MIN_VISIBLE = 0.6  # of an object's own area, after whatever lies on top of it and beyond the frame

# Seeds are split so that nothing is ever measured on what it was trained or chosen on.
TRAIN_SEEDS = range(0, 1_000_000)
VALIDATION_SEEDS = range(1_000_000, 2_000_000)
TEST_SEEDS = range(2_000_000, 3_000_000)
SAMPLE_SEEDS = range(3_000_000, 3_000_012)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        objects: (H, W) uint8, 0 = background, k = the k-th object where it is visible.
        class_ids: index into ``CLASS_NAMES`` per object, or into the names that were asked for.
        clutter: (H, W) uint8, 0 = none, k = the k-th piece of clutter where it is visible.
        clutter_kinds: of each piece, of ``grounds.CLUTTER_KINDS``; they belong to no class.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    class_ids: tuple[int, ...]
    clutter: NDArray[np.uint8] | None = None
    clutter_kinds: tuple[str, ...] = ()


def place(
    patch: Patch, x: int, y: int, height: int, width: int
) -> tuple[slice, slice, slice, slice]:
    """Row and column slices into the frame, then into the patch, for a patch whose corner lies at
    (x, y).
    """
    n = patch.alpha.shape[0]
    top = max(0, y)
    left = max(0, x)
    bottom = min(height, y + n)
    right = min(width, x + n)
    return (
        slice(top, bottom),
        slice(left, right),
        slice(top - y, bottom - y),
        slice(left - x, right - x),
    )


def _compose(
    rng: Rng,
    frame: Floats,
    objects: NDArray[np.uint8],
    light: Floats,
    shift: tuple[float, float],
    names: Sequence[str],
) -> list[int]:
    """Lay objects into ``frame`` and ``objects`` in place, back to front; returns their classes."""
    height, width = objects.shape
    short = min(height, width)
    classes: list[int] = []
    areas: list[int] = []
    wanted = int(rng.integers(3, 10))
    for _ in range(wanted * 4):
        if len(classes) == wanted:
            break
        class_id = int(rng.integers(len(names)))
        radius = short * float(np.exp(rng.uniform(np.log(0.06), np.log(0.2))))
        patch = draw_object(names[class_id], radius, light, rng)
        n = patch.alpha.shape[0]
        x, y = (
            int(v)
            for v in rng.integers([-n // 3, -n // 3], [width - 2 * n // 3, height - 2 * n // 3])
        )
        rows, cols, patch_rows, patch_cols = place(patch, x, y, height, width)
        solid = patch.alpha[patch_rows, patch_cols] > 0.5
        own = int((patch.alpha > 0.5).sum())
        if solid.sum() < _MIN_VISIBLE * own:
            continue
        hidden = np.bincount(objects[rows, cols][solid], minlength=len(classes) + 1)[1:]
        visible = np.bincount(objects.ravel(), minlength=len(classes) + 1)[1:]
        if any(v - k < _MIN_VISIBLE * a for v, k, a in zip(visible, hidden, areas, strict=True)):
            continue
        classes.append(class_id)
        areas.append(own)
        shadow(frame, patch, x, y, shift, radius)
        frame[rows, cols] *= 1 - patch.alpha[patch_rows, patch_cols, None]
        frame[rows, cols] += patch.rgb[patch_rows, patch_cols]
        objects[rows, cols][solid] = len(classes)
    return classes


def shadow(
    frame: Floats, patch: Patch, x: int, y: int, shift: tuple[float, float], radius: float
) -> None:
    """Darken what lies below a patch whose corner is at (x, y), in place."""
    reach = radius * 0.16
    pad = int(reach * 4) + 2
    wide = cv2.copyMakeBorder(patch.alpha, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    soft = np.asarray(cv2.GaussianBlur(wide, (0, 0), 1 + reach * 0.6), np.float32)
    cast = Patch(patch.rgb, soft)
    dx = int(shift[0] / 6 * reach)
    dy = int(shift[1] / 6 * reach)
    rows, cols, patch_rows, patch_cols = place(cast, x - pad + dx, y - pad + dy, *frame.shape[:2])
    if rows.start < rows.stop and cols.start < cols.stop:
        frame[rows, cols] *= 1 - 0.55 * soft[patch_rows, patch_cols, None]


@dataclass(frozen=True, eq=False)
class Camera:
    """What a camera adds: vignette, colour cast, blur and noise."""

    vignette: Floats  # (H, W, 1)
    cast: Floats  # (3,)
    gain: np.float32
    blur: float  # pixels
    grain: float

    @classmethod
    def of(cls, rng: Rng, size_hw: tuple[int, int]) -> Camera:
        """A camera for pictures of a size."""
        y = np.linspace(-1, 1, size_hw[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, size_hw[1], dtype=np.float32)[None]
        vignette = (1 - rng.uniform(0, 0.18) * (x * x + y * y))[..., None].astype(np.float32)
        return cls(
            vignette=vignette,
            cast=rng.uniform(0.9, 1.1, 3).astype(np.float32),
            gain=np.float32(rng.uniform(0.85, 1.1)),
            blur=rng.uniform(0.3, 0.8),
            grain=rng.uniform(0.004, 0.018),
        )

    def take(self, rng: Rng, frame: Floats) -> NDArray[np.uint8]:
        """The picture of a frame of light, (H, W, 3) in 0..1."""
        frame = frame * self.vignette
        frame = frame * self.cast * self.gain
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), self.blur), np.float32)
        frame = frame + rng.normal(0, self.grain, frame.shape).astype(np.float32)
        return np.asarray(np.clip(frame * 255 + 0.5, 0, 255), np.uint8)


def lamp(rng: Rng) -> tuple[Floats, tuple[float, float]]:
    """Where the light comes from, a unit vector (3,), and which way shadows fall, in pixels."""
    around = rng.uniform(0, 2 * np.pi)
    lift = rng.uniform(0.5, 0.85)
    flat = np.sqrt(1 - lift**2)
    light = np.array([flat * np.cos(around), flat * np.sin(around), lift], np.float32)
    return light, (-float(light[0]) * 7, -float(light[1]) * 7)


def generate(
    seed: int, size_hw: tuple[int, int] | None = None, names: Sequence[str] = CLASS_NAMES
) -> Scene:
    """Generate one scene.

    Args:
        seed: any non-negative integer; the same seed gives the same scene.
        size_hw: height and width in pixels; None draws one of ``SIZES_HW``.
        names: of the objects in it, see ``draw_object``.

    Returns:
        A scene with 3 to 9 objects, each at least 60 % visible.
    """
    rng = np.random.default_rng([2026, seed])
    height, width = SIZES_HW[rng.integers(len(SIZES_HW))] if size_hw is None else size_hw
    light, shift = lamp(rng)
    ground = lay(rng, height, width, shift)
    frame = ground.light
    objects = np.zeros((height, width), np.uint8)
    classes = _compose(rng, frame, objects, light, shift, names)
    camera = Camera.of(rng, (height, width))
    clutter = np.where(objects == 0, ground.clutter, 0).astype(np.uint8)
    image = camera.take(rng, frame)
    return Scene(image, objects, tuple(classes), clutter, ground.kinds)
