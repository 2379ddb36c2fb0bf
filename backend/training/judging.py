"""How well a segmenter outlines what is in true boxes: as figures, and as a picture to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backend.core.masks import clip_mask, mask_iou, mask_xyxy
from backend.core.types import Image, Instance, Mask, Prediction
from backend.core.upsample import crop_mask
from backend.drawing.overlays import contact_sheet, draw
from backend.models.sam2.preprocess import decoded
from backend.training.data import jittered
from backend.training.judged import EncodedPictures, Judged

_AT_ONCE = 32  # boxes
_WIDTH = 1600  # pixels, of a sheet
_MARGINS = (0.1, 0.05, 0.0)  # that are tried


def box_ious(
    model: Any, pictures: EncodedPictures, margin: float | None = None
) -> Iterator[list[float]]:
    """How well the object in each true box is outlined: IoU in pixels, picture by picture.

    Args:
        model: a ``SAM2Base``.
        pictures: with at least one object each.
        margin: outlines are cut to their boxes grown by this share of the sides; None leaves them.
    """
    for one in pictures.seen_by(model):
        yield [iou for _, iou in _outlined(model, one, margin)]


def best_margin(model: Any, pictures: EncodedPictures, seed: int) -> float | None:
    """By how much boxes are to be grown before outlines are cut to them, so that these fit best;
    None where they had better not be cut.

    The boxes are off by as much as those of a detector, so that what is chosen serves a detector.

    Args:
        model: a ``SAM2Base``.
        pictures: that choose.
        seed: of chance.
    """
    generator = torch.Generator().manual_seed(seed)
    ious: dict[float | None, list[float]] = {margin: [] for margin in (None, *_MARGINS)}
    for one in pictures.seen_by(model):
        found = _outlines(model, one, _true_boxes(one), generator)
        for (outline, box), truth in zip(found, one.masks, strict=True):
            for margin, values in ious.items():
                values.append(_iou(_cut(outline, box, margin), truth))
    return max(ious, key=lambda margin: float(np.mean(ious[margin] or [0.0])))


def _iou(outline: Mask | None, truth: Mask) -> float:
    return 0.0 if outline is None else mask_iou(outline, truth)


def _cut(outline: Mask | None, box: NDArray[np.float32], margin: float | None) -> Mask | None:
    if outline is None or margin is None:
        return outline
    return clip_mask(outline, box, margin)


def _true_boxes(one: Judged) -> NDArray[np.float32]:
    return np.stack([mask_xyxy(mask) for mask in one.masks]).astype(np.float32)


def _outlined(
    model: Any, one: Judged, margin: float | None = None
) -> Iterator[tuple[Mask | None, float]]:
    """The outline in each true box of a picture, and its IoU with the truth."""
    for (outline, box), truth in zip(
        _outlines(model, one, _true_boxes(one)), one.masks, strict=True
    ):
        cut = _cut(outline, box, margin)
        yield cut, _iou(cut, truth)


def _outlines(
    model: Any, one: Judged, boxes: NDArray[np.float32], generator: torch.Generator | None = None
) -> Iterator[tuple[Mask | None, NDArray[np.float32]]]:
    """The outline in each box of a picture, and the box; with a generator, the boxes are jittered
    by it first.
    """
    side = float(model.image_size)
    labels = torch.tensor([[2, 3]], dtype=torch.int)
    device = one.features.image.device
    scale = np.array([side / one.size_hw[1], side / one.size_hw[0]] * 2, np.float32)
    prompts = torch.from_numpy(boxes * scale)
    if generator is not None:
        prompts = jittered(prompts, int(side), generator)
    for start in range(0, len(boxes), _AT_ONCE):
        asked = prompts[start : start + _AT_ONCE]
        corners = asked.reshape(-1, 2, 2).to(device)
        kinds = labels.to(device).expand(len(corners), 2)
        with torch.no_grad():
            answer = decoded(model, one.features, corners, kinds)
        grids = answer.logits[:, 0].float().cpu().numpy()
        for box, grid in zip(asked.numpy() / scale, grids, strict=True):
            yield crop_mask(grid, one.size_hw), box


def sheet_of(
    model: Any,
    pictures: EncodedPictures,
    images: Sequence[Image],
    labels: Sequence[Sequence[str]],
) -> Image:
    """What was accepted on the left, and what the model outlines on the right, with its IoU.

    Args:
        model: a ``SAM2Base``.
        pictures: to show, from the first on.
        images: of these pictures, at least one; no more are shown.
        labels: of their objects.
    """
    shown: list[Image] = []
    for one, image, names in zip(pictures.seen_by(model), images, labels, strict=False):
        found = list(_outlined(model, one))
        accepted = [_drawn(*each, math.nan) for each in zip(names, one.masks, strict=True)]
        made = [
            _drawn(name, mask, iou)
            for name, (mask, iou) in zip(names, found, strict=True)
            if mask is not None
        ]
        for side in (accepted, made):
            shown.append(draw(image, Prediction(tuple(side), one.size_hw, "")))
    return contact_sheet(shown, 2, _WIDTH)


def _drawn(label: str, mask: Mask, score: float) -> Instance:
    return Instance(label, 0, score, mask_xyxy(mask).astype(np.float32), mask)
