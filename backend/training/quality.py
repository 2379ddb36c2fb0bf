"""Teach the embedded SAM 2.1 to judge its masks: which of them outline an object, and how well.

Automatic masks are chosen by this judgement, for points everywhere in a picture. Only the head
that estimates IoU is trained, on what the rest of the model makes of scenes, so no mask changes.
The rest runs once; the head takes a minute.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.files.images import read_image
from backend.formats.voc.label_maps import decode_png
from backend.models.sam2.preprocess import (
    Features,
    decoded_tokens,
    embedded,
    load_model,
    prepared,
)
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG
from backend.training.data import jittered
from backend.training.learner import Learner, Pace
from backend.training.sam2 import save

logger = logging.getLogger(__name__)
_POINTS = 144
_EPOCHS = 30
_ROWS = 2048
_PEAK_RATE = 2e-3


@dataclass(frozen=True, eq=False)
class Judged:
    """N prompts: what the head reads, and how good the masks are.

    Attributes:
        tokens: (N, C) float32.
        iou: (N, 4) float32, of each mask with the object that it should outline.
    """

    tokens: Tensor
    iou: Tensor


def _on_grid(objects: np.ndarray, side: int) -> Tensor:
    """The objects of a scene on the decoder's grid, (K, side * side) float32 of 0 and 1."""
    count = int(objects.max())
    small = [
        cv2.resize(
            (objects == k + 1).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA
        )
        for k in range(count)
    ]
    return torch.from_numpy(np.stack(small) > 0.5).flatten(1).float()


def _iou(logits: Tensor, objects: Tensor) -> Tensor:
    """(N, 4, K) IoU of masks with objects."""
    inside = (logits > 0).flatten(2).float()
    common = inside @ objects.T
    union = inside.sum(2)[..., None] + objects.sum(1) - common
    return common / union.clamp(min=1)


def _of_points(
    model: Any, features: Features, objects: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Points anywhere: each mask should outline the object that it outlines best, if any."""
    points = torch.rand(_POINTS, 1, 2, generator=generator) * model.image_size
    for part in points.split(36):
        labels = torch.ones(len(part), 1, dtype=torch.int)
        logits, tokens = _answers(model, features, part, labels)
        yield tokens, _iou(logits, objects).max(2).values


def _of_boxes(
    model: Any, features: Features, objects: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Boxes around objects, as a detector gives them: each mask should outline its object."""
    side = model.image_size // 4
    boxes = []
    for row in objects.view(-1, side, side):
        x, y, w, h = cv2.boundingRect(row.numpy().astype(np.uint8))
        boxes.append([4 * x, 4 * y, 4 * (x + w), 4 * (y + h)])
    corners = torch.tensor(boxes, dtype=torch.float32)[None]
    corners = jittered(corners, model.image_size, generator).view(-1, 2, 2)
    labels = torch.tensor([[2, 3]], dtype=torch.int).expand(len(corners), 2)
    logits, tokens = _answers(model, features, corners, labels)
    own = torch.arange(len(corners))
    return tokens, _iou(logits, objects)[own, :, own]


def _answers(
    model: Any, features: Features, points: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """All masks of some prompts, and the token that the head reads."""
    read: list[Tensor] = []
    head = model.sam_mask_decoder.iou_prediction_head
    hook = head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        answer = decoded_tokens(model, features, points, labels)
    finally:
        hook.remove()
    return answer.logits, read[0]


def judged(model: Any, folder: Path, names: list[str], seed: int) -> Judged:
    """Ask the model about scenes on disk."""
    generator = torch.Generator().manual_seed(seed)
    tokens: list[Tensor] = []
    ious: list[Tensor] = []
    for count, name in enumerate(names):
        path = folder / "objects" / f"{name}.png"
        objects = _on_grid(decode_png(path.read_bytes(), str(path)), model.image_size // 4)
        objects = objects[objects.sum(1) > 0]
        image = read_image(folder / "images" / f"{name}.jpg")
        with torch.inference_mode():
            pixels = prepared([image], model.image_size, torch.device("cpu"))
            features = embedded(model, pixels)
            parts = list(_of_points(model, features, objects, generator))
            parts.append(_of_boxes(model, features, objects, generator))
        tokens += [one[0] for one in parts]
        ious += [one[1] for one in parts]
        if count % 100 == 99:
            logger.info("%d of %d scenes", count + 1, len(names))
    return Judged(torch.cat(tokens).clone(), torch.cat(ious).clone())


def _error(head: Any, data: Judged) -> float:
    with torch.inference_mode():
        return float((head(data.tokens) - data.iou).abs().mean())


def teach(head: Any, data: Judged, held_out: Judged, seed: int) -> None:
    """Train the head in place."""
    torch.manual_seed(seed)
    learner = Learner(dict(head.named_parameters()), Pace(rate=_PEAK_RATE))
    steps = _EPOCHS * (len(data.tokens) // _ROWS)
    logger.info("mean error before: %.3f", _error(head, held_out))
    for epoch in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(data.tokens)), _ROWS)[:-1]:
            guess = head(data.tokens[rows])
            loss = F.l1_loss(guess, data.iou[rows]) + F.mse_loss(guess, data.iou[rows])
            learner.learn(loss, learner.steps / steps)
        if epoch % 10 == 9:
            logger.info("epoch %d: mean error %.3f", epoch + 1, _error(head, held_out))
    learner.take_average()
    logger.info("mean error after: %.3f", _error(head, held_out))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="of training_data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, default=DEMO_SAM2, help="weights to judge")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    model = load_model(str(DEMO_SAM2_CONFIG), args.init)
    judgements = []
    for split, count in (("train", args.scenes), ("val", args.scenes // 16)):
        folder = args.data / split
        names = sorted(path.stem for path in (folder / "labels").glob("*.txt"))[:count]
        judgements.append(judged(model, folder, names, args.seed))
    data, held_out = judgements
    teach(model.sam_mask_decoder.iou_prediction_head, data, held_out, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    save(model, args.out / "sam2.pt")


if __name__ == "__main__":
    main()
