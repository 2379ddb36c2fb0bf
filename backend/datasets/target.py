"""The output folder of a conversion: nothing half written, nothing of others replaced, and no path that leads outside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

from backend.datasets.spool import Spool
from backend.errors import ConfigError, InputError, disk_error
from backend.files import file_digest, is_inside, set_aside, write_atomic


class Target:
    """Writes files below a folder and remembers them in ``.yolosam2-<format>``, in the format of ``sha256sum``.

    A file that is not in the manifest as it is now was made or changed by somebody else.

    Args:
        root: the folder; exists.
        kind: format of what is written, as a folder may hold several.
        overwrite: whether files of others are replaced, after a copy was made.
    """

    def __init__(self, root: Path, kind: str, overwrite: bool) -> None:
        self.root, self._overwrite = root, overwrite
        self._manifest = root / f".yolosam2-{kind}"
        self._known = self._read()
        self._touched: set[str] = set()
        self._stream = self._manifest.open("a", encoding="utf-8", errors="surrogateescape")
        self.kept: list[str] = []
        self.unchanged = 0
        self.written = 0

    def _read(self) -> dict[str, str]:
        try:
            lines = self._manifest.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise disk_error(error, self._manifest) from error
        return {name: digest for digest, sign, name in (line.partition("  ") for line in lines) if sign}

    def check_shared(self, patterns: Sequence[str]) -> None:
        """Refuse a folder whose shared files, such as the list of classes, are somebody else's, before anything is written that relies on them.

        Raises:
            ConfigError: naming the file.
        """
        for path in (path for pattern in patterns for path in sorted(self.root.glob(pattern))):
            if not self._overwrite and path.is_file() and file_digest(path) != self._known.get(path.relative_to(self.root).as_posix()):
                told = "was not written by this program, or was changed since"
                raise ConfigError(f"{path}: {told}; choose another OUT, or --overwrite to replace it (a .bak copy is kept)")

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
            return self._link(place, content) if isinstance(content, Path) else self._write(place, str(path), content)
        except OSError as error:
            raise disk_error(error, place) from error
        finally:
            if isinstance(content, Spool):
                content.discard()

    def _write(self, place: Path, name: str, content: bytes | Spool) -> bool:
        digest = sha256(content).hexdigest() if isinstance(content, bytes) else file_digest(content.finish())
        if place.is_symlink() or place.exists():
            now = file_digest(place) if place.is_file() else ""
            if now == digest:
                self.unchanged += 1
                self._remember(name, digest)
                return True
            if now != self._known.get(name) and not self._set_aside(place):
                return False
        if isinstance(content, bytes):
            write_atomic(place, content)
        else:
            os.replace(content.path, place)
        self.written += 1
        self._remember(name, digest)
        return True

    def _set_aside(self, place: Path) -> bool:
        if not self._overwrite:
            self.kept.append(str(place))
            return False
        set_aside(place)
        return True

    def _link(self, place: Path, target: Path) -> bool:
        if place.is_symlink() or place.exists():
            if place.is_symlink() and place.resolve() == target:
                self.unchanged += 1
                return True
            if not place.is_symlink() and not self._set_aside(place):
                return False
            place.unlink()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(target, place.parent.resolve()))
        self.written += 1
        return True

    def _remember(self, name: str, digest: str) -> None:
        if self._known.get(name) != digest and "\n" not in name:
            self._known[name] = digest
            self._stream.write(f"{digest}  {name}\n")

    def leftovers(self) -> list[str]:
        """Files that an earlier conversion wrote and this one did not, so far as they are still there."""
        return sorted(name for name in self._known if name not in self._touched and (self.root / name).is_file())

    def close(self) -> None:
        """Everything is remembered."""
        self._stream.close()
