"""What the tests of the ML backend share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.label_studio.server.worker import InferenceThread


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that cannot load its models tries again all the time, and tells of it in a log whose
    stream was that of its test.
    """
    started: list[InferenceThread] = []
    start = InferenceThread.start

    def recorded(thread: InferenceThread) -> None:
        started.append(thread)
        start(thread)

    monkeypatch.setattr(InferenceThread, "start", recorded)
    yield
    for thread in started:
        thread.drain(0.0)
