"""The class names of a VOC dataset: ``class_names.txt`` begins with ``_background_``, as
labelme2voc writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backend.core.classes import BACKGROUND_LABEL
from backend.errors import ConfigError, InputError
from backend.files.text import read_text
from backend.formats.voc.colours import own_colour_table

_NO_CLASS = (BACKGROUND_LABEL, "background")  # what the first line may be called


def class_names_text(names: Sequence[str]) -> str:
    """The content of ``class_names.txt``, without a final newline, as labelme2voc writes it.

    >>> class_names_text(["cat", "dog"])
    '_background_\\ncat\\ndog'
    """
    return "\n".join([BACKGROUND_LABEL, *names])


def read_class_names(path: Path, encoding: str | None = None) -> tuple[str, ...]:
    """Class names of a ``class_names.txt`` or ``labels.txt``, background and ignore left out.

    None where it lists only those.

    Raises:
        ConfigError: unreadable, or without a line.
    """
    try:
        lines = read_text(path, encoding).splitlines()
    except InputError as error:
        raise ConfigError(f"{error}; the class names are in it") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ConfigError(f"{path}: holds no class names")
    if names[0] == "__ignore__":
        names = names[1:]
    if names and names[0].lower() in _NO_CLASS:  # once: a class may be called background
        names = names[1:]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{path}: named twice: {', '.join(twice)}")
    return tuple(names)


def own_class_names(root: Path, encoding: str | None = None) -> tuple[str, ...] | None:
    """The class names that a dataset's ``class_names.txt`` or ``labels.txt`` lists, or its table of
    colours.

    None without either.

    Raises:
        ConfigError: unreadable or empty.
    """
    files = [root / name for name in ("class_names.txt", "labels.txt") if (root / name).is_file()]
    if files:
        return read_class_names(files[0], encoding)
    table = own_colour_table(root, encoding)
    return None if table is None else table.names
