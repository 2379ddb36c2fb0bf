"""What workers of Ray do: load items, or run the models over them."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from backend import errors
from backend.config.process import available_cores
from backend.errors import LabelingError, Unavailable, as_sentence, is_disk_full

K = TypeVar("K", contravariant=True)  # what names an item
LOADER_THREADS = 4  # of a loader, which mostly waits for disks and networks


@dataclass(frozen=True, eq=False)
class Skipped:
    """What a loader gives for an item that needs no model."""

    value: Any


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a loader gives for an item that needs the models.

    Attributes:
        item: for the models.
        found: something small about the item. If a worker dies, the loader that loads the item
            again is given it.
    """

    item: Any
    found: Any = None


class Load(Protocol[K]):
    """Loads an item. ``found`` is of an earlier load whose worker died, else None."""

    def __call__(self, key: K, found: Any, /) -> Loaded | Skipped: ...


class Models(Protocol):
    """What a worker with models does."""

    def infer(self, loaded: Sequence[Any]) -> Sequence[Any]: ...
    def finish(self, key: Any, loaded: Any, raw: Any) -> Any: ...


@dataclass(frozen=True)
class Failure:
    """An error on its way to another process."""

    kind: str
    text: str
    disk_full: bool

    @classmethod
    def of(cls, error: Exception) -> Failure:
        kind = type(error).__name__ if isinstance(error, LabelingError) else "UnexpectedError"
        return cls(kind, as_sentence(error), is_disk_full(error))

    def error(self) -> LabelingError:
        made: LabelingError = getattr(errors, self.kind, Unavailable)(self.text)
        if self.disk_full:
            made.__cause__ = OSError(errno.ENOSPC, "")
        return made


class Work:
    """A worker; one that cannot work says why, instead of dying again and again."""

    def __init__(self, make: Callable[[], Any], folder: str, threads: int) -> None:
        if os.path.isdir(folder):  # what settings name may be relative to it
            os.chdir(folder)
        self._failure: Failure | None = None
        try:
            self._made = make()
        except Exception as error:
            self._failure = Failure.of(error)
        self._threads = ThreadPoolExecutor(threads)

    def ready(self) -> Failure | None:
        """Answers once the worker is there."""
        return self._failure


class Loads(Work):
    """A worker that loads; see ``engine_ray.run_on_ray``."""

    def __init__(self, make: Callable[[], Load[Any]], folder: str) -> None:
        super().__init__(make, folder, LOADER_THREADS)

    def run(
        self, keys: Sequence[Any], found: Sequence[Any]
    ) -> tuple[list[Loaded | Skipped | Failure], list[Any]]:
        """What came of each item, and what is kept of it here should a worker die: that it was
        skipped, what was found, or None.
        """
        loaded = list(self._threads.map(self._one, keys, found))
        kept = [one.found if isinstance(one, Loaded) else one for one in loaded]
        return loaded, [None if isinstance(one, Failure) else one for one in kept]

    def _one(self, key: Any, found: Any) -> Loaded | Skipped | Failure:
        if self._failure is not None:
            return self._failure
        try:
            made: Loaded | Skipped = self._made(key, found)
            return made
        except Exception as error:
            return Failure.of(error)


class Predicts(Work):
    """A worker that holds the models: while threads finish a batch, the next is with the models."""

    def __init__(self, make: Callable[[], Models], folder: str) -> None:
        super().__init__(make, folder, available_cores())
        self._lock = threading.Lock()

    def run(self, keys: Sequence[Any], loaded: Sequence[Any]) -> list[Any]:
        good = [k for k, one in enumerate(loaded) if isinstance(one, Loaded)]
        raws = []
        if good:  # else nobody waits for the models
            with self._lock:
                raws = self._answers([loaded[k].item for k in good])
        values = [one.value if isinstance(one, Skipped) else one for one in loaded]
        finished = self._threads.map(
            self._finished, [keys[k] for k in good], [loaded[k].item for k in good], raws
        )
        for k, value in zip(good, finished, strict=True):
            values[k] = value
        return values

    def _finished(self, key: Any, loaded: Any, raw: Any) -> Any:
        if isinstance(raw, Failure):
            return raw
        try:
            return self._made.finish(key, loaded, raw)
        except Exception as error:
            return Failure.of(error)

    def _answers(self, loaded: list[Any]) -> list[Any]:
        """If a batch fails, its items go one by one, so that one bad picture is one failure."""
        if not loaded:
            return []
        if self._failure is not None:
            return [self._failure] * len(loaded)
        try:
            return list(self._made.infer(loaded))
        except Exception as error:
            if len(loaded) == 1:
                return [Failure.of(error)]
        return [answer for one in loaded for answer in self._answers([one])]
