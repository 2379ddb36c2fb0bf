"""Train the micro SAM 2.1 of the embedded pair from nothing, on generated scenes.

The model is the package's own ``SAM2Base``; only the channel counts differ
(``models/embedded/demo_sam2.1.yaml``). Three things make this affordable on a CPU: crops that grow
during training, Fourier features for positions that reach high enough frequencies from the start,
and a dense class map read off the image embedding as a side task that is thrown away afterwards.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from backend.models.sam2.preprocess import Decoded, decoded_tokens, embedded
from backend.models.weights import DEMO_SAM2_CONFIG
from backend.training.data import Batch, Scenes, jittered, point_in

logger = logging.getLogger(__name__)
_BOXES = 4
_CLASSES = 7
_UNTRAINED = (
    "memory_attention",
    "memory_encoder",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "obj_ptr",
    "no_obj_embed",
    "mask_downsample",
)


@dataclass(frozen=True)
class Phase:
    """From ``start`` (share of the budget) on: square side in pixels, pictures per batch, range of
    crop shares.
    """

    start: float
    size: int
    images: int
    zoom: tuple[float, float]


PHASES = (
    Phase(0.0, 96, 20, (0.35, 0.8)),
    Phase(0.12, 128, 14, (0.35, 0.9)),
    Phase(0.4, 192, 8, (0.4, 1.0)),
    Phase(0.75, 256, 5, (0.5, 1.0)),
    Phase(0.9, 384, 3, (0.75, 1.0)),
)
# For going on with trained weights: whole pictures at nearly the size of use matter more now.
FINISHING_PHASES = (
    Phase(0.0, 160, 10, (0.35, 1.0)),
    Phase(0.35, 224, 6, (0.45, 1.0)),
    Phase(0.7, 320, 3, (0.65, 1.0)),
)


def build() -> Any:
    """The micro SAM 2.1 with fresh weights and well-spread position frequencies."""
    from hydra.utils import instantiate

    model: Any = instantiate(OmegaConf.load(DEMO_SAM2_CONFIG).model, _recursive_=True)
    gaussian = model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    half = gaussian.shape[1] // 2
    # Coordinates run over -1..1; 0.12 to 10 half-turns separate neighbouring cells without losing
    # the global position.
    steps = torch.logspace(math.log10(0.12), math.log10(5.0), half)
    gaussian.zero_()
    gaussian[0, :half] = steps
    gaussian[1, half:] = steps
    return model


def resize_model(model: Any, size: int) -> None:
    """Set every place where the model remembers its input size."""
    side = size // 16
    model.image_size = size
    model.sam_image_embedding_size = side
    encoder = model.sam_prompt_encoder
    encoder.image_embedding_size = (side, side)
    encoder.input_image_size = (size, size)
    encoder.mask_input_size = (4 * side, 4 * side)


def _mask_losses(logits: Tensor, target: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """BCE weighted near the object plus dice, and the true IoU, per row and token: (N, T) each.

    At half resolution.
    """
    up = F.interpolate(logits, size=(size // 2, size // 2), mode="bilinear", align_corners=False)
    goal = F.avg_pool2d(target[:, None], 2).expand_as(up)
    axis = (torch.arange(size // 2) + 0.5) * 2
    margin = 0.15 * (boxes[:, 2:] - boxes[:, :2]) + 4
    low = boxes[:, :2] - margin
    high = boxes[:, 2:] + margin
    near_x = (axis >= low[:, :1]) & (axis <= high[:, :1])
    near_y = (axis >= low[:, 1:]) & (axis <= high[:, 1:])
    weight = 0.05 + 0.95 * (near_y[:, :, None] & near_x[:, None]).float()
    weight = (weight / weight.sum((1, 2), keepdim=True))[:, None]
    bce = (F.binary_cross_entropy_with_logits(up, goal, reduction="none") * weight).sum((2, 3))
    share = up.sigmoid()
    dice = 1 - (2 * (share * goal).sum((2, 3)) + 1) / (share.sum((2, 3)) + goal.sum((2, 3)) + 1)
    with torch.no_grad():
        hit = up > 0
        truth = goal > 0.5
        iou = (hit & truth).sum((2, 3)) / (hit | truth).sum((2, 3)).clamp(min=1)
    return 4 * bce + dice, iou


def prompt_loss(out: Decoded, target: Tensor, boxes: Tensor, real: Tensor, size: int) -> Tensor:
    """Mean loss over rows.

    ``real`` (N,) is 0 where the prompt points at no object (only IoU and presence are taught
    there).
    """
    loss, iou = _mask_losses(out.logits, target, boxes, size)
    mask_loss = loss[:, 0] + loss[:, 1:].min(1).values
    quality = (out.quality - iou * real[:, None]).abs().mean(1)
    presence = F.binary_cross_entropy_with_logits(out.present[:, 0], real)
    return ((mask_loss * real) / real.mean().clamp(min=0.1) + quality).mean() + 0.1 * presence


def _first_prompts(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    size = batch.images.shape[-1]
    corners = jittered(batch.boxes, size, generator).view(-1, 2, 2)
    return corners, torch.tensor([[2, 3]]).expand(len(corners), 2)


def _other_prompts(
    batch: Batch, first: Decoded, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Points, labels, masks, which object of ``first`` each row is about, and whether there is one.

    A third of the batches click once (a third of those clicks on nothing), a third click several
    times, a third correct the mask that the box gave, with or without the box.
    """
    count, per_image, size, _ = batch.masks.shape
    rows = torch.arange(count) * per_image
    rows = torch.cat([rows, rows + 1])
    masks = batch.masks.view(-1, size, size)[rows]
    real = torch.ones(len(rows))
    kind = int(torch.randint(3, (1,), generator=generator))
    if kind == 0:
        empty = torch.rand(len(rows), generator=generator) < 0.33
        nothing = 1 - batch.others.repeat(2, 1, 1)
        points = point_in(torch.where(empty[:, None, None], nothing, masks), generator)
        return points[:, None], torch.ones(len(rows), 1), None, rows, 1 - empty.float()
    if kind == 1:
        inside = [point_in(masks, generator) for _ in range(2)]
        near = F.max_pool2d(masks[:, None], 2 * (size // 24) + 1, 1, size // 24)[:, 0] - masks
        points = torch.stack([*inside, point_in(near, generator)], 1)
        return points, torch.tensor([[1.0, 1.0, 0.0]]).expand(len(rows), 3), None, rows, real
    before = first.logits[rows, :1].detach().clamp(-32, 32)
    guess = (
        F.interpolate(before, size=(size, size), mode="bilinear", align_corners=False)[:, 0] > 0
    ).float()
    wrong = (guess - masks).abs()
    points = point_in(wrong, generator)[:, None]
    at = points[:, 0].long()
    labels = masks[torch.arange(len(rows)), at[:, 1], at[:, 0]][:, None]
    if torch.rand(1, generator=generator) < 0.5:
        corners, kinds = _first_prompts(batch, generator)
        points = torch.cat([corners[rows], points], 1)
        labels = torch.cat([kinds[rows].float(), labels], 1)
    return points, labels, before, rows, real


def step_loss(
    model: Any, side_head: nn.Module, batch: Batch, generator: torch.Generator, side_weight: float
) -> tuple[Tensor, float]:
    """Loss of one batch and the mean IoU of its box prompts."""
    size = batch.images.shape[-1]
    features = embedded(model, batch.images)
    masks = batch.masks.view(-1, size, size)
    boxes = batch.boxes.view(-1, 4)
    points, labels = _first_prompts(batch, generator)
    every = torch.arange(len(batch.images)).repeat_interleave(_BOXES)
    first = decoded_tokens(model, features.rows(every), points, labels)
    loss = prompt_loss(first, masks, boxes, torch.ones(len(boxes)), size)
    points, labels, before, rows, real = _other_prompts(batch, first, generator)
    owner = torch.div(rows, _BOXES, rounding_mode="floor")
    second = decoded_tokens(model, features.rows(owner), points, labels, before)
    loss = loss + 0.5 * prompt_loss(second, masks[rows], boxes[rows], real, size)
    classes = F.pixel_shuffle(side_head(features.image), 4)
    loss = loss + side_weight * F.cross_entropy(classes, batch.classes)
    with torch.no_grad():
        small = F.avg_pool2d(masks[:, None], 4)[:, 0] > 0.5
        hit = first.logits[:, 0] > 0
        iou = (hit & small).sum((1, 2)) / (hit | small).sum((1, 2)).clamp(min=1)
    return loss, float(iou.mean())


def train(
    data: Path, out: Path, minutes: float, seed: int, init: Path | None, peak_rate: float
) -> None:
    """Train for a budget of time; writes ``sam2.pt`` (averaged weights, fp16) every minute."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build()
    scenes = Scenes(data / "train", seed)
    phases: tuple[Phase, ...] = PHASES
    if init is not None:
        model.load_state_dict(torch.load(init, weights_only=True)["model"])
        phases = FINISHING_PHASES
    side_head = nn.Conv2d(96, _CLASSES * 16, 1)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(_UNTRAINED))
    trained = [p for p in [*model.parameters(), *side_head.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.02, betas=(0.9, 0.98))
    averaged = copy.deepcopy(model)
    model.train()
    start = time.monotonic()
    step = 0
    shown = time.monotonic()
    seen: list[tuple[float, float]] = []
    out.mkdir(parents=True, exist_ok=True)
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        phase = [p for p in phases if p.start <= progress][-1]
        for group in optimiser.param_groups:
            group["lr"] = (
                peak_rate
                * min(1, (step + 1) / 200)
                * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
            )
        resize_model(model, phase.size)
        batch = scenes.batch(phase.images, _BOXES, phase.size, phase.zoom)
        loss, iou = step_loss(model, side_head, batch, generator, 0.6 * (1 - progress) + 0.1)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        decay = min(0.999, step / (step + 50))
        with torch.no_grad():
            for mean, value in zip(
                averaged.state_dict().values(), model.state_dict().values(), strict=True
            ):
                mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)
        seen.append((loss.item(), iou))
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            mean_loss, mean_iou = (sum(v) / len(seen) for v in zip(*seen, strict=True))
            logger.info(
                "%5.1f min, step %d, %d px: loss %.3f, box IoU %.3f",
                (shown - start) / 60,
                step,
                phase.size,
                mean_loss,
                mean_iou,
            )
            seen.clear()
            save(averaged, out / "sam2.pt")
    save(averaged, out / "sam2.pt")


def save(model: nn.Module, path: Path) -> None:
    """Write a checkpoint as ``build_sam2`` expects it, in fp16."""
    torch.save(
        {"model": {name: value.half().cpu() for name, value in model.state_dict().items()}}, path
    )


def main() -> None:
    """Command line of the SAM 2.1 trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=120, help="of wall time; the schedule is laid out over it"
    )
    parser.add_argument("--init", type=Path, help="go on with these weights instead of fresh ones")
    parser.add_argument(
        "--peak-rate", type=float, default=1.5e-3, help="learning rate after warming up"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    train(args.data, args.out, args.minutes, args.seed, args.init, args.peak_rate)


if __name__ == "__main__":
    main()
