"""What a pre-labelling run costs beyond its slowest stage, its requests, and its memory, with stub
stages against a stub Label Studio in this process.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.label_studio.api.client import PAGE
from backend.label_studio.api.rows import StoredPrediction, TaskRow
from backend.label_studio.prelabel.journal import Journal
from backend.label_studio.prelabel.run import Choice, PrelabelRun
from backend.label_studio.prelabel.stages import TaskWork
from backend.label_studio.prelabel.uploads import Finished
from backend.labeling import pipeline

VERSION = "stub+stub-0123456789.01234567"


class StubStudio:
    """Tasks and predictions in memory, and how often it was asked.

    Args:
        count: tasks.
        send_s: how long an import of a hundred takes.
    """

    def __init__(self, count: int, send_s: float = 0.0) -> None:
        self._count = count
        self._send_s = send_s
        self.n_requests = 0
        self.has: dict[int, int] = {}

    def tasks(
        self, project: int, filters: Sequence[Mapping[str, Any]] = (), *, full: bool = False
    ) -> Iterator[TaskRow]:
        """As ``client.Client``."""
        for start in range(0, self._count, PAGE):
            self.n_requests += 1
            yield from (
                TaskRow(k + 1, {"image": f"/{k}.jpg"})
                for k in range(start, min(start + PAGE, self._count))
            )

    def send(self, project: int, texts: Sequence[str]) -> None:
        """As ``client.Client``."""
        self.n_requests += 1
        time.sleep(self._send_s * len(texts) / 100)
        for text in texts:
            task = int(text.partition(":")[2].partition(",")[0])
            self.has[task] = self.has.get(task, 0) + 1

    def having(self, project: int, tasks: Sequence[int], model_version: str) -> set[int]:
        """As ``client.Client``."""
        self.n_requests += 1
        return set(tasks) & set(self.has)

    def predictions(self, project: int, task: int) -> list[StoredPrediction]:
        """As ``client.Client``."""
        return []

    def delete(self, prediction: int) -> None:
        """As ``client.Client``."""

    def versions(self, project: int) -> dict[str, int]:
        """As ``client.Client``."""
        return {}

    def count(self, project: int, filters: Sequence[Mapping[str, Any]] = ()) -> int:
        """As ``client.Client``."""
        return self._count

    def delete_version(self, project: int, version: str) -> int:
        """As ``client.Client``."""
        return 0

    def project(self, project: int) -> None:
        """As ``client.Client``."""

    def view(self, project: int, view: int) -> list[Mapping[str, Any]]:
        """As ``client.Client``."""
        return []


def _prediction(task: int | None, n_bytes: int) -> str:
    """A prediction of one region, as it is uploaded."""
    region = {"id": "x" * n_bytes, "from_name": "brush", "value": {"brushlabels": ["stub"]}}
    return json.dumps({"task": task, "result": [region]}, separators=(",", ":"))


class StubEngine:
    """Stages that sleep, or that hold a picture's worth of memory."""

    def __init__(self, stage_s: float, picture_bytes: int, text_bytes: int) -> None:
        self._stage_s = stage_s
        self._picture_bytes = picture_bytes
        self._text_bytes = text_bytes

    def run(
        self,
        work: Iterable[TaskWork],
        put: Callable[[Finished], None],
        fail: Callable[[int, Exception], None],
        stop: threading.Event,
    ) -> None:
        """As ``engine_local.LocalEngine``.

        The model is the slowest stage, two workers share loading and finishing.
        """

        def after(seconds: float, value: Any) -> Any:
            time.sleep(seconds)
            return value

        stages = pipeline.Stages[TaskWork, bytes, int, str](
            load=lambda one: after(self._stage_s * 1.6, bytes(self._picture_bytes)),
            infer=lambda batch: after(self._stage_s * len(batch), [0] * len(batch)),
            finish=lambda one, loaded, answer: after(
                self._stage_s * 1.6, _prediction(one.task.id, self._text_bytes)
            ),
            write=lambda one, text: put(Finished(int(one.task.id or 0), text)),
        )
        for outcome in pipeline.run(work, stages, batch=8, workers=2, stop=stop):
            if outcome.error is not None:
                fail(int(outcome.key.task.id or 0), outcome.error)


def stub_run(
    count: int, stage_s: float, picture_bytes: int = 0, text_bytes: int = 1000, send_s: float = 0.0
) -> tuple[float, int]:
    """Pre-label ``count`` stub tasks; gives the wall time in seconds and the requests made."""
    studio = StubStudio(count, send_s)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "j", "stub", VERSION)
        start = time.perf_counter()
        summary = PrelabelRun(studio, 1, VERSION, journal).run(
            StubEngine(stage_s, picture_bytes, text_bytes), Choice()
        )
        wall = time.perf_counter() - start
        journal.close()
    if summary.n_done != count or set(studio.has.values()) != {1}:
        raise RuntimeError(f"{summary.n_done} of {count} done: {summary.as_text()}")
    return wall, studio.n_requests


def overlap(count: int = 1000, stage_s: float = 0.01) -> tuple[float, str]:
    """Wall time over that of the slowest stage, the model; the upload takes half as long."""
    wall, _ = stub_run(count, stage_s, send_s=stage_s * 50)
    return wall / (count * stage_s), f"{wall:.2f} s for {count} tasks"


def requests(count: int = 5000) -> tuple[float, str]:
    """Requests beyond two for every hundred tasks: one lists them, one uploads."""
    _, n = stub_run(count, 0.0)
    return n - 2 * count / 100, f"{n} for {count} tasks"


def doubling(count: int = 300, stage_s: float = 0.005) -> tuple[float, str]:
    """Time of twice the tasks over the time of the tasks."""
    once = stub_run(count, stage_s)[0]
    twice = stub_run(2 * count, stage_s)[0]
    return twice / once, f"{once:.2f} s and {twice:.2f} s"
