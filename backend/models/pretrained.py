"""Models of ``transformers`` in a folder, loaded without network and without running code in it."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backend.errors import ConfigError
from backend.files.atomic import file_digest


def quiet_transformers() -> None:
    """Keep ``transformers`` from drawing bars and from remarks: what fails is told by its error."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def need_transformers(option: str) -> None:
    """Refuse where the library is not installed.

    Args:
        option: that asks for it.

    Raises:
        ConfigError: how to get it.
    """
    if find_spec("transformers") is None:
        raise ConfigError(
            f"{option}: needs transformers; pip install 'yolo-sam2-labeling[clip]' brings it"
        )


def read_model_config(folder: Path, option: str) -> dict[str, Any]:
    """The ``config.json`` of a model.

    Args:
        folder: as ``save_pretrained`` writes it.
        option: that named it, for the message.

    Raises:
        ConfigError: it is missing or is no object of JSON.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option}: {path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{option}: {path} is no configuration of a model")
    return found


def load_pretrained(kind: str, folder: Path, option: str) -> Any:
    """A model in float32 on the CPU, ready for inference.

    Args:
        kind: the class of ``transformers`` that loads it, such as ``AutoModel``.
        folder: as ``save_pretrained`` writes it.
        option: that named it, for messages.

    Raises:
        ConfigError: it does not load, or some of its weights are not there and would be random.
    """
    import torch
    import transformers

    quiet_transformers()
    try:
        model, told = getattr(transformers, kind).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    # The library raises many kinds; the remedy is the same.
    except Exception as error:
        raise _does_not_load(folder, option, error) from error
    missing = told["missing_keys"]
    if missing:
        raise ConfigError(
            f"{option}: {folder} lacks {len(missing)} of the model's weights, such as"
            f" {min(missing)}"
        )
    return model.eval().requires_grad_(False)


def load_part(kind: str, folder: Path, option: str) -> Any:
    """A tokenizer or an image processor; see ``load_pretrained``.

    Raises:
        ConfigError: it does not load.
    """
    import transformers

    quiet_transformers()
    try:
        return getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # as above
        raise _does_not_load(folder, option, error) from error


def _does_not_load(folder: Path, option: str, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ConfigError(f"{option}: {folder} does not load: {lines[0][:200]}")


def folder_digest(folder: Path) -> str:
    """SHA-256 of all that decides what the model in a folder says."""
    files = sorted(
        path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".json")
    )
    return sha256("".join(file_digest(path) for path in files).encode()).hexdigest()
