"""Reading the fields of a settings object from flags, environment and configuration file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def number(low: float, high: float, kind: type[int] | type[float]) -> Callable[[Any], Any]:
    """A reader of numbers within limits; it raises ``ValueError`` with what was expected and what was found."""

    def cast(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"expected a number, got {value!r}")
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"expected a{'n integer' if kind is int else ' number'}, got {value!r}") from None
        if isinstance(value, float) and kind is int and value != number:
            raise ValueError(f"expected an integer, got {value!r}")
        if not low <= number <= high:
            raise ValueError(f"expected {low:g} to {high:g}, got {value!r}")
        return number

    return cast


def text(value: Any) -> str:
    """A reader of non-empty text."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a name or a path, got {value!r}")
    return value.strip()


def path(value: Any) -> Path:
    """A reader of paths."""
    return Path(text(str(value)))


def flag(value: Any) -> bool:
    """A reader of true and false."""
    if str(value).strip().lower() in ("1", "true", "yes", "on"):
        return True
    if str(value).strip().lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"expected true or false, got {value!r}")


Table = Mapping[str, tuple[tuple[str, ...], Callable[[Any], Any]]]  # field: (environment names in order, reader)
Given = dict[str, tuple[str, Any]]  # field: (where it was given, raw value)


def _from_environment(table: Table, environ: Mapping[str, str]) -> Given:
    given = {name: [v for v in variables if environ.get(v)] for name, (variables, _) in table.items()}
    return {name: (found[0], environ[found[0]]) for name, found in given.items() if found}


def _from_flags(flags: Mapping[str, Any]) -> Given:
    return {name: (f"--{name.replace('_', '-')}", value) for name, value in flags.items() if value is not None}


def _read(table: Table, raw: Given) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, (source, value) in raw.items():
        try:
            values[name] = table[name][1](value)
        except (ValueError, OSError) as error:
            faults.append(f"{source}: {error}")
    return values, faults


def read_fields(table: Table, flags: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Field values of any settings object from flags over environment.

    Returns:
        The values that could be read, and a sentence for each that could not.
    """
    return _read(table, {**_from_environment(table, environ), **_from_flags(flags)})
