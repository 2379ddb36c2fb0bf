"""All settings of the cascade in one frozen object, read once: flag over environment over config file over default.

The environment names are the ones the Label Studio ecosystem uses already; the config file is JSON or YAML with the names of
the fields below, or the nested keys of upstream YOLO-SAM2's configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

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


def number(low: float, high: float, kind: type[int] | type[float]) -> Callable[[Any], Any]:
    """A reader of numbers within limits; it raises ``ValueError`` with what was expected and what was found."""

    def cast(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"expected a number, got {value!r}")
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"expected a{'n integer' if kind is int else ' number'}, got {value!r}") from None
        if isinstance(value, float) and kind is int and value != number:
            raise ValueError(f"expected an integer, got {value!r}")
        if not low <= number <= high:
            raise ValueError(f"expected {low:g} to {high:g}, got {value!r}")
        return number

    return cast


def _margin(value: Any) -> float | None:
    if value is None or str(value).lower() in ("none", "off", ""):
        return None
    return float(number(0, 10, float)(value))


def text(value: Any) -> str:
    """A reader of non-empty text."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a name or a path, got {value!r}")
    return value.strip()


def path(value: Any) -> Path:
    """A reader of paths."""
    return Path(text(str(value)))


def flag(value: Any) -> bool:
    """A reader of true and false."""
    if str(value).strip().lower() in ("1", "true", "yes", "on"):
        return True
    if str(value).strip().lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"expected true or false, got {value!r}")


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


def read_config(path: Path) -> dict[str, Any]:
    """Read a config file into fields of ``Settings``.

    Args:
        path: a JSON or YAML file with one mapping.

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
    known = {f.name for f in fields(Settings)}
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
        raise ConfigError(f"{path}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return found


Table = Mapping[str, tuple[tuple[str, ...], Callable[[Any], Any]]]  # field: (environment names in order, reader)
Given = dict[str, tuple[str, Any]]  # field: (where it was given, raw value)


def _from_environment(table: Table, environ: Mapping[str, str]) -> Given:
    given = {name: [v for v in variables if environ.get(v)] for name, (variables, _) in table.items()}
    return {name: (found[0], environ[found[0]]) for name, found in given.items() if found}


def _from_flags(flags: Mapping[str, Any]) -> Given:
    return {name: (f"--{name.replace('_', '-')}", value) for name, value in flags.items() if value is not None}


def _read(table: Table, raw: Given) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, (source, value) in raw.items():
        try:
            values[name] = table[name][1](value)
        except (ValueError, OSError) as error:
            faults.append(f"{source}: {error}")
    return values, faults


def read_fields(table: Table, flags: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Field values of any settings object from flags over environment.

    Returns:
        The values that could be read, and a sentence for each that could not.
    """
    return _read(table, {**_from_environment(table, environ), **_from_flags(flags)})


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
