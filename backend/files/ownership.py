"""The folder that results are written to, and the one rule of what in it is ours.

A file that the folder's manifest names is ours as long as it holds what we wrote. One that it does
not name is ours if it carries our mark. Everything else was made or changed by somebody else: it is
replaced only where a person said so, and after a copy was made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath

from backend.errors import ConfigError, InputError, disk_error
from backend.files.atomic import (
    file_digest,
    set_aside,
    temporary_beside,
    write_atomic,
    write_new,
)
from backend.files.find import is_inside
from backend.files.manifest import Manifest
from backend.files.spool import Spool
from backend.files.stores import exists, is_stored


def never_marked(path: Path) -> bool:
    """Of formats whose files carry no mark."""
    return False


class OutputFolder:
    """Writes files below a folder: nothing half written, nothing of others replaced, no path that
    leads outside.

    Args:
        root: the folder; exists.
        kind: format of what is written.
        overwrite: whether files of others are replaced, after a copy was made.
        is_marked: whether a file carries our mark, as far as it can tell unchanged.
        manifest: whether what is written is remembered in the folder; not needed where all files
            carry marks.

    Raises:
        ConfigError: another run is writing there.
    """

    def __init__(
        self,
        root: Path,
        kind: str,
        *,
        overwrite: bool,
        is_marked: Callable[[Path], bool] = never_marked,
        manifest: bool = True,
    ) -> None:
        self.root = root
        self._overwrite = overwrite
        self._is_marked = is_marked
        self._manifest = Manifest(root, kind) if manifest else None
        self._touched: set[str] = set()
        self.kept: list[str] = []  # files of others that were not replaced
        self.unchanged = 0
        self.written = 0

    def is_ours(self, place: Path) -> bool:
        """Whether nobody but this program made a file or link, or changed it since."""
        name = self._name(place)
        if place.is_symlink():
            return self._knows(name, f"link:{os.readlink(place)}")
        if not place.is_file():
            return False
        if self._manifest is not None and self._manifest.names_file(name):
            return self._knows(name, file_digest(place))
        return self._is_marked(place)

    def _name(self, place: Path) -> str:
        return os.path.relpath(place, self.root).replace(os.sep, "/")

    def _knows(self, name: str, digest: str) -> bool:
        return self._manifest is not None and self._manifest.knows(name, digest)

    def check_shared(self, patterns: Sequence[str]) -> None:
        """Refuse a folder whose shared files, such as the list of classes, are somebody else's.

        Args:
            patterns: below the root, of the files that everything else will rely on.

        Raises:
            ConfigError: naming the file.
        """
        for pattern in patterns:
            folder = self.root / PurePosixPath(pattern).parent
            if not is_inside(folder, self.root):
                raise ConfigError(f"{folder}: leads outside of {self.root}")
            for path in sorted(self.root.glob(pattern)):
                if not self._overwrite and path.is_file() and not self.is_ours(path):
                    raise ConfigError(
                        f"{path}: was not written by this program, or was changed since; choose"
                        " another OUT, or --overwrite to replace it (a .bak copy is kept)"
                    )

    def put(self, path: PurePosixPath, content: bytes | Path | Spool) -> bool:
        """Write a file, if it is not there already and nobody else's.

        Args:
            path: below the root.
            content: its bytes, what it is to be a link to, or a spool that becomes it.

        Returns:
            Whether the file is now as given.

        Raises:
            InputError: the path leads outside.
            Unavailable: the disk refuses.
        """
        place = self.root / path
        if ".." in path.parts or not is_inside(place.parent, self.root):
            raise InputError(f"{place}: leads outside of {self.root}")
        self._touched.add(str(path))
        try:
            if isinstance(content, Path):
                return self._link(place, str(path), content)
            return self._write(place, str(path), content)
        except OSError as error:
            raise disk_error(error, place) from error
        finally:
            if isinstance(content, Spool):
                content.discard()

    def _write(self, place: Path, name: str, content: bytes | Spool) -> bool:
        if isinstance(content, bytes):
            digest = sha256(content).hexdigest()
        else:
            digest = file_digest(content.finish())
        there = place.is_symlink() or place.exists()
        if there:
            if not place.is_symlink() and place.is_file() and file_digest(place) == digest:
                self.unchanged += 1
                self._remember(name, digest)
                return True
            if not self._make_room(place):
                return False
        self._remember(name, digest)
        if isinstance(content, Spool):
            os.replace(content.path, place)
        elif there:
            write_atomic(place, content)
        elif not write_new(place, content):  # somebody was faster
            self.kept.append(str(place))
            return False
        self.written += 1
        return True

    def _make_room(self, place: Path) -> bool:
        """Whether what is there may be replaced: it is ours, or a copy was made of it."""
        if not self.is_ours(place):
            if not self._overwrite:
                self.kept.append(str(place))
                return False
            if place.is_file():
                set_aside(place)
        if place.is_symlink():
            place.unlink()
        return True

    def _link(self, place: Path, name: str, target: Path) -> bool:
        place.parent.mkdir(parents=True, exist_ok=True)
        to = os.path.relpath(target, place.parent.resolve())
        if place.is_symlink() or place.exists():
            if place.is_symlink() and os.readlink(place) == to:
                self.unchanged += 1
                self._remember(name, f"link:{to}")
                return True
            if not self._make_room(place):
                return False
            place.unlink(missing_ok=True)
        self._remember(name, f"link:{to}")
        place.symlink_to(to)
        self.written += 1
        return True

    def _remember(self, name: str, digest: str) -> None:
        if self._manifest is not None:
            self._manifest.add(name, digest)

    def prune(self, names: Sequence[str]) -> int:
        """Remove leftovers that nobody changed; returns how many files.

        Args:
            names: of ``leftovers``.
        """
        removed = 0
        for name in names:
            place = self.root / name
            if is_inside(place.parent, self.root) and self.is_ours(place):
                with suppress(OSError):
                    place.unlink()
                    removed += 1
        return removed

    @property
    def touched(self) -> frozenset[str]:
        """What this run wrote, or found as it would have written it."""
        return frozenset(self._touched)

    def leftovers(self) -> list[str]:
        """Files and links that an earlier run wrote and this one did not, still there."""
        known = [] if self._manifest is None else self._manifest.names()
        return [
            name
            for name in known
            if name not in self._touched
            and ((self.root / name).is_file() or (self.root / name).is_symlink())
        ]

    def close(self) -> None:
        """Everything is remembered."""
        if self._manifest is not None:
            self._manifest.close()


def state_of(paths: Sequence[Path], is_ours: Callable[[Path], bool]) -> str | None:
    """None if files are to be written; else why not: ``done`` or ``hand-made``.

    Args:
        paths: of one image.
        is_ours: the rule, for an existing file.

    Raises:
        OSError: the system cannot even look, for example because a name is too long.
        Unavailable: a store refuses.
    """
    there = [path for path in paths if exists(path)]
    if not all(is_ours(path) for path in there):
        return "hand-made"
    return "done" if len(there) == len(paths) else None


def write_together(
    files: Sequence[tuple[Path, bytes]], is_ours: Callable[[Path], bool], *, overwrite: bool
) -> bool:
    """Write the files of one image, unless one of them is somebody else's.

    Args:
        files: paths and contents.
        is_ours: the rule, for an existing file.
        overwrite: whether files of others are replaced, after a copy was made.

    Returns:
        False if somebody made or changed one of them, before or meanwhile.

    Raises:
        Unavailable: the disk refuses.
    """
    if len(files) == 1 and not overwrite and is_stored(files[0][0]) and write_new(*files[0]):
        return True  # in one request, without a look before
    there = [path for path, _ in files if exists(path)]
    theirs = [path for path in there if not is_ours(path)]
    if theirs and not overwrite:
        return False
    for path in theirs:
        set_aside(path)
    for path, data in files:
        if overwrite:
            write_atomic(path, data)
        elif path in there:
            if not _replace_ours(path, data, is_ours):
                return False
        elif not write_new(path, data):  # a person was faster
            return False
    return True


def _replace_ours(path: Path, data: bytes, is_ours: Callable[[Path], bool]) -> bool:
    """Replace a file of ours, unless a person saves it just now: what was there is kept under
    another name until it was looked at once more.
    """
    if is_stored(path):  # nothing can be kept aside there; what is saved in between is lost
        if not is_ours(path):
            return False
        write_atomic(path, data)
        return True
    old = temporary_beside(path)
    try:
        os.link(path, old)  # the same file, so that it shows what a person writes into it
    except OSError:  # a file system without links, or the file is gone
        if path.exists() and not is_ours(path):
            return False
        write_atomic(path, data)
        return True
    try:
        write_atomic(path, data)
        if is_ours(old):
            return True
        os.replace(old, path)
        return False
    finally:
        with suppress(OSError):
            old.unlink()
