"""One setting of the C library's allocator."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # of glibc's malloc.h


def limit_arenas(count: int = 2) -> bool:
    """Let all threads share a few allocation arenas.

    glibc gives every thread an arena of its own and keeps freed memory in it, so a pipeline of threads that hand large arrays
    to each other grows for a long time before it levels off. Call it first thing in a program.

    Args:
        count: most arenas.

    Returns:
        True where the allocator has the setting; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count))
    except (OSError, AttributeError):  # another C library
        return False
