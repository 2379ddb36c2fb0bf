"""The same three steps on Ray Data: pictures on CPU workers, models in actors, finished predictions
streamed to this process, which uploads.

Runs on Ray's local workers and, with an address, on a cluster whose machines have this package
installed. Fault tolerance is Ray's: what a killed worker had in hand is done again by another, and
nothing is uploaded from a worker, so nothing comes twice.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.errors import AuthError, ConfigError, InputError, Unavailable, UnexpectedError
from backend.label_studio.prelabel.stages import Labeller, LoadedTask, Loader, TaskWork
from backend.label_studio.prelabel.uploads import Finished

_RESTARTS = 5  # of an actor; a picture that kills every one must not go round for ever
_ROW = dict[str, Any]
_FAULTS: dict[str, type[Exception]] = {
    "never": InputError,
    "later": Unavailable,
    "refused": AuthError,
}


def _fault(error: Exception) -> bytes:
    kind = (
        "never"
        if isinstance(error, InputError) and not isinstance(error, UnexpectedError)
        else "refused"
        if isinstance(error, AuthError)
        else "later"
    )
    text = (
        str(error)
        if isinstance(error, (InputError, AuthError, Unavailable))
        else f"unexpected {type(error).__name__}: {error}"
    )
    return pickle.dumps((kind, text))


def _column(values: list[bytes]) -> Any:
    column = np.empty(len(values), object)
    column[:] = values
    return column


class _Load:
    """On a CPU worker: tasks to decoded pictures, or why there are none."""

    def __init__(self, make: Callable[[], Loader]) -> None:
        self._loader = make()

    def __call__(self, batch: _ROW) -> _ROW:
        loaded = []
        faults = []
        for text in batch["work"]:
            try:
                work = pickle.loads(text)  # noqa: S301 - made by us
                loaded.append(pickle.dumps(self._loader(work)))
                faults.append(b"")
            except Exception as error:
                loaded.append(b"")
                faults.append(_fault(error))
        return {"task": batch["task"], "loaded": _column(loaded), "fault": _column(faults)}


class _Predict:
    """In an actor that holds the models: pictures to predictions.

    One bad picture is one failure.
    """

    def __init__(self, make: Callable[[], Labeller]) -> None:
        self._labeller = make()

    def __call__(self, batch: _ROW) -> _ROW:
        texts = [b""] * len(batch["task"])
        faults = list(batch["fault"])
        good = [k for k, fault in enumerate(faults) if not fault]
        loaded = [pickle.loads(batch["loaded"][k]) for k in good]  # noqa: S301 - made by us
        for k, answer in zip(good, self._answers(loaded), strict=True):
            try:
                if isinstance(answer, Exception):
                    raise answer
                texts[k] = self._labeller.finish(int(batch["task"][k]), answer).encode()
            except Exception as error:
                faults[k] = _fault(error)
        return {"task": batch["task"], "text": _column(texts), "fault": _column(faults)}

    def _answers(self, loaded: list[LoadedTask]) -> list[Any]:
        try:
            return list(self._labeller.infer(loaded)) if loaded else []
        except Exception as error:
            return (
                [error]
                if len(loaded) == 1
                else [answer for one in loaded for answer in self._answers([one])]
            )


@dataclass(eq=False)
class RayEngine:
    """Ray Data over the tasks.

    Args:
        make_loader: on every CPU worker.
        make_labeller: in every actor.
        batch: tasks per model call.
        loaders: CPU workers that fetch and decode.
        actors: that hold the models.
        gpus: of each actor; 0 for the CPU.
        address: of a cluster; None for this machine.
    """

    make_loader: Callable[[], Loader]
    make_labeller: Callable[[], Labeller]
    batch: int = 8
    loaders: int = 2
    actors: int = 1
    gpus: float = 0
    address: str | None = None

    def run(
        self,
        work: Iterable[TaskWork],
        put: Callable[[Finished], None],
        fail: Callable[[int, Exception], None],
        stop: threading.Event,
    ) -> None:
        """See ``Engine``."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "--engine ray: Ray is not installed; pip install -c constraints.txt '.[ray]'"
            ) from None
        rows = [{"task": int(one.task.id or 0), "work": pickle.dumps(one)} for one in work]
        if not rows:
            return
        quiet: dict[str, Any] = {
            "logging_level": "ERROR",
            "log_to_driver": False,
            "include_dashboard": False,
        }
        started = not ray.is_initialized()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if started:
                try:
                    ray.init(address=self.address, **({} if self.address else quiet))
                except (ValueError, RuntimeError) as error:
                    raise ConfigError(f"--ray-address {self.address}: {str(error)[:200]}") from None
            if threading.current_thread() is threading.main_thread():
                for (
                    number,
                    handler,
                ) in (
                    handlers.items()
                ):  # Ray ends the program on a signal; ours finishes what is in flight
                    signal.signal(number, handler)
            for batch in self._dataset(ray, rows).iter_batches(
                batch_size=self.batch, prefetch_batches=1
            ):
                for task, text, fault in zip(
                    batch["task"], batch["text"], batch["fault"], strict=True
                ):
                    if fault:
                        kind, reason = pickle.loads(fault)  # noqa: S301 - made by us
                        fail(int(task), _FAULTS[kind](reason))
                    else:
                        put(Finished(int(task), bytes(text).decode()))
                if stop.is_set():
                    break
        except (ray.exceptions.RayError, ConnectionError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise Unavailable(f"Ray: {lines[-1] if lines else type(error).__name__}") from None
        finally:
            if started:
                ray.shutdown()

    def _dataset(self, ray: Any, rows: list[_ROW]) -> Any:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        blocks = max(1, -(-len(rows) // self.batch))
        data = ray.data.from_items(rows, override_num_blocks=min(blocks, 1000))
        data = data.map_batches(
            _Load,
            fn_constructor_args=(self.make_loader,),
            batch_size=self.batch,
            concurrency=self.loaders,
            num_cpus=0.5,
        )
        return data.map_batches(
            _Predict,
            fn_constructor_args=(self.make_labeller,),
            batch_size=self.batch,
            concurrency=self.actors,
            num_cpus=0 if self.gpus else 0.5,
            num_gpus=self.gpus,
            ray_remote_args_fn=lambda: {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS},
        )
