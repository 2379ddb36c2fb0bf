"""Samples as Label Studio tasks with brush masks, ready for import, and the labeling config they
need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from backend.core.classes import NOT_CLASSES
from backend.core.effort import effort_of
from backend.files.spool import Spool
from backend.formats.base import EMBEDDED, NOT_AT_HAND, Encoded, WriteRequest
from backend.formats.coco import parts
from backend.formats.json_text import json_bytes
from backend.formats.label_studio.made_regions import (
    BRUSH,
    RECTANGLE,
    box_percent,
    brush_values,
    region,
)
from backend.formats.label_studio.make_config import make_config
from backend.formats.label_studio.reader import DATA
from backend.formats.label_studio.results import prediction_score, task_object
from backend.formats.options import BEST, PREDICTIONS
from backend.formats.sample import EXTRA, LISTS, DatasetInstance, Sample, repeats_score

_FILE_BYTES = 64 << 20  # Label Studio refuses uploads over 250 MB
TASKS = "tasks"  # folder of the tasks of a run that can be resumed, a file each


class LabelStudioWriter:
    """``import.json``, further files of 64 MB, and ``label_config.xml``.

    Args:
        request: its prefix is put before a picture's path to make its address; ``what`` says
            whether tasks get annotations or predictions, and None goes by who made them.
    """

    per_split = False
    lists_names = True
    shared: Sequence[str] = ("import*.json", "label_config.xml")

    def __init__(self, request: WriteRequest) -> None:
        self._out = request.out
        self._names = request.names
        self._pictures = request.pictures
        self._prefix = request.options.url_prefix
        self._what = request.options.what
        self._resumable = request.options.resumable
        self._done: list[Spool] = []
        self._open: Spool | None = None
        self._special: set[str] = set()

    def paths(self, stem: str) -> list[PurePosixPath]:
        return [PurePosixPath(TASKS, f"{stem}.json")] if self._resumable else []

    def encode(self, sample: Sample, stem: str) -> Encoded:
        losses: Counter[str] = Counter()
        url = self._url(sample)
        if isinstance(sample.picture, bytes):
            losses[EMBEDDED] += 1
        elif sample.picture is None and sample.url is None:
            losses[NOT_AT_HAND] += 1
        if sample.split is not None:
            losses[LISTS] += 1
        if sample.prediction is not None:
            task = task_object(sample.prediction, url)
        else:
            task = self._task(sample, url)
        text = json_bytes(task)
        labels = Counter(one.label for one in sample.instances)
        special = {label for label in labels if label in NOT_CLASSES}
        files = [(path, text) for path in self.paths(stem)]
        return Encoded(labels, files, losses, (text, special))

    def _url(self, sample: Sample) -> str:
        """The address of the picture."""
        if sample.url:
            return sample.url
        relative = sample.name
        if isinstance(sample.picture, Path):
            relative = self._pictures.relative(sample.picture)
        return self._prefix + quote(relative.as_posix(), errors="surrogateescape")

    def _task(self, sample: Sample, url: str) -> dict[str, Any]:
        """A task with what a person, or an earlier model, made."""
        notes = dict(sample.notes)
        others = notes.pop(DATA, None)
        data: dict[str, Any] = dict(others) if isinstance(others, dict) else {}
        data["image"] = url
        if notes:
            data[EXTRA] = notes
        instances = sample.instances
        size_hw = sample.known_size() if instances else (0, 0)
        kept = parts.keep(instances, size_hw)
        result = [
            _region(one, place, sample, size_hw, kept[place]) for place, one in enumerate(instances)
        ]
        asked = None if self._what is None or self._what.kind == BEST else self._what.kind
        is_prediction = sample.model_version is not None if asked is None else asked == PREDICTIONS
        if not is_prediction:
            return {"data": data, "annotations": [{"result": result}]}
        wanted = self._what.model_version if self._what is not None else None
        made: dict[str, Any] = {"model_version": wanted or sample.model_version or "converted"}
        scores = [one.score for one in instances if one.score is not None]
        if scores:
            made["score"] = prediction_score(effort_of(scores))
        return {"data": data, "predictions": [{**made, "result": result}]}

    def add(self, encoded: Encoded) -> None:
        text, labels = encoded.row
        self._special |= labels
        self._append(text)

    def _append(self, text: bytes) -> None:
        """Add a task to the files for import."""
        if self._open is not None and self._open.size + len(text) > _FILE_BYTES:
            self._finish()
        if self._open is None:
            self._open = Spool(self._out)
            self._open.write(b"[")
        else:
            self._open.write(b",\n")
        self._open.write(text)

    def _finish(self) -> None:
        if self._open is not None:
            self._open.write(b"]\n")
            self._open.finish()  # an open file for every 64 MB would be too many
            self._done.append(self._open)
            self._open = None

    def class_files(self) -> list[tuple[PurePosixPath, bytes]]:
        labels = [*self._names.names, *sorted(self._special)]
        return [(PurePosixPath("label_config.xml"), make_config(labels).encode())]

    def close(self) -> Iterator[tuple[PurePosixPath, bytes | Spool]]:
        if self._resumable:
            for path in sorted((self._out / TASKS).rglob("*.json")):
                self._append(path.read_bytes())
        self._finish()
        for number, spool in enumerate(self._done, 1):
            yield PurePosixPath("import.json" if number == 1 else f"import-{number}.json"), spool
        yield from self.class_files()

    def abort(self) -> None:
        for spool in [*self._done, *([self._open] if self._open is not None else [])]:
            spool.discard()


def _region(
    one: DatasetInstance,
    place: int,
    sample: Sample,
    size_hw: tuple[int, int],
    drawn: Mapping[str, Any],
) -> dict[str, Any]:
    if one.parts:
        kind = BRUSH
        corner = f"{one.mask.x}|{one.mask.y}"
        [value] = brush_values([one.mask], size_hw)
    else:
        kind = RECTANGLE
        xyxy = one.xyxy or (0.0, 0.0, 0.0, 0.0)
        corner = f"{xyxy[0]}|{xyxy[1]}"
        value = box_percent(xyxy, size_hw)
    return region(
        key=f"{sample.name}|{place}|{one.label}|{corner}|{size_hw}",
        kind=kind,
        from_name="brush" if one.parts else "box",
        to_name="image",
        size_hw=size_hw,
        value=value,
        label=one.label,
        score=one.score,
        meta=_meta(one, drawn),
    )


def _meta(one: DatasetInstance, drawn: Mapping[str, Any]) -> Mapping[str, Any]:
    """What people noted as the text that Label Studio shows with a region.

    Everything else where only this program looks.
    """
    extra = {**one.notes, **drawn}
    meta = (
        dict(extra.pop("label_studio_meta", None) or {})
        if isinstance(extra.get("label_studio_meta"), dict)
        else {}
    )
    description = extra.pop("description", None)
    if isinstance(description, str) and not (one.score is not None and repeats_score(description)):
        meta["text"] = description.split("\n")
    elif description is not None:
        extra["description"] = description
    if one.crowd:
        extra["iscrowd"] = 1
    if one.number is not None:
        extra["voc_object"] = one.number
    return {**meta, **({EXTRA: extra} if extra else {})}
