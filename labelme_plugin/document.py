"""labelme JSON files: written so that every labelme since 5.5 opens them, and never over what a
person made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from backend.errors import InputError, json_kind, system_reason
from backend.files.stores import is_stored, relative_to_store
from backend.files.text import read_text

VERSION = "5.5.0"  # the oldest format with masks; every later labelme reads it
MARK = "yolo_sam2"  # labelme keeps top-level keys it does not know
_MOST_BYTES = 128 << 20  # of a JSON file


def _digest(document: Mapping[str, Any]) -> str:
    """Of everything a person can change.

    Where the picture lies and the format's version do not count.
    """
    content = {
        key: value
        for key, value in document.items()
        if key not in (MARK, "version", "imagePath", "imageData")
    }
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def make_document(
    shapes: Sequence[Mapping[str, Any]],
    image_path: str,
    size_hw: tuple[int, int],
    model_version: str | None = None,
    flags: Mapping[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """labelme's JSON document around shapes.

    Args:
        shapes: in drawing order.
        image_path: of the image, relative to the JSON file, with forward slashes.
        size_hw: of the upright image.
        model_version: of the model that made all shapes, which marks the file as ours; None for a
            person's work.
        flags: of the image.
        others: keys that labelme does not know, and keeps.

    >>> document = make_document([], "a.jpg", size_hw=(480, 640))
    >>> document["imagePath"], document["imageHeight"], document["imageWidth"]
    ('a.jpg', 480, 640)
    """
    document: dict[str, Any] = {
        "version": VERSION,
        "flags": dict(flags or {}),
        "shapes": list(shapes),
        "imagePath": image_path.replace("\\", "/"),
        "imageData": None,
        "imageHeight": int(size_hw[0]),
        "imageWidth": int(size_hw[1]),
        **(others or {}),
    }
    if model_version is not None:
        document[MARK] = {"model_version": model_version, "digest": _digest(document)}
    return document


def _parse(path: Path, encoding: str | None = None) -> dict[str, Any]:
    """The JSON of a labelme file, its shapes unchecked."""
    try:
        if not path.is_file():
            raise InputError(
                f"{path}: is no regular file"
                if path.exists()
                else f"{path}: cannot read: no such file or directory"
            )
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise InputError(
                f"{path}: {size >> 20} MiB, the limit for a labelme file is {_MOST_BYTES >> 20}"
            )
        document = json.loads(read_text(path, encoding))
    except OSError as error:
        raise InputError(f"{path}: cannot read: {system_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise InputError(f"{path}: is not a labelme file: no list of shapes")
    return document


def read_document(path: Path, encoding: str | None = None) -> dict[str, Any]:
    """Read a labelme file; its shapes are checked one by one, by ``check_shape``.

    Raises:
        InputError: naming the file.
    """
    return _parse(path, encoding)


def check_shape(shape: Any, where: str) -> None:
    """Refuse what every labelme version refuses as a shape.

    Raises:
        InputError: naming the field.

    >>> check_shape({"label": 5}, "a.json: shapes[0]")
    Traceback (most recent call last):
    backend.errors.InputError: a.json: shapes[0].label: expected a text, got a number
    """
    if not isinstance(shape, dict):
        raise InputError(f"{where}: expected an object, got {json_kind(shape)}")
    if not isinstance(shape.get("label"), str):
        raise InputError(f"{where}.label: expected a text, got {json_kind(shape.get('label'))}")
    if not shape["label"].strip():
        raise InputError(f"{where}.label: is empty")


def unchanged_version(document: Mapping[str, Any]) -> str | None:
    """The model version that wrote a document, if nobody changed anything in it since.

    None for everything else.

    >>> document = make_document([], "a.jpg", (480, 640), model_version="v1")
    >>> unchanged_version(document), unchanged_version({**document, "flags": {"bad": True}})
    ('v1', None)
    """
    mark = document.get(MARK)
    return (
        str(mark.get("model_version"))
        if isinstance(mark, dict) and mark.get("digest") == _digest(document)
        else None
    )


def unchanged_version_of(path: Path) -> str | None:
    """``unchanged_version`` of a file.

    No mask is decoded for this: a run that is resumed asks it of every file.
    """
    try:
        return unchanged_version(_parse(path))
    except InputError:
        return None


def predicted_by(document: Mapping[str, Any]) -> str | None:
    """The model version a document was first written by, also where a person changed it since.

    >>> document = make_document([], "a.jpg", (480, 640), model_version="v1")
    >>> predicted_by({**document, "flags": {"bad": True}})
    'v1'
    """
    mark = document.get(MARK)
    version = mark.get("model_version") if isinstance(mark, dict) else None
    return version if isinstance(version, str) else None


def relative_image_path(image: Path, json_file: Path) -> str:
    """``imagePath`` for a JSON file: relative, forward slashes, as labelme itself writes it."""
    if is_stored(image) or is_stored(json_file):
        return relative_to_store(image, json_file.parent)
    return Path(os.path.relpath(image.resolve(), json_file.resolve().parent)).as_posix()
