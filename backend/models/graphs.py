"""Model calls that a GPU replays by itself.

A model is hundreds of small steps, and telling a GPU each of them takes Python longer than the GPU
needs for it. What was told once is recorded as a CUDA graph, and later started as a whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
_MOST = 16  # recordings; each holds memory for what lies between its input and its output


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded call: what it reads, what it writes, and how it is done again."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    replay: Callable[[], None]


def record_on_cuda(function: Function, inputs: tuple[Tensor, ...], pool: Any) -> Recording:
    """Record a call as a CUDA graph.

    Args:
        function: of the inputs; it must have run before with inputs of these shapes.
        inputs: on the device; they become part of the recording.
        pool: of memory, shared by all recordings.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(inputs[0].device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
    with torch.cuda.stream(stream):
        function(*inputs)  # libraries that choose how they work choose now
    torch.cuda.current_stream(inputs[0].device).wait_stream(stream)
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        outputs = function(*inputs)
    return Recording(inputs, outputs, graph.replay)


class Graphs:
    """Recordings of calls, by what the calls have in common.

    Args:
        record: makes a recording; tests have another one.
    """

    def __init__(
        self, record: Callable[[Function, tuple[Tensor, ...], Any], Recording] = record_on_cuda
    ) -> None:
        self._record = record
        self._recordings: OrderedDict[Hashable, Recording | None] = OrderedDict()
        self._pool: Any = None
        self._lock = threading.Lock()

    def run(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The answer of a function: worked out the first time, recorded the second time, replayed
        from then on. A call that never comes again is not worth a recording.

        Args:
            key: the same for calls of the same function with inputs of the same shapes.
            function: of the inputs, without anything that depends on their values in Python.
            inputs: on the device.

        Returns:
            Tensors that belong to the caller.
        """
        with self._lock:
            if key not in self._recordings:
                self._keep(key, None)
                return function(*inputs)
            recording = self._recordings[key]
            if recording is None:
                if self._pool is None and inputs[0].is_cuda:
                    self._pool = torch.cuda.graph_pool_handle()
                own = tuple(one.clone() for one in inputs)
                recording = self._record(function, own, self._pool)
            else:
                for mine, given in zip(recording.inputs, inputs, strict=True):
                    mine.copy_(given)
            self._keep(key, recording)
            recording.replay()
            return tuple(one.clone() for one in recording.outputs)

    def _keep(self, key: Hashable, recording: Recording | None) -> None:
        self._recordings[key] = recording
        self._recordings.move_to_end(key)
        while len(self._recordings) > _MOST:
            self._recordings.popitem(last=False)


def padded_count(count: int, most: int) -> int:
    """A number of rows that calls of a similar size share: 8, or a multiple of 16, or the most.

    >>> padded_count(3, 128), padded_count(20, 128), padded_count(80, 128), padded_count(33, 40)
    (8, 32, 80, 40)
    """
    return min(most, 8 if count <= 8 else (count + 15) // 16 * 16)
