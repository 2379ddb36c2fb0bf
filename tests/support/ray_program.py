"""Stub models for runs on Ray, as workers load them; some of them end their worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.labeling.cascade import Cascade
from tests.conftest import FakeDetector, FakeSegmenter

WHITE = 250  # a picture whose corner is as bright kills whoever looks at it


def cascade() -> Cascade:
    """Stub models."""
    return Cascade(FakeDetector(), FakeSegmenter())


class _Dies(Cascade):
    """Ends its process in the middle of the third batch, once; or with every white picture."""

    marker: Path | None = None
    calls = 0

    def infer(self, images: Sequence[np.ndarray], *rest: Any, **options: Any) -> Any:
        self.calls += 1
        if self.marker is None:
            if any(image[0, 0, 0] >= WHITE for image in images):
                os._exit(1)
        elif self.calls == 3 and not self.marker.exists():
            self.marker.write_text("killed")
            os._exit(1)
        return super().infer(images, *rest, **options)


def dying(marker: Path | None = None) -> Cascade:
    """Stub models that die once, with a marker to remember it, or with every white picture."""
    made = _Dies(FakeDetector(), FakeSegmenter())
    made.marker = marker
    return made


def load_number() -> Callable[[int], int]:
    """What loads a number: it is one already."""
    return int


class Slow:
    """Models that take a while, and give each number back."""

    def infer(self, loaded: Sequence[int]) -> list[int]:
        time.sleep(0.5)
        return list(loaded)

    def finish(self, key: int, loaded: int, raw: int) -> int:
        return raw
