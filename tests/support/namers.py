"""Models that name masks, of full size and without training: what they say means nothing, but they
are loaded and run as the real ones are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def write_tokenizer(folder: Path) -> Any:
    """A tokenizer of whole words; gives it as loaded from the folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    words = ["[UNK]", "[BOS]", "[EOS]", "a", "an", "of", "the", "photo", "picture", "car", "bus"]
    words += ["red", "cat", "dog", "background"]
    made = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        pad_token="[EOS]",
    ).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def write_processor(folder: Path, side: int, *, cropped: bool) -> None:
    """How pictures go in, as CLIP's and SigLIP's folders say it."""
    size = {"height": side, "width": side}
    settings: dict[str, object] = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": size}
    if cropped:
        settings |= {"size": {"shortest_edge": side}, "crop_size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def write_clip(
    folder: Path, kind: str, *, small: bool = False, projection: int | None = None
) -> Path:
    """A ``clip`` or ``siglip`` of the size of its base model, or with few layers."""
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder)
    text = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision: dict[str, int] = {}
    if small:
        few = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
        few |= {"num_attention_heads": 2}
        text |= {**few, "vocab_size": 100}
        vision |= {**few, "image_size": 64, "patch_size": 16}
    configs, models = (CLIPConfig, CLIPModel) if kind == "clip" else (SiglipConfig, SiglipModel)
    more = {} if projection is None else {"projection_dim": projection}
    config = configs(text_config=text, vision_config=vision, **more)
    models(config).half().save_pretrained(folder)
    write_processor(folder, config.vision_config.image_size, cropped=kind == "clip")
    return folder


def write_classifier(folder: Path, names: Sequence[str]) -> Path:
    """A small image classifier without training."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        id2label=dict(enumerate(names)),
        label2id={name: k for k, name in enumerate(names)},
    )
    ViTForImageClassification(config).save_pretrained(folder)
    write_processor(folder, 32, cropped=False)
    return folder
