"""Finding input files below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def is_inside(path: Path, root: Path) -> bool:
    """True if ``path``, links resolved, lies in ``root`` or is it.

    False where it cannot be resolved, such as a link to itself.
    """
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def is_newer(path: Path, other: Path) -> bool:
    """True if a file's content changed after another's; False where one of them is not there."""
    try:
        return path.stat().st_mtime_ns > other.stat().st_mtime_ns
    except OSError:
        return False


def find_files(
    folder: Path,
    suffixes: Iterable[str],
    skip: Iterable[Path] = (),
    roots: Sequence[Path] = (),
    passed_over: list[Path] | None = None,
) -> Iterator[Path]:
    """Files below a folder by suffix, in a stable order, hidden ones and links out of the folder
    left out.

    Args:
        folder: where to look, recursively.
        suffixes: lower case, with the dot; any case matches.
        skip: folders to leave out, such as the output folder.
        roots: other folders that links may lead into.
        passed_over: takes the links that lead out, to folders or to files of the suffixes.

    Yields:
        Paths that begin with ``folder``.
    """
    wanted = tuple(suffixes)
    left_out = {path.resolve() for path in skip}
    out = [] if passed_over is None else passed_over
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and (here / f).resolve() not in left_out
        )
        out += [
            here / f for f in folders if (here / f).is_symlink() and not is_inside(here / f, folder)
        ]
        for name in sorted(names):
            if name.startswith(".") or not name.lower().endswith(wanted):
                continue
            path = (
                here / name
                # Links to folders are not entered, so that only a link to a file can lead out.
            )
            if not path.is_symlink() or any(is_inside(path, root) for root in (folder, *roots)):
                yield path
            else:
                out.append(path)


def not_followed(links: Sequence[Path]) -> list[str]:
    """What to tell a person about links that ``find_files`` passed over.

    Nothing where there are none.
    """
    return (
        [
            f"{len(links)} links that lead out of the folder, or nowhere, were not followed, such"
            f" as {links[0]}"
        ]
        if links
        else []
    )
