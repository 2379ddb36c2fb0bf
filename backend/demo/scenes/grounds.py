"""What generated scenes are laid on: six kinds of ground, and clutter that belongs to no class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.demo.scenes.objects import Floats, Rng, colour, noise


@dataclass(frozen=True, eq=False)
class Ground:
    """What objects are laid on.

    Attributes:
        light: (H, W, 3) float32 in 0..1.
        clutter: (H, W) uint8, 0 = none, k = the k-th piece of clutter where it is visible.
        kinds: of each piece, of ``CLUTTER_KINDS``.
    """

    light: Floats
    clutter: NDArray[np.uint8]
    kinds: tuple[str, ...]


def _tinted(shade: Floats, tint: Floats) -> Floats:
    return np.asarray(np.clip(shade[..., None] * tint, 0, 1), np.float32)


def _wood(rng: Rng, h: int, w: int, tint: Floats | None = None) -> Floats:
    streaks = cv2.resize(
        noise(rng, h, max(8, w // 24), rng.uniform(2, 5)), (w, h), interpolation=cv2.INTER_LINEAR
    )
    shade = 0.55 + 0.35 * streaks + 0.15 * noise(rng, h, w, 60)
    plank = int(rng.integers(50, 130))
    rows = np.arange(h) % plank
    shade[rows < 2] *= 0.55
    if tint is None:
        tint = np.array([0.85, 0.62, 0.42], np.float32) * np.float32(rng.uniform(0.45, 1.05))
    return _tinted(shade, tint)


def _cloth(rng: Rng, h: int, w: int) -> Floats:
    y, x = np.mgrid[:h, :w]
    weave = 0.9 + 0.1 * np.sin(x * rng.uniform(0.9, 1.8)) * np.sin(y * rng.uniform(0.9, 1.8))
    shade = (weave * (0.7 + 0.3 * noise(rng, h, w, 90))).astype(np.float32)
    if rng.random() < 0.4:
        side = int(rng.integers(40, 110))
        shade *= np.where(((x // side) + (y // side)) % 2 == 0, 1.0, rng.uniform(0.75, 0.9)).astype(
            np.float32
        )
    return _tinted(shade, colour(rng, (0.1, 0.7), (0.35, 0.95)))


def _stone(rng: Rng, h: int, w: int) -> Floats:
    shade = (
        0.45 + 0.25 * noise(rng, h, w, 50) + 0.15 * noise(rng, h, w, 12) + 0.2 * noise(rng, h, w, 3)
    )
    field = noise(rng, h, w, 70) + 0.5 * noise(rng, h, w, 25)
    shade = np.where(
        np.abs((field * 4) % 1 - 0.5) < 0.02, shade * rng.uniform(0.6, 1.3), shade
    ).astype(np.float32)
    return _tinted(shade, colour(rng, (0.0, 0.3), (0.5, 1.0)))


def _tiles(rng: Rng, h: int, w: int) -> Floats:
    side = int(rng.integers(60, 150))
    y, x = np.mgrid[:h, :w]
    ox, oy = rng.integers(0, side, 2)
    values = rng.uniform(0.8, 1.0, (h // side + 2, w // side + 2)).astype(np.float32)
    shade = values[(y + oy) // side, (x + ox) // side] * (0.8 + 0.2 * noise(rng, h, w, 40))
    grout = ((x + ox) % side < 3) | ((y + oy) % side < 3)
    return _tinted(
        np.where(grout, rng.uniform(0.3, 0.6), shade).astype(np.float32),
        colour(rng, (0.1, 0.6), (0.5, 1.0)),
    )


def _grass(rng: Rng, h: int, w: int) -> Floats:
    blades = cv2.resize(
        rng.random((h // 4 + 1, w), np.float32), (w, h), interpolation=cv2.INTER_LINEAR
    )
    shade = 0.3 + 0.45 * blades + 0.3 * noise(rng, h, w, 40)
    return _tinted(
        shade, np.array([0.5, 0.75, 0.3], np.float32) * rng.uniform(0.6, 1.15, 3).astype(np.float32)
    )


def _desk(rng: Rng, h: int, w: int) -> Floats:
    ground = _wood(rng, h, w)
    horizon = int(h * rng.uniform(0.18, 0.38))
    wall = _tinted(0.75 + 0.25 * noise(rng, horizon, w, 80), colour(rng, (0.05, 0.5), (0.3, 0.9)))
    ground[:horizon] = wall
    ground[horizon : horizon + 3] *= 0.5
    return ground


_GROUNDS = (_wood, _cloth, _stone, _tiles, _grass, _desk)


def _under(ground: Floats, mask: Floats, shift: tuple[float, float], strength: float) -> None:
    """Darken ``ground`` in place by a soft shadow of ``mask``."""
    h, w = mask.shape
    soft = cv2.warpAffine(mask, np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32), (w, h))
    ground *= 1 - strength * np.asarray(cv2.GaussianBlur(soft, (0, 0), 3.5), np.float32)[..., None]


def _quad(rng: Rng, h: int, w: int, wide: float, tall: float) -> NDArray[np.float32]:
    turn = rng.uniform(0, np.pi)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = rng.uniform([0, 0], [w, h])
    corners = np.array([[-wide, -tall], [wide, -tall], [wide, tall], [-wide, tall]]) / 2
    return np.asarray(corners @ spin.T + centre, np.float32)


def _fill(
    ground: Floats, quad: NDArray[np.float32], tint: Floats, shift: tuple[float, float]
) -> Floats:
    mask = np.zeros(ground.shape[:2], np.float32)
    cv2.fillConvexPoly(mask, np.round(quad * 16).astype(np.int32), 1.0, cv2.LINE_8, 4)
    _under(ground, mask, shift, 0.45)
    soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.6), np.float32)[..., None]
    ground *= 1 - soft
    ground += soft * tint
    return mask


def _at(quad: NDArray[np.float32], s: float, t: float) -> tuple[int, int]:
    point = quad[0] + s * (quad[1] - quad[0]) + t * (quad[3] - quad[0])
    return round(float(point[0])), round(float(point[1]))


def _paper(ground: Floats, rng: Rng, shift: tuple[float, float]) -> Floats:
    h, w = ground.shape[:2]
    tall = rng.uniform(0.3, 0.5) * h
    quad = _quad(rng, h, w, tall * 0.7, tall)
    mask = _fill(ground, quad, colour(rng, (0.0, 0.12), (0.8, 0.98)), shift)
    for t in np.arange(0.1, 0.9, rng.uniform(0.045, 0.08)).tolist():
        cv2.line(
            ground,
            _at(quad, 0.1, t),
            _at(quad, rng.uniform(0.6, 0.9), t),
            (0.25, 0.25, 0.27),
            1,
            cv2.LINE_AA,
        )
    return mask


def _book(ground: Floats, rng: Rng, shift: tuple[float, float]) -> Floats:
    h, w = ground.shape[:2]
    tall = rng.uniform(0.22, 0.42) * h
    quad = _quad(rng, h, w, tall * 0.75, tall)
    mask = _fill(ground, quad, colour(rng, (0.3, 0.8), (0.2, 0.7)), shift)
    rim = np.array(
        [_at(quad, s, t) for s, t in ((0.08, 0.06), (0.92, 0.06), (0.92, 0.94), (0.08, 0.94))]
    )
    cv2.polylines(
        ground, [rim], True, [float(k) for k in colour(rng, (0.1, 0.6), (0.7, 1.0))], 2, cv2.LINE_AA
    )
    return mask


def _pen(ground: Floats, rng: Rng, shift: tuple[float, float]) -> Floats:
    h, w = ground.shape[:2]
    return _fill(
        ground, _quad(rng, h, w, rng.uniform(3, 7), rng.uniform(0.12, 0.3) * h), colour(rng), shift
    )


def _cable(ground: Floats, rng: Rng, shift: tuple[float, float]) -> Floats:
    h, w = ground.shape[:2]
    knots = rng.uniform([0, 0], [w, h], (1, 2)) + np.cumsum(rng.normal(0, 0.14 * h, (4, 2)), 0)
    t = np.linspace(0, 1, 40)[:, None]
    curve = (
        (1 - t) ** 3 * knots[0]
        + 3 * t * (1 - t) ** 2 * knots[1]
        + 3 * t**2 * (1 - t) * knots[2]
        + t**3 * knots[3]
    )
    mask = np.zeros((h, w), np.float32)
    cv2.polylines(mask, [np.round(curve).astype(np.int32)], False, 1.0, int(rng.integers(2, 5)))
    _under(ground, mask, shift, 0.4)
    soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.6), np.float32)[..., None]
    ground *= 1 - soft
    ground += soft * colour(rng, (0.0, 0.3), (0.1, 0.9))
    return mask


def _stain(ground: Floats, rng: Rng, shift: tuple[float, float]) -> Floats:
    h, w = ground.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    cx = rng.uniform(0, w)
    cy = rng.uniform(0, h)
    size = rng.uniform(0.04, 0.12) * h
    blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * size**2)) * noise(rng, h, w, 18)
    ground *= 1 - 0.7 * np.clip(blob, 0, 1)[..., None] * (1 - colour(rng, (0.1, 0.6), (0.2, 0.8)))
    return np.asarray(blob / max(float(blob.max()), 1e-6), np.float32)


_CLUTTER: dict[str, Callable[[Floats, Rng, tuple[float, float]], Floats]] = {
    "paper": _paper,
    "book": _book,
    "pen": _pen,
    "cable": _cable,
    "stain": _stain,
}
CLUTTER_KINDS: tuple[str, ...] = tuple(_CLUTTER)


def lay(rng: Rng, height: int, width: int, shift: tuple[float, float]) -> Ground:
    """A cluttered ground.

    ``shift`` is where shadows fall, in pixels (x, y).
    """
    ground = np.ascontiguousarray(_GROUNDS[rng.integers(len(_GROUNDS))](rng, height, width))
    clutter = np.zeros((height, width), np.uint8)
    kinds = []
    for _ in range(int(rng.integers(0, 6))):
        kind = CLUTTER_KINDS[rng.integers(len(_CLUTTER))]
        covered = _CLUTTER[kind](ground, rng, shift)
        kinds.append(kind)
        clutter[covered > 0.5] = len(kinds)
    return Ground(np.clip(ground, 0, 1), clutter, tuple(kinds))
