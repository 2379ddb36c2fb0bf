"""A model on several devices: the pictures of a call are shared out, and each device works on its
own part at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from backend.core.protocols import Detector
from backend.core.types import Detections, Image

M = TypeVar("M")
A = TypeVar("A")


def shares(count: int, lanes: int) -> list[slice]:
    """Parts of a list of ``count``, as equal as can be and in order; no more than it has items.

    >>> shares(5, 2), shares(1, 2)
    ([slice(0, 3, None), slice(3, 5, None)], [slice(0, 1, None)])
    """
    if not count:
        return []
    lanes = min(lanes, count)
    starts = [-(-count * k // lanes) for k in range(lanes)]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


class Lanes(Generic[M]):
    """Copies of a model, each with a thread of its own.

    Args:
        models: one for each device, all the same.
        devices: of torch.
    """

    def __init__(self, models: Sequence[M], devices: Sequence[str]) -> None:
        self.models = tuple(models)
        self._threads = [
            ThreadPoolExecutor(1, f"lane-{device}", _use, (device,)) for device in devices
        ]

    def run(self, count: int, work: Callable[[M, slice], list[A]]) -> list[A]:
        """The answers of all parts, in order.

        Args:
            count: pictures.
            work: a model and a part of them to its answers.
        """
        parts = shares(count, len(self.models))
        running = [
            thread.submit(work, model, part)
            for thread, model, part in zip(self._threads, self.models, parts, strict=False)
        ]
        return [answer for one in running for answer in one.result()]


def _use(device: str) -> None:
    """Make a device the current one of this thread."""
    if device.startswith("cuda"):
        torch.cuda.set_device(device)


class DetectorLanes:
    """A detector on several devices.

    Args:
        detectors: one for each.
        devices: of torch.
    """

    def __init__(self, detectors: Sequence[Detector], devices: Sequence[str]) -> None:
        self._lanes = Lanes(detectors, devices)
        self._first = detectors[0]

    @property
    def names(self) -> Mapping[int, str]:
        """See ``Detector``."""
        return self._first.names

    @property
    def version(self) -> str:
        """See ``Detector``."""
        return self._first.version

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``Detector``."""
        return self._lanes.run(len(images), lambda detector, part: detector.detect(images[part]))
