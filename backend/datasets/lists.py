"""Lists of images that an earlier conversion left in a folder: an image in two of them would be
trained and validated on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from backend.errors import InputError
from backend.formats.json_stream import read_list

_PATTERNS = {
    "voc": "ImageSets/Segmentation/*.txt",
    "coco": "annotations/instances_*.json",
    "coco-panoptic": "annotations/panoptic_*.json",
}


def repeated(
    root: Path, kind: str, left: Sequence[str], written: Collection[str]
) -> Iterator[tuple[str, list[str]]]:
    """The lists that hold images which were written as part of another one now.

    Args:
        root: output folder.
        kind: of the dataset; COCO and VOC have such lists.
        left: files below the root that an earlier conversion wrote and this one did not.
        written: names of the images, without suffix, case folded.

    Yields:
        The name of a list, and those images, at least one.
    """
    for name in left:
        if kind in _PATTERNS and PurePosixPath(name).match(_PATTERNS[kind]):
            found = [one for one in _images_of(root / name, kind) if one.casefold() in written]
            if found:
                yield name, found


def _images_of(path: Path, kind: str) -> list[str]:
    """Names without suffix.

    None where the list cannot be read, as then nothing can be trained by it.
    """
    try:
        if kind == "voc":
            return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        with path.open("rb") as stream:
            rows = [
                row.get("file_name")
                for row in read_list(stream, path, "images")
                if isinstance(row, dict)
            ]
        return [
            PurePosixPath(row).with_suffix("").as_posix()
            for row in rows
            if isinstance(row, str) and PurePosixPath(row).name
        ]
    except (OSError, InputError):
        return []
