"""Workers of Ray: few processors are enough, and a machine that is lost costs only its work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backend.labeling.engine_ray import RayOptions, run_on_ray
from tests.support.ray_program import Slow, load_number

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def machines(first: int, others: int) -> Iterator[tuple[Any, list[Any]]]:
    """A cluster on this machine: a first one with some processors, and others with a GPU each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": first, "include_dashboard": False}
    )
    try:
        added = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(others)]
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        yield cluster, added
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_machine_that_is_lost_costs_only_its_work() -> None:
    options = RayOptions(batch=1, loaders=2, actors=2, gpus=1)
    with machines(2, others=2) as (cluster, added):
        found = []
        for outcome in run_on_ray(range(16), load_number, Slow, options, threading.Event()):
            assert outcome.error is None
            found.append(outcome.value)
            if len(found) == 3:
                cluster.remove_node(added[0], allow_graceful=False)
    assert sorted(found) == list(range(16))


def test_one_processor_is_enough() -> None:
    options = RayOptions(batch=2, loaders=4, actors=1)
    with machines(1, others=0):
        outcomes = run_on_ray(range(5), load_number, Slow, options, threading.Event())
        assert sorted(one.value for one in outcomes) == list(range(5))


def test_nothing_to_do_is_nothing() -> None:
    with machines(1, others=0):
        options = RayOptions(loaders=1)
        assert list(run_on_ray([], load_number, Slow, options, threading.Event())) == []
