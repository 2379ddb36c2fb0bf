"""Which models there are by name, and how to get one loaded. Imports torch only when asked to load."""

from __future__ import annotations

import re
from pathlib import Path

from backend.config.models import Settings
from backend.core.protocols import Detector, Segmenter
from backend.errors import ConfigError
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG, DEMO_YOLO, Sam2Spec, _check_demo, _fetch_sam2, _fetch_yolo, _find, _looks_like_file

DEMO = "demo"
_YOLO_NAME = re.compile(r"(yolov8|yolo11|yolo26)[nsmlx](-seg)?")


def _specs() -> dict[str, Sam2Spec]:
    sizes = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
    specs = {}
    for family, folder in (("sam2.1", "sam2.1"), ("sam2", "sam2")):
        for size, short in sizes.items():
            name = f"{family}_hiera_{size}"
            specs[name] = Sam2Spec(name, f"configs/{folder}/{family}_hiera_{short}.yaml", f"{name}.pt", f"facebook/{family}-hiera-{size.replace('_', '-')}")
    return specs


SAM2_MODELS = _specs()
YOLO_MODELS = tuple(f"{family}{size}" for family in ("yolov8", "yolo11", "yolo26") for size in "nsmlx")


def missing_weights(settings: Settings, device: str) -> list[Path]:
    """Files of published models that the settings name and that would have to be downloaded."""
    detector = settings.detector or ("yolov8n" if device == "cpu" else "yolov8m")
    segmenter = settings.segmenter or ("sam2.1_hiera_tiny" if device == "cpu" else "sam2.1_hiera_large")
    named = [settings.model_root / f"{detector}.pt"] if _YOLO_NAME.fullmatch(detector) else []
    named += [settings.model_root / SAM2_MODELS[segmenter].weights] if segmenter in SAM2_MODELS else []
    return [path for path in named if not path.is_file()]


def load_detector(settings: Settings, device: str) -> Detector:
    """Load the detector that the settings name.

    Args:
        settings: ``detector`` is ``demo``, an Ultralytics name or a file.
        device: as ``resolve_device`` gave it.

    Raises:
        ConfigError: an unknown name, a missing file, or weights that do not load.
    """
    name = settings.detector or ("yolov8n" if device == "cpu" else "yolov8m")
    if name == DEMO:
        _check_demo(DEMO_YOLO)
        path = DEMO_YOLO
    elif _looks_like_file(name):
        path = _find(name, settings.model_root, "--detector")
    elif _YOLO_NAME.fullmatch(name):
        path = _fetch_yolo(settings.model_root / f"{name}.pt", name)
    else:
        raise ConfigError(f"--detector: unknown model {name!r}; known are demo, {', '.join(YOLO_MODELS)}, or a file")
    from backend.models.yolo import YoloDetector

    return YoloDetector(
        path,
        device=device,
        conf=settings.conf,
        iou=settings.iou,
        max_det=settings.max_det,
        agnostic_nms=settings.agnostic_nms,
        classes=settings.classes,
    )


def load_segmenter(settings: Settings, device: str) -> Segmenter:
    """Load the segmenter that the settings name; see ``load_detector``.

    Raises:
        ConfigError: also for a checkpoint that does not fit its configuration, naming both.
    """
    name = settings.segmenter or ("sam2.1_hiera_tiny" if device == "cpu" else "sam2.1_hiera_large")
    config = settings.segmenter_config
    if name == DEMO:
        _check_demo(DEMO_SAM2)
        path, config = DEMO_SAM2, str(DEMO_SAM2_CONFIG)
    elif name in SAM2_MODELS:
        spec = SAM2_MODELS[name]
        path, config = _fetch_sam2(settings.model_root / spec.weights, spec), config or spec.config
    elif _looks_like_file(name):
        path = _find(name, settings.model_root, "--segmenter")
        known = SAM2_MODELS.get(path.stem)
        config = config or (known.config if known else None)
        if config is None:
            raise ConfigError(f"--segmenter: {path} needs --segmenter-config, a yaml file or a name inside the sam2 package")
    else:
        raise ConfigError(f"--segmenter: unknown model {name!r}; known are demo, {', '.join(SAM2_MODELS)}, or a file")
    from backend.models.sam2.image import Sam2Segmenter

    return Sam2Segmenter(path, config, device=device, box_chunk=settings.sam_batch)
