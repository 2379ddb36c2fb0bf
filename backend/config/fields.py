"""Settings declared once: default, reader, flag, environment names and help stand together in the
field of a dataclass.

Everything else is made of these declarations: the options of the commands, the tables of the
documentation, and what is read from flags, environment and configuration file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

ValueReader = Callable[[Any], Any]  # a raw value to its checked form; raises ValueError or OSError
Given = dict[str, tuple[str, Any]]  # field: (where it was given, raw value)

_KEY = "setting"  # of a field's metadata
_TEXT_FILES = (".txt", ".names", ".csv")  # no class is called so


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known about one setting.

    Attributes:
        read: checks a raw value and turns it into the field's type.
        help: one line for ``--help`` and the documentation, without the default.
        flags: of the command line, the first one in the documentation; empty for none.
        environment: names of variables, the first one wins.
        metavar: what stands for the value; empty for a switch, which takes none.
        shown_default: the default in words, where its value says too little.
    """

    read: ValueReader
    help: str
    flags: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    metavar: str = ""
    shown_default: str | None = None


def setting(
    default: Any,
    *,
    read: ValueReader,
    help: str,
    flags: tuple[str, ...] = (),
    environment: tuple[str, ...] = (),
    metavar: str = "",
    shown_default: str | None = None,
) -> Any:
    """The field of a settings dataclass with its declaration; see ``Setting`` for the arguments."""
    declared = Setting(
        read=read,
        help=help,
        flags=flags,
        environment=environment,
        metavar=metavar,
        shown_default=shown_default,
    )
    return field(default=default, metadata={_KEY: declared})


def settings_of(cls: type) -> dict[str, Setting]:
    """The declarations of a settings dataclass by field name, in order."""
    return {one.name: one.metadata[_KEY] for one in fields(cls)}


def default_in_words(cls: type, name: str) -> str:
    """The default of a setting as ``--help`` and the documentation show it.

    Empty where there is none.
    """
    declared = settings_of(cls)[name]
    if declared.shown_default is not None:
        return declared.shown_default
    (default,) = (one.default for one in fields(cls) if one.name == name)
    if default is None or isinstance(default, bool) or default == ():
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def share(value: Any) -> float:
    """``10%`` or 0.1 as 0.1.

    Raises:
        ValueError: no number from 0 to 1.
    """
    written = str(value).strip()
    try:
        found = float(written.rstrip("%")) / (100 if written.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise ValueError(f"expected a share such as 10% or 0.1, got {written[:40]!r}")
    return found


def number(low: float, high: float, kind: type[int] | type[float]) -> ValueReader:
    """A reader of numbers within limits.

    It raises ``ValueError`` with what was expected and what was found.
    """

    def cast(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"expected a number, got {value!r}")
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            noun = "an integer" if kind is int else "a number"
            raise ValueError(f"expected {noun}, got {value!r}") from None
        if isinstance(value, float) and kind is int and value != number:
            raise ValueError(f"expected an integer, got {value!r}")
        if not low <= number <= high:
            raise ValueError(f"expected {low:g} to {high:g}, got {value!r}")
        return number

    return cast


def one_of(*choices: str) -> ValueReader:
    """A reader of one of some words, in any case.

    It raises ``ValueError`` with what was expected and what was found.
    """

    def read(value: Any) -> str:
        if str(value).lower() not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}, got {value!r}")
        return str(value).lower()

    return read


def listed(value: Any) -> tuple[str, ...]:
    """Entries of a list, of a text with commas, or of a text file with one a line.

    Raises:
        ValueError: nothing in it, an empty entry, or a file of names that is not there.
    """
    if isinstance(value, str) and "," not in value:
        if Path(value).is_file():
            lines = Path(value).read_text(encoding="utf-8-sig").splitlines()
            value = [line for line in lines if line.strip()]
        elif value.strip().endswith(_TEXT_FILES):
            raise ValueError(f"no such file: {value}")
        else:
            value = [value]
    elif isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected names or a file of names, got {value!r}")
    entries = tuple(str(entry).strip() for entry in value)
    if not entries or not all(entries):
        raise ValueError("expected at least one name, none of them empty")
    return entries


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


def from_environment(cls: type, environ: Mapping[str, str]) -> Given:
    """What the environment gives of a settings dataclass."""
    given: Given = {}
    for name, declared in settings_of(cls).items():
        variable = next((v for v in declared.environment if environ.get(v)), None)
        if variable is not None:
            given[name] = (variable, environ[variable])
    return given


def from_flags(
    cls: type, flags: Mapping[str, Any], called: Mapping[str, str] | None = None
) -> Given:
    """What the command line gives of a settings dataclass.

    Args:
        cls: the dataclass.
        flags: field name to value; None means not given, and other names are left out.
        called: field name to flag, where a command calls it otherwise.
    """
    known = settings_of(cls)
    names = called or {}
    return {
        name: (names.get(name, f"--{name.replace('_', '-')}"), value)
        for name, value in flags.items()
        if value is not None and name in known
    }


def read_given(cls: type, given: Given) -> tuple[dict[str, Any], list[str]]:
    """Check all given values of a settings dataclass.

    Returns:
        The values that could be read by field name, and a sentence for each that could not.
    """
    declared = settings_of(cls)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, (source, value) in given.items():
        try:
            values[name] = declared[name].read(value)
        except (ValueError, OSError) as error:
            faults.append(f"{source}: {error}")
    return values, faults


def markdown_table(cls: type) -> str:
    """All settings of a dataclass as a Markdown table: flag, environment, default, meaning."""
    rows = ["| flag | environment | default | meaning |", "|---|---|---|---|"]
    for name, declared in settings_of(cls).items():
        flags = ", ".join(f"`{one}`" for one in declared.flags[:1])
        variables = ", ".join(f"`{one}`" for one in declared.environment)
        cells = (flags, variables, default_in_words(cls, name), declared.help)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)
