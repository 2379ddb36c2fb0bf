"""The labelme file of a prediction, as ``annotate`` writes it."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from backend.core.classes import ClassNames
from backend.core.types import Prediction
from backend.files.pictures import Pictures
from backend.formats.base import NoCopies, WriteRequest
from backend.formats.options import WriteOptions
from backend.formats.registry import format_of
from backend.formats.sample import sample_of


def labelme_bytes(prediction: Prediction, picture: str = "a.jpg") -> bytes:
    """The file's content; the picture lies beside it."""
    made = format_of("labelme")
    writer = made.write(
        WriteRequest(
            out=Path(),
            names=ClassNames(),
            pictures=Pictures([], None),
            copies=NoCopies(),
            options=WriteOptions(resumable=True),
        )
    )
    name = PurePosixPath(picture)
    sample = sample_of(prediction, name=name, drawing_order=made.drawing_order)
    ((_, content),) = writer.encode(sample, name.stem).files
    assert isinstance(content, bytes)
    return content


def labelme_document(prediction: Prediction) -> dict[str, Any]:
    """The same, parsed."""
    document: dict[str, Any] = json.loads(labelme_bytes(prediction))
    return document
