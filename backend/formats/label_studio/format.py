"""Label Studio's tasks as an annotation format."""

from __future__ import annotations

from pathlib import Path

from backend.formats.base import Format
from backend.formats.json_stream import first_byte
from backend.formats.label_studio.reader import LabelStudioReader, export_files, is_one_task
from backend.formats.label_studio.writer import TASKS, LabelStudioWriter


def _is_file(path: Path) -> bool:
    return first_byte(path) == b"[" or is_one_task(path)


def _is_folder(folder: Path) -> bool:
    return bool(export_files(folder))


FORMAT = Format(
    name="label-studio",
    is_file=_is_file,
    is_folder=_is_folder,
    read=LabelStudioReader,
    write=LabelStudioWriter,
    own_folder=TASKS,
    found_by_files=False,  # any JSON list would be taken for an export
    knows_lists=False,
)
