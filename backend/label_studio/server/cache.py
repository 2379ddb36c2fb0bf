"""What is remembered in memory: bounded by bytes, least recently used out first, safe for many
threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteLru(Generic[V]):
    """A mapping that forgets the least recently used entries once they take more than a number of
    bytes together.

    Args:
        budget_bytes: of all entries; a larger single entry is not kept at all.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._used = 0
        self._entries: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """What the entries say they take."""
        return self._used

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> V | None:
        """The value, which becomes the most recently used; None if it is not there."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: V, n_bytes: int) -> None:
        """Remember a value of this size."""
        with self._lock:
            old = self._entries.pop(key, None)
            self._used -= old[1] if old else 0
            if n_bytes > self._budget:
                return
            self._entries[key] = (value, n_bytes)
            self._used += n_bytes
            while self._used > self._budget:
                _, (_, size) = self._entries.popitem(last=False)
                self._used -= size
