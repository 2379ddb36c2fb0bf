"""A task of Label Studio, as its requests and lists bring it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import InputError
from backend.formats.label_studio.pages import Pages


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
        return self._address(self._value(key), key)

    def images(self, key: str, pages: Pages | None) -> list[str]:
        """The addresses of all pictures that a tag shows.

        Args:
            key: a field of the task's data; dots lead into objects.
            pages: how the tag takes several from the field; None where it shows one.

        Raises:
            InputError: there is none, or one of them is not text.
        """
        value = self._value(key)
        if pages is None or isinstance(value, str):
            return [self._address(value, key)]
        if not isinstance(value, list) or not value:
            raise InputError(
                f"task {self.id}: data.{key}: expected a list of pictures, got"
                f" {'an empty one' if value == [] else type(value).__name__}"
            )
        return [
            self._address(
                one.get(pages.field) if pages.field and isinstance(one, dict) else one,
                f"{key}[{k}]",
            )
            for k, one in enumerate(value)
        ]

    def _value(self, key: str) -> Any:
        value: Any = self.data.get(key)
        if value is None and "." in key:
            value = self.data
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        return value

    def _address(self, value: Any, key: str) -> str:
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
