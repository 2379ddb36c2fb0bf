"""Samples as Label Studio tasks with brush masks, ready for import, and the labeling config they
need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from backend.core.classes import NOT_CLASSES
from backend.files.spool import Spool
from backend.formats.base import (
    EMBEDDED,
    EXTRA,
    LISTS,
    NOT_AT_HAND,
    DatasetInstance,
    Encoded,
    Sample,
    WriteRequest,
    repeats_score,
)
from backend.formats.coco import parts
from backend.formats.json_text import json_bytes
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.label_config import make_config
from backend.formats.label_studio.reader import DATA
from backend.formats.options import BEST, PREDICTIONS

_FILE_BYTES = 64 << 20  # Label Studio refuses uploads over 250 MB
_PLACE = "\0rle"  # takes the place of the numbers, which never become a list


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
        self._done: list[Spool] = []
        self._open: Spool | None = None
        self._special: set[str] = set()

    def encode(self, sample: Sample, stem: str) -> Encoded:
        instances = sample.instances
        losses = Counter[str]()
        size_hw = sample.known_size() if instances else (0, 0)
        relative = (
            self._pictures.relative(sample.picture)
            if isinstance(sample.picture, Path)
            else sample.name
        )
        notes = dict(sample.notes)
        others = notes.pop(DATA, None)
        data: dict[str, Any] = dict(others) if isinstance(others, dict) else {}
        data["image"] = sample.url or self._prefix + quote(
            relative.as_posix(), errors="surrogateescape"
        )
        if isinstance(sample.picture, bytes):
            losses[EMBEDDED] += 1
        elif sample.picture is None and sample.url is None:
            losses[NOT_AT_HAND] += 1
        if notes:
            data[EXTRA] = notes
        if sample.split is not None:
            losses[LISTS] += 1
        kept = parts.keep(instances, size_hw)
        result = b",".join(
            self._region(one, k, sample, size_hw, kept[k]) for k, one in enumerate(instances)
        )
        head = json_bytes({"data": data})[:-1]
        asked = None if self._what is None or self._what.kind == BEST else self._what.kind
        is_prediction = sample.model_version is not None if asked is None else asked == PREDICTIONS
        if is_prediction:
            version = (
                (self._what.model_version if self._what is not None else None)
                or sample.model_version
                or "converted"
            )
            scores = [one.score for one in instances if one.score is not None]
            about: dict[str, Any] = {
                "model_version": version,
                **({"score": round(sum(scores) / len(scores), 4)} if scores else {}),
            }
            body = b'"predictions":[' + json_bytes(about)[:-1] + b',"result":[' + result + b"]}]}"
        else:
            body = b'"annotations":[{"result":[' + result + b"]}]}"
        labels = {one.label for one in instances if one.label in NOT_CLASSES}
        return Encoded(
            Counter(one.label for one in instances), (), losses, (head + b"," + body, labels)
        )

    def _region(
        self,
        one: DatasetInstance,
        place: int,
        sample: Sample,
        size_hw: tuple[int, int],
        drawn: Mapping[str, Any],
    ) -> bytes:
        key = f"{sample.name}|{place}|{one.label}|{one.mask.x}|{one.mask.y}|{size_hw}"
        region: dict[str, Any] = {
            "id": blake2b(key.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest(),
            "type": "brushlabels",
            "from_name": "brush",
            "to_name": "image",
            "original_width": size_hw[1],
            "original_height": size_hw[0],
            "image_rotation": 0,
            "value": {"format": "rle", "rle": _PLACE, "brushlabels": [one.label]},
        }
        if one.score is not None:
            region["score"] = one.score
        if meta := _meta(one, drawn):
            region["meta"] = meta
        numbers = rle.to_json(rle.encode(one.mask, size_hw)).encode("ascii")
        return json_bytes(region).replace(json_bytes(_PLACE), numbers, 1)

    def add(self, encoded: Encoded) -> None:
        text, labels = encoded.row
        self._special |= labels
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

    def close(self) -> Iterator[tuple[PurePosixPath, bytes | Spool]]:
        self._finish()
        for number, spool in enumerate(self._done, 1):
            yield PurePosixPath("import.json" if number == 1 else f"import-{number}.json"), spool
        yield (
            PurePosixPath("label_config.xml"),
            make_config([*self._names.names, *sorted(self._special)]).encode(),
        )

    def abort(self) -> None:
        for spool in [*self._done, *([self._open] if self._open is not None else [])]:
            spool.discard()


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
