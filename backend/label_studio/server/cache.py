"""What is remembered in memory: bounded by bytes, least recently used out first, safe for many
threads.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

V = TypeVar("V")


def _size(entry: tuple[object, int]) -> int:
    return entry[1]


class ByteLru(Generic[V]):
    """A mapping that forgets the least recently used entries once they take more than a number of
    bytes together.

    Args:
        budget_bytes: of all entries; a larger single entry is not kept at all.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._entries: LRUCache[Hashable, tuple[V, int]] = LRUCache(budget_bytes, getsizeof=_size)
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """What the entries say they take."""
        return int(self._entries.currsize)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> V | None:
        """The value, which becomes the most recently used; None if it is not there."""
        with self._lock:
            found = self._entries.get(key)
        return None if found is None else found[0]

    def put(self, key: Hashable, value: V, n_bytes: int) -> None:
        """Remember a value of this size."""
        with self._lock:
            self._entries.pop(key, None)
            if n_bytes <= self._entries.maxsize:
                self._entries[key] = (value, n_bytes)
