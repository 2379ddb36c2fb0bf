"""Train the micro SAM 2.1 of the embedded pair from nothing, on generated scenes.

The model is the package's own ``SAM2Base``; only the channel counts differ
(``models/embedded/demo_sam2.1.yaml``). Three things make this affordable on a CPU: crops that grow
during training, Fourier features for positions that reach high enough frequencies from the start,
and a dense class map read off the image embedding as a side task that is thrown away afterwards.
"""

from __future__ import annotations

import argparse
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

from backend.models.sam2.preprocess import Decoded, decoded_tokens, embedded, resize_model
from backend.models.weights import DEMO_SAM2_CONFIG
from backend.training.data import Batch, Scenes
from backend.training.learner import Learner, Pace
from backend.training.losses import answer_loss
from backend.training.parts import with_weights
from backend.training.prompting import box_prompts, click_prompts, corrections

logger = logging.getLogger(__name__)
_BOXES = 4
_CLASSES = 7
_UNTRAINED = tuple(
    f"model.{name}"
    for name in (
        "memory_attention",
        "memory_encoder",
        "maskmem_tpos_enc",
        "no_mem_pos_enc",
        "no_obj_ptr",
        "obj_ptr",
        "no_obj_embed",
        "mask_downsample",
    )
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
        asked = torch.where(empty[:, None, None], nothing, masks)
        return *click_prompts(asked, size, generator), None, rows, 1 - empty.float()
    if kind == 1:
        near = F.max_pool2d(masks[:, None], 2 * (size // 24) + 1, 1, size // 24)[:, 0] - masks
        clicks = [click_prompts(asked, size, generator) for asked in (masks, masks, near)]
        points, labels = (torch.cat(parts, 1) for parts in zip(*clicks, strict=True))
        labels[:, 2] = 0
        return points, labels, None, rows, real
    before = first.logits[rows, 0].detach()
    points, labels = corrections(before, masks, size, generator)
    if torch.rand(1, generator=generator) < 0.5:
        corners, kinds = box_prompts(batch.boxes.view(-1, 4)[rows], size, generator)
        points, labels = torch.cat([corners, points], 1), torch.cat([kinds, labels], 1)
    return points, labels, before[:, None].clamp(-32, 32), rows, real


def _prompt_loss(answer: Decoded, target: Tensor, real: Tensor) -> Tensor:
    """All masks learn from every prompt: the single one, and the best of the three."""
    goal = F.avg_pool2d(target[:, None], 2)[:, 0]
    single, best = (answer_loss(answer, goal, real, ambiguous=which) for which in (False, True))
    return single + best


def step_loss(
    model: Any, side_head: nn.Module, batch: Batch, generator: torch.Generator, side_weight: float
) -> tuple[Tensor, float]:
    """Loss of one batch and the mean IoU of its box prompts."""
    size = batch.images.shape[-1]
    features = embedded(model, batch.images)
    masks = batch.masks.view(-1, size, size)
    boxes = batch.boxes.view(-1, 4)
    points, labels = box_prompts(boxes, size, generator)
    every = torch.arange(len(batch.images)).repeat_interleave(_BOXES)
    first = decoded_tokens(model, features.rows(every), points, labels)
    loss = _prompt_loss(first, masks, torch.ones(len(boxes)))
    points, labels, before, rows, real = _other_prompts(batch, first, generator)
    owner = torch.div(rows, _BOXES, rounding_mode="floor")
    second = decoded_tokens(model, features.rows(owner), points, labels, before)
    loss = loss + 0.5 * _prompt_loss(second, masks[rows], real)
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
    heads = nn.ModuleDict({"model": model, "side": side_head})
    learning = {
        name: one for name, one in heads.named_parameters() if not name.startswith(_UNTRAINED)
    }
    model.requires_grad_(False)
    for one in learning.values():
        one.requires_grad_(True)
    learner = Learner(
        learning,
        Pace(rate=peak_rate, warm_up=0.01, decay=0.02, betas=(0.9, 0.98), average=0.999),
    )
    model.train()
    start = shown = time.monotonic()
    seen: list[tuple[float, float]] = []
    out.mkdir(parents=True, exist_ok=True)
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        phase = [p for p in phases if p.start <= progress][-1]
        resize_model(model, phase.size)
        batch = scenes.batch(phase.images, _BOXES, phase.size, phase.zoom)
        loss, iou = step_loss(model, side_head, batch, generator, 0.6 * (1 - progress) + 0.1)
        learner.learn(loss, progress)
        seen.append((loss.item(), iou))
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            mean_loss, mean_iou = (sum(v) / len(seen) for v in zip(*seen, strict=True))
            logger.info(
                "%5.1f min, step %d, %d px: loss %.3f, box IoU %.3f",
                (shown - start) / 60,
                learner.steps,
                phase.size,
                mean_loss,
                mean_iou,
            )
            seen.clear()
            _save_averaged(heads, learner, out)
    _save_averaged(heads, learner, out)


def _save_averaged(heads: nn.ModuleDict, learner: Learner, out: Path) -> None:
    with with_weights(heads, learner.averaged):
        save(heads["model"], out / "sam2.pt")


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
