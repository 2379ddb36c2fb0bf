"""Samples as labelme JSON: a mask or polygons for every instance, in drawing order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from backend.core.classes import BACKGROUND_LABEL, IGNORE_LABEL
from backend.core.masks import join_masks, mask_difference
from backend.core.rasterize import polygon_mask
from backend.core.rings import part_rings
from backend.core.types import Mask
from backend.errors import InputError
from backend.files.names import listable
from backend.formats.base import NOT_AT_HAND, Encoded, WriteRequest
from backend.formats.json_text import json_bytes
from backend.formats.sample import LISTS, DatasetInstance, Part, Sample
from labelme_plugin.document import make_document, relative_image_path
from labelme_plugin.reader import DOCUMENT_KEYS, SHAPE_KEYS
from labelme_plugin.shapes import box_shape, mask_shape, polygon_shape, score_keys

APART = "source"  # key for what the source has under names that labelme uses for something else
_TOLERANCE = 0.75  # pixels; a polygon for people should not have a corner at every pixel


class LabelmeWriter:
    """``<stem>.json`` per image, and ``labels.txt`` as labelme2voc wants it.

    Args:
        request: its shape is ``mask`` or ``polygon``; polygons may leave the edge of a mask by 0.75
            pixels, unless it says otherwise.
    """

    per_split = False
    lists_names = False
    shared: Sequence[str] = ()

    def __init__(self, request: WriteRequest) -> None:
        self._out = request.out
        self._names = request.names
        self._copies = request.copies
        self._shape = request.options.shape
        tolerance = request.options.tolerance
        self._tolerance = _TOLERANCE if tolerance is None else tolerance
        self._simplified = tolerance is not None

    def paths(self, stem: str) -> list[PurePosixPath]:
        return [PurePosixPath(f"{stem}.json")]

    def encode(self, sample: Sample, stem: str) -> Encoded:
        size_hw = sample.known_size()
        instances = sample.instances
        losses = Counter[str]()
        pieces: list[tuple[int, dict[str, Any]]] = []
        groups = {
            one.notes.get("group_id")
            for one in instances
            if not isinstance(one.notes.get("group_id"), list | dict)
        }
        taken: set[tuple[str, Any]] = set()
        predicted = sample.model_version is not None
        for instance in instances:
            drawn = [
                (part.order, shape)
                for part in instance.parts
                for shape in self._shapes(part, instance, size_hw, predicted, losses)
            ]
            if not instance.parts and instance.xyxy is not None:
                box = box_shape(instance.label, instance.xyxy)
                drawn.append((instance.order, {**box, **_extras(instance, predicted)}))
            group = drawn[0][1]["group_id"] if drawn else None
            if (group is None and len(drawn) > 1) or (
                group is not None and (instance.label, group) in taken
            ):  # else it would be part of another
                group = next(k for k in range(len(groups) + 1) if k not in groups)
                groups.add(group)
                drawn = [(order, {**shape, "group_id": group}) for order, shape in drawn]
            taken.add((instance.label, group))
            pieces += drawn
        (path,) = self.paths(stem)
        copied = self._copies.place(
            sample, PurePosixPath(f"{stem}{sample.name.suffix}"), always=True
        )
        losses.update(copied.losses)
        if copied.path is None and sample.named is None:
            losses[NOT_AT_HAND] += 1
        if sample.split is not None:
            losses[LISTS] += 1
        document = make_document(
            [shape for _, shape in sorted(pieces, key=lambda pair: pair[0])],
            self._image_path(sample, path, bool(copied.files)),
            size_hw,
            sample.model_version,
            flags if _are_flags(flags := sample.notes.get("flags")) else None,
            _apart(
                {
                    key: value
                    for key, value in sample.notes.items()
                    if key != "flags" or not _are_flags(value)
                },
                DOCUMENT_KEYS,
            ),
        )
        return Encoded(
            Counter(one.label for one in instances),
            [(path, json_bytes(document) + b"\n"), *copied.files],
            losses,
        )

    def _image_path(self, sample: Sample, path: PurePosixPath, copied: bool) -> str:
        if sample.picture is not None and not isinstance(sample.picture, bytes) and not copied:
            return relative_image_path(sample.picture, self._out / path)
        if sample.named is not None and not copied:
            return Path(
                os.path.relpath(os.path.abspath(sample.named), (self._out / path).parent.absolute())
            ).as_posix()
        return path.name.removesuffix(".json") + sample.name.suffix if copied else sample.name.name

    def _shapes(
        self,
        part: Part,
        instance: DatasetInstance,
        size_hw: tuple[int, int],
        predicted: bool,
        losses: Counter[str],
    ) -> Iterator[dict[str, Any]]:
        extras = _extras(
            instance if part.notes is None else _with_notes(instance, part.notes), predicted
        )
        mask = part.mask
        if (
            self._shape == "polygon" and part.ring is not None and not self._simplified
        ):  # as somebody drew it
            yield {**polygon_shape(instance.label, [list(point) for point in part.ring]), **extras}
            return
        if self._shape == "mask":
            yield {**mask_shape(instance.label, _wide_enough(mask, size_hw)), **extras}
            return
        rings = part_rings(mask, self._tolerance)
        for ring in rings:
            points = [[float(x), float(y)] for x, y in ring]
            points += [points[-1]] * (3 - len(points))  # of one or two pixels
            yield {**polygon_shape(instance.label, points), **extras}
        corners = [[*ring.tolist(), *[ring[-1].tolist()] * (3 - len(ring))] for ring in rings]
        drawn = [
            filled for points in corners if (filled := polygon_mask(points, size_hw)) is not None
        ]  # as labelme draws it
        if changed := mask_difference(mask, join_masks(drawn) if drawn else None):
            losses["pixels changed by simplified polygons"] += changed

    def add(self, encoded: Encoded) -> None:
        return

    def class_files(self) -> list[tuple[PurePosixPath, bytes]]:
        names = [name for name in self._names.names if _is_listable(name)]
        lines = "\n".join([IGNORE_LABEL, BACKGROUND_LABEL, *names]) + "\n"
        return [(PurePosixPath("labels.txt"), lines.encode())]

    def close(self) -> Iterator[tuple[PurePosixPath, bytes]]:
        yield from self.class_files()

    def abort(self) -> None:
        return


def _extras(instance: DatasetInstance, predicted: bool) -> dict[str, Any]:
    """What goes with a shape; of a prediction the score also where labelme's window shows it."""
    made: dict[str, Any] = {}
    if instance.score is not None:
        made = score_keys(instance.score) if predicted else {"score": instance.score}
    if instance.crowd:
        made["iscrowd"] = 1
    if instance.number is not None:
        made["voc_object"] = instance.number
    return {**made, **_apart(_sound(instance.notes), SHAPE_KEYS)}


def _with_notes(instance: DatasetInstance, notes: Mapping[str, Any]) -> DatasetInstance:
    return replace(
        instance,
        score=notes["score"],
        notes={key: value for key, value in notes.items() if key != "score"},
    )


def _is_listable(name: str) -> bool:
    try:
        return bool(listable(name, ""))
    except InputError:
        return False


def _are_flags(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, bool) for one in value.values())


def _sound(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Notes of which labelme's own are of the types that labelme reads.

    Others of those names are put apart.
    """
    group = notes.get("group_id")
    sound = {
        "group_id": isinstance(group, int) and not isinstance(group, bool),
        "flags": _are_flags(notes.get("flags")),
        "description": isinstance(notes.get("description"), str),
    }
    kept = {key: value for key, value in notes.items() if sound.get(key, True)}
    apart = {
        key: value for key, value in notes.items() if not sound.get(key, True) and value is not None
    }
    return {
        **kept,
        **(
            {APART: {**(kept[APART] if isinstance(kept.get(APART), dict) else {}), **apart}}
            if apart
            else {}
        ),
    }


def _apart(notes: Mapping[str, Any], reserved: Sequence[str]) -> dict[str, Any]:
    """Notes whose names labelme uses for something else, under a name of their own."""
    kept = {key: value for key, value in notes.items() if key not in reserved or key == "score"}
    apart = {key: value for key, value in notes.items() if key not in kept}
    return {
        **kept,
        **(
            {APART: {**(kept[APART] if isinstance(kept.get(APART), dict) else {}), **apart}}
            if apart
            else {}
        ),
    }


def _wide_enough(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """A mask of a single pixel with a pixel of background beside it, because labelme 5.5 loses the
    second corner of a single pixel.
    """
    if mask.crop.size > 1 or size_hw == (1, 1):
        return mask
    if size_hw[1] > 1:
        left = mask.x + 1 >= size_hw[1]
        return Mask(mask.x - left, mask.y, np.array([[not left, left]]))
    above = mask.y + 1 >= size_hw[0]
    return Mask(mask.x, mask.y - above, np.array([[not above], [above]]))
