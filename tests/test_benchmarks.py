"""The benchmarks run; what they measure is for `yolosam2 bench` to say."""

from __future__ import annotations

from backend.benchmarks.prelabel import stub_run


def test_the_stub_run_of_prelabel_ends_well() -> None:
    wall, n_requests = stub_run(30, 0.0005)
    assert wall > 0
    assert n_requests > 0
