"""The settings of the models and of the runs over images: flag over environment over configuration file over default.

The environment names are the ones the Label Studio ecosystem uses already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.config.config_file import read_config
from backend.config.fields import Given, _from_environment, _from_flags, _read, flag, number, path, text
from backend.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Settings:
    """What decides the results, and what decides the speed."""

    detector: str | None = None  # demo, an Ultralytics name or a file; None chooses by device
    segmenter: str | None = None  # demo, a SAM 2 name or a checkpoint; None chooses by device
    segmenter_config: str | None = None  # for a checkpoint file: a yaml file or a name inside the sam2 package
    model_root: Path = Path("models")  # where named weights are looked for and put
    device: str = "auto"
    prompts: Path | None = None  # prompt file; with it no detector is loaded
    classes: tuple[str, ...] | None = None  # names to keep, or the names behind category_id of a prompt file
    conf: float = 0.25  # detections below are dropped
    iou: float = 0.7  # of the detector's non-maximum suppression
    max_det: int = 300  # per image
    agnostic_nms: bool = False  # one box per object, whatever its class: detections of different classes suppress each other too
    box_margin: float | None = None  # masks are cut to their box grown by this share of its sides; None leaves them whole
    min_part: float | None = None  # parts and holes of a mask below this share of its area are dropped and filled; None leaves them
    batch: int = 8  # images per model call
    sam_batch: int = 32  # boxes per decoder call
    workers: int = 2  # threads that decode, and threads that encode
    max_pixels: int = 50_000_000  # larger images are refused
    split: str = "val"  # of a VOC dataset


def _margin(value: Any) -> float | None:
    if value is None or str(value).lower() in ("none", "off", ""):
        return None
    return float(number(0, 10, float)(value))


def _device(value: Any) -> str:
    name = str(value).lower()
    if name.split(":")[0] not in DEVICES:
        raise ValueError(f"expected one of {', '.join(DEVICES)}, got {value!r}")
    return name


def _existing(value: Any) -> Path:
    file = path(value)
    if not file.is_file():
        raise ValueError(f"no such file: {file}")
    return file


def read_names(value: Any) -> tuple[str, ...]:
    """Class names from a list, a comma-separated string, or a text file with a name per line.

    Raises:
        ValueError: nothing in it, an empty name, or a name twice.
    """
    if isinstance(value, str) and "," not in value and Path(value).is_file():
        names: Iterable[Any] = Path(value).read_text(encoding="utf-8").splitlines()
        names = [name for name in names if name.strip()]
    elif isinstance(value, str):
        names = value.split(",")
    elif isinstance(value, list | tuple):
        names = value
    else:
        raise ValueError(f"expected names or a file of names, got {value!r}")
    cleaned = tuple(str(name).strip() for name in names)
    if not cleaned or not all(cleaned):
        raise ValueError("expected at least one name, none of them empty")
    twice = sorted({name for name in cleaned if cleaned.count(name) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return cleaned


# field: (environment names in order, cast)
_READ: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "detector": (("DETECTOR",), text),
    "segmenter": (("SEGMENTER", "MODEL_CHECKPOINT"), text),
    "segmenter_config": (("MODEL_CONFIG",), text),
    "model_root": (("MODEL_ROOT",), path),
    "device": (("DEVICE",), _device),
    "prompts": ((), _existing),
    "classes": ((), read_names),
    "conf": (("MODEL_SCORE_THRESHOLD",), number(0, 1, float)),
    "iou": ((), number(0, 1, float)),
    "max_det": ((), number(1, 10_000, int)),
    "agnostic_nms": ((), flag),
    "box_margin": ((), _margin),
    "min_part": ((), _margin),
    "batch": (("BATCH_SIZE",), number(1, 4096, int)),
    "sam_batch": (("SAM_BATCH",), number(1, 4096, int)),
    "workers": ((), number(1, 256, int)),
    "max_pixels": (("MAX_IMAGE_PIXELS",), number(64, 1 << 28, int)),
    "split": ((), text),
}


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str], config: Path | None = None) -> Settings:
    """Merge all sources and check every value.

    Args:
        flags: field name to value; None means not given.
        environ: the process environment.
        config: a config file, or None.

    Returns:
        The settings.

    Raises:
        ConfigError: listing every fault there is, each with where the value came from.
    """
    sources = [_from_environment(_READ, environ), _from_flags(flags)]
    if config is not None:
        sources.insert(0, {name: (f"{config}: {name}", value) for name, value in read_config(config).items()})
    raw: Given = {}
    for source in sources:
        if "segmenter" in source:  # a configuration belongs to its checkpoint: a stronger checkpoint drops a weaker configuration
            raw.pop("segmenter_config", None)
        raw.update(source)
    values, faults = _read(_READ, raw)
    if faults:
        raise ConfigError("; ".join(faults))
    return Settings(**values)
