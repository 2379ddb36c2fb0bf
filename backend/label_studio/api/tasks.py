"""A task of Label Studio, as its requests and lists bring it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import InputError


@dataclass(frozen=True)
class Task:
    """A task's id and data; the data is checked when its image is looked for."""

    id: int | None
    data: Mapping[str, Any]

    def image(self, key: str) -> str:
        """The address of an image.

        Args:
            key: a field of the task's data; dots lead into objects.

        Raises:
            InputError: there is none, or it is not text.
        """
        value: Any = self.data.get(key)
        if value is None and "." in key:
            value = self.data
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise InputError(
                f"task {self.id}: data.{key}: expected the address of an image, got"
                f" {type(value).__name__ if value is not None else 'nothing'}"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"task {self.id}: data.{key}: is not valid text") from None
        return value.strip()
