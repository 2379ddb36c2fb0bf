"""Teach the embedded SAM 2.1 what to outline at a point anywhere in an object.

Only what turns the three tokens of ambiguous prompts into masks is trained: the answer to boxes and
the following of videos stay as they are, to the bit. ``training.quality`` comes after it.
"""

from __future__ import annotations

import argparse
import logging
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
from backend.training.learner import Learner, Pace
from backend.training.losses import answer_loss
from backend.training.prompting import click_prompts
from backend.training.sam2 import save

logger = logging.getLogger(__name__)
_POINTS = 32
_PEAK_RATE = 1e-3
_TOKENS = (1, 2, 3)


def _objects(objects: np.ndarray, side: int, rng: np.random.Generator) -> Tensor:
    """Some objects of a scene, as the shares of (side, side) cells that they cover: (N, side, side)
    float32.
    """
    chosen = rng.choice(np.setdiff1d(np.unique(objects), [0]), _POINTS)
    truth = torch.from_numpy(np.ascontiguousarray(objects).astype(np.int64))
    chosen_ones = truth == torch.from_numpy(chosen.astype(np.int64))[:, None, None]
    return F.interpolate(chosen_ones.float()[:, None], (side, side), mode="area")[:, 0]


def train(data: Path, out: Path, init: Path, minutes: float, seed: int) -> None:
    """Train for a budget of time; writes ``sam2.pt``."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    model: Any = load_model(str(DEMO_SAM2_CONFIG), init)
    model.requires_grad_(False)
    heads = nn.ModuleList(
        model.sam_mask_decoder.output_hypernetworks_mlps[k] for k in _TOKENS
    ).requires_grad_(True)
    learner = Learner(dict(heads.named_parameters()), Pace(rate=_PEAK_RATE))
    names = sorted(path.stem for path in (data / "train" / "labels").glob("*.txt"))
    start = shown = time.monotonic()
    seen: list[float] = []
    side = int(model.image_size)
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        name = names[rng.integers(len(names))]
        path = data / "train" / "objects" / f"{name}.png"
        objects = decode_png(path.read_bytes(), str(path))
        image = read_image(data / "train" / "images" / f"{name}.jpg")
        if rng.random() < 0.5:
            image, objects = image[:, ::-1], objects[:, ::-1]
        masks = _objects(objects, side // 2, rng)
        points, labels = click_prompts(masks, side, generator)
        with torch.no_grad():
            features = embedded(model, prepared([image], side, torch.device("cpu")))
        answer = decoded_tokens(model, features, points, labels)
        loss = answer_loss(answer, masks, torch.ones(len(masks)), ambiguous=True)
        seen.append(learner.learn(loss, progress))
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            logger.info(
                "%5.1f min, step %d: loss %.3f", (shown - start) / 60, learner.steps, np.mean(seen)
            )
            seen.clear()
    learner.take_average()
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
