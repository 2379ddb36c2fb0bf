"""The one writer of JSON text: it is compact, and parts that are JSON already go in unchanged."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from backend.errors import InputError

# Stands for a part while the rest is written. Nobody else's text can be equal to it.
_PLACE = f"\0{secrets.token_hex(8)}"
_PLACE_JSON = json.dumps(_PLACE)


@dataclass(frozen=True)
class RawJson:
    """A part that is JSON text already, such as the run lengths of a mask.

    It never becomes Python objects: a list of the numbers of all masks of a task would take a
    hundred times its text.
    """

    text: str


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """A value as compact JSON.

    Args:
        value: of lists, dicts, text, numbers, None and ``RawJson``.
        ascii_only: whether all other characters are escaped.

    Returns:
        The text, without a newline.

    Raises:
        InputError: it holds a number that JSON does not have.

    >>> json_text({"a": [1, RawJson("[2,3]")]})
    '{"a":[1,[2,3]]}'
    """
    parts: list[str] = []

    def place(one: Any) -> str:
        if not isinstance(one, RawJson):
            raise TypeError(f"{type(one).__name__} cannot be written as JSON")
        parts.append(one.text)
        return _PLACE

    try:
        text = json.dumps(
            value,
            ensure_ascii=ascii_only,
            separators=(",", ":"),
            allow_nan=False,
            default=place,
        )
    except ValueError:
        raise InputError("holds a number that JSON cannot hold: infinity or not a number") from None
    if not parts:
        return text
    between = text.split(_PLACE_JSON)
    woven = [piece for pair in zip(between, parts, strict=False) for piece in pair]
    return "".join([*woven, between[-1]])


def json_bytes(value: Any) -> bytes:
    """A value as compact JSON in UTF-8.

    Half a character, which UTF-8 cannot hold, is escaped.

    Raises:
        InputError: it holds a number that JSON does not have.

    >>> json_bytes({"name": "é"})
    b'{"name":"\\xc3\\xa9"}'
    """
    try:
        return json_text(value).encode()
    except UnicodeEncodeError:
        return json_text(value, ascii_only=True).encode()
