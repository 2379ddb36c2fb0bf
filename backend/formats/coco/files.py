"""The files of a COCO dataset, and what they list of categories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backend.core.classes import NOT_CLASSES
from backend.errors import ConfigError, InputError
from backend.formats.json_stream import read_list

_ROBOFLOW = "_annotations.coco.json"  # beside the pictures of each split
_SPLITS = ("train", "val", "test")
INSTANCES = "instances"  # what the names of files begin with
PANOPTIC = "panoptic"


def coco_files(folder: Path) -> list[Path]:
    """The annotation files of a dataset: ``annotations/instances_*.json``, else every JSON file in
    the folder that looks like one.
    """
    found = sorted((folder / "annotations").glob(f"{INSTANCES}_*.json"))
    found = found or sorted([*folder.glob(f"*/{_ROBOFLOW}"), *folder.glob(_ROBOFLOW)])
    return found or sorted(path for path in folder.glob("*.json") if is_coco(path))


def panoptic_files(folder: Path) -> list[Path]:
    """The files of a panoptic dataset: ``annotations/panoptic_*.json``, else every JSON file in the
    folder that looks like one.
    """
    found = sorted((folder / "annotations").glob(f"{PANOPTIC}_*.json"))
    return found or sorted(path for path in folder.glob("*.json") if is_panoptic(path))


def is_coco(path: Path) -> bool:
    """True for a file that looks like instance annotations of COCO."""
    head = _head(path)
    return _is_any_coco(head) and not _is_panoptic(path, head)


def is_panoptic(path: Path) -> bool:
    """True for a file that looks like panoptic annotations of COCO."""
    head = _head(path)
    return _is_any_coco(head) and _is_panoptic(path, head)


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would wait for ever
            return b""
        with path.open("rb") as stream:
            return stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return b""


def _is_panoptic(path: Path, head: bytes) -> bool:
    if b'"segments_info"' in head:
        return True
    is_called_so = PANOPTIC in path.name.lower()
    if not is_called_so and b'"isthing"' not in head:
        return False
    try:
        with path.open("rb") as stream:
            first = next(read_list(stream, path, "annotations"), None)
    except (InputError, OSError):
        first = None
    return "segments_info" in first if isinstance(first, dict) else is_called_so


def _is_any_coco(head: bytes) -> bool:
    listed = any(f'"{key}"'.encode() in head for key in ("annotations", "categories"))
    return head.startswith(b"{") and (listed or (b'"images"' in head and b'"shapes"' not in head))


def split_of(path: Path) -> str | None:
    """The split a file is named after: ``instances_train2017.json`` is train."""
    if path.name == _ROBOFLOW:
        return {"train": "train", "valid": "val", "val": "val", "test": "test"}.get(
            path.parent.name
        )
    stem = list_of(path)
    if path.stem != stem:
        return next((name for name in _SPLITS if stem.startswith(name)), stem)
    return next((name for name in _SPLITS if stem.startswith(name)), None)


def list_of(path: Path) -> str:
    """The part of a file's name that tells its list: ``train2017`` of ``instances_train2017.json``.

    >>> list_of(Path("instances_train2017.json")), list_of(Path("export.json"))
    ('train2017', 'export')
    """
    return path.stem.removeprefix(f"{INSTANCES}_").removeprefix(f"{PANOPTIC}_")


def category_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The names of the categories of the files of a dataset, in the order of their ids.

    Raises:
        ConfigError: two files give one id to different names.
        InputError: the categories of a file cannot be read.
    """
    known: dict[str, str] = {}
    for path in paths:
        with path.open("rb") as stream:
            found = read_categories(read_list(stream, path, "categories"), path)
        for key, name in found.items():
            if known.setdefault(key, name) != name:
                raise ConfigError(
                    f"{path}: category {key} is {name!r} here, but {known[key]!r} in"
                    f" {paths[0].parent}; choose another OUT"
                )
    ids = sorted(known, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0))
    return tuple(dict.fromkeys(known[key] for key in ids if known[key] not in NOT_CLASSES))


def id_text(value: Any) -> str | None:
    """An id as text, the same for 5, 5.0 and "5"; None for what is no id."""
    if isinstance(value, float) and value == value // 1:
        value = int(value)
    return (
        str(value).strip()
        if isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip()
        else None
    )


def read_categories(rows: Iterator[Any], path: Path) -> dict[str, str]:
    """Names of categories by their id as text.

    Raises:
        InputError: one without an id or a name.
    """
    found: dict[str, str] = {}
    for place, row in enumerate(rows):
        key = id_text(row.get("id")) if isinstance(row, dict) else None
        if key is None or not isinstance(row.get("name"), str) or not row["name"].strip():
            raise InputError(f"{path}: categories[{place}]: expected an id and a name")
        found[key] = row["name"]
    return found
