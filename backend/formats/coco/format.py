"""COCO instance annotations as an annotation format."""

from __future__ import annotations

from pathlib import Path

from backend.formats.base import Format
from backend.formats.coco.files import category_names, coco_files, is_coco
from backend.formats.coco.reader import CocoReader
from backend.formats.coco.writer import CocoWriter


def _is_folder(folder: Path) -> bool:
    return (folder / "annotations").is_dir() and bool(coco_files(folder))


def _names_in(out: Path) -> tuple[str, ...]:
    files = coco_files(out)
    return category_names(files) if files else ()


FORMAT = Format(
    name="coco",
    is_file=is_coco,
    is_folder=_is_folder,
    read=CocoReader,
    write=CocoWriter,
    names_in=_names_in,
)
