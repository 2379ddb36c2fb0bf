"""Files in stores that are reached by address, such as ``s3://bucket/folder``.

Whatever fsspec reaches is a store; universal_pathlib gives its files the methods of paths. Nothing
in here is needed for files on a disk.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from backend.errors import ConfigError, InputError, LabelingError, Unavailable
from backend.files.find import PassedOver

# Stores that write a file only where there is none, whatever anybody else does meanwhile, and show
# it whole or not at all.
_SAFE = ("s3", "s3a", "gs", "gcs", "memory")
_NEEDED = {"s3": "'.[s3]'", "gs": "universal-pathlib gcsfs"}  # scheme to what pip is told


def is_address(text: str) -> bool:
    """True for the address of a place in a store; False for a path.

    >>> is_address("s3://bucket/set"), is_address("/data/set"), is_address("C:/set")
    (True, False, False)
    """
    return "://" in text


def place_of(text: str) -> Path:
    """A path, or an address as a path.

    Args:
        text: ``s3://...``, ``gs://...`` and whatever else fsspec reaches, ``file://...``, or the
            path of a file or folder.

    Returns:
        What has the methods of a path.

    Raises:
        ConfigError: what reaches such addresses is not installed, or nothing reaches them.
    """
    if not is_address(text):
        return Path(text)
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query:  # which would be in messages and files
        raise ConfigError(
            f"{parts.scheme}://{parts.hostname}: an address must not hold a password or a query;"
            " stores are opened with what their own settings say"
        )
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    try:
        from upath import UPath

        place = UPath(text)
        place.fs  # noqa: B018 - imports what reaches the store
    except ImportError:
        needed = _NEEDED.get(parts.scheme, f"universal-pathlib, and what fsspec needs for {text}")
        raise ConfigError(
            f"{text}: what reaches {parts.scheme}:// is not installed; pip install {needed}"
        ) from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{text}: is not an address that fsspec knows: {error}") from None
    check_reachable(cast(Path, place))
    # It has the methods of a path that are used here, though not its type.
    return cast(Path, place)


def is_stored(path: Path) -> bool:
    """Whether a file lies in a store, and not on a disk."""
    return not isinstance(path, Path)


def check_reachable(place: Path) -> None:
    """Refuse a place in a store that does not answer.

    Raises:
        ConfigError: with what the store says.
    """
    try:
        exists(place)
    except Unavailable as error:
        raise ConfigError(str(error)) from None


def check_safe(place: Path) -> None:
    """Refuse to write into a store that could lose what somebody else writes.

    Raises:
        ConfigError: naming those that cannot.
    """
    if is_stored(place) and _protocol(place) not in _SAFE:
        raise ConfigError(
            f"{place}: results go into s3:// or gs://, or onto a disk; this store cannot write a"
            " file only where there is none"
        )


def exists(path: Path) -> bool:
    """Whether there is a file or folder; a store that does not answer is no "no".

    Raises:
        Unavailable: the store refuses, perhaps for now.
        OSError: the system cannot even look.
    """
    if not is_stored(path):
        return path.exists()
    with reaching(path):
        try:
            _fs(path).info(_inner(path))
        except FileNotFoundError:
            return False
    return True


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Whatever a store raises meanwhile means that it may work later; each has errors of its own.

    Raises:
        Unavailable: naming the file and what the store says.
    """
    try:
        yield
    except LabelingError:
        raise
    except Exception as error:
        if not is_stored(path):
            raise
        raise Unavailable(f"{path}: the store refuses: {_told(error)}") from error


def _protocol(path: Path) -> str:
    return str(path.protocol)  # type: ignore[attr-defined]


def _fs(path: Path) -> Any:
    return path.fs  # type: ignore[attr-defined]


def _inner(path: Path) -> str:
    return str(path.path)  # type: ignore[attr-defined]


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def read_stored(path: Path, most: int) -> bytes:
    """The bytes of a file in a store, in one request.

    Args:
        path: of the file.
        most: bytes; more are refused.

    Raises:
        InputError: there is none, or it is larger.
        Unavailable: the store refuses, perhaps for now.
    """
    with reaching(path):
        try:
            data: bytes = _fs(path).cat_file(_inner(path), end=most + 1)
        except (FileNotFoundError, IsADirectoryError):
            raise InputError(f"{path}: no such file") from None
    if len(data) > most:
        raise InputError(f"{path}: is larger than {most} bytes, the limit")
    return data


def write_stored(path: Path, data: bytes, *, new: bool = False) -> bool:
    """Write a file into a store; see ``check_safe``.

    Args:
        path: of the file.
        data: the whole content.
        new: only where there is none, whatever anybody else does meanwhile.

    Returns:
        False if ``new``, and there is one.

    Raises:
        Unavailable: the store refuses.
    """
    with reaching(path):
        try:
            _fs(path).pipe_file(_inner(path), data, mode="create" if new else "overwrite")
        except FileExistsError:
            return False
    return True


def relative_to_store(path: Path, folder: Path) -> str:
    """How a file in ``folder`` names another: relative within one store, else by its address."""
    if is_stored(path) and is_stored(folder) and _fs(path) == _fs(folder):
        return posixpath.relpath(_inner(path), _inner(folder))
    return str(path) if is_stored(path) else path.resolve().as_posix()


def find_stored(
    folder: Path, suffixes: Iterable[str], skip: Iterable[Path], passed_over: PassedOver
) -> Iterator[Path]:
    """Files below a folder of a store, in the order of ``find.find_files``; hidden ones are left
    out.

    A store is asked for one folder after the other, so that nobody waits for the whole list.

    Args:
        folder: where to look, recursively.
        suffixes: lower case, with the dot; any case matches.
        skip: folders to leave out.
        passed_over: takes what is not given.

    Raises:
        ConfigError: the store refuses the first folder.
    """
    wanted = tuple(suffixes)
    left_out = {str(path).rstrip("/") for path in skip}
    root = _inner(folder).rstrip("/")
    open_folders = [root]
    while open_folders:
        at = open_folders.pop()
        here = folder if at == root else folder / posixpath.relpath(at, root)
        if str(here).rstrip("/") in left_out:
            continue
        try:
            entries = _fs(folder).ls(at, detail=True, refresh=True)
        except Exception as error:  # each store has errors of its own
            if at == root:
                raise ConfigError(f"{folder}: cannot be listed: {_told(error)}") from None
            passed_over.unreadable.append(here)
            continue
        names = {str(one["name"]).rstrip("/"): one["type"] for one in entries}
        below = [one for one, kind in names.items() if kind == "directory" and one != at]
        open_folders += sorted((one for one in below if not _is_hidden(one)), reverse=True)
        for one in sorted(one for one, kind in names.items() if kind == "file"):
            if _is_hidden(one) or one == at:
                continue
            if one.lower().endswith(wanted):
                yield folder / posixpath.relpath(one, root)
            else:
                passed_over.others[posixpath.splitext(one)[1].lower()] += 1


def _is_hidden(name: str) -> bool:
    return posixpath.basename(name).startswith(".")
