"""labelme's JSON as an annotation format.

``backend.formats.registry`` finds it by its entry point.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from backend.errors import InputError
from backend.formats.base import Format
from labelme_plugin.document import read_document, unchanged_version_of
from labelme_plugin.reader import LabelmeReader, is_labelme
from labelme_plugin.writer import LabelmeWriter

_LOOKED_AT = 200  # files of a folder


def _is_folder(folder: Path) -> bool:
    documents = [*sorted(folder.glob("*.json")), *sorted((folder / "labelme").glob("*.json"))]
    return any(is_labelme(path) for path in itertools.islice(documents, _LOOKED_AT))


def _is_marked(path: Path) -> bool:
    return unchanged_version_of(path) is not None


def _picture_named_in(path: Path) -> str | None:
    try:
        named = read_document(path).get("imagePath")
    except InputError:
        return None
    return named.replace("\\", "/").rpartition("/")[2] if isinstance(named, str) else None


def _check(source: Path, images: Path | None, progress: bool) -> Any:
    from labelme_plugin.check_folder import check

    return check(source, images, progress)


def _open_window(*arguments: Any) -> int:
    from labelme_plugin.window import open_window

    return open_window(*arguments)


def _check_window() -> str:
    from labelme_plugin.display import check_display
    from labelme_plugin.window import check_version, installed_version

    version = installed_version()
    check_version(version)
    check_display()
    return f"labelme {version} can open its window here"


FORMAT = Format(
    name="labelme",
    is_file=is_labelme,
    is_folder=_is_folder,
    read=LabelmeReader,
    write=LabelmeWriter,
    knows_lists=False,
    is_marked=_is_marked,
    version_in=unchanged_version_of,
    picture_named_in=_picture_named_in,
    check=_check,
    open_window=_open_window,
    check_window=_check_window,
)
