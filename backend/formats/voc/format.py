"""PASCAL VOC segmentation as an annotation format."""

from __future__ import annotations

from pathlib import Path

from backend.core.stacking import stacking_order
from backend.errors import LabelingError
from backend.formats.base import Format
from backend.formats.png import made_by_us
from backend.formats.voc.class_names import own_class_names
from backend.formats.voc.reader import VocReader
from backend.formats.voc.writer import MOST_CLASSES, VocWriter


def _is_file(path: Path) -> bool:
    return False  # a label map alone has no names


def _is_folder(folder: Path) -> bool:
    return (folder / "SegmentationClass").is_dir()


def _names_in(out: Path) -> tuple[str, ...]:
    try:
        return own_class_names(out) or ()
    except (LabelingError, OSError, ValueError):
        return ()


FORMAT = Format(
    name="voc",
    is_file=_is_file,
    is_folder=_is_folder,
    read=VocReader,
    write=VocWriter,
    names_in=_names_in,
    holds_boxes=False,
    holds_pictures=True,
    is_marked=made_by_us,
    drawing_order=stacking_order,
    most_classes=MOST_CLASSES,
)
