"""Which models there are by name, where their files lie, and how to get one loaded. Imports torch only when asked to load."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.config.models import Settings
from backend.core.protocols import Detector, Segmenter
from backend.errors import ConfigError
from backend.files.atomic import file_digest

logger = logging.getLogger(__name__)

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent.parent / "demo" / "models"
DEMO_YOLO = DEMO_FOLDER / "demo_yolov8.pt"
DEMO_SAM2 = DEMO_FOLDER / "demo_sam2.1.pt"
DEMO_SAM2_CONFIG = DEMO_FOLDER / "demo_sam2.1.yaml"
_SUMS = DEMO_FOLDER / "SHA256SUMS"
_YOLO_NAME = re.compile(r"(yolov8|yolo11|yolo26)[nsmlx](-seg)?")


@dataclass(frozen=True)
class Sam2Spec:
    """A published SAM 2 model: configuration inside the sam2 package, file name of its weights, hub repository."""

    name: str
    config: str
    weights: str
    repository: str


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


def resolve_device(device: str) -> str:
    """``auto`` as the best device there is; anything else is checked.

    Raises:
        ConfigError: the device is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there.get(device.split(":")[0], False):
        raise ConfigError(f"device {device} is not available here; available: {', '.join(name for name, has in there.items() if has)}")
    return device


def describe_device(device: str) -> str:
    """A device with its name, memory and threads, for people."""
    import torch

    if device.startswith("cuda"):
        found = torch.cuda.get_device_properties(device)
        return f"{device}: {found.name}, {found.total_memory / (1 << 30):.0f} GiB"
    return f"{device}, {torch.get_num_threads()} threads"


def torchvision_fault() -> str | None:
    """Why torchvision does not work with this torch, or None."""
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # an extension built for another torch fails in many ways
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


def missing_weights(settings: Settings, device: str) -> list[Path]:
    """Files of published models that the settings name and that would have to be downloaded."""
    detector = settings.detector or ("yolov8n" if device == "cpu" else "yolov8m")
    segmenter = settings.segmenter or ("sam2.1_hiera_tiny" if device == "cpu" else "sam2.1_hiera_large")
    named = [settings.model_root / f"{detector}.pt"] if _YOLO_NAME.fullmatch(detector) else []
    named += [settings.model_root / SAM2_MODELS[segmenter].weights] if segmenter in SAM2_MODELS else []
    return [path for path in named if not path.is_file()]


def _check_demo(path: Path) -> None:
    lines = (line.split() for line in _SUMS.read_text(encoding="ascii").splitlines())
    sums = {name: digest for digest, name in lines}
    if not path.is_file() or file_digest(path) != sums.get(path.name):
        raise ConfigError(f"{path}: the embedded weights are missing or changed; reinstall the package")


def _fetch(path: Path, name: str, download: Callable[[], object]) -> Path:
    """A file under MODEL_ROOT, downloaded because a person named the model and it is not there."""
    if path.is_file():
        return path
    logger.warning("fetching %s into %s", path.name, path.parent.resolve())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download()
    except Exception as error:  # hubs, proxies and disks fail in many ways; the remedy is the same
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ConfigError(_not_on_disk(path, name) + f" (the download failed: {reason})") from None
    if not path.is_file():
        raise ConfigError(_not_on_disk(path, name))
    return path


def _not_on_disk(path: Path, name: str) -> str:
    return f"model {name} is not on disk and could not be fetched: put {path.name} into {path.parent.resolve()}, or name `demo` to use the embedded model"


def _fetch_yolo(path: Path, name: str) -> Path:
    def download() -> None:
        from backend.models.yolo import quiet_ultralytics

        quiet_ultralytics(offline=False)
        from ultralytics.utils.downloads import attempt_download_asset

        attempt_download_asset(str(path))

    return _fetch(path, name, download)


def _fetch_sam2(path: Path, spec: Sam2Spec) -> Path:
    def download() -> None:
        from huggingface_hub import hf_hub_download

        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports every try; ours is one sentence
        hf_hub_download(spec.repository, spec.weights, local_dir=str(path.parent))

    return _fetch(path, spec.name, download)


def _looks_like_file(name: str) -> bool:
    return name.endswith((".pt", ".pth", ".onnx", ".yaml")) or "/" in name or "\\" in name


def _find(name: str, root: Path, option: str) -> Path:
    """A weights file as named, or below MODEL_ROOT."""
    for path in (Path(name), root / name):
        if path.is_file():
            return path
    raise ConfigError(f"{option}: no such file: {name}, here or in {root}")


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
    from backend.models.sam2 import Sam2Segmenter

    return Sam2Segmenter(path, config, device=device, box_chunk=settings.sam_batch)
