"""The one writer of JSON text: it is compact, and parts that are JSON already go in unchanged."""

from __future__ import annotations

import itertools
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.errors import InputError

# Stands for a part while the rest is written. Nobody else's text can be equal to it.
_PLACE = f"\0{secrets.token_hex(8)}"
_PLACE_JSON = json.dumps(_PLACE)
_NO_NUMBER = "holds a number that JSON cannot hold: infinity or not a number"


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
    return "".join(_pieces(value, ascii_only))


def json_items(values: Sequence[Any]) -> str:
    """The values of a list as compact JSON with commas between, without the brackets.

    Raises:
        InputError: see ``json_text``.

    >>> json_items([{"a": 1}, RawJson("[2,3]")])
    '{"a":1},[2,3]'
    """
    return "".join(_items(values))


def json_number(value: float) -> str:
    """A number as JSON.

    Raises:
        InputError: it is infinite or not a number.

    >>> json_number(0.5)
    '0.5'
    """
    if not math.isfinite(value):
        raise InputError(_NO_NUMBER)
    return float.__repr__(float(value))


class JsonTemplate:
    """What values of one shape have in common as JSON, so that only the rest is written for each.

    Args:
        values: a list; each ``RawJson`` in it is a gap, and its text is the gap's name.

    >>> JsonTemplate([{"a": RawJson("first"), "b": 1}]).filled({"first": "[2,3]"})
    '{"a":[2,3],"b":1}'
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self._pieces = _items(values)

    def filled(self, gaps: Mapping[str, str]) -> str:
        """The values as JSON with commas between.

        Args:
            gaps: JSON text by name.
        """
        pieces = self._pieces.copy()
        pieces[1::2] = [gaps[name] for name in pieces[1::2]]
        return "".join(pieces)


def _items(values: Sequence[Any]) -> list[str]:
    """The text of a list without its brackets in pieces; see ``_pieces``."""
    pieces = _pieces(list(values), ascii_only=False)
    pieces[0] = pieces[0][1:]
    pieces[-1] = pieces[-1][:-1]
    return pieces


def _pieces(value: Any, ascii_only: bool) -> list[str]:
    """The text in pieces, of which every second one was JSON already."""
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
        raise InputError(_NO_NUMBER) from None
    if not parts:
        return [text]
    *between, last = text.split(_PLACE_JSON)
    return [*itertools.chain.from_iterable(zip(between, parts, strict=True)), last]


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
