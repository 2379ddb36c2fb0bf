"""Counters for Prometheus; a registry per server, so that two of them in one process do not mix."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from backend.label_studio.server.jobs import STATES


def _device_bytes() -> float:
    torch = sys.modules.get("torch")  # not loaded for this
    try:
        if torch is None or not torch.cuda.is_initialized():
            return 0.0
        return float(torch.cuda.memory_allocated())
    except AttributeError:  # another thread is importing it just now
        return 0.0


class Monitor:
    """What the server counts.

    Args:
        waiting: gives the number of requests in work.
    """

    def __init__(self, waiting: Callable[[], float] = lambda: 0.0) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, and since when it runs
        name = "yolosam2"
        self.requests = Counter(
            f"{name}_requests",
            "Requests by endpoint and HTTP status",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.tasks = Counter(
            f"{name}_tasks",
            "Tasks by outcome: done, failed for good, or later",
            ["outcome"],
            registry=self.registry,
        )
        self.images = Counter(
            f"{name}_images", "Images that went through the models", registry=self.registry
        )
        self.instances = Counter(f"{name}_instances", "Instances shown", registry=self.registry)
        self.prompts = Counter(
            f"{name}_prompts", "Objects outlined by click or box", registry=self.registry
        )
        self.cache_hits = Counter(
            f"{name}_result_cache_hits",
            "Images whose result was remembered",
            registry=self.registry,
        )
        self.latency = Histogram(
            f"{name}_request_seconds",
            "Time to answer, by endpoint",
            ["endpoint"],
            registry=self.registry,
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 100),
        )
        self._add_steps(name, waiting)

    def _add_steps(self, name: str, waiting: Callable[[], float]) -> None:
        self.phases = Histogram(
            f"{name}_phase_seconds",
            "Time of a step: fetch and decode of an image, models of a batch, write of a result",
            ["phase"],
            registry=self.registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30),
        )
        self.models = Gauge(
            f"{name}_model",
            "1 for the models that are loaded",
            ["model_version"],
            registry=self.registry,
        )
        self.cache_bytes = Gauge(
            f"{name}_cache_bytes",
            "Bytes that are remembered: results, or encoded images for clicks",
            ["cache"],
            registry=self.registry,
        )
        Gauge(
            f"{name}_device_memory_bytes",
            "Memory that the models hold on the GPU; 0 on a CPU",
            registry=self.registry,
        ).set_function(_device_bytes)
        Gauge(
            f"{name}_queue_length",
            "Requests in work or waiting for the model",
            registry=self.registry,
        ).set_function(waiting)

    def add_training(self, n_in: Callable[[str], int], swaps: Callable[[], int]) -> None:
        """Count trainings.

        Args:
            n_in: how many are in a state.
            swaps: how often models were exchanged.
        """
        jobs = Gauge(
            "yolosam2_training_jobs",
            "Trainings by state",
            ["state"],
            registry=self.registry,
        )
        for state in STATES:
            jobs.labels(state).set_function(partial(n_in, state))
        Gauge(
            "yolosam2_model_swaps",
            "How often models were exchanged for tuned ones, or back, since the start",
            registry=self.registry,
        ).set_function(swaps)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases.labels(name).observe(time.perf_counter() - start)

    def outcomes(self) -> dict[str, int]:
        """Tasks by outcome, since the start."""
        return {
            outcome: int(
                self.registry.get_sample_value("yolosam2_tasks_total", {"outcome": outcome}) or 0
            )
            for outcome in ("done", "failed", "later")
        }

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
