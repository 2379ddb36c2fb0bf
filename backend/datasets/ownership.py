"""The output folder of a conversion: nothing half written, nothing of others replaced, and no path
that leads outside.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath

from backend.errors import ConfigError, InputError, disk_error
from backend.files.atomic import file_digest, set_aside, write_atomic
from backend.files.find import is_inside
from backend.files.spool import Spool


class Target:
    """Writes files below a folder and remembers them in ``.yolosam2-<format>``, in the format of
    ``sha256sum``.

    A file that is not in the manifest as it is now was made or changed by somebody else.

    Args:
        root: the folder; exists.
        kind: format of what is written, as a folder may hold several.
        overwrite: whether files of others are replaced, after a copy was made.
    """

    def __init__(self, root: Path, kind: str, overwrite: bool) -> None:
        self.root = root
        self._overwrite = overwrite
        self._manifest = root / f".yolosam2-{kind}"
        if self._manifest.is_symlink():
            raise ConfigError(f"{self._manifest}: is a link; remove it")
        self._touched: set[str] = set()
        try:
            self._stream = self._manifest.open("ab", buffering=0)
            self._lock()
            self._known = self._read()
            if (size := self._manifest.stat().st_size) and self._manifest.read_bytes()[
                size - 1 :
            ] != b"\n":
                self._stream.write(b"\n")  # the last line of a killed run
        except OSError as error:
            raise disk_error(error, self._manifest) from error
        self.kept: list[str] = []
        self.unchanged = 0
        self.written = 0

    def _lock(self) -> None:
        """Held until the stream is closed, whatever ends the program."""
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            raise ConfigError(
                f"{self.root}: another conversion is writing there; wait for it to end, or choose"
                " another OUT"
            ) from None
        except OSError:  # a file system without locks
            return

    def _read(self) -> dict[str, set[str]]:
        """All digests that were ever written under each name.

        What a link led to is noted as ``link:...``.
        """
        try:
            lines = self._manifest.read_bytes().decode("utf-8", "surrogateescape").split("\n")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise disk_error(error, self._manifest) from error
        known: dict[str, set[str]] = {}
        for digest, sign, name in (line.partition("  ") for line in lines):
            if sign:
                known.setdefault(name, set()).add(digest)
        return known

    def _is_ours(self, place: Path, name: str) -> bool:
        known = self._known.get(name, set())
        if place.is_symlink():
            return f"link:{os.readlink(place)}" in known
        return place.is_file() and file_digest(place) in known

    def check_shared(self, patterns: Sequence[str]) -> None:
        """Refuse a folder whose shared files, such as the list of classes, are somebody else's,
        before anything is written that relies on them.

        Raises:
            ConfigError: naming the file.
        """
        for pattern in patterns:
            if not is_inside(self.root / PurePosixPath(pattern).parent, self.root):
                raise ConfigError(
                    f"{self.root / PurePosixPath(pattern).parent}: leads outside of {self.root}"
                )
            for path in sorted(self.root.glob(pattern)):
                if (
                    not self._overwrite
                    and path.is_file()
                    and not self._is_ours(path, path.relative_to(self.root).as_posix())
                ):
                    told = "was not written by this program, or was changed since"
                    raise ConfigError(
                        f"{path}: {told}; choose another OUT, or --overwrite to replace it (a .bak"
                        " copy is kept)"
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
            return (
                self._link(place, str(path), content)
                if isinstance(content, Path)
                else self._write(place, str(path), content)
            )
        except OSError as error:
            raise disk_error(error, place) from error
        finally:
            if isinstance(content, Spool):
                content.discard()

    def _write(self, place: Path, name: str, content: bytes | Spool) -> bool:
        digest = (
            sha256(content).hexdigest()
            if isinstance(content, bytes)
            else file_digest(content.finish())
        )
        if place.is_symlink() or place.exists():
            if not place.is_symlink() and place.is_file() and file_digest(place) == digest:
                self.unchanged += 1
                self._remember(name, digest)
                return True
            if not self._make_room(place, name):
                return False
        self._remember(
            name, digest
        )  # before it is written: whatever ends the program, the file is known as ours
        if isinstance(content, bytes):
            write_atomic(place, content)
        else:
            os.replace(content.path, place)
        self.written += 1
        return True

    def _make_room(self, place: Path, name: str) -> bool:
        """Whether what is there may be replaced: it is ours, or a copy was made of it."""
        if not self._is_ours(place, name):
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
            if not self._make_room(place, name):
                return False
            place.unlink(missing_ok=True)
        self._remember(name, f"link:{to}")
        place.symlink_to(to)
        self.written += 1
        return True

    def _remember(self, name: str, digest: str) -> None:
        known = self._known.setdefault(name, set())
        if digest not in known and "\n" not in name:
            known.add(digest)
            self._stream.write(f"{digest}  {name}\n".encode("utf-8", "surrogateescape"))

    def prune(self, names: Sequence[str]) -> int:
        """Remove leftovers that nobody changed; returns how many files.

        Args:
            names: of ``leftovers``.
        """
        removed = 0
        for name in names:
            place = self.root / name
            if is_inside(place.parent, self.root) and self._is_ours(place, name):
                with suppress(OSError):
                    place.unlink()
                    removed += 1
        return removed

    @property
    def touched(self) -> frozenset[str]:
        """What this conversion wrote, or found as it would have written it."""
        return frozenset(self._touched)

    def leftovers(self) -> list[str]:
        """Files and links that an earlier conversion wrote and this one did not, so far as they are
        still there.
        """
        return sorted(
            name
            for name in self._known
            if name not in self._touched
            and ((self.root / name).is_file() or (self.root / name).is_symlink())
        )

    def close(self) -> None:
        """Everything is remembered."""
        with suppress(OSError):
            self._stream.close()
