"""The configuration file: JSON or YAML with the names of the settings, or the nested keys of
upstream YOLO-SAM2.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from backend.errors import ConfigError

# Keys of upstream YOLO-SAM2's configuration; None: understood, but decided elsewhere here.
_UPSTREAM: dict[str, str | None] = {
    "name": None,
    "n_gpu": None,
    "arch.yolo": None,
    "arch.sam": None,
    "arch.yolo_weights": "detector",
    "arch.sam_weights": "segmenter",
    "arch.sam_config": "segmenter_config",
    "dataset.num_classes": None,
    "dataset.data_dir": None,
    "dataset.split": "split",
    "dataset.conf": "conf",
    "dataloader.batch_size": "batch",
    "dataloader.num_workers": "workers",
    "predictor.save_dir": None,
    "auto_mask.save_dir": None,
}


def read_config(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        path: a JSON or YAML file with one mapping.
        known: names of all settings.

    Returns:
        Field name to raw value; values are checked later, together with all others.

    Raises:
        ConfigError: unreadable, not a mapping, or with unknown keys (all of them listed).
    """
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error}") from None
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            content = yaml.safe_load(source)
        else:
            content = json.loads(source)
    except Exception as error:  # two parsers, a dozen error classes, one meaning
        raise ConfigError(f"{path}: is neither valid JSON nor YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected one mapping of settings, got {type(content).__name__}")
    found: dict[str, Any] = {}
    unknown: list[str] = []
    for key, value in content.items():
        inner = value if isinstance(value, dict) else {None: value}
        for sub, leaf in inner.items():
            name = key if sub is None else f"{key}.{sub}"
            if name in known:
                found[name] = leaf
            elif name in _UPSTREAM:
                found.update({} if _UPSTREAM[name] is None else {str(_UPSTREAM[name]): leaf})
            else:
                unknown.append(str(name))
    if unknown:
        raise ConfigError(
            f"{path}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    return found
