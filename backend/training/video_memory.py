"""Teach the memory of the embedded SAM 2.1 to follow objects, on generated videos.

Only what works in videos is trained: memory attention, memory encoder and object pointers. The
encoders and the decoder stay as they are bit by bit, so that images are answered as before. Frames
are encoded once; the squares and the number of frames grow during training, and corrections of a
frame in the middle are part of it.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backend.models.sam2.preprocess import load_model, resize_model
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG
from backend.training.clips import Clips, Encoded
from backend.training.learner import Learner, Pace
from backend.training.parts import with_weights
from backend.training.sam2 import build, save
from backend.training.tracking import Follower, Plan, Step, feature_loss, iou, seen, step_loss

logger = logging.getLogger(__name__)
_TRAINED = ("memory_attention", "memory_encoder", "maskmem_tpos_enc", "obj_ptr", "no_obj")
_TRAINED_TOO = "mask_downsample"  # how a mask prompt reaches the pointer
_HARD = 0.4  # share of draws of objects that get hidden and come back
_FINISHING_HARD = 0.6
_LONG = 0.5  # share of batches of a long video
_LONGEST = 80  # frames between the prompt and the second one
_AFTER = 0.25  # share of the budget after which frames are corrected
_CORRECTED = 0.4  # share of the batches from then on


@dataclass(frozen=True)
class Stage:
    """From ``start`` (share of the budget) on: side of the square in pixels, frames of a draw, and
    objects of a batch.
    """

    start: float
    size: int
    length: int
    objects: int


STAGES = (
    Stage(0.0, 192, 2, 12),
    Stage(0.1, 192, 3, 8),
    Stage(0.22, 192, 4, 6),
    Stage(0.35, 256, 4, 6),
    Stage(0.55, 256, 6, 4),
    Stage(0.75, 384, 6, 4),
    Stage(0.88, 384, 8, 4),
)
# For going on with trained weights: objects that stay away for long and come back.
FINISHING_STAGES = (Stage(0.0, 384, 10, 5), Stage(0.5, 384, 14, 4))


def _start(model: Any) -> dict[str, nn.Parameter]:
    """Freeze all but what is trained; returns that."""
    trained = {}
    for name, parameter in model.named_parameters():
        is_trained = name.startswith((*_TRAINED, _TRAINED_TOO))
        parameter.requires_grad_(is_trained)
        if is_trained:
            trained[name] = parameter
    return trained


def _fresh(model: Any) -> None:
    """Forget what the memory knows."""
    blank = build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(_TRAINED):
                parameter.copy_(blank.get_parameter(name))
        # A mask prompt begins as the logits of a mask, which the prompt encoder knows.
        model.mask_downsample.weight.fill_(20 / model.mask_downsample.weight.numel())
        model.mask_downsample.bias.fill_(-10)


def _plan(rng: np.random.Generator, length: int, progress: float) -> Plan:
    corrected = None
    if length > 2 and progress > _AFTER and rng.random() < _CORRECTED:
        corrected = int(rng.integers(1, length - 1))
    is_long = rng.random() < _LONG
    return Plan(
        prompt=str(rng.choice(["box", "mask", "point"], p=[0.6, 0.3, 0.1])),
        corrected=corrected,
        by_box=bool(rng.random() < 0.3),
        teacher=max(0.0, 0.7 * (1 - progress / 0.7)),
        n_frames=1000 if is_long else int(rng.integers(8, 20)),
        gap=int(rng.integers(_LONGEST)) if is_long else 0,
    )


def batch_loss(model: Any, steps: list[Step], progress: float) -> Tensor:
    """Mean loss of the frames that memory or a correction made."""
    learned = [step for step in steps if step.learned]
    presence = 0.2 if progress < 0.35 else 0.4
    total = torch.stack([step_loss(step, presence) for step in learned]).mean()
    features = torch.stack([feature_loss(model, step) for step in learned]).mean()
    return total + 0.5 * (1 - progress) * features


@torch.no_grad()
def validate(model: Any, encoded: Encoded, clips: Clips) -> tuple[float, float, float]:
    """Mean IoU over the frames after the prompted one, of the last frame, and the share of frames
    without the object that are answered so.
    """
    follower = Follower(model, encoded, torch.Generator().manual_seed(0))
    draws = list(clips.every_draw())
    later: list[float] = []
    last: list[float] = []
    empty: list[float] = []
    for k in range(0, len(draws), 16):
        steps = follower.run(draws[k : k + 16], Plan(n_frames=clips.n_frames))
        found = torch.stack([iou(step) for step in steps[1:]])
        there = torch.stack([seen(step) for step in steps[1:]]) > 0
        gone = torch.stack([step.truth.amax((1, 2)) == 0 for step in steps[1:]])
        later.extend(found[there].tolist())
        last.extend(found[-1][there[-1]].tolist())
        empty.extend(found[gone].tolist())
    return _mean(later), _mean(last), _mean(empty)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


class Trainer:
    """One training of the memory.

    Args:
        data: folder with ``train`` and ``val``, each as ``Clips`` reads it.
        device: where it runs.
        seed: of the draws.
        more: factor on the objects of a batch; a GPU takes 4 in the time of 1.
        init: weights to go on with; None begins with a memory that knows nothing.
        peak_rate: the highest learning rate.
    """

    def __init__(
        self,
        data: Path,
        device: torch.device,
        seed: int,
        more: int,
        init: Path | None,
        peak_rate: float,
    ) -> None:
        torch.manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._device = device
        self._more = more
        self._is_going_on = init is not None
        self.model = load_model(str(DEMO_SAM2_CONFIG), init or DEMO_SAM2).to(device)
        self._stages: tuple[Stage, ...] = STAGES
        if self._is_going_on:
            self._stages = FINISHING_STAGES
        else:
            _fresh(self.model)
        pace = Pace(rate=peak_rate, warm_up=0.02, betas=(0.9, 0.98))
        self._learner = Learner(_start(self.model), pace)
        self._clips = Clips(data / "train")
        self._validation = Clips(data / "val")

    def run(self, minutes: float) -> Iterator[str]:
        """Train for a budget of wall time; yields a line about every minute."""
        encoded: Encoded | None = None
        size = 0
        spent = 0.0
        since = time.monotonic()
        shown = since
        seen_losses: list[tuple[float, float]] = []
        while (progress := (spent + time.monotonic() - since) / 60 / minutes) < 1:
            stage = [one for one in self._stages if one.start <= progress][-1]
            if stage.size != size or encoded is None:
                spent += time.monotonic() - since
                size = stage.size
                encoded = None  # the old one makes room first
                encoded = self._encoded(self._clips, size)
                since = time.monotonic()
            seen_losses.append(self._one(encoded, stage, progress))
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                loss, found = np.mean(seen_losses, 0)
                seen_losses.clear()
                yield (
                    f"{progress:4.0%}, step {self._learner.steps}, {size} px,"
                    f" {stage.length} frames: loss {loss:.3f}, IoU {found:.3f}"
                )
        yield f"steps {self._learner.steps}"
        for side in sorted({stage.size for stage in self._stages})[-2:]:
            yield self.validated(side)

    def validated(self, size: int) -> str:
        """A line of figures of the averaged weights."""
        encoded = self._encoded(self._validation, size)
        with with_weights(self.model, self._learner.averaged):
            later, last, empty = validate(self.model, encoded, self._validation)
        return (
            f"validation at {size} px: IoU of later frames {later:.3f}, of the last {last:.3f}, "
            f"empty answered empty {empty:.3f}"
        )

    def save(self, path: Path) -> None:
        """Write the averaged weights."""
        with with_weights(self.model, self._learner.averaged):
            save(self.model, path)

    def _encoded(self, clips: Clips, size: int) -> Encoded:
        resize_model(self.model, size)
        return clips.encoded(self.model, size, self._device)

    def _one(self, encoded: Encoded, stage: Stage, progress: float) -> tuple[float, float]:
        """One step; returns its loss and the mean IoU of what is seen."""
        known = 1.0 if self._is_going_on else progress
        hard = _FINISHING_HARD if self._is_going_on else _HARD
        draws = self._clips.draw(self._rng, stage.objects * self._more, stage.length, hard)
        follower = Follower(self.model, encoded, self._generator)
        steps = follower.run(draws, _plan(self._rng, stage.length, known))
        loss = batch_loss(self.model, steps, known)
        self._learner.learn(loss, progress)
        with torch.no_grad():
            there = torch.stack([seen(step) for step in steps[1:]])
            found = (torch.stack([iou(step) for step in steps[1:]]) * there).sum()
            return loss.item(), float(found / there.sum().clamp(min=1))


def main() -> None:
    """Command line of the trainer of the memory."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.training.video_memory", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="holds train and val")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25, help="of wall time for the steps")
    parser.add_argument("--peak-rate", type=float, default=1e-3, help="learning rate at the start")
    parser.add_argument("--init", type=Path, help="go on with these weights: longer spans")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--more", type=int, default=1, help="factor on the objects of a batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        args.data, torch.device(args.device), args.seed, args.more, args.init, args.peak_rate
    )
    for line in trainer.run(args.minutes):
        logger.info("%s", line)
        trainer.save(args.out / "sam2.pt")


if __name__ == "__main__":
    main()
