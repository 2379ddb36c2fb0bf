"""Stub models for runs on Ray, as workers load them; some of them end their worker."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.labeling.cascade import Cascade
from backend.labeling.ray_workers import Load, Loaded
from tests.support.fakes import FakeDetector, FakeSegmenter

WHITE = 250  # a picture whose corner is as bright kills whoever looks at it


def cascade() -> Cascade:
    """Stub models."""
    return Cascade(FakeDetector(), FakeSegmenter())


class _Dies(Cascade):
    """Ends its process once, when others of a batch are written and not told; or with every white
    picture.
    """

    marker: Path | None = None
    finished = itertools.count(1)

    def infer(self, images: Sequence[np.ndarray], *rest: Any, **options: Any) -> Any:
        if self.marker is None and any(image[0, 0, 0] >= WHITE for image in images):
            os._exit(1)
        return super().infer(images, *rest, **options)

    def finish(self, raw: Any, **options: Any) -> Any:
        if next(self.finished) == 11 and self.marker is not None and not self.marker.exists():
            time.sleep(0.5)
            self.marker.write_text("killed")
            os._exit(1)
        return super().finish(raw, **options)


def dying(marker: Path | None = None) -> Cascade:
    """Stub models that die once, with a marker to remember it, or with every white picture."""
    made = _Dies(FakeDetector(), FakeSegmenter())
    made.marker = marker
    return made


def load_number() -> Load[int]:
    """What loads a number: it is one already."""

    def load(key: int, found: object) -> Loaded:
        return Loaded(key)

    return load


class Slow:
    """Models that take a while, and give each number back."""

    def infer(self, loaded: Sequence[int]) -> list[int]:
        time.sleep(0.5)
        return list(loaded)

    def finish(self, key: int, loaded: int, raw: int) -> int:
        return raw
