"""Labelling pictures as they land in folders, beside a person who works in them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backend.annotate import Options, Summary, annotate
from backend.errors import ConfigError
from backend.files import find_files
from backend.images import SUFFIXES
from backend.sources import Item, collect
from backend.types import Labeler

_WORTH_A_BAR = 8  # pictures


@dataclass(frozen=True)
class _Seen:
    """What a file was at the last look; one that still changes is being written."""

    size: int
    changed_ns: int


class Watcher:
    """Finds pictures that are new and complete.

    A picture is complete once its size and time did not change from one look to the next.

    Args:
        folders: searched recursively at every look.
        skip: folders to leave out.
    """

    def __init__(self, folders: Sequence[Path], skip: Sequence[Path] = ()) -> None:
        self._folders, self._skip = folders, skip
        self._before: dict[Path, _Seen] = {}
        self._taken: dict[Path, _Seen] = {}

    def look(self) -> list[Path]:
        """Pictures that landed, or were replaced, since they were last given, and that nobody writes any more."""
        now: dict[Path, _Seen] = {}
        for folder in self._folders:
            for path in find_files(folder, SUFFIXES, self._skip):
                with contextlib.suppress(OSError):  # gone between listing and looking
                    status = path.stat()
                    now[path] = _Seen(status.st_size, status.st_mtime_ns)
        ready = [path for path, seen in now.items() if seen.size and seen == self._before.get(path) and seen != self._taken.get(path)]
        self._before = now
        self._taken = {path: seen for path, seen in self._taken.items() if path in now}
        return ready

    def take(self, paths: Sequence[Path]) -> None:
        """These are being worked on, and are not given again unless they change."""
        self._taken.update({path: self._before[path] for path in paths})


def check_watch(sources: Sequence[Path], formats: Sequence[str], overwrite: bool, interval_s: float) -> None:
    """Refuse what cannot be watched.

    Raises:
        ConfigError: no folder, another format than labelme's, or ``--overwrite``, which would replace a person's work behind her back.
    """
    for source in sources:
        if not source.is_dir():
            raise ConfigError(f"{source}: --watch needs a folder")
    if overwrite:
        raise ConfigError("--watch: never replaces anything; run annotate without it for --overwrite")
    if list(formats) != ["labelme"]:
        raise ConfigError(f"--watch: writes labelme JSON, not {', '.join(formats)}; yolosam2 convert makes other formats of it")
    if not 0 < interval_s <= 3600:
        raise ConfigError(f"--interval: expected more than 0 seconds and at most an hour, got {interval_s:g}")


def watch(
    sources: Sequence[Path],
    cascade: Labeler,
    out: Path | None,
    options: Options,
    say: Callable[[str], None],
    *,
    interval_s: float = 1.0,
    stop: threading.Event | None = None,
) -> Summary:
    """Label what is there, then what comes, until stopped.

    Files that a person made or changed are never touched, and one that appears while a picture is being labelled wins.

    Args:
        sources: folders.
        cascade: loaded models.
        out: output folder; None writes beside the pictures.
        options: as for ``annotate``.
        say: told of every picture that was labelled or failed.
        interval_s: between two looks.
        stop: set it to end after the pictures in hand.

    Returns:
        What was done altogether.
    """
    stop = stop or threading.Event()
    total = Summary()
    watcher = Watcher(sources, [out] if out is not None and not any(out.resolve() == source.resolve() for source in sources) else [])
    while not stop.is_set():
        ready = watcher.look()
        watcher.take(ready)
        for source, items in _by_source(sources, ready):
            quiet = replace(options, progress=options.progress and len(items) >= _WORTH_A_BAR)
            done = annotate(items, cascade, ["labelme"], out or source, quiet, stop=stop)
            _report(done, items, total, say)
        stop.wait(interval_s)
    return total


def _by_source(sources: Sequence[Path], ready: Sequence[Path]) -> Iterator[tuple[Path, list[Item]]]:
    """The pictures of each folder, named as in a run over the whole folder, so that no two outputs collide."""
    for source in sources:
        wanted = {path.resolve() for path in ready if path.is_relative_to(source)}
        if wanted:
            with contextlib.suppress(ConfigError):  # the folder is empty by now
                yield source, [item for item in collect([source], "val", None).items if item.path.resolve() in wanted]


def _report(done: Summary, items: Sequence[Item], total: Summary, say: Callable[[str], None]) -> None:
    clock = time.strftime("%H:%M:%S")
    if done.labelled:
        names = ", ".join(item.relative.as_posix() for item in items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
        counts = ", ".join(f"{n} {label}" for label, n in done.per_class.most_common()) or "nothing found"
        say(f"{clock} {names}: {counts}")
    for _, reason in done.failed:
        say(f"{clock} failed: {reason}")
    total.labelled += done.labelled
    total.empty += done.empty
    total.done += done.done
    total.hand_made += done.hand_made
    total.per_class += done.per_class
    total.failed += done.failed
    total.stopped = None if done.stopped == "interrupted" else done.stopped
    total.outputs = list(dict.fromkeys([*total.outputs, *done.outputs]))
