"""How fast the models that are here run on this machine: pictures per second, clicks, and memory.

Each model is measured in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from backend.config.models import Settings
from backend.core.protocols import PointSegmenter
from backend.core.types import Image, Prompts
from backend.errors import ConfigError, LabelingError
from backend.files.find import find_files
from backend.files.images import SUFFIXES, read_image
from backend.models.devices import describe_device, peak_memory, resolve_device
from backend.models.table import known_models

BOXES = 8  # in each picture, for segmenters
_PICTURES = 6


@dataclass(frozen=True)
class Speed:
    """What a model takes.

    Attributes:
        kind: ``detector`` or ``segmenter``.
        name: of the model.
        picture_s: seconds for a picture; of a segmenter with ``BOXES`` boxes.
        first_click_s: seconds until the first mask of a picture; None for detectors.
        later_click_s: seconds for every further one.
        memory_bytes: peak; on a GPU what the model took there, else of the process.
    """

    kind: str
    name: str
    picture_s: float
    first_click_s: float | None
    later_click_s: float | None
    memory_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def models_here(root: Path, named: Sequence[str | None]) -> list[tuple[str, str]]:
    """Kind and name of the models whose weights are on this disk, and of those a person named.

    Args:
        root: MODEL_ROOT.
        named: detector and segmenter; None for all that are here.
    """
    detector, segmenter = named
    if detector is not None or segmenter is not None:
        pairs = [("detector", detector), ("segmenter", segmenter)]
        return [(kind, name) for kind, name in pairs if name is not None]
    return [
        (model.kind, model.name)
        for model, where in known_models(root)
        if not isinstance(where, Path) or where.is_file()
    ]


def sample_pictures(folder: Path) -> list[Image]:
    """A few pictures of a folder, spread over it.

    Raises:
        ConfigError: there are none.
    """
    paths = list(find_files(folder, SUFFIXES))
    if not paths:
        raise ConfigError(f"{folder}: no pictures there")
    step = max(1, len(paths) // _PICTURES)
    return [read_image(path) for path in paths[::step][:_PICTURES]]


_WARM_UPS = 3  # the first calls choose kernels and start threads
_FEWEST = 5  # times, of which the median says something


def _median(run: Callable[[int], object], repeats: int) -> float:
    for k in range(_WARM_UPS):
        run(k)
    times = []
    for k in range(max(_FEWEST, repeats)):
        start = time.perf_counter()
        run(k)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _boxes(image: Image) -> np.ndarray:
    height, width = image.shape[:2]
    left = np.linspace(0, 0.7, BOXES) * width
    top = np.linspace(0.6, 0, BOXES) * height
    return np.stack([left, top, left + 0.3 * width, top + 0.4 * height], 1).astype(np.float32)


def _peak(device: str) -> int:
    on_device = peak_memory(device)
    if on_device is not None:
        return on_device
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def measure(kind: str, name: str, settings: Settings, folder: Path, repeats: int) -> Speed:
    """Measure one model.

    Args:
        kind: ``detector`` or ``segmenter``.
        name: of the model, or a file of weights.
        settings: thresholds, device, MODEL_ROOT.
        folder: of pictures.
        repeats: of each figure.
    """
    from backend.models.registry import load_detector, load_segmenter

    device = resolve_device(settings.device)
    pictures = sample_pictures(folder)
    if kind == "detector":
        detector = load_detector(replace(settings, detector=name), device)
        took = _median(lambda k: detector.detect([pictures[k % len(pictures)]]), repeats)
        return Speed(kind, name, took, None, None, _peak(device))
    segmenter = load_segmenter(replace(settings, segmenter=name), device)

    def outline(k: int) -> object:
        image = pictures[k % len(pictures)]
        return segmenter.segment([image], [_boxes(image)])

    took = _median(outline, repeats)
    first = later = None
    if isinstance(segmenter, PointSegmenter):
        first, later = _clicks(segmenter, pictures, repeats)
    return Speed(kind, name, took, first, later, _peak(device))


def _clicks(
    segmenter: PointSegmenter, pictures: Sequence[Image], repeats: int
) -> tuple[float, float]:
    def click(image: Image) -> Prompts:
        middle = np.array([[image.shape[1] / 2, image.shape[0] / 2]], np.float32)
        return Prompts(points_xy=middle, positive=np.array([True]))

    def first(k: int) -> object:
        image = pictures[k % len(pictures)]
        return segmenter.refine(segmenter.embed(image), [click(image)])

    embedding = segmenter.embed(pictures[0])
    later = _median(lambda k: segmenter.refine(embedding, [click(pictures[0])]), repeats)
    return _median(first, repeats), later


def measure_all(
    settings: Settings, folder: Path, repeats: int, on_start: Callable[[str], object]
) -> tuple[list[Speed], list[str]]:
    """Measure the models that are here, or those that the settings name.

    Args:
        settings: names, thresholds, device, MODEL_ROOT.
        folder: of pictures.
        repeats: of each figure.
        on_start: told the name of each model.

    Returns:
        Figures, and a sentence for each model that failed.
    """
    sample_pictures(folder)
    speeds = []
    failed = []
    wanted = models_here(settings.model_root, (settings.detector, settings.segmenter))
    for kind, name in wanted:
        on_start(f"{kind} {name}")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            try:
                speeds.append(
                    process.submit(measure, kind, name, settings, folder, repeats).result()
                )
            except LabelingError as error:
                failed.append(f"{kind} {name}: {error}")
    return speeds, failed


def as_text(speeds: Sequence[Speed], failed: Sequence[str], device: str) -> str:
    """For people: a table, and what a project of 10,000 pictures takes with each pair."""

    def ms(seconds: float | None) -> str:
        return "" if seconds is None else f"{1000 * seconds:,.0f}"

    lines = [
        describe_device(resolve_device(device)),
        f"{'':<34}{'ms a picture':>13}{'first click':>13}{'later':>8}{'memory, MiB':>13}",
    ]
    lines += [
        f"{one.kind:<10} {one.name[-22:]:<22} {ms(one.picture_s):>13}{ms(one.first_click_s):>13}"
        f"{ms(one.later_click_s):>8}{one.memory_bytes >> 20:>13,}"
        for one in speeds
    ]
    lines.append(f"segmenters with {BOXES} boxes in a picture; clicks in ms, on the models alone")
    for detector in (one for one in speeds if one.kind == "detector"):
        for segmenter in (one for one in speeds if one.kind == "segmenter"):
            took = detector.picture_s + segmenter.picture_s
            lines.append(
                f"{detector.name} and {segmenter.name}: {1 / took:.1f} pictures a second,"
                f" {10_000 * took / 3600:.1f} hours for 10,000"
            )
    return "\n".join([*lines, *(f"failed: {one}" for one in failed)])
