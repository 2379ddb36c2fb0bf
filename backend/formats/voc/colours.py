"""Label maps whose values are colours: which colour means which class, as the files beside them
say.

CVAT writes ``labelmap.txt`` (``label:r,g,b:parts:actions``), CamVid has ``label_colors.txt``
(``r g b label``) and ``class_dict.csv`` (``name,r,g,b``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.core.classes import BACKGROUND_LABEL, IGNORE, IGNORE_LABEL
from backend.errors import ConfigError, InputError
from backend.files.text import read_text

FILES = ("labelmap.txt", "label_colors.txt", "class_dict.csv")
_BACKGROUND = (BACKGROUND_LABEL, "background")
_IGNORED = (IGNORE_LABEL, "void", "ignore", "unlabelled", "unlabeled")
_LINES = (
    re.compile(r"^(?P<name>[^:#][^:]*):(?P<rgb>\d+,\d+,\d+):.*$"),
    re.compile(r"^(?P<rgb>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)$"),
    re.compile(r"^(?P<name>[^,]+),(?P<rgb>\s*\d+\s*,\s*\d+\s*,\s*\d+)\s*$"),
)


def _code(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """One number for each colour; (..., 3) to (...)."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


@dataclass(frozen=True)
class ColourTable:
    """Classes in order, and the value of every colour: 0 background, 255 ignored, else the class.

    Attributes:
        names: of the classes; value k + 1 is ``names[k]``.
        values: 24-bit colour to value.
    """

    names: tuple[str, ...]
    values: Mapping[int, int]

    def to_values(self, rgb: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
        """The values of a coloured map.

        Args:
            rgb: (H, W, 3).
            where: for messages.

        Raises:
            InputError: a colour that the table does not have.

        >>> table = ColourTable(("cat",), {0: 0, 0xFF0000: 1})
        >>> table.to_values(np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8), "a.png").tolist()
        [[1, 0]]
        """
        codes = _code(rgb)
        found, inverse = np.unique(codes, return_inverse=True)
        unknown = [code for code in found.tolist() if code not in self.values]
        if unknown:
            code = unknown[0]
            raise InputError(
                f"{where}: the colour {code >> 16},{code >> 8 & 255},{code & 255} belongs to no"
                " class of the colour table"
            )
        values = np.array([self.values[code] for code in found.tolist()], np.uint8)
        return values[inverse.reshape(codes.shape)]


def read_colour_table(path: Path, encoding: str | None = None) -> ColourTable:
    """Read a file of ``FILES``; the first line may be a heading, lines with ``#`` are comments.

    Raises:
        ConfigError: unreadable, or two classes of one colour.
    """
    try:
        lines = read_text(path, encoding).splitlines()
    except InputError as error:
        raise ConfigError(str(error)) from None
    names: list[str] = []
    values: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = next((found for pattern in _LINES if (found := pattern.match(text))), None)
        if match is None:
            if number == 1:
                continue
            raise ConfigError(f"{path}: line {number}: expected a class and its colour")
        name = match["name"].strip()
        red, green, blue = (int(part) for part in re.split(r"[,\s]+", match["rgb"].strip()))
        if max(red, green, blue) > 255:
            raise ConfigError(f"{path}: line {number}: expected colours from 0 to 255")
        code = red << 16 | green << 8 | blue
        if name.lower() in _BACKGROUND:
            value = 0
        elif name.lower() in _IGNORED:
            value = IGNORE
        else:
            if name not in names:
                names.append(name)
            value = names.index(name) + 1
        if values.setdefault(code, value) != value:
            raise ConfigError(f"{path}: line {number}: the colour of {name} is that of another one")
    if not names:
        raise ConfigError(f"{path}: names no classes")
    values.setdefault(0, 0)
    return ColourTable(tuple(names), values)


def own_colour_table(root: Path, encoding: str | None = None) -> ColourTable | None:
    """The colour table of a dataset; None without one."""
    path = next((root / name for name in FILES if (root / name).is_file()), None)
    return None if path is None else read_colour_table(path, encoding)


def object_values(rgb: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The values of a coloured map of objects: colours of the VOC palette by their place in it,
    others in the order of their codes behind those.

    Args:
        rgb: (H, W, 3).
        palette: (256, 3).
    """
    codes = _code(rgb)
    found, inverse = np.unique(codes, return_inverse=True)
    known: dict[int, int] = {}
    for place, code in enumerate(_code(palette).tolist()):
        known.setdefault(code, place)
    free = 256
    values = []
    for code in found.tolist():
        if code in known:
            values.append(known[code])
        else:
            values.append(free)
            free += 1
    return np.array(values, np.uint16)[inverse.reshape(codes.shape)]


def palette_values(
    rgb: NDArray[np.uint8], palette: NDArray[np.uint8], names: Sequence[str] | None, where: str
) -> NDArray[np.uint16]:
    """The values of a coloured map of classes without a colour table: those of the VOC palette.

    Raises:
        InputError: another colour, or one of a class beyond the names.
    """
    values = object_values(rgb, palette)
    classes = values[(values != 0) & (values != IGNORE)]
    if len(classes) and (classes.max() > 255 or (names and classes.max() > len(names))):
        raise InputError(
            f"{where}: holds colours that are not those of the VOC palette; name them in a"
            " labelmap.txt beside the folders (label:r,g,b::)"
        )
    return values
