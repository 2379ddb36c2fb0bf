"""The settings of the models and of runs over images: flag over environment over configuration file
over default.

The environment names are the ones the Label Studio ecosystem uses already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.config.automatic import AutomaticOptions
from backend.config.config_file import read_config
from backend.config.fields import (
    Given,
    flag,
    from_environment,
    from_flags,
    listed,
    number,
    one_of,
    path,
    read_given,
    setting,
    settings_of,
    text,
)
from backend.config.naming import NamingOptions
from backend.errors import ConfigError

BOX_FORMS = ("xyxy", "xywh")
DEVICES = ("auto", "cpu", "cuda", "mps")


def _share(value: Any) -> float | None:
    if value is None or str(value).lower() in ("none", "off", ""):
        return None
    return float(number(0, 10, float)(value))


def _device(value: Any) -> str:
    names = [one.strip() for one in str(value).lower().split(",")]
    kinds = {name.partition(":")[0] for name in names}
    numbers = [name.partition(":")[2] for name in names if ":" in name]
    if not kinds <= set(DEVICES) or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"expected one of {', '.join(DEVICES)}, got {value!r}")
    if numbers and kinds != {"cuda"}:
        raise ValueError(f"expected a number only behind cuda, got {value!r}")
    if len(names) > 1 and not (kinds == {"cpu"} or len(set(numbers)) == len(names)):
        raise ValueError(f"expected different GPUs, such as cuda:0,cuda:1, got {value!r}")
    return ",".join(names)


def _side(value: Any) -> int:
    side = int(number(128, 2048, int)(value))
    if side % 32:
        raise ValueError(f"expected a multiple of 32, got {value!r}")
    return side


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
    cleaned = listed(value)
    twice = sorted({name for name in cleaned if cleaned.count(name) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return cleaned


DEFAULT_CONF = 0.25  # as of Ultralytics


@dataclass(frozen=True)
class YoloOptions:
    """What only YOLO detectors understand; another kind of detector brings a class like this."""

    iou: float = setting(
        0.7,
        read=number(0, 1, float),
        flags=("--iou",),
        environment=("NMS_IOU",),
        metavar="0..1",
        help="overlap for non-maximum suppression",
    )
    max_det: int = setting(
        300,
        read=number(1, 10_000, int),
        flags=("--max-det",),
        environment=("MAX_DETECTIONS",),
        metavar="N",
        help="most detections per image",
    )
    agnostic_nms: bool = setting(
        True,
        read=flag,
        flags=("--agnostic-nms",),
        environment=("AGNOSTIC_NMS",),
        help="one box per object, whatever its class; --no-agnostic-nms keeps one per class",
        shown_default="one per object",
    )


@dataclass(frozen=True)
class Settings(NamingOptions, AutomaticOptions, YoloOptions):
    """What decides the results, and what decides the speed."""

    detector: str | None = setting(
        None,
        read=text,
        flags=("--detector",),
        environment=("DETECTOR",),
        metavar="MODEL",
        help="demo, an Ultralytics name (yolov8n .. yolo26x), a .pt file, or one that looks for"
        " --names: grounding-dino-tiny, owlv2-base-patch16-ensemble or a folder",
        shown_default="by device",
    )
    segmenter: str | None = setting(
        None,
        read=text,
        flags=("--segmenter",),
        environment=("SEGMENTER", "MODEL_CHECKPOINT"),
        metavar="MODEL",
        help="demo, sam2.1_hiera_tiny|small|base_plus|large, sam2_hiera_*, or a checkpoint file",
        shown_default="by device",
    )
    segmenter_config: str | None = setting(
        None,
        read=text,
        flags=("--segmenter-config",),
        environment=("MODEL_CONFIG",),
        metavar="YAML",
        help="configuration of a checkpoint file: a yaml file or a name inside the sam2 package",
    )
    model_root: Path = setting(
        Path("models"),
        read=path,
        flags=("--model-root",),
        environment=("MODEL_ROOT",),
        metavar="DIR",
        help="where named weights lie and are downloaded to",
    )
    device: str = setting(
        "auto",
        read=_device,
        flags=("--device",),
        environment=("DEVICE",),
        metavar="auto|cpu|cuda|mps",
        help="where the models run; cuda:0,cuda:1 shares the pictures between several",
    )
    prompts: Path | None = setting(
        None,
        read=_existing,
        flags=("--prompts", "-p"),
        metavar="JSON",
        help="boxes come from this prediction.json; no detector is loaded",
    )
    prompt_boxes: str = setting(
        "xyxy",
        read=one_of(*BOX_FORMS),
        flags=("--prompt-boxes",),
        metavar="xyxy|xywh",
        help="what bbox of --prompts holds: two corners, or corner and size as in COCO's results",
    )
    classes: tuple[str, ...] | None = setting(
        None,
        read=read_names,
        flags=("--classes",),
        environment=("CLASS_NAMES",),
        metavar="NAMES",
        help="a,b,c or a file: classes to keep, or the names behind category_id of --prompts",
    )
    conf: float | None = setting(
        None,
        read=number(0, 1, float),
        flags=("--conf", "-conf"),
        environment=("MODEL_SCORE_THRESHOLD",),
        metavar="0..1",
        help="detections below are dropped; by default 0.25, or what a tuned detector is best with",
    )
    box_margin: float | None = setting(
        None,
        read=_share,
        flags=("--box-margin",),
        environment=("BOX_MARGIN",),
        metavar="SHARE",
        help="cut masks to their box grown by this share of its sides",
        shown_default="off, or what a tuned segmenter fits best with",
    )
    min_part: float | None = setting(
        None,
        read=_share,
        flags=("--min-part",),
        environment=("MIN_PART",),
        metavar="SHARE",
        help="drop parts and fill holes below this share of a mask's area",
        shown_default="off",
    )
    segmenter_size: int | None = setting(
        None,
        read=_side,
        flags=("--segmenter-size",),
        environment=("SEGMENTER_SIZE",),
        metavar="PX",
        help="side of the segmenter's input, a multiple of 32: 512 instead of 1024 takes a quarter"
        " of the time, and outlines are coarser",
        shown_default="the model's own",
    )
    runtime: str = setting(
        "auto",
        read=one_of("auto", "torch", "openvino"),
        flags=("--runtime",),
        environment=("MODEL_RUNTIME",),
        metavar="NAME",
        help="what runs the models on a CPU: torch, or openvino, which takes two thirds of the"
        " time (pip install openvino); auto takes openvino where it is installed",
    )
    precision: str = setting(
        "float32",
        read=one_of("float32", "bf16", "auto"),
        flags=("--precision",),
        environment=("MODEL_PRECISION",),
        metavar="NAME",
        help="of openvino: bf16 is for processors that compute in it, and gives slightly different"
        " masks; how much they differ is measured and told; auto takes it where there is",
    )
    batch: int = setting(
        8,
        read=number(1, 4096, int),
        flags=("--batch", "-b"),
        environment=("BATCH_SIZE",),
        metavar="N",
        help="images per model call, of each device",
    )
    sam_batch: int | None = setting(
        None,
        read=number(1, 4096, int),
        flags=("--sam-batch",),
        environment=("SAM_BATCH",),
        metavar="N",
        help="boxes per decoder call",
        shown_default="128, on a CPU 4",
    )
    workers: int | None = setting(
        None,
        read=number(1, 256, int),
        flags=("--workers",),
        environment=("IMAGE_WORKERS",),
        metavar="N",
        help="threads that decode, and as many that encode",
        shown_default="one a core",
    )
    max_pixels: int = setting(
        50_000_000,
        read=number(64, 1 << 28, int),
        environment=("MAX_IMAGE_PIXELS",),
        help="larger images are refused",
    )
    split: str = setting(
        "val",
        read=text,
        flags=("--split",),
        metavar="NAME",
        help="list of a VOC dataset",
    )


def load_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], config: Path | None = None
) -> Settings:
    """Merge all sources and check every value.

    Args:
        flags: field name to value; None means not given, and other names are left out.
        environ: the process environment.
        config: a configuration file, or None.

    Returns:
        The settings.

    Raises:
        ConfigError: listing every fault there is, each with where the value came from.
    """
    sources = [from_environment(Settings, environ), from_flags(Settings, flags)]
    if config is not None:
        content = read_config(config, settings_of(Settings))
        sources.insert(0, {name: (f"{config}: {name}", value) for name, value in content.items()})
    given: Given = {}
    for source in sources:
        # A configuration belongs to its checkpoint: a stronger checkpoint drops a weaker one's.
        if "segmenter" in source:
            given.pop("segmenter_config", None)
        given.update(source)
    values, faults = read_given(Settings, given)
    if faults:
        raise ConfigError("; ".join(faults))
    return Settings(**values)
