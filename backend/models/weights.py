"""Weights of models: where they lie, and how they get there."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from backend.errors import ConfigError
from backend.files.atomic import file_digest

logger = logging.getLogger(__name__)
EMBEDDED_FOLDER = (
    Path(__file__).parent / "embedded"
)  # folder of the models that come with this package
DEMO_YOLO = EMBEDDED_FOLDER / "demo_yolov8.pt"
DEMO_SAM2 = EMBEDDED_FOLDER / "demo_sam2.1.pt"
DEMO_CLIP = EMBEDDED_FOLDER / "demo_clip"
DEMO_SAM2_CONFIG = EMBEDDED_FOLDER / "demo_sam2.1.yaml"
_HUB_TIMEOUT_S = 10.0
_SHA256_DIGITS = 64
_SUFFIXES = (".pt", ".pth", ".onnx", ".yaml")


def _embedded_sums() -> dict[str, str]:
    """SHA-256 of the embedded files, by their paths below the folder."""
    lines = (EMBEDDED_FOLDER / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {file: digest for digest, file in (line.split() for line in lines)}


def embedded_weights(name: str) -> Path:
    """The file of an embedded model.

    Raises:
        ConfigError: it is missing, or is not the one that was put into the package.
    """
    path = EMBEDDED_FOLDER / name
    if not path.is_file() or file_digest(path) != _embedded_sums().get(name):
        raise ConfigError(
            f"{path}: the embedded weights are missing or changed; reinstall the package"
        )
    return path


def embedded_folder(name: str) -> Path:
    """The folder of an embedded model that has several files.

    Raises:
        ConfigError: one of them is missing, or is not the one that was put into the package.
    """
    for file in _embedded_sums():
        if file.startswith(f"{name}/"):
            embedded_weights(file)
    return EMBEDDED_FOLDER / name


def fetched_weights(path: Path, name: str, download: Callable[[Path], object]) -> Path:
    """The file of a published model, downloaded if a person named the model and it is not there.

    Args:
        path: below MODEL_ROOT.
        name: of the model.
        download: puts the file there; may raise anything.

    Raises:
        ConfigError: it is not there and could not be downloaded.
    """
    if path.is_file():
        return path
    logger.warning("fetching %s into %s", path.name, path.parent.resolve())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download(path)
    except Exception as error:  # hubs, proxies and disks fail in many ways; the remedy is the same
        lines = str(error).strip().splitlines()
        reason = lines[0][:160] if lines else type(error).__name__
        told = f"{_not_on_disk(path, name)} (the download failed: {reason})"
        raise ConfigError(told) from None
    if not path.is_file():
        raise ConfigError(_not_on_disk(path, name))
    return path


def is_model_folder(folder: Path) -> bool:
    """Whether a folder has a configuration and weights, as ``save_pretrained`` writes them."""
    return (folder / "config.json").is_file() and any(
        path.suffix in (".safetensors", ".bin") for path in folder.iterdir()
    )


def fetched_folder(name: str, folder: Path) -> Path:
    """The folder of a model of the hub, downloaded if it is not there.

    It gets its name when it is complete, so a download that was interrupted is begun again.

    Args:
        name: ``owner/name`` on the hub.
        folder: where its files go.

    Raises:
        ConfigError: it is not there and could not be downloaded.
    """
    if folder.is_dir() and is_model_folder(folder):
        return folder
    logger.warning("fetching %s into %s", name, folder.parent.resolve())
    part = folder.with_name(f"{folder.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        _download_folder(name, part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except Exception as error:  # hubs, proxies and disks fail in many ways; the remedy is the same
        lines = str(error).strip().splitlines()
        reason = lines[0][:160] if lines else type(error).__name__
        raise ConfigError(
            f"model {name} is not on disk and could not be fetched: put its files into"
            f" {folder.resolve()}, or name `demo` to use the embedded model (the download failed:"
            f" {reason})"
        ) from None
    return folder


def _download_folder(name: str, folder: Path) -> None:
    """Fetch a model of the hub file by file, each checked; weights that hold no code go first."""
    from huggingface_hub import HfApi

    found = HfApi().model_info(name, timeout=_HUB_TIMEOUT_S).siblings or []
    files = [one.rfilename for one in found if "/" not in one.rfilename]
    weights = [file for file in files if file.endswith(".safetensors")]
    weights = weights or [file for file in files if re.fullmatch(r"pytorch_model.*\.bin", file)]
    if not weights:
        raise ConfigError(f"{name} has no weights of PyTorch")
    texts = [file for file in files if file.endswith((".json", ".txt", ".model"))]
    for file in (*texts, *weights):
        fetch_from_hub(name, folder / file)


def fetch_from_hub(repository: str, path: Path, endpoint: str | None = None) -> None:
    """Download one file of a repository on the Hugging Face hub, and check it against the sum that
    the hub publishes.

    The hub is asked once, without the retries of its client: a machine without network says so at
    once.

    Args:
        repository: ``owner/name``.
        path: where the file goes; its name is its name in the repository.
        endpoint: address of the hub; None for the public one, or ``HF_ENDPOINT``.

    Raises:
        ConfigError: the file that arrived is not the published one; it is removed.
        Exception: what the hub's client raises, of many kinds.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # The hub reports every try; ours is one sentence.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    address = hf_hub_url(repository, path.name, endpoint=endpoint)
    published = get_hf_file_metadata(address, timeout=_HUB_TIMEOUT_S).etag or ""
    hf_hub_download(repository, path.name, local_dir=str(path.parent), endpoint=endpoint)
    # A large file's tag is its SHA-256; that of a small one is a hash of git, which says less.
    if len(published) == _SHA256_DIGITS and file_digest(path) != published:
        path.unlink()
        raise ConfigError(f"{path.name}: what arrived from {repository} is not what it publishes")


def _not_on_disk(path: Path, name: str) -> str:
    return (
        f"model {name} is not on disk and could not be fetched: put {path.name} into"
        f" {path.parent.resolve()}, or name `demo` to use the embedded model"
    )


def looks_like_file(name: str) -> bool:
    """True for what names a file of weights, and not a published model."""
    return name.endswith(_SUFFIXES) or "/" in name or "\\" in name


def find_weights(name: str, root: Path, option: str, *, folders: bool = False) -> Path:
    """A file of weights as named, or below MODEL_ROOT.

    Args:
        name: as the user gave it.
        root: MODEL_ROOT.
        option: that named it, for the message.
        folders: whether a folder with a model will do as well.

    Raises:
        ConfigError: neither is there.
    """
    for path in (Path(name), root / name):
        if path.is_file() or (folders and path.is_dir() and is_model_folder(path)):
            return path
    raise ConfigError(f"{option}: no such file: {name}, here or in {root}")
