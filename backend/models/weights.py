"""Weights of models: where they lie, and how they get there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.errors import ConfigError
from backend.files.atomic import file_digest

logger = logging.getLogger(__name__)
DEMO_FOLDER = Path(__file__).parent.parent / "demo" / "models"
DEMO_YOLO = DEMO_FOLDER / "demo_yolov8.pt"
DEMO_SAM2 = DEMO_FOLDER / "demo_sam2.1.pt"
DEMO_SAM2_CONFIG = DEMO_FOLDER / "demo_sam2.1.yaml"
_SUMS = DEMO_FOLDER / "SHA256SUMS"


@dataclass(frozen=True)
class Sam2Spec:
    """A published SAM 2 model: configuration inside the sam2 package, file name of its weights, hub repository."""

    name: str
    config: str
    weights: str
    repository: str


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
