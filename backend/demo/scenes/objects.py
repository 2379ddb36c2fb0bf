"""The six kinds of thing that generated scenes show, each drawn as a lit, textured patch with an
exact outline.

A patch is drawn at twice its size and averaged down, so its alpha is the covered share of each
pixel. Geometry turns with the object; light does not, because one lamp lights the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rng = np.random.Generator

_SUPERSAMPLING = 2
_MARGIN = 1.06  # half side of the patch in object radii; every outline stays inside the unit disc


@dataclass(frozen=True, eq=False)
class Patch:
    """A drawn object: premultiplied ``rgb`` (n, n, 3) and ``alpha`` (n, n), float32 in 0..1."""

    rgb: Floats
    alpha: Floats


@dataclass(frozen=True, eq=False)
class _Canvas:
    """Pixel coordinates in object radii: ``x``/``y`` on the screen, ``u``/``v`` turned with the
    object; ``light`` is a unit vector.
    """

    x: Floats
    y: Floats
    u: Floats
    v: Floats
    turn: Floats  # (2, 2): object axes -> screen axes
    light: Floats  # (3,), x right, y down, z to the viewer


def colour(
    rng: Rng,
    saturation: tuple[float, float] = (0.45, 0.95),
    value: tuple[float, float] = (0.4, 0.95),
) -> Floats:
    """A random RGB colour (3,), float32 in 0..1, uniform in hue."""
    hsv = np.array(
        [[[rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)]]], np.float32
    )
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0], np.float32)


def noise(rng: Rng, height: int, width: int, cell: float) -> Floats:
    """Smooth noise (height, width), float32 in 0..1, with features about ``cell`` pixels wide."""
    rows = max(2, int(height / cell) + 2)
    cols = max(2, int(width / cell) + 2)
    coarse = rng.random((rows, cols), np.float32)
    return np.asarray(
        np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1),
        np.float32,
    )


def _lit(rgb: Floats, normal: Floats, light: Floats, gloss: float) -> Floats:
    """Lambert shading with a Blinn highlight; ``normal`` is (..., 3) in screen axes."""
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    diffuse = np.clip(normal @ light, 0, 1)[..., None]
    shine = (np.clip(normal @ half, 0, 1) ** 36)[..., None]
    return np.asarray(np.clip(rgb * (0.34 + 0.76 * diffuse) + gloss * shine, 0, 1), np.float32)


def _screen(canvas: _Canvas, nu: Floats, nv: Floats, nz: Floats) -> Floats:
    """Normals given along the object's axes, unit length, in screen axes."""
    turn = canvas.turn
    normal = np.stack(
        [turn[0, 0] * nu + turn[0, 1] * nv, turn[1, 0] * nu + turn[1, 1] * nv, nz], -1
    )
    return np.asarray(
        normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6), np.float32
    )


def _paint(where: NDArray[np.bool_], yes: Floats, no: Floats) -> Floats:
    return np.asarray(np.where(where[..., None], yes, no), np.float32)


def _ball(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    squared = c.x**2 + c.y**2
    normal = np.stack([c.x, c.y, np.sqrt(np.maximum(1 - squared, 0))], -1)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
    p = normal @ axes
    first = colour(rng)
    second = colour(rng)
    kind = rng.integers(4)
    if kind == 0:  # beach ball
        rgb = _paint(
            np.floor(np.arctan2(p[..., 1], p[..., 0]) / (np.pi / rng.integers(3, 6))) % 2 == 0,
            first,
            second,
        )
    elif kind == 1:  # one band
        rgb = _paint(np.abs(p[..., 2]) < rng.uniform(0.2, 0.35), first, second)
    elif kind == 2:  # seams
        rgb = _paint(np.min(np.abs(p), axis=-1) < 0.05, second * 0.6, first)
    else:
        rgb = _paint(squared < 2, first, first)
    return _lit(rgb, normal, c.light, rng.uniform(0.15, 0.6)), squared <= 1


def _box(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    side = rng.choice([-1.0, 1.0])
    width = rng.uniform(0.95, 1.3)
    height = rng.uniform(0.75, 1.15)
    depth = np.array([side * rng.uniform(0.3, 0.5), -rng.uniform(0.3, 0.45)])
    corners = np.array([[-width / 2, -height / 2], [width / 2, height / 2]]) - depth / 2
    front = np.array([[x, y] for x in corners[:, 0] for y in corners[:, 1]])
    reach = np.linalg.norm(np.concatenate([front, front + depth]), axis=1).max()
    u = c.u * reach
    v = c.v * reach
    (left, top), right = corners[0], corners[1, 0]
    body = colour(rng)
    ribbon = colour(rng)
    wooden = rng.random() < 0.35
    if wooden:
        body = np.array([0.68, 0.47, 0.3], np.float32) * np.float32(rng.uniform(0.6, 1.15))
    band = rng.uniform(0.08, 0.14)
    crossed = rng.random() < 0.6
    hinge = right if side > 0 else left
    # Each face is a parallelogram: s and t run along its edges, the face is 0..1 in both.
    climb = (v - top) / depth[1]  # on the lid: how far back
    run = (u - hinge) / depth[0]  # on the side: how far back
    faces = [
        ((u - left) / width, (v - top) / height, (0.0, 0.25, 0.97)),
        ((u - climb * depth[0] - left) / width, climb, (0.0, -0.85, 0.5)),
        (run, (v - run * depth[1] - top) / height, (side * 0.85, 0.1, 0.5)),
    ]
    rgb = np.zeros((*u.shape, 3), np.float32)
    inside = np.zeros(u.shape, bool)
    grain = noise(rng, u.shape[0], u.shape[1], 5)[..., None]
    for s, t, normal in faces:
        here = (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
        marked = np.abs(s - 0.5) < band
        if crossed:
            marked = marked | (np.abs(t - 0.5) < band)
        face = _paint(marked, ribbon, body * (0.88 + 0.24 * grain if wooden else np.float32(1)))
        edge = np.minimum(np.minimum(s, 1 - s), np.minimum(t, 1 - t)) < 0.03
        face = face * np.where(edge, 1.15, 1.0)[..., None].astype(np.float32)
        flat = [np.full(u.shape, value, np.float32) for value in normal]
        rgb = _paint(here, _lit(face, _screen(c, *flat), c.light, 0.05), rgb)
        inside |= here
    return rgb, inside


def _star(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    inner = rng.uniform(0.42, 0.54)
    fold = np.pi / 5
    angle = np.arctan2(c.u, -c.v)
    sector = np.floor(angle / fold)
    radius = np.hypot(c.u, c.v)
    local = angle - sector * fold
    flip = sector % 2 == 1
    local = np.where(flip, fold - local, local)  # 0 at a tip, `fold` at a notch
    px = radius * np.cos(local)
    py = radius * np.sin(local)
    edge = np.array([inner * np.cos(fold) - 1, inner * np.sin(fold)])
    across = (px - 1) * edge[1] - py * edge[0]
    slope = np.array([edge[1], -edge[0]]) / np.hypot(*edge)  # outward, in the folded frame
    out_angle = np.arctan2(slope[1], slope[0])
    world = np.where(flip, (sector + 1) * fold - out_angle, sector * fold + out_angle)
    normal = _screen(c, np.sin(world) * 0.62, -np.cos(world) * 0.62, np.full_like(world, 0.8))
    base = colour(rng, (0.5, 0.95), (0.55, 0.95))
    rough = 0.9 + 0.2 * noise(rng, c.u.shape[0], c.u.shape[1], rng.uniform(3, 9))[..., None]
    return _lit(base * rough, normal.astype(np.float32), c.light, 0.12), across <= 0


def _cup(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    side = rng.choice([-1.0, 1.0])
    u = c.u * side + 0.2
    v = c.v
    top = -0.62
    bottom = rng.uniform(0.55, 0.68)
    broad = rng.uniform(0.46, 0.56)
    taper = rng.uniform(0.0, 0.18)
    lip = rng.uniform(0.1, 0.16)
    half = broad - taper * (v - top) / (bottom - top) * broad
    across = np.clip(u / half, -1, 1)
    curve = lip * np.sqrt(1 - across**2)
    body = (np.abs(u) <= half) & (v >= top - curve) & (v <= bottom + curve * 0.8)
    mouth = (u / broad) ** 2 + ((v - top) / lip) ** 2
    hu = u - broad * 0.92
    hv = v - (top + bottom) / 2
    grip = np.hypot(hu / 0.42, hv / 0.44)
    handle = (grip <= 1) & (grip >= 0.58) & (u > half * 0.9) & ~body
    base = colour(rng, (0.0, 0.9), (0.5, 0.95))
    second = colour(rng)
    kind = rng.integers(3)
    rgb = _paint(body, base, base)
    if kind == 1:
        rgb = _paint(np.floor((np.arcsin(across) + 4) / 0.45) % 2 == 0, second, rgb)
    elif kind == 2:
        rgb = _paint(np.abs(v - 0.05 - curve) < 0.16, second, rgb)
    rgb = _paint(handle, base, rgb)
    around = _screen(
        c, (side * across).astype(np.float32), np.zeros_like(u), np.sqrt(1 - across**2) + 0.25
    )
    tube = np.clip((grip - 0.79) / 0.21, -1, 1)
    ring = _screen(
        c,
        side * tube * hu / np.maximum(grip * 0.42, 1e-3),
        tube * hv / np.maximum(grip * 0.44, 1e-3),
        np.sqrt(1 - tube**2) + 0.1,
    )
    lit = _lit(
        rgb,
        np.where(handle[..., None], ring, around).astype(np.float32),
        c.light,
        rng.uniform(0.1, 0.45),
    )
    drink = _paint(
        mouth < 0.7,
        np.array([0.25, 0.13, 0.06], np.float32) if rng.random() < 0.5 else base * 0.45,
        np.minimum(base * 1.2, 1),
    )
    return _paint(mouth <= 1, drink, lit), body | handle | (mouth <= 1)


def _leaf(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    bend = rng.uniform(-0.18, 0.18)
    u = c.u / 0.98
    v = c.v - bend * (1 - c.u**2)
    wide = rng.uniform(0.42, 0.58)
    teeth = rng.choice([0.0, 0.05, 0.08])
    saw = np.abs((u * rng.uniform(6, 10)) % 1 - 0.5) * 2
    half = wide * np.maximum(1 - u**2, 0) ** 0.85 * (1 - 0.28 * u) * (1 - teeth * saw)
    inside = (np.abs(v) <= half) & (np.abs(u) < 0.97)
    hue = colour(rng, (0.6, 0.95), (0.45, 0.85))
    if rng.random() < 0.75:  # mostly leaf colours
        hue = np.array(
            [
                [0.25, 0.6, 0.2],
                [0.12, 0.42, 0.16],
                [0.82, 0.68, 0.15],
                [0.78, 0.3, 0.1],
                [0.55, 0.36, 0.16],
            ],
            np.float32,
        )[rng.integers(5)]
        hue = np.clip(hue * rng.uniform(0.8, 1.2, 3), 0, 1).astype(np.float32)
    rgb = hue * (0.85 + 0.3 * noise(rng, u.shape[0], u.shape[1], 14))[..., None]
    veins = (np.abs(((u - np.abs(v) * 0.9) * 5) % 1 - 0.5) < 0.05) | (np.abs(v) < 0.028)
    rgb = _paint(veins, np.minimum(rgb * 1.35 + 0.05, 1), rgb)
    tilt = np.where(v > 0, 0.38, -0.38).astype(np.float32)
    return _lit(rgb, _screen(c, np.zeros_like(u), tilt, np.ones_like(u)), c.light, 0.08), inside


def _ring(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    squash = rng.uniform(0.62, 1.0)
    v = c.v / squash
    radius = np.hypot(c.u, v)
    hole = rng.uniform(0.38, 0.56)
    middle = (1 + hole) / 2
    half = (1 - hole) / 2
    tube = np.clip((radius - middle) / half, -1, 1)
    safe = np.maximum(radius, 1e-3)
    normal = _screen(c, tube * c.u / safe, tube * v / safe, np.sqrt(1 - tube**2) + 0.05)
    first = colour(rng)
    second = colour(rng)
    kind = rng.integers(3)
    if kind == 0:  # lifebuoy
        rgb = _paint(
            np.floor((np.arctan2(v, c.u) + np.pi) / (np.pi / rng.integers(3, 6))) % 2 == 0,
            first,
            second,
        )
    elif kind == 1:  # doughnut: icing with a wavy edge and sprinkles
        dough = np.array([0.8, 0.6, 0.34], np.float32)
        wave = 0.55 + 0.12 * np.sin(np.arctan2(v, c.u) * 9)
        rgb = _paint(np.abs(tube) < wave, _sprinkled(first, c.u.shape, rng), dough)
    else:
        rgb = _paint(radius < 9, first, first)
    return _lit(rgb, normal, c.light, rng.uniform(0.1, 0.5)), (radius <= 1) & (radius >= hole)


def _sprinkled(icing: Floats, shape: tuple[int, ...], rng: Rng) -> Floats:
    n = shape[0]
    rgb = np.empty((*shape, 3), np.float32)
    rgb[:] = icing
    for _ in range(50):
        x = rng.uniform(0, n)
        y = rng.uniform(0, n)
        angle = rng.uniform(0, np.pi)
        end = (int(x + n * 0.03 * np.cos(angle)), int(y + n * 0.03 * np.sin(angle)))
        cv2.line(rgb, (int(x), int(y)), end, [float(k) for k in colour(rng)], max(1, n // 60))
    return rgb


def _heart(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    u = c.u * 1.25
    v = -c.v * 1.25 + 0.1
    swell = u**2 + v**2 - 1
    inside = swell**3 - u**2 * v**3 <= 0
    height = np.sqrt(np.clip(-swell, 0, 1) + 0.05)
    normal = _screen(c, c.u * 0.9, c.v * 0.9, height)
    base = colour(rng, (0.5, 0.95), (0.5, 0.95))
    stripe = np.abs(np.sin(c.u * rng.uniform(4, 9))) < rng.uniform(0, 0.3)
    return _lit(_paint(stripe, base * 0.6, base), normal, c.light, rng.uniform(0.2, 0.6)), inside


def _gear(c: _Canvas, rng: Rng) -> tuple[Floats, NDArray[np.bool_]]:
    teeth = int(rng.integers(7, 13))
    radius = np.hypot(c.u, c.v)
    angle = np.arctan2(c.v, c.u)
    edge = np.where(np.sin(teeth * angle) > rng.uniform(-0.2, 0.3), 0.98, rng.uniform(0.74, 0.82))
    hole = rng.uniform(0.18, 0.34)
    bevel = np.clip((radius - 0.55) / 0.4, 0, 1) * 0.5
    safe = np.maximum(radius, 1e-3)
    normal = _screen(c, bevel * c.u / safe, bevel * c.v / safe, np.sqrt(1 - bevel**2))
    metal = colour(rng, (0.02, 0.35), (0.45, 0.9))
    brushed = 0.92 + 0.16 * noise(rng, c.u.shape[0], c.u.shape[1], 3)[..., None]
    rim = _paint(np.abs(radius - 0.5) < 0.04, metal * 0.55, metal)
    rgb = _lit(np.asarray(rim * brushed, np.float32), normal, c.light, rng.uniform(0.3, 0.7))
    return rgb, (radius <= edge) & (radius >= hole)


_DRAW: dict[str, Callable[[_Canvas, Rng], tuple[Floats, NDArray[np.bool_]]]] = {
    "ball": _ball,
    "box": _box,
    "star": _star,
    "cup": _cup,
    "leaf": _leaf,
    "ring": _ring,
}
# What the embedded models never saw, so that something is left to be learned.
_DRAW_NOVEL = {"heart": _heart, "gear": _gear}
_UPRIGHT = {"box", "cup"}
CLASS_NAMES: tuple[str, ...] = tuple(_DRAW)
NOVEL_NAMES: tuple[str, ...] = tuple(_DRAW_NOVEL)


def draw_object(name: str, radius: float, light: Floats, rng: Rng) -> Patch:
    """Draw one object.

    Args:
        name: one of ``CLASS_NAMES`` or ``NOVEL_NAMES``.
        radius: of the disc the outline fits into, in pixels.
        light: unit vector (3,) towards the lamp; x right, y down, z to the viewer.
        rng: everything random about the object comes from here.

    Returns:
        A square patch with its centre in the object's centre.
    """
    n = int(np.ceil(radius * _MARGIN)) * 2
    big = n * _SUPERSAMPLING
    axis = ((np.arange(big, dtype=np.float32) + 0.5) / big * 2 - 1) * np.float32(n / 2 / radius)
    x, y = (np.asarray(grid, np.float32) for grid in np.meshgrid(axis, axis))
    angle = rng.uniform(-0.35, 0.35) if name in _UPRIGHT else rng.uniform(0, 2 * np.pi)
    cos = np.float32(np.cos(angle))
    sin = np.float32(np.sin(angle))
    turn = np.array([[cos, -sin], [sin, cos]], np.float32)
    u = np.asarray(x * cos + y * sin, np.float32)
    v = np.asarray(y * cos - x * sin, np.float32)
    canvas = _Canvas(x, y, u, v, turn, light)
    rgb, inside = (_DRAW | _DRAW_NOVEL)[name](canvas, rng)
    grain = 1 + 0.05 * (rng.random((big, big, 1), np.float32) - 0.5)
    full = np.dstack([np.clip(rgb * grain, 0, 1) * inside[..., None], inside]).astype(np.float32)
    small = cv2.resize(full, (n, n), interpolation=cv2.INTER_AREA)
    return Patch(np.ascontiguousarray(small[..., :3]), np.ascontiguousarray(small[..., 3]))
