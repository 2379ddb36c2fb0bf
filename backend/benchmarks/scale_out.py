"""What a run on Ray costs beyond its slowest stage, with stages that sleep and pictures that go
from process to process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import numpy as np

from backend.benchmarks.ratios import Measurement
from backend.core.types import Image
from backend.labeling.engine_ray import RayOptions, run_on_ray
from backend.labeling.ray_workers import Load, Loaded

_SIZE_HW = (1080, 1920)
_STAGE_S = 0.04  # of a picture with the models, which are the slowest
_SHARE = 0.75  # of that for loading, and for finishing


def _make_loader() -> Load[int]:
    def load(key: int, found: object) -> Loaded:
        time.sleep(_STAGE_S * _SHARE)
        return Loaded(np.full((*_SIZE_HW, 3), key % 256, np.uint8))

    return load


class _Models:
    def infer(self, loaded: Sequence[Image]) -> list[int]:
        time.sleep(_STAGE_S * len(loaded))
        return [int(image[0, 0, 0]) for image in loaded]

    def finish(self, key: int, loaded: Image, raw: int) -> int:
        time.sleep(_STAGE_S * _SHARE)
        return raw


def overlap(count: int = 300) -> list[Measurement]:
    """Wall time of pictures on Ray over that of the models alone; nothing without Ray."""
    if find_spec("ray") is None:
        return []
    began: list[float] = []

    def keys() -> Iterator[int]:
        began.append(time.perf_counter())  # the workers are there
        yield from range(count)

    start = time.perf_counter()
    options = RayOptions(batch=8, loaders=2)
    found: dict[int, int] = {}
    ended = start
    for outcome in run_on_ray(keys(), _make_loader, _Models, options, threading.Event()):
        found[outcome.key] = outcome.value
        ended = time.perf_counter()  # what follows the last is Ray's own end
    if found != {key: key % 256 for key in range(count)}:
        raise RuntimeError("a picture came back as another")
    wall = ended - began[0]
    return [
        Measurement(
            "annotate on Ray: wall time over the slowest stage",
            wall / (count * _STAGE_S),
            1.15,
            False,
            f"{wall:.2f} s for {count} pictures of 1080p; starting the workers takes"
            f" {began[0] - start:.1f} s before, ending them"
            f" {time.perf_counter() - ended:.1f} s after",
        )
    ]
