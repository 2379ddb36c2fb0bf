"""Model calls that a GPU replays by itself.

A model is hundreds of small steps, and telling a GPU each of them takes Python longer than the GPU
needs for it. What was told once is recorded as a CUDA graph, and later started as a whole.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor

logger = logging.getLogger(__name__)
Function = Callable[..., tuple[Tensor, ...]]
_MOST_SEEN = 256
_MOST = 16  # recordings; each holds memory for what lies between its input and its output


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded call: what it reads, what it writes, and how it is done again."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    replay: Callable[[], None]


def record_on_cuda(function: Function, inputs: tuple[Tensor, ...], room: Room) -> Recording:
    """Record a call as a CUDA graph.

    Args:
        function: of the inputs. What it reads besides must stay where it is.
        inputs: on the device; they become part of the recording.
        room: where recordings are made.
    """
    device = inputs[0].device
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        now = torch.cuda.current_stream(device)
        room.stream.wait_stream(now)
        with torch.cuda.stream(room.stream):
            function(*inputs)  # libraries that choose how they work choose now
        now.wait_stream(room.stream)
        with torch.cuda.graph(
            graph, pool=room.pool, stream=room.stream, capture_error_mode="thread_local"
        ):
            outputs = function(*inputs)
    return Recording(inputs, outputs, graph.replay)


class Room:
    """The memory and the stream that all recordings of a model are made with.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool: Any = torch.cuda.graph_pool_handle()
        self.stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Graphs:
    """Recordings of calls, by what the calls have in common.

    Args:
        record: makes a recording; tests have another one.
    """

    def __init__(
        self, record: Callable[[Function, tuple[Tensor, ...], Any], Recording] = record_on_cuda
    ) -> None:
        self._record = record
        self._recordings: LRUCache[Hashable, Recording] = LRUCache(_MOST)
        self._seen: LRUCache[Hashable, bool] = LRUCache(_MOST_SEEN)  # False for never again
        self._room: Room | None = None
        self._lock = threading.Lock()

    def run(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The answer of a function: worked out the first time, recorded the second time, replayed
        from then on. A call that never comes again is not worth a recording, and one that cannot be
        recorded is worked out every time.

        Args:
            key: the same for calls of the same function with inputs of the same shapes.
            function: of the inputs, without anything that depends on their values in Python.
            inputs: on the device.

        Returns:
            Tensors that belong to the caller.
        """
        with self._lock:
            recording = self._recordings.get(key)
            if recording is None:
                if self._seen.get(key) is not True:
                    self._seen.setdefault(key, True)
                    return function(*inputs)
                recording = self._recorded(key, function, inputs)
                if recording is None:
                    return function(*inputs)
            else:
                for mine, given in zip(recording.inputs, inputs, strict=True):
                    mine.copy_(given)
            recording.replay()
            return tuple(one.clone() for one in recording.outputs)

    def _recorded(
        self, key: Hashable, function: Function, inputs: tuple[Tensor, ...]
    ) -> Recording | None:
        if self._room is None and inputs[0].is_cuda:
            self._room = Room(inputs[0].device)
        try:
            own = tuple(one.clone() for one in inputs)
            recording = self._record(function, own, self._room)
        except RuntimeError as error:  # memory, or a step that cannot be recorded
            logger.warning("a call of the model is not recorded: %s", str(error).splitlines()[0])
            self._seen[key] = False
            return None
        self._recordings[key] = recording
        return recording


def padded_count(count: int, most: int) -> int:
    """A number of rows that calls of a similar size share: 8, or a multiple of 16, or the most.

    >>> padded_count(3, 128), padded_count(20, 128), padded_count(80, 128), padded_count(33, 40)
    (8, 32, 80, 40)
    """
    return min(most, 8 if count <= 8 else (count + 15) // 16 * 16)
