"""Counters for Prometheus; a registry per server, so that two of them in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Monitor:
    """What the server counts.

    Args:
        waiting: gives the number of requests in work.
    """

    def __init__(self, waiting: Callable[[], float] = lambda: 0.0) -> None:
        self.registry = CollectorRegistry()
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
        Gauge(
            f"{name}_queue_length",
            "Requests in work or waiting for the model",
            registry=self.registry,
        ).set_function(waiting)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
