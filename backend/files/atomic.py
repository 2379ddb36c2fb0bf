"""Writing files: nothing is ever half written, and nothing a person made is lost."""

from __future__ import annotations

import os
import platform
import re
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from backend.errors import ConfigError, LabelingError, disk_error, system_reason
from backend.files.stores import check_safe, exists, is_stored, reaching, write_stored

_STALE = re.compile(
    r"^\.yolosam2\.((?P<host>[0-9a-f]{8})\.)?(?P<pid>\d+)\.[0-9a-f]{16}\.tmp$"
)  # older versions left out the machine


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of a file, which ``sweep_stale`` removes if this process dies."""
    return path.with_name(f".yolosam2.{_host()}.{os.getpid()}.{secrets.token_hex(8)}.tmp")


def _host() -> str:
    """This machine in names: a number of a process says nothing on another, and folders may be
    shared.
    """
    return sha256(platform.node().encode()).hexdigest()[:8]


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it holds either its old or its new content, whatever happens.

    Args:
        path: where; its folder is made if missing.
        data: the whole content.

    Raises:
        Unavailable: the disk is full, read-only or otherwise refuses; an existing file is
            untouched.
    """
    if is_stored(path):
        write_stored(path, data)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        temporary = temporary_beside(path)
        try:
            _write_whole(temporary, data)
            if mode is not None:
                temporary.chmod(mode)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise disk_error(error, path) from error


def _write_whole(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_new(path: Path, data: bytes) -> bool:
    """Write a file only where there is none, whatever anybody else does meanwhile.

    Args:
        path: where; its folder is made if missing.
        data: the whole content.

    Returns:
        False if somebody else's file is there; it is untouched.

    Raises:
        Unavailable: the disk refuses.
    """
    if is_stored(path):
        return write_stored(path, data, new=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            _write_whole(temporary, data)
            try:
                os.link(temporary, path)  # unlike a renaming, it fails where something is
            except FileExistsError:
                return False
            except (
                OSError
            ):  # a file system without links: an empty file of that name keeps the place
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                except FileExistsError:
                    return False
                os.replace(temporary, path)
            return True
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise disk_error(error, path) from error


def sweep_stale(folder: Path) -> int:
    """Remove what killed runs of this machine left behind; files of living processes stay.

    Returns how many went.
    """
    if is_stored(folder):  # which never holds half a file
        return 0
    removed = 0
    for path in folder.rglob(".yolosam2.*.tmp") if folder.is_dir() else ():
        match = _STALE.match(path.name)
        if match and match["host"] in (None, _host()) and not _alive(int(match["pid"])):
            with suppress(OSError):  # in a folder that is not ours
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file, where it is there.

    Raises:
        Unavailable: a store refuses.
        OSError: a disk refuses.
    """
    with reaching(path):
        path.unlink(missing_ok=True)


def check_out(folder: Path) -> None:
    """Refuse an output folder that is a link to itself, before anything looks for it.

    Raises:
        ConfigError: naming it.
    """
    try:
        folder.resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{folder}: cannot write results there: {error}") from None


def ensure_writable(folder: Path) -> None:
    """Make the folder and prove that a file can be written there, before any work is done.

    Raises:
        ConfigError: with the folder and the system's reason.
    """
    probe = temporary_beside(folder / "probe")
    if is_stored(folder):
        check_safe(folder)
        try:
            write_stored(probe, b"x")
            remove(probe)
        except LabelingError as error:
            raise ConfigError(f"{folder}: cannot write results there: {error}") from None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        raise ConfigError(f"{folder}: cannot write results there: {system_reason(error)}") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def set_aside(path: Path) -> Path:
    """Keep a copy of a file beside it before it is overwritten.

    Returns the copy's path, ``name.bak`` or numbered.

    Raises:
        Unavailable: the copy cannot be made; the file is untouched.
    """
    copy = path.with_name(f"{path.name}.bak")
    number = 2
    while exists(copy):
        copy = path.with_name(f"{path.name}.bak{number}")
        number = number + 1
    try:
        with reaching(path):
            data = path.read_bytes()
    except OSError as error:
        raise disk_error(error, path) from error
    write_atomic(copy, data)
    return copy
