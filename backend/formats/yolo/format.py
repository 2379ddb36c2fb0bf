"""YOLO segmentation datasets as an annotation format."""

from __future__ import annotations

from pathlib import Path

from backend.errors import LabelingError
from backend.formats.base import Format
from backend.formats.yolo.labels import read_data_yaml
from backend.formats.yolo.reader import YoloReader, has_labels, yaml_of
from backend.formats.yolo.writer import YoloWriter


def _is_file(path: Path) -> bool:
    return False  # a label file says nothing about its picture


def _is_folder(folder: Path) -> bool:
    return yaml_of(folder) is not None or has_labels(folder)


def _names_in(out: Path) -> tuple[str, ...]:
    listed = out / "data.yaml"
    try:
        return read_data_yaml(listed.read_text(encoding="utf-8"), "")[0]
    except (LabelingError, OSError, ValueError):
        return ()


FORMAT = Format(
    name="yolo",
    is_file=_is_file,
    is_folder=_is_folder,
    read=YoloReader,
    write=YoloWriter,
    names_in=_names_in,
    holds_pictures=True,
)
