"""The words that YOLO-World and YOLOE look for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.errors import ConfigError
from backend.files.atomic import file_digest
from backend.models.pretrained import (
    folder_digest,
    load_part,
    load_pretrained,
    need_transformers,
    read_model_config,
)
from backend.models.weights import fetched_folder

# YOLO-World learned with the text features of this one.
TEXT_MODEL = "openai/clip-vit-base-patch32"


def text_folder(root: Path) -> Path:
    """The folder of the text model below MODEL_ROOT, fetched if it is not there.

    Raises:
        ConfigError: it is not there and could not be fetched.
    """
    need_transformers("--detector")
    return fetched_folder(TEXT_MODEL, root / TEXT_MODEL)


def text_features(folder: Path, phrases: Sequence[str]) -> Tensor:
    """What a CLIP makes of phrases, as YOLO-World wants it.

    Args:
        folder: of the model, as ``save_pretrained`` writes it.
        phrases: at least one.

    Returns:
        (1, N, D) float32 unit features.

    Raises:
        ConfigError: the folder holds no CLIP that loads.
    """
    if read_model_config(folder, "--detector").get("model_type") != "clip":
        raise ConfigError(f"--detector: {folder} is no CLIP, whose words YOLO-World looks for")
    tokenizer = load_part("AutoTokenizer", folder, "--detector")
    model = load_pretrained("AutoModel", folder, "--detector")
    longest = model.config.text_config.max_position_embeddings
    given = tokenizer(
        list(phrases), padding=True, truncation=True, max_length=longest, return_tensors="pt"
    )
    with torch.inference_mode():
        found = model.get_text_features(**given).pooler_output.float()
    return F.normalize(found, dim=-1)[None].clone()


def look_for(model: Any, path: Path, phrases: Sequence[str], root: Path) -> str:
    """Make a YOLO-World or YOLOE look for phrases; its classes are these, in their order.

    Args:
        model: as Ultralytics loads it.
        path: it came from, for messages.
        phrases: at least one.
        root: MODEL_ROOT.

    Returns:
        What tells one set of words, and of text features, from another.

    Raises:
        ConfigError: what makes features of words is missing or does not fit.
    """
    if type(model).__name__ == "YOLOWorld":
        folder = text_folder(root)
        features = text_features(folder, phrases)
        expected = model.model.txt_feats.shape[-1]
        if features.shape[-1] != expected:
            raise ConfigError(
                f"--detector: {path} takes words as {expected} numbers, and {folder} gives"
                f" {features.shape[-1]}"
            )
        model.model.txt_feats = features
        model.model.model[-1].nc = len(phrases)
        model.model.names = dict(enumerate(phrases))
        model.predictor = None
        return json.dumps([folder_digest(folder), list(phrases)])
    try:
        model.set_classes(list(phrases))
    # Its text model is a package and a file that Ultralytics would fetch; both may be missing.
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"--detector: {path} has no text model here ({lines[0][:120]}); where it has one, give"
            " the file its classes with Ultralytics' set_classes and save it, and leave --names out"
        ) from None
    return json.dumps([file_digest(path), list(phrases)])
