"""Train the micro CLIP of the embedded models: stock ``transformers.CLIPModel``, small sizes.

Views of things in generated scenes are compared with captions of what they show. Words that no
picture belongs to are among the captions, so that an unknown word attracts nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.core.naming import BACKGROUND, TEMPLATES
from backend.training.crops import CONCEPTS, SIDE, Crops, read_crops
from backend.training.learner import Learner, Pace

logger = logging.getLogger(__name__)
_WIDTH = 96
_PATCH = 8
_BATCH = 128
_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
_PEAK_RATE = 1.2e-3
_VOCABULARY = 900
_MEAN = (0.48, 0.46, 0.41)
_DEVIATION = (0.27, 0.26, 0.28)
# Words of things that scenes never show.
_OTHER_TEXT = (
    "car bus truck person dog cat horse tree house road sky water sign bicycle chair table phone"
    " bottle knife spoon plate shoe hat shirt bird fish flower fence wall window door boat plane"
    " train lamp bed sofa screen keyboard mouse apple banana bread cake pizza umbrella bag clock"
    " vase scissors brush pole building sidewalk pedestrian wheel stone sand grass mountain cloud"
)
_OTHER_WORDS = tuple(_OTHER_TEXT.split())


def write_tokenizer(folder: Path) -> Any:
    """A byte pair tokenizer for the captions, in CLIP's files; gives it as loaded from them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    words = [word for names in CONCEPTS.values() for word in names]
    words += [*BACKGROUND, *_OTHER_WORDS]
    captions = [template.format(word) for word in words for template in TEMPLATES]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=special,
        end_of_word_suffix="</w>",
        # Every byte, at the end of a word and within it, so that any text can be written.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    model = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    merges = [" ".join(pair) for pair in model["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 32}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def build(tokenizer: Any) -> Any:
    """A CLIP of few channels with fresh weights."""
    from transformers import CLIPConfig, CLIPModel

    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    common = {"projection_dim": 64, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={
            **common,
            **ends,
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "max_position_embeddings": 32,
        },
        vision_config={
            **common,
            "hidden_size": _WIDTH,
            "intermediate_size": 3 * _WIDTH,
            "num_hidden_layers": 4,
            "image_size": SIDE,
            "patch_size": _PATCH,
        },
        projection_dim=64,
    )
    model = CLIPModel(config)
    _spread_places(model.vision_model.embeddings.position_embedding.weight)
    return model


@torch.no_grad()
def _spread_places(code: Tensor) -> None:
    """Begin with sines of the place, so that nearby patches are alike from the first step on."""
    side = SIDE // _PATCH
    channels = code.shape[1] // 4
    at = torch.arange(side).float()[:, None] * torch.logspace(0, -1.5, channels)
    waves = torch.cat([at.sin(), at.cos()], 1)
    rows = waves[:, None].expand(side, side, -1)
    cols = waves[None].expand(side, side, -1)
    code[1:] = 0.3 * torch.cat([rows, cols], 2).flatten(0, 1)


def _trained(init: Path, folder: Path) -> tuple[Any, Any]:
    """The CLIP and the tokenizer of a folder; the tokenizer's files are copied to the other."""
    from transformers import CLIPModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        shutil.copyfile(init / name, folder / name)
    model = CLIPModel.from_pretrained(init, dtype=torch.float32)
    return model, CLIPTokenizer.from_pretrained(folder)


def _captions(rng: np.random.Generator) -> list[str]:
    """One for each concept, then some that no picture belongs to."""
    captions = []
    for concept, names in CONCEPTS.items():
        if concept in ("ground", "unknown"):
            names = (*names, *BACKGROUND) if rng.random() < 0.5 else names
        captions.append(names[rng.integers(len(names))])
    captions += rng.choice(_OTHER_WORDS, 12, replace=False).tolist()
    letters = "abcdefghijklmnopqrstuvwxyz"
    for _ in range(4):
        size = int(rng.integers(3, 9))
        captions.append("".join(letters[k] for k in rng.integers(0, 26, size)))
    return [TEMPLATES[rng.integers(len(TEMPLATES))].format(word) for word in captions]


def pixels_of(views: np.ndarray) -> Tensor:
    """(N, S, S, 3) uint8 as the model takes them, (N, 3, S, S) float32."""
    values = torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(_MEAN).view(1, 3, 1, 1)
    return (values - mean) / torch.tensor(_DEVIATION).view(1, 3, 1, 1)


def _batch(crops: Crops, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Views of some things, either of each, moved, mirrored, brighter and darker."""
    views = np.where(rng.random((len(rows), 1, 1, 1)) < 0.5, crops.context[rows], crops.alone[rows])
    if rng.random() < 0.5:
        views = views[:, :, ::-1]
    if rng.random() < 0.3:
        views = views[..., rng.permutation(3)]
    bright = views.astype(np.float32) * rng.uniform(0.75, 1.25, (len(rows), 1, 1, 1))
    pixels = pixels_of(np.clip(bright + rng.uniform(-12, 12), 0, 255).astype(np.uint8))
    shift = torch.from_numpy(rng.uniform(-0.12, 0.12, (len(rows), 2))).float()
    scale = torch.from_numpy(rng.uniform(0.85, 1.1, len(rows))).float()
    turn = torch.zeros(len(rows), 2, 3)
    turn[:, 0, 0] = turn[:, 1, 1] = scale
    turn[:, :, 2] = shift
    grid = F.affine_grid(turn, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _features(found: Any) -> Tensor:
    return F.normalize(found.pooler_output, dim=-1)


def _accuracy(model: Any, tokenizer: Any, crops: Crops) -> tuple[float, Tensor]:
    """Share of views whose concept has the nearest caption, and that by concept."""
    model.eval()
    with torch.inference_mode():
        rows = []
        for names in CONCEPTS.values():
            texts = [template.format(names[0]) for template in TEMPLATES]
            given = tokenizer(texts, padding=True, return_tensors="pt")
            rows.append(F.normalize(_features(model.get_text_features(**given)).mean(0), dim=0))
        text = torch.stack(rows)
        image = sum(
            torch.cat(
                [
                    _features(model.get_image_features(pixels_of(part)))
                    for part in np.array_split(views, 8)
                ]
            )
            for views in (crops.context, crops.alone)
        )
        best = (image @ text.T).argmax(1)  # type: ignore[operator]
    right = best == torch.from_numpy(crops.concepts)
    model.train()
    by_concept = [
        right[torch.from_numpy(crops.concepts == k)].float().mean() for k in range(len(rows))
    ]
    return float(right.float().mean()), torch.stack(by_concept)


def train(data: Path, out: Path, minutes: float, seed: int, init: Path | None) -> None:
    """Train for a budget of time, from fresh weights or those in a folder; writes ``out/clip``."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    folder = out / "clip"
    peak = _PEAK_RATE
    if init is None:
        tokenizer = write_tokenizer(folder)
        model = build(tokenizer)
    else:
        model, tokenizer = _trained(init, folder)
        peak *= 0.4
    crops = read_crops(data / "train.npz")
    held_out = read_crops(data / "val.npz")
    # Every concept as often as any other.
    chance = (1 / np.bincount(crops.concepts, minlength=len(CONCEPTS)))[crops.concepts]
    chance /= chance.sum()
    pace = Pace(rate=peak, warm_up=0.02, decay=0.05, betas=(0.9, 0.98))
    learner = Learner(dict(model.named_parameters()), pace)
    start = shown = time.monotonic()
    seen: list[float] = []
    model.train()
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        rows = rng.choice(len(chance), _BATCH, p=chance)
        image = _features(model.get_image_features(_batch(crops, rows, rng)))
        given = tokenizer(_captions(rng), padding=True, return_tensors="pt")
        text = _features(model.get_text_features(**given))
        logits = model.logit_scale.exp().clamp(max=50) * image @ text.T
        loss = F.cross_entropy(logits, torch.from_numpy(crops.concepts[rows]), label_smoothing=0.03)
        seen.append(learner.learn(loss, progress))
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            share, by_concept = _accuracy(model, tokenizer, held_out)
            logger.info(
                "%5.1f min, step %d: loss %.3f, held out %.3f, least of a concept %.3f",
                (shown - start) / 60,
                learner.steps,
                sum(seen) / len(seen),
                share,
                float(by_concept.min()),
            )
            seen.clear()
    learner.take_average()
    share, by_concept = _accuracy(model, tokenizer, held_out)
    told = ", ".join(
        f"{name} {value:.3f}" for name, value in zip(CONCEPTS, by_concept, strict=True)
    )
    logger.info("held out %.3f: %s", share, told)
    save(model, folder)


def save(model: Any, folder: Path) -> None:
    """Write the model in half precision, beside its tokenizer."""
    model.half().eval().save_pretrained(folder)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": _MEAN,
        "image_std": _DEVIATION,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="of training_crops")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="folder of a CLIP to go on with")
    parser.add_argument("--minutes", type=float, default=25, help="of wall time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    train(args.data, args.out, args.minutes, args.seed, args.init)


if __name__ == "__main__":
    main()
