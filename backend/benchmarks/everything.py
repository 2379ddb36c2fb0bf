"""Masks of everything and their names against the package's generator and upstream's loop."""

from __future__ import annotations

import numpy as np

from backend.benchmarks.ratios import Measurement, ratio_of
from backend.config.models import Settings
from backend.core.naming import Words
from backend.core.types import Image, Mask

_SIZE_HW = (1080, 1920)
_PER_SIDE = 32  # 1024 points
_MASKS = 50
_LARGE_HW = (3000, 4000)
_PER_SIDE_LARGE = 8
_BATCH_LARGE = 24  # the package's way would not fit into memory with its 64
_WORDS = [f"thing {k}" for k in range(80)]  # as many as COCO has


def outlining(repeats: int) -> Measurement:
    """From small logits to final masks, the model stubbed."""
    from backend.models.sam2.canned import canned_routes
    from backend.models.sam2.stock import use_one_thread

    use_one_thread()
    theirs, ours = canned_routes(_SIZE_HW, _PER_SIDE)
    # Theirs takes a minute, which no repetition makes more certain.
    ratio, slow, fast = ratio_of(theirs, ours, min(repeats, 1), warm=False)
    return Measurement(
        "masks of everything on the host, against sam2's generator",
        ratio,
        10,
        True,
        f"{_PER_SIDE**2} points, 1080p, {slow:.0f} ms against {fast:.0f} ms",
    )


def _picture() -> tuple[Image, list[Mask]]:
    rng = np.random.default_rng(4)
    image = rng.integers(0, 255, (*_SIZE_HW, 3), dtype=np.uint8)
    masks = []
    for k in range(_MASKS):
        h, w = rng.integers(60, 260, 2)
        y, x = np.mgrid[:h, :w]
        inside = ((y - h / 2) / (h / 2)) ** 2 + ((x - w / 2) / (w / 2)) ** 2 < 1
        masks.append(Mask(int(170 * (k % 10)), int(160 * (k // 10)), inside))
    return image, masks


def naming(repeats: int) -> Measurement:
    """Fifty masks of a picture, each seen twice by ours and once by theirs."""
    from backend.models.clip_loop import naming_loop
    from backend.models.namers import load_namer
    from backend.models.sam2.stock import use_one_thread
    from backend.models.weights import DEMO_CLIP

    use_one_thread()
    namer = load_namer(Settings(namer="demo"), "cpu", [Words(word) for word in _WORDS])
    theirs = naming_loop(DEMO_CLIP, _WORDS)
    image, masks = _picture()
    ratio, slow, fast = ratio_of(
        lambda: theirs(image, masks), lambda: namer.name([image], [masks]), repeats
    )
    return Measurement(
        "names of 50 masks, against a call for every mask",
        ratio,
        5,
        True,
        f"{len(_WORDS)} words, the embedded CLIP, {slow:.0f} ms against {fast:.0f} ms",
    )


def large_picture(way: str) -> None:
    """Outline everything in a picture of 12 megapixels with the embedded model, to see what that
    takes.

    Args:
        way: ``ours`` or ``theirs``.
    """
    from backend.config.automatic import AutomaticOptions
    from backend.models.registry import load_segmenter
    from backend.models.sam2.automatic import Sam2Proposer
    from backend.models.sam2.image import Sam2Segmenter
    from backend.models.sam2.stock import automatic_masks

    segmenter = load_segmenter(Settings(segmenter="demo"), "cpu")
    if not isinstance(segmenter, Sam2Segmenter):
        raise TypeError("the embedded segmenter is a SAM 2")
    rows, columns = np.mgrid[: _LARGE_HW[0], : _LARGE_HW[1]]
    checks = ((rows // 500 + columns // 500) % 2 * 200).astype(np.uint8)
    image = np.stack([checks] * 3, -1)
    options = AutomaticOptions(
        points_per_side=_PER_SIDE_LARGE,
        points_per_batch=_BATCH_LARGE,
        pred_iou_thresh=0.5,
        stability_score_thresh=0.8,
    )
    if way == "ours":
        Sam2Proposer(segmenter, options).propose([image])
        return
    names = ("points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh")
    automatic_masks(segmenter, **{name: getattr(options, name) for name in names})(image)
