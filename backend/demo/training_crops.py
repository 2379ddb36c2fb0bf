"""Views of things in generated scenes, to train the micro CLIP of the embedded models on.

Two kinds of clutter are never shown, so that it can be seen what the model says of what it does not
know.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from backend.config.models import Settings
from backend.core.masks import full_frame, mask_from_full, tidy_mask
from backend.core.protocols import Proposer
from backend.core.types import Image, Mask
from backend.core.views import alone, in_context
from backend.demo.scenes.compose import TRAIN_SEEDS, VALIDATION_SEEDS, Scene, generate
from backend.demo.scenes.objects import CLASS_NAMES, Floats, Rng, colour, noise
from backend.evaluation.instances import iou_matrix
from backend.models.clip import SPECK
from backend.models.registry import load_proposer, load_segmenter
from backend.models.sam2.stock import use_one_thread
from backend.training.crops import CONCEPTS, SIDE

NEVER_SHOWN = ("book", "pen")
_FEWEST_PIXELS = 60
_SHOWS = 0.6  # IoU of a mask that shows an object
_MOST_OF_ONE = 3  # masks of one thing


def roughened(mask: Mask, size_hw: tuple[int, ...], rng: Rng) -> Mask | None:
    """A mask as a segmenter might give it: on a coarse grid, a little too large or too small."""
    full = np.zeros(size_hw, np.float32)
    h, w = mask.crop.shape
    full[mask.y : mask.y + h, mask.x : mask.x + w] = mask.crop
    grid = int(rng.integers(80, 200))
    coarse = cv2.resize(full, (grid, grid), interpolation=cv2.INTER_AREA)
    wavy = 0.35 * (noise(rng, grid, grid, 8) - 0.5)
    smooth = cv2.resize(coarse + wavy * (coarse > 0), (size_hw[1], size_hw[0]))
    return mask_from_full(smooth > rng.uniform(0.3, 0.7))


def _foreign(scene: Scene, rng: Rng) -> tuple[Image, Mask] | None:
    """Something of a random outline and texture, painted on a scene."""
    height, width = scene.objects.shape
    radius = rng.uniform(0.05, 0.18) * min(height, width)
    count = int(rng.integers(3, 12))
    turn = np.sort(rng.uniform(0, 2 * np.pi, count))
    reach = radius * rng.uniform(0.35, 1.0, count)
    centre = rng.uniform([0, 0], [width, height])
    corners = np.stack([np.cos(turn), np.sin(turn)], 1) * reach[:, None] + centre
    inside: Floats = np.zeros((height, width), np.float32)
    cv2.fillPoly(inside, [np.round(corners * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    if rng.random() < 0.5:  # a round outline
        blurred = cv2.GaussianBlur(inside, (0, 0), radius * 0.2)
        inside = np.asarray(blurred > 0.4, np.float32)
    mask = mask_from_full(inside > 0.5)
    if mask is None or mask.area < _FEWEST_PIXELS:
        return None
    shade = 0.6 + 0.6 * noise(rng, height, width, float(np.exp(rng.uniform(1, 4.5))))[..., None]
    if rng.random() < 0.4:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        wave = np.sin((x * np.cos(turn[0]) + y * np.sin(turn[0])) / rng.uniform(2, 12))
        shade = shade * (1 + 0.35 * np.sign(wave))[..., None]
    tint = np.clip(shade * colour(rng, (0.0, 0.95), (0.2, 0.95)), 0, 1) * 255
    soft = cv2.GaussianBlur(inside, (0, 0), 0.7)[..., None]
    image = scene.image * (1 - soft) + tint * soft
    grained = image + rng.normal(0, 2.5, image.shape)
    return np.clip(grained, 0, 255).astype(np.uint8), mask


def _ground(scene: Scene, rng: Rng) -> Mask | None:
    """A part of what lies below everything."""
    assert scene.clutter is not None  # noqa: S101 - generated scenes have it
    height, width = scene.objects.shape
    free = (scene.objects == 0) & (scene.clutter == 0)
    if rng.random() < 0.5:
        return mask_from_full(free)
    shape = noise(rng, height, width, rng.uniform(30, 200)) > rng.uniform(0.4, 0.7)
    count, labels = cv2.connectedComponents((free & shape).astype(np.uint8))
    return mask_from_full(labels == int(rng.integers(1, count))) if count > 1 else None


def _things(scene: Scene, rng: Rng) -> Iterator[tuple[str, Image, Mask | None]]:
    """Concept, picture and mask of what a scene shows, and of what does not belong there."""
    assert scene.clutter is not None  # noqa: S101 - generated scenes have it
    for k, class_id in enumerate(scene.class_ids):
        yield CLASS_NAMES[class_id], scene.image, mask_from_full(scene.objects == k + 1)
    for k, kind in enumerate(scene.clutter_kinds):
        if kind not in NEVER_SHOWN:
            yield kind, scene.image, mask_from_full(scene.clutter == k + 1)
    yield "ground", scene.image, _ground(scene, rng)
    for _ in range(3):
        foreign = _foreign(scene, rng)
        if foreign is not None:
            yield "unknown", *foreign


@cache
def _proposer() -> Proposer:
    """The embedded segmenter, asked so that it gives many masks of each thing, good and bad."""
    use_one_thread()
    settings = Settings(
        segmenter="demo",
        points_per_side=9,
        pred_iou_thresh=0.3,
        stability_score_thresh=0.6,
        mask_nms_thresh=0.92,
        nested_thresh=1.0,
    )
    return load_proposer(settings, load_segmenter(settings, "cpu"))


def _proposed(scene: Scene, rng: Rng) -> Iterator[tuple[str, Image, Mask | None]]:
    """What the segmenter proposes: objects as ragged as it outlines them, and parts of nothing."""
    (found,) = _proposer().propose([scene.image])
    truth = [mask_from_full(scene.objects == k + 1) for k in range(len(scene.class_ids))]
    pairs = [(c, m) for c, m in zip(scene.class_ids, truth, strict=True) if m is not None]
    iou = iou_matrix(found.masks, [mask for _, mask in pairs])
    free = (scene.objects == 0) & (scene.clutter == 0)
    seen: Counter[str] = Counter()
    for k in rng.permutation(len(found)).tolist():
        best = int(iou[k].argmax()) if pairs else 0
        on_ground = full_frame(found.masks[k], found.size_hw)
        if pairs and iou[k, best] >= _SHOWS:
            concept = CLASS_NAMES[pairs[best][0]]
            key = f"object {best}"
        elif free[on_ground].mean() > 0.8:
            concept = key = "ground"
        else:
            continue  # a part of something, or several things
        seen[key] += 1
        if seen[key] <= _MOST_OF_ONE:
            yield concept, scene.image, found.masks[k]


def crops_of_scene(seed: int) -> list[tuple[int, Image, Image]]:
    """Concept and both views of the things of one scene."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([2027, seed])
    small = bool(rng.random() < 0.3)
    scene = generate(seed, (240, 320) if small else None)
    names = list(CONCEPTS)
    things = []
    for concept, image, mask in _things(scene, rng):
        if mask is not None and rng.random() < 0.7:
            mask = roughened(mask, image.shape[:2], rng) or mask
        things.append((concept, image, mask))
    found = []
    for concept, image, mask in [*things, *_proposed(scene, rng)]:
        if mask is not None and mask.area >= _FEWEST_PIXELS:
            mask = tidy_mask(mask, SPECK)
            views = in_context(image, mask, SIDE), alone(image, mask, SIDE)
            found.append((names.index(concept), *views))
    return found


def write_crops(path: Path, seeds: range) -> None:
    """Write the views of many scenes to one file, with all cores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        every = [one for part in pool.map(crops_of_scene, seeds, chunksize=16) for one in part]
    np.savez(
        path,
        concepts=np.array([one[0] for one in every], np.int64),
        context=np.stack([one[1] for one in every]),
        alone=np.stack([one[2] for one in every]),
    )


def main() -> None:
    """Write the views to train on, and those to validate on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=1500, help="number of training scenes")
    parser.add_argument("--validation", type=int, default=120, help="number of validation scenes")
    args = parser.parse_args()
    write_crops(args.out / "val.npz", VALIDATION_SEEDS[: args.validation])
    write_crops(args.out / "train.npz", TRAIN_SEEDS[: args.train])


if __name__ == "__main__":
    main()
