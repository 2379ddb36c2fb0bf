"""How well a segmenter outlines what is in true boxes: as figures, and as a picture to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from backend.core.masks import mask_iou, mask_xyxy
from backend.core.types import Image, Instance, Mask, Prediction
from backend.core.upsample import crop_mask
from backend.drawing.overlays import contact_sheet, draw
from backend.models.sam2.preprocess import decoded
from backend.training.views import EncodedPictures, Judged

_AT_ONCE = 32  # boxes
_WIDTH = 1600  # pixels, of a sheet


def box_ious(model: Any, pictures: EncodedPictures) -> Iterator[list[float]]:
    """How well the object in each true box is outlined: IoU in pixels, picture by picture.

    Args:
        model: a ``SAM2Base``.
        pictures: with at least one object each.
    """
    for one in pictures.seen_by(model):
        yield [iou for _, iou in _outlined(model, one)]


def _outlined(model: Any, one: Judged) -> Iterator[tuple[Mask | None, float]]:
    """The outline in each true box of a picture, and its IoU with the truth."""
    side = float(model.image_size)
    labels = torch.tensor([[2, 3]], dtype=torch.int)
    device = one.features.image.device
    scale = np.array([side / one.size_hw[1], side / one.size_hw[0]] * 2, np.float32)
    boxes = np.stack([mask_xyxy(mask) for mask in one.masks]) * scale
    for start in range(0, len(boxes), _AT_ONCE):
        corners = torch.from_numpy(boxes[start : start + _AT_ONCE].reshape(-1, 2, 2)).to(device)
        kinds = labels.to(device).expand(len(corners), 2)
        with torch.no_grad():
            answer = decoded(model, one.features, corners, kinds)
        grids = answer.logits[:, 0].float().cpu().numpy()
        for mask, grid in zip(one.masks[start : start + _AT_ONCE], grids, strict=True):
            outline = crop_mask(grid, one.size_hw)
            yield outline, 0.0 if outline is None else mask_iou(outline, mask)


def sheet_of(
    model: Any, pictures: EncodedPictures, images: Sequence[Image], labels: Sequence[Sequence[str]]
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
