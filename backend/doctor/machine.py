"""Checks of this machine: packages, device and weights."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backend.config.models import Settings
from backend.doctor.checks import FAULT, NOTE, OK, Check
from backend.errors import ConfigError
from backend.formats.label_studio.binding import listed
from backend.formats.registry import format_of

_PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics",
    "sam2",
    "numpy",
    "opencv-python",
    "pillow",
    "flask",
    "gunicorn",
)
_OTHER_MODEL = "name another model with --detector or --segmenter; `yolosam2 models` lists them"
_REINSTALL = "pip install -c constraints.txt . in a fresh environment"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_packages() -> Iterator[Check]:
    """Versions, and the two pairs that break when they differ."""
    found = {name: _version(name) for name in _PACKAGES}
    missing = [name for name, text in found.items() if text is None]
    text = f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {number}" for name, number in found.items() if number
    )
    yield Check(
        FAULT if missing else OK,
        "packages",
        text + (f"; missing: {', '.join(missing)}" if missing else ""),
        _REINSTALL if missing else "",
    )
    headless = _version("opencv-python-headless")
    if headless and headless != found["opencv-python"]:
        yield Check(
            FAULT,
            "opencv",
            f"opencv-python {found['opencv-python']} and opencv-python-headless {headless} share"
            " one folder",
            "install both at one version, as constraints.txt does",
        )
    from backend.models.devices import torchvision_fault

    if (fault := torchvision_fault()) is not None:
        yield Check(FAULT, "torchvision", f"does not fit torch: {fault}", _REINSTALL)


def check_device(settings: Settings) -> Iterator[Check]:
    """Which device the models would run on."""
    from backend.models.devices import describe_device, resolve_device

    try:
        device = resolve_device(settings.device)
    except ConfigError as error:
        yield Check(FAULT, "device", str(error), "--device auto takes the best there is")
        return
    slow = device == "cpu" and settings.segmenter is None
    yield Check(
        OK,
        "device",
        describe_device(device) + (", so the smallest models are the default" if slow else ""),
    )


def check_weights(
    settings: Settings, names: dict[str | None, Mapping[int, str]]
) -> Iterator[Check]:
    """Whether the models load; nothing is downloaded.

    Args:
        settings: which models.
        names: gets the classes of the detector under None.
    """
    from backend.models.devices import resolve_device
    from backend.models.registry import load_detector, load_segmenter, missing_weights

    try:
        device = resolve_device(settings.device)
    except ConfigError:
        device = "cpu"
    missing: list[Path] = missing_weights(settings, device)
    if missing:
        files = ", ".join(str(path) for path in missing)
        yield Check(
            NOTE,
            "weights",
            f"not on disk: {files}",
            "they are fetched on first use; without a network put them there by hand, or name"
            " `demo`",
        )
    if not any(not path.stem.startswith("sam2") for path in missing):
        try:
            detector = load_detector(settings, device)
            names[None] = detector.names
            yield Check(
                OK,
                "detector",
                f"{detector.version}, {len(detector.names)} classes:"
                f" {listed(detector.names.values(), 8)}",
            )
        except ConfigError as error:
            yield Check(FAULT, "detector", str(error), _OTHER_MODEL)
    if not any(path.stem.startswith("sam2") for path in missing):
        try:
            yield Check(OK, "segmenter", load_segmenter(settings, device).version)
        except ConfigError as error:
            yield Check(FAULT, "segmenter", str(error), _OTHER_MODEL)


def check_labelme() -> Iterator[Check]:
    """Whether labelme's window can open here with the models in it."""
    look = format_of("labelme").check_window
    try:
        yield Check(OK, "labelme", "not known here" if look is None else look())
    except ConfigError as error:
        found, _, fix = str(error).partition("; ")
        yield Check(FAULT, "labelme", found, fix or "see the message")
