"""COCO panoptic annotations as an annotation format."""

from __future__ import annotations

from pathlib import Path

from backend.formats.base import Format
from backend.formats.coco.files import (
    category_names,
    coco_files,
    is_panoptic,
    panoptic_files,
)
from backend.formats.coco.panoptic import PanopticReader, PanopticWriter
from backend.formats.png import made_by_us


def _is_folder(folder: Path) -> bool:
    """Where instances are there as well, these are read unless ``--from`` says otherwise."""
    return (
        (folder / "annotations").is_dir()
        and bool(panoptic_files(folder))
        and not coco_files(folder)
    )


def _names_in(out: Path) -> tuple[str, ...]:
    files = panoptic_files(out)
    return category_names(files) if files else ()


FORMAT = Format(
    name="coco-panoptic",
    is_file=is_panoptic,
    is_folder=_is_folder,
    read=PanopticReader,
    write=PanopticWriter,
    names_in=_names_in,
    is_marked=made_by_us,
    holds_boxes=False,
)
