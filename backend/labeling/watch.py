"""Labelling pictures as they land in folders, beside a person who works in them."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from backend.core.protocols import Labeler
from backend.errors import ConfigError, LabelingError
from backend.files.atomic import ensure_writable
from backend.files.find import find_files
from backend.files.images import SUFFIXES
from backend.files.names import unique_stems
from backend.labeling.annotate import annotate
from backend.labeling.picture_work import RunOptions
from backend.labeling.run_summary import RunSummary
from backend.labeling.sources import ImageItem

_WORTH_A_BAR = 8  # pictures
_BATCHES = 4  # of pictures between two looks
_RETRY_S = (10.0, 60.0, 600.0)  # after a picture failed; what was in the way may be gone by then


@dataclass(frozen=True)
class _Seen:
    """What a file was at the last look; one that still changes is being written."""

    size: int
    changed_ns: tuple[int, int]  # content, and whatever else


class Watcher:
    """Finds pictures that are new and complete.

    A picture is complete once its size and times did not change from one look to the next.

    Args:
        folders: searched recursively at every look.
        skip: folders to leave out.
    """

    def __init__(self, folders: Sequence[Path], skip: Sequence[Path] = ()) -> None:
        self._folders = folders
        self._skip = skip
        self._there: dict[Path, list[Path]] = {}  # folder to all its pictures
        self._before: dict[Path, _Seen] = {}
        self._taken: dict[Path, _Seen] = {}

    def look(self) -> list[Path]:
        """Pictures that landed, or were replaced, since they were last given, and that nobody
        writes any more.
        """
        now: dict[Path, _Seen] = {}
        for folder in self._folders:
            self._there[folder] = list(find_files(folder, SUFFIXES, self._skip))
            for path in self._there[folder]:
                with contextlib.suppress(OSError):  # gone between listing and looking
                    status = path.stat()
                    now[path] = _Seen(status.st_size, (status.st_mtime_ns, status.st_ctime_ns))
        ready = [
            path
            for path, seen in now.items()
            if seen.size and seen == self._before.get(path) and seen != self._taken.get(path)
        ]
        self._before = now
        return ready  # what is gone stays known: it may land again, with other content

    def take(self, path: Path) -> bool:
        """This one is being worked on, and is not given again unless it changes.

        Returns whether it was worked on before.
        """
        known = path in self._taken
        self._taken[path] = self._before[path]
        return known

    def give_back(self, path: Path) -> None:
        """This one is to be given again."""
        self._taken.pop(path, None)

    def items(self, paths: Sequence[Path]) -> Iterator[tuple[Path, list[ImageItem]]]:
        """Pictures by folder, named as among all pictures of the folder, so that no two outputs
        collide.
        """
        wanted = set(paths)
        for folder, there in self._there.items():
            relatives = [path.relative_to(folder) for path in there]
            found = [
                ImageItem(path, PurePosixPath(relative.as_posix()), stem)
                for path, relative, stem in zip(
                    there, relatives, unique_stems(relatives), strict=True
                )
                if path in wanted
            ]
            wanted -= {item.path for item in found}  # of folders within each other, the first
            if found:
                yield folder, found


def check_watch(
    sources: Sequence[Path],
    formats: Sequence[str],
    out: Path | None,
    overwrite: bool,
    interval_s: float,
) -> None:
    """Refuse what cannot be watched.

    Raises:
        ConfigError: no folder, several with one output folder, another format than labelme's, or
            ``--overwrite``, which would replace a person's work unasked.
    """
    for source in sources:
        if not source.is_dir():
            raise ConfigError(f"{source}: --watch needs a folder")
    if out is not None and len(sources) > 1:
        raise ConfigError(
            "--watch: several folders cannot share one --out, as pictures may have the same names;"
            " leave it out, or watch them one by one"
        )
    if overwrite:
        raise ConfigError(
            "--watch: never replaces anything; run annotate without it for --overwrite"
        )
    if list(formats) != ["labelme"]:
        raise ConfigError(
            f"--watch: writes labelme JSON, not {', '.join(formats)}; yolosam2 convert makes other"
            " formats of it"
        )
    if not 0 < interval_s <= 3600:
        raise ConfigError(
            f"--interval: expected more than 0 seconds and at most an hour, got {interval_s:g}"
        )
    for folder in [out] if out is not None else sources:
        ensure_writable(folder)


class _Watch:
    """One watch: what failed, when it is tried again, and what was done altogether."""

    def __init__(
        self,
        cascade: Labeler,
        out: Path | None,
        options: RunOptions,
        say: Callable[[str], None],
        watcher: Watcher,
        stop: threading.Event,
    ) -> None:
        self._cascade = cascade
        self._out = out
        self._options = options
        self._say = say
        self._watcher = watcher
        self._stop = stop
        self._failed: dict[
            Path, tuple[str, int, float]
        ] = {}  # sentence, tries, and when the next is
        self._stale: set[Path] = set()  # pictures that were replaced, and not labelled again yet
        self.total = RunSummary()

    def round(self, ready: Sequence[Path]) -> None:
        """Label a few pictures."""
        self._stale |= {path for path in ready if self._watcher.take(path)}
        replaced = self._stale & set(ready)
        for again in (
            False,
            True,
        ):  # a replaced picture gets new labels, unless a person changed the old ones
            chosen = [path for path in ready if (path in replaced) == again]
            for folder, items in self._watcher.items(chosen):
                options = replace(
                    self._options,
                    refresh=again,
                    progress=self._options.progress and len(items) >= _WORTH_A_BAR,
                )
                try:
                    done = annotate(
                        items,
                        self._cascade,
                        ["labelme"],
                        self._out or folder,
                        options,
                        stop=self._stop,
                    )
                except LabelingError as error:  # the folder cannot be written now, for example
                    done = RunSummary(failed=[(str(item.path), str(error)) for item in items])
                self._report(done, items)

    def due(self) -> None:
        """Give back what failed, when its time has come, and forget what was removed."""
        for path in [path for path in self._failed if not path.exists()]:
            del self._failed[path]
            self._note_failed()
        for path, (_, tries, at) in self._failed.items():
            if tries <= len(_RETRY_S) and time.monotonic() >= at:
                self._watcher.give_back(path)

    def _report(self, done: RunSummary, items: Sequence[ImageItem]) -> None:
        clock = time.strftime("%H:%M:%S")
        names = [item.relative.as_posix() for item in done.done_now]
        if names:
            counts = (
                ", ".join(f"{n} {label}" for label, n in done.per_class.most_common())
                or "nothing found"
            )
            self._say(
                f"{clock}"
                f" {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}:"
                f" {counts}"
            )
        failed = {Path(path): sentence for path, sentence in done.failed}
        for path, sentence in failed.items():
            before, tries, _ = self._failed.get(path, ("", 0, 0.0))
            wait = _RETRY_S[min(tries, len(_RETRY_S) - 1)]
            self._failed[path] = sentence, tries + 1, time.monotonic() + wait
            if sentence != before:
                self._say(f"{clock} failed: {sentence}")
        for item in items:
            if item.path not in failed:
                self._failed.pop(item.path, None)
                self._stale.discard(item.path)
        self.total.labelled += done.labelled
        self.total.empty += done.empty
        self.total.done += done.done
        self.total.outdated += done.outdated
        self.total.otherwise += done.otherwise
        self.total.hand_made += done.hand_made
        self.total.per_class += done.per_class
        self.total.behind += done.behind
        self._note_failed()
        if done.stopped != "interrupted":
            self.total.stopped = done.stopped
        self.total.outputs = list(dict.fromkeys([*self.total.outputs, *done.outputs]))

    def _note_failed(self) -> None:
        self.total.failed = [(str(path), sentence) for path, (sentence, *_) in self._failed.items()]


def watch(
    sources: Sequence[Path],
    cascade: Labeler,
    out: Path | None,
    options: RunOptions,
    say: Callable[[str], None],
    *,
    interval_s: float = 1.0,
    stop: threading.Event | None = None,
) -> RunSummary:
    """Label what is there, then what comes, until stopped.

    Files that a person made or changed are never touched, and one that appears while a picture is
    being labelled wins. What fails is tried again a few times, at growing distances. A full disk
    ends the watch.

    Args:
        sources: folders.
        cascade: loaded models.
        out: output folder; None writes beside the pictures.
        options: as for ``annotate``.
        say: told of every picture that was labelled or failed.
        interval_s: between two looks.
        stop: set it to end after the pictures in hand.

    Returns:
        What was done altogether; failed is what failed the last time it was tried.
    """
    stop = stop or threading.Event()
    apart = out is not None and not any(out.resolve() == source.resolve() for source in sources)
    watcher = Watcher(sources, [out] if apart and out is not None else [])
    run = _Watch(cascade, out, options, say, watcher, stop)
    while not stop.is_set():
        ready = list(itertools.islice(watcher.look(), _BATCHES * options.batch))
        if ready:
            run.round(ready)
        run.due()
        if len(ready) < _BATCHES * options.batch:
            stop.wait(interval_s)
    return run.total
