"""Detectors that look for words, without training: what they say means nothing, but they are loaded
and run as the real ones are.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.support.namers import write_tokenizer


def _write_bert(folder: Path, words: tuple[str, ...]) -> None:
    """A tokenizer of BERT, which Grounding DINO reads with."""
    from transformers import BertTokenizer

    # The model knows the numbers of what begins, divides and ends a sentence.
    entries = ["[PAD]", "[UNK]", *(f"[unused{k}]" for k in range(99)), "[CLS]", "[SEP]", "[MASK]"]
    entries += [f"[unused{k}]" for k in range(99, 1012 - len(entries) + 99)]
    entries += [".", *(f"[filler{k}]" for k in range(16)), "?", *words]
    assert entries[101:103] == ["[CLS]", "[SEP]"]
    assert (entries[1012], entries[1029]) == (".", "?")
    (folder / "vocab.txt").write_text("\n".join(entries))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def write_grounding_dino(folder: Path, *, small: bool = False) -> Path:
    """A Grounding DINO of the size of its smallest, or with few layers."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    _write_bert(folder, ("car", "red", "bus", "cat"))
    few: dict[str, object] = {}
    if small:
        few = {
            "d_model": 32,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "num_queries": 20,
            "text_config": {
                "model_type": "bert",
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
            },
            "backbone_config": {
                "model_type": "swin",
                "embed_dim": 8,
                "depths": [1, 1, 1, 1],
                "num_heads": [1, 1, 1, 1],
                "out_indices": [2, 3, 4],
            },
        }
    GroundingDinoForObjectDetection(GroundingDinoConfig(**few)).save_pretrained(folder)
    side = 96 if small else 800
    settings = {
        "image_processor_type": "GroundingDinoImageProcessor",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "size": {"shortest_edge": side, "longest_edge": 2 * side},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def write_owlv2(folder: Path) -> Path:
    """An OWLv2 with few layers."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder)
    few = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    few |= {"num_attention_heads": 2}
    text = {**few, "vocab_size": 100, "eos_token_id": tokenizer.eos_token_id}
    config = Owlv2Config(
        text_config=text,
        vision_config={**few, "image_size": 96, "patch_size": 16},
        projection_dim=32,
    )
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    settings = {
        "image_processor_type": "Owlv2ImageProcessor",
        "size": {"height": 96, "width": 96},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
