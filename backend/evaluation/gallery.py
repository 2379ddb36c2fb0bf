"""The images to look at first: the worst of everything, of every annotator and model version, and
of every class.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.types import Image, LabelMap
from backend.drawing.comparison import compare
from backend.drawing.overlays import encode_picture
from backend.errors import LabelingError
from backend.evaluation.accumulate import Cell
from backend.evaluation.image_counts import Measured
from backend.evaluation.pairs import Picture

logger = logging.getLogger(__name__)

_PER_GROUP = 12
_PER_CLASS = 4
MOST = 24
PANEL_WIDTH = 460
LoadPicture = Callable[[Picture], Image]


@dataclass(frozen=True, eq=False)
class Entry:
    """One image that may be shown.

    Its label maps are kept as PNG, because many are held for a while.
    """

    name: str
    cell: Cell
    worth: float
    iou: dict[int, float]  # of the classes that occur, by index
    truth_png: bytes
    predicted_png: bytes
    picture: Picture


@dataclass(frozen=True, eq=False)
class Shown:
    """One image of the page."""

    name: str
    annotator: str
    model_version: str
    worth: float
    iou: dict[str, float]
    jpeg: bytes
    note: str  # why the picture itself is not there, or nothing
    task_id: int | None = None


def _packed(label_map: LabelMap) -> bytes:
    return bytes(
        cv2.imencode(".png", label_map.astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    )


def _unpacked(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


@dataclass(eq=False)
class Gallery:
    """Keeps a bounded number of the worst images while all go by."""

    _heaps: dict[object, list[tuple[float, int, Entry]]] = field(default_factory=dict)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def offer(
        self,
        name: str,
        cell: Cell,
        measured: Measured,
        maps: tuple[LabelMap, LabelMap],
        picture: Picture,
    ) -> None:
        """Consider an image; it is kept only where it is among the worst so far."""
        worth = measured.worth
        if math.isnan(worth):
            return
        iou = {
            k - 1: float(v) for k, v in enumerate(measured.confusion.iou) if k and not np.isnan(v)
        }
        wanted: list[tuple[object, float, int]] = [
            (cell, worth, _PER_GROUP),
            *((k, value, _PER_CLASS) for k, value in iou.items()),
        ]
        entry: Entry | None = None
        for key, value, most in wanted:
            heap = self._heaps.setdefault(key, [])
            if len(heap) >= most and -heap[0][0] <= value:
                continue
            entry = entry or Entry(
                name, cell, worth, iou, _packed(maps[0]), _packed(maps[1]), picture
            )
            (heapq.heappush if len(heap) < most else heapq.heapreplace)(
                heap, (-value, next(self._order), entry)
            )

    def worst(self, most: int = MOST) -> list[Entry]:
        """At most ``most`` images: the worst of every group and class in turn, sorted by how bad
        they are.
        """
        ranked = [
            [entry for _, _, entry in sorted(heap, key=lambda one: (-one[0], one[1]))]
            for heap in self._heaps.values()
        ]
        chosen: dict[int, Entry] = {}
        for row in itertools.zip_longest(*ranked):
            for entry in filter(None, row):
                if len(chosen) < most:
                    chosen.setdefault(id(entry), entry)
        return sorted(chosen.values(), key=lambda entry: entry.worth)


def render(
    entries: Sequence[Entry], names: Sequence[str], load: LoadPicture, captions: tuple[str, str]
) -> list[Shown]:
    """Draw the images of the page.

    Args:
        entries: from ``Gallery.worst``.
        names: of the classes.
        load: gives the pixels of a picture, or raises a ``LabelingError``.
        captions: of the first two panels.
    """
    shown = []
    for entry in entries:
        try:
            shown.append(_render(entry, names, load, captions))
        except Exception:  # a picture that cannot be drawn must not cost the figures
            logger.exception("%s: cannot be drawn for the report", entry.name)
    return shown


def _render(
    entry: Entry, names: Sequence[str], load: LoadPicture, captions: tuple[str, str]
) -> Shown:
    truth = _unpacked(entry.truth_png)
    predicted = _unpacked(entry.predicted_png)
    image: Image | None = None
    note = ""
    try:
        found = load(entry.picture)
        if found.shape[:2] == truth.shape:
            image = found
        else:
            note = (
                f"the picture is {found.shape[1]}x{found.shape[0]}, its regions"
                f" {truth.shape[1]}x{truth.shape[0]}"
            )
    except LabelingError as error:
        note = str(error)
        logger.info("%s: no picture for the report: %s", entry.name, error)
    sheet = compare(image, truth, predicted, names, captions=captions, panel_width=PANEL_WIDTH)
    iou = {names[k]: round(value, 4) for k, value in entry.iou.items()}
    return Shown(
        entry.name,
        *entry.cell,
        round(entry.worth, 4),
        iou,
        encode_picture(sheet),
        note,
        entry.picture.task_id,
    )
