"""Compiled loops over pixels, runs and bytes. They hold no lock of the interpreter while they run,
so that threads add up. numba is loaded when the first of them is used.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.core.kernels import brush, coco, counting, deflate, logits, runs, warm

_LOOPS = ("brush", "coco", "counting", "deflate", "logits", "runs", "warm")
__all__ = ["brush", "coco", "counting", "deflate", "logits", "runs", "warm"]


def __getattr__(name: str) -> ModuleType:
    if name not in _LOOPS:
        raise AttributeError(name)
    return import_module(f"{__name__}.{name}")
