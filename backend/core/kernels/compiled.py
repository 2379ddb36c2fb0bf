"""How loops are compiled, and where the compiled code is kept.

numba compiles a function when it is first called, and keeps the code beside the module. Where that
folder cannot be written, as in a container whose root is read-only, the code goes to a folder of
the user, which begins as a copy of what was compiled when the container was built. A folder in
``NUMBA_CACHE_DIR`` comes first.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching
from numba.core.registry import cpu_target

F = TypeVar("F", bound=Callable[..., Any])

STAMP = "compiled.stamp"  # tells of which modules, by what and for which processor the code is
_KEPT = ("*.nbi", "*.nbc", STAMP)  # numba's index and code


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, which is made where it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_own(folder: Path) -> bool:
    """Whether nobody else can put code there, which would be run."""
    try:
        found = folder.stat(follow_symlinks=False)
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return stat.S_ISDIR(found.st_mode) and own and not found.st_mode & others


@cache
def code_folder(beside: Path) -> Path | None:
    """Where compiled code of the modules in a folder is kept; None where nothing can be written.

    Args:
        beside: the folder of the modules.
    """
    own = beside / "__pycache__"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) if _is_writable(Path(chosen)) else None
    if _is_writable(own):
        return own
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    user = os.getuid() if hasattr(os, "getuid") else 0
    for folder in (
        Path(home).absolute() / "yolosam2" / "kernels",
        Path(tempfile.gettempdir()) / f"yolosam2-kernels-{user}",
    ):
        if _is_writable(folder) and _is_own(folder):
            for kept in (path for pattern in _KEPT for path in own.glob(pattern)):
                if not (folder / kept.name).exists():
                    with suppress(OSError):
                        shutil.copy2(kept, folder / kept.name)
            return folder
    return None


@cache
def _digest_of(folder: Path) -> bytes:
    digest = sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def stamp_of(folder: Path) -> str:
    """What is written into ``STAMP`` when the modules in a folder are compiled."""
    processor = cpu_target.target_context.codegen().magic_tuple()  # as numba's own index has it
    return f"{_digest_of(folder).hex()} {numba.__version__} {processor}"


class Locator(caching.InTreeCacheLocator):
    """Tells numba the folder of ``code_folder``, and whether code in it is still good.

    numba looks at the file of a function alone, but the code holds what it calls in other files
    too.
    """

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)  # type: ignore[no-untyped-call]
        self._folder = Path(py_file).parent
        self._cache_path = str(code_folder(self._folder))

    def get_source_stamp(self) -> bytes:
        """Changes with any of the modules."""
        return _digest_of(self._folder)


def compiled(function: F) -> F:
    """Compile a loop when it is first called, for the types it is called with.

    It runs without the interpreter's lock. What is wrong with its input must be found before: an
    index that is out of range is not noticed.
    """
    config: Any = numba.config
    is_kept = code_folder(Path(function.__code__.co_filename).parent) is not None
    before = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.{Locator.__name__}"
    try:
        return cast(F, numba.njit(nogil=True, cache=is_kept, error_model="numpy")(function))
    finally:
        config.CACHE_LOCATOR_CLASSES = before
