"""Teach the embedded SAM 2.1 what to outline at a point anywhere in an object.

Only what turns the three tokens of ambiguous prompts into masks is trained: the answer to boxes and
the following of videos stay as they are, to the bit. ``training.quality`` comes after it.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.files.images import read_image
from backend.formats.voc.label_maps import decode_png
from backend.models.sam2.preprocess import decoded_tokens, embedded, load_model, prepared
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG
from backend.training.sam2 import save

logger = logging.getLogger(__name__)
_POINTS = 32
_PEAK_RATE = 1e-3
_TOKENS = (1, 2, 3)


def _points(objects: np.ndarray, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Points in objects, (N, 1, 2) in pixels of the model, and which object each is in, (N,)."""
    present = np.setdiff1d(np.unique(objects), [0])
    chosen = rng.choice(present, _POINTS)
    places = []
    for k in chosen:
        rows, cols = np.nonzero(objects == k)
        i = int(rng.integers(len(rows)))
        places.append(((cols[i] + 0.5) / objects.shape[1], (rows[i] + 0.5) / objects.shape[0]))
    points = torch.tensor(places, dtype=torch.float32)[:, None] * side
    return points, torch.from_numpy(chosen.astype(np.int64))


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    """The best of the three masks of each point: BCE weighted near the object, and dice."""
    near = F.max_pool2d(truth[:, None], 9, 1, 4)[:, 0]
    weight = 0.02 + near
    weight = (weight / weight.sum((1, 2), keepdim=True))[:, None]
    goal = truth[:, None].expand_as(logits)
    bce = (F.binary_cross_entropy_with_logits(logits, goal, reduction="none") * weight).sum((2, 3))
    share = logits.sigmoid()
    dice = 1 - (2 * (share * goal).sum((2, 3)) + 1) / (share.sum((2, 3)) + goal.sum((2, 3)) + 1)
    every = 2 * bce + dice
    # The others learn a little as well, so that none is lost.
    return (every.min(1).values + 0.05 * every.mean(1)).mean()


def train(data: Path, out: Path, init: Path, minutes: float, seed: int) -> None:
    """Train for a budget of time; writes ``sam2.pt``."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model: Any = load_model(str(DEMO_SAM2_CONFIG), init)
    model.requires_grad_(False)
    heads = nn.ModuleList(
        model.sam_mask_decoder.output_hypernetworks_mlps[k] for k in _TOKENS
    ).requires_grad_(True)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=_PEAK_RATE, weight_decay=0.01)
    names = sorted(path.stem for path in (data / "train" / "labels").glob("*.txt"))
    start = shown = time.monotonic()
    seen: list[float] = []
    step = 0
    grid = model.image_size // 4
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            warm = min(1, (step + 1) / 30)
            group["lr"] = _PEAK_RATE * warm * (1 + math.cos(math.pi * progress)) / 2
        name = names[rng.integers(len(names))]
        path = data / "train" / "objects" / f"{name}.png"
        objects = decode_png(path.read_bytes(), str(path))
        image = read_image(data / "train" / "images" / f"{name}.jpg")
        if rng.random() < 0.5:
            image, objects = image[:, ::-1], objects[:, ::-1]
        points, chosen = _points(objects, model.image_size, rng)
        truth = torch.from_numpy(np.ascontiguousarray(objects).astype(np.int64))
        masks = F.interpolate(
            (truth == chosen[:, None, None]).float()[:, None], (grid, grid), mode="area"
        )[:, 0]
        with torch.no_grad():
            pixels = prepared([image], model.image_size, torch.device("cpu"))
            features = embedded(model, pixels)
        labels = torch.ones(len(points), 1, dtype=torch.int)
        loss = _loss(decoded_tokens(model, features, points, labels).logits[:, 1:], masks)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        step += 1
        seen.append(loss.item())
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            logger.info("%5.1f min, step %d: loss %.3f", (shown - start) / 60, step, np.mean(seen))
            seen.clear()
    out.mkdir(parents=True, exist_ok=True)
    save(model, out / "sam2.pt")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="of training_data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, default=DEMO_SAM2, help="weights to go on with")
    parser.add_argument("--minutes", type=float, default=10, help="of wall time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    train(args.data, args.out, args.init, args.minutes, args.seed)


if __name__ == "__main__":
    main()
