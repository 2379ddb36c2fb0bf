"""Finding input files below a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from backend.errors import ConfigError, counted, system_reason


def is_inside(path: Path, root: Path) -> bool:
    """True if ``path``, links resolved, lies in ``root`` or is it.

    False where it cannot be resolved, such as a link to itself.
    """
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """True for an existing file or folder; False also for a name that the system cannot even look
    for, such as one that is too long.
    """
    try:
        return path.exists()
    except (OSError, RuntimeError, ValueError):
        return False


def is_regular_file(path: Path) -> bool:
    """True for an existing regular file; see ``is_there``."""
    try:
        return path.is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def is_newer(path: Path, other: Path) -> bool:
    """True if a file's content changed after another's; False where one of them is not there, or
    in a store, whose times say when a file was copied there.
    """
    if not (isinstance(path, Path) and isinstance(other, Path)):
        return False
    try:
        return path.stat().st_mtime_ns > other.stat().st_mtime_ns
    except OSError:
        return False


@dataclass
class PassedOver:
    """What ``find_files`` came across and did not give: none of it is left out in silence."""

    links: list[Path] = field(default_factory=list)  # that lead out of the folder, or nowhere
    unreadable: list[Path] = field(default_factory=list)  # folders that may not be listed
    others: Counter[str] = field(default_factory=Counter)  # files by suffix, lower case
    again: list[Path] = field(default_factory=list)  # other names of files that are given
    alike: list[Path] = field(default_factory=list)  # folders named as others but for capitals

    @property
    def refused(self) -> list[tuple[str, str]]:
        """The folders that were left out, each with a sentence; what is in them is missing."""
        told = "may not be read, so nothing that is in it was taken"
        told_alike = (
            "is named as another folder but for capitals, so that results could collide, and"
            " nothing that is in it was taken; label it in a run of its own"
        )
        return [
            *((str(folder), f"{folder}: {told}") for folder in self.unreadable),
            *((str(folder), f"{folder}: {told_alike}") for folder in self.alike),
        ]

    def remarks(self, expected: Iterable[str] | None = None) -> list[str]:
        """What to tell a person about it; nothing where there is nothing.

        Args:
            expected: suffixes of files that belong there, though they were not asked for; None
                tells nothing of other files.
        """
        told = []
        if self.links:
            told.append(
                f"{len(self.links)} links that lead out of the folder, or nowhere, were not"
                f" followed, such as {self.links[0]}"
            )
        belong = None if expected is None else set(expected)
        others = {
            suffix: n
            for suffix, n in self.others.items()
            if belong is not None and suffix not in belong
        }
        if others:
            most = sorted(others.items(), key=lambda pair: (-pair[1], pair[0]))
            shown = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in most[:10])
            told.append(f"files of other kinds were passed over: {shown}")
        if self.again:
            told.append(
                f"{counted(len(self.again), 'name')} of pictures that have another name too left"
                f" out, such as {self.again[0]}"
            )
        return told


def find_files(
    folder: Path,
    suffixes: Iterable[str],
    skip: Iterable[Path] = (),
    roots: Sequence[Path] = (),
    passed_over: PassedOver | None = None,
) -> Iterator[Path]:
    """Files below a folder by suffix, in a stable order, hidden ones and links out of the folder
    left out.

    Args:
        folder: where to look, recursively.
        suffixes: lower case, with the dot; any case matches.
        skip: folders to leave out, such as the output folder.
        roots: other folders that links may lead into.
        passed_over: takes what is not given: links out, folders that may not be read, other files.

    Yields:
        Paths that begin with ``folder``.

    Raises:
        ConfigError: a folder may not be read, and nobody takes note of it.
    """
    wanted = tuple(suffixes)
    left_out = {path.resolve() for path in skip}
    passed = PassedOver() if passed_over is None else passed_over

    def unreadable(error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return
        if passed_over is None:
            raise ConfigError(f"{error.filename}: cannot look into it: {system_reason(error)}")
        passed.unreadable.append(Path(error.filename))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        here = Path(root)
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and (here / f).resolve() not in left_out
        )
        passed.links += [
            here / f for f in folders if (here / f).is_symlink() and not is_inside(here / f, folder)
        ]
        for name in sorted(names):
            if name.startswith("."):
                continue
            if not name.lower().endswith(wanted):
                passed.others[PurePath(name).suffix.lower()] += 1
                continue
            path = here / name  # links to folders are not entered, so only one to a file leads out
            if not path.is_symlink() or any(is_inside(path, root) for root in (folder, *roots)):
                yield path
            else:
                passed.links.append(path)
