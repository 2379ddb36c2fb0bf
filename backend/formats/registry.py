"""The annotation formats by name, and telling which one a source is in.

Formats of other packages are found by entry points of the group ``yolosam2.formats``; labelme's is
one of them. Nothing is imported before a format is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from backend.errors import ConfigError
from backend.files.find import find_files
from backend.formats.base import Format
from backend.formats.json_stream import first_byte

GROUP = "yolosam2.formats"
_BUILT_IN = {
    "label-studio": "backend.formats.label_studio.format",
    "coco": "backend.formats.coco.format",
    "coco-panoptic": "backend.formats.coco.panoptic_format",
    "yolo": "backend.formats.yolo.format",
    "voc": "backend.formats.voc.format",
}
_LOOKED_AT = 200  # files of a folder
_MOST_LENIENT = "labelme"  # reads any JSON object, and tells best what is wrong with it


@cache
def _registered() -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group=GROUP)}


def format_names() -> tuple[str, ...]:
    """All formats there are: labelme first, where it is installed, then ours, then others'."""
    others = [name for name in _registered() if name not in ("labelme", *_BUILT_IN)]
    first = ["labelme"] if "labelme" in _registered() else []
    return (*first, *_BUILT_IN, *sorted(others))


@cache
def format_of(name: str) -> Format:
    """A format by name.

    Raises:
        ConfigError: there is none of this name, or it cannot be loaded.
    """
    if name in _BUILT_IN:
        built_in: Format = import_module(_BUILT_IN[name]).FORMAT
        return built_in
    if name not in _registered():
        raise ConfigError(f"unknown format {name!r}; known are {', '.join(format_names())}")
    try:
        found: Any = _registered()[name].load()
    except Exception as error:  # another package's code
        raise ConfigError(
            f"format {name}: cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, Format):
        raise ConfigError(f"format {name}: its entry point is not a backend.formats.base.Format")
    return found


def detect_format(source: Path) -> str:
    """The name of the format that a file or folder is in.

    Raises:
        ConfigError: not there, in none of the formats, or in several.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    formats = [format_of(name) for name in format_names()]
    if source.suffix.lower() == ".xml":
        raise ConfigError(f"{source}: is an XML file, such as PASCAL VOC has boxes in; not read")
    if source.is_file():
        strictest_first = sorted(formats, key=lambda one: one.name == _MOST_LENIENT)
        lenient = first_byte(source) == b"{"
        return _of_files(source, [source], strictest_first, lenient=lenient)
    found = [one.name for one in formats if one.is_folder(source)]
    if len(found) > 1:
        raise ConfigError(_several(source, found))
    if found:
        return found[0]
    documents = list(itertools.islice(find_files(source, (".json",)), _LOOKED_AT))
    if documents:
        loose = [one for one in formats if one.found_by_files]
        return _of_files(source, documents, loose, lenient=True)
    if next(find_files(source, (".xml",)), None) is not None:
        raise ConfigError(
            f"{source}: holds XML files, as PASCAL VOC has boxes in; boxes without masks are not"
            " read from there. `yolosam2 annotate` makes masks of the pictures, and --prompts"
            " takes boxes as JSON"
        )
    raise ConfigError(
        f"{source}: holds no labelme JSON, Label Studio export, COCO file, YOLO labels or VOC "
        "label maps; say which it is with --from"
    )


def _of_files(
    source: Path, documents: Sequence[Path], formats: Sequence[Format], *, lenient: bool
) -> str:
    """The first format that any of the files is in, else the one that tells what is wrong."""
    for one in formats:
        if any(one.is_file(path) for path in documents):
            return one.name
    if lenient and _MOST_LENIENT in format_names():
        return _MOST_LENIENT
    raise ConfigError(
        f"{source}: is neither a folder nor a JSON file of labelme, Label Studio or COCO"
    )


def _several(source: Path, found: list[str]) -> str:
    told = ""
    if "labelme" in found:
        inner = source / "labelme"
        where = inner if inner.is_dir() else "--from labelme"
        told = f"; what people corrected with labelme is in the labelme files: {where}"
    return (
        f"{source}: holds {', '.join(found)}; say with --from which is to be read, "
        f"or name a folder in it{told}"
    )
