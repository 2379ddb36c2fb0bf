"""Samples as indexed PNGs in PASCAL VOC layout, numbered and painted as labelme2voc does it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from backend.core.classes import BACKGROUND_LABEL, IGNORE, IGNORE_LABEL
from backend.core.types import LabelMap
from backend.errors import InputError
from backend.files.names import listable
from backend.formats.base import NOT_AT_HAND, Encoded, WriteRequest
from backend.formats.painting import paint_instances
from backend.formats.sample import DatasetInstance, Sample, count_notes, with_masks
from backend.formats.voc.class_names import class_names_text
from backend.formats.voc.label_maps import encode_png

MOST_CLASSES = 254  # 0 is background and 255 ignore
_FOLDERS = ("SegmentationClass", "SegmentationObject")


class VocWriter:
    """``JPEGImages``, ``SegmentationClass``, ``SegmentationObject``, a list per split, and
    ``class_names.txt``.

    Args:
        request: its copies put pictures into ``JPEGImages``.
    """

    per_split = False
    lists_names = True
    shared: Sequence[str] = ("class_names.txt",)

    def __init__(self, request: WriteRequest) -> None:
        self._names = request.names
        self._copies = request.copies
        self._split = request.options.split
        self._lists: defaultdict[str, list[str]] = defaultdict(list)

    def paths(self, stem: str) -> list[PurePosixPath]:
        return [PurePosixPath(folder, f"{stem}.png") for folder in _FOLDERS]

    def encode(self, sample: Sample, stem: str) -> Encoded:
        listable(stem, sample.where, "picture's name")
        instances = sample.instances
        held, losses = with_masks(instances)
        losses += count_notes(sample, held)
        classes, objects, hidden = self._paint(instances, sample)
        losses += hidden
        copied = self._copies.place(sample, PurePosixPath("JPEGImages", stem + sample.name.suffix))
        losses.update(copied.losses)
        if copied.path is None:
            losses[NOT_AT_HAND] += 1
        pairs = zip(self.paths(stem), (classes, objects), strict=True)
        maps = [(path, encode_png(one)) for path, one in pairs]
        return Encoded(
            Counter(one.label for one in held),
            [*maps, *copied.files],
            losses,
            (sample.split or self._split, stem),
        )

    def _paint(
        self, instances: Sequence[DatasetInstance], sample: Sample
    ) -> tuple[LabelMap, LabelMap, Counter[str]]:
        """Class and object values, and what of instances others cover."""
        index, hidden = paint_instances(instances, sample.known_size())
        values = np.array([0, *(self._value(one.label, sample) for one in instances)], np.uint8)
        found = _numbers(instances)
        if max(found, default=0) >= 1 << 16:
            raise InputError(f"{sample.where}: has more objects than the 65535 of a map")
        numbers = np.array([0, *found], np.uint16)
        objects: LabelMap = numbers[index]
        narrow = objects.max(initial=0) <= IGNORE
        return (
            values[index],
            objects.astype(np.uint8) if narrow else objects,
            hidden,
        )

    def _value(self, label: str, sample: Sample) -> int:
        if label in (BACKGROUND_LABEL, IGNORE_LABEL):
            return 0 if label == BACKGROUND_LABEL else IGNORE
        index = self._names.index(label)
        if index is None or index >= MOST_CLASSES:
            raise InputError(
                f"{sample.where}: {label!r} is beyond the {MOST_CLASSES} classes that a label map"
                " can tell apart"
            )
        return index + 1

    def add(self, encoded: Encoded) -> None:
        split, stem = encoded.row
        self._lists[split].append(stem)

    def class_files(self) -> list[tuple[PurePosixPath, bytes]]:
        return [(PurePosixPath("class_names.txt"), class_names_text(self._names.names).encode())]

    def close(self) -> Iterator[tuple[PurePosixPath, bytes]]:
        for split, stems in sorted(self._lists.items()):
            yield (
                PurePosixPath("ImageSets", "Segmentation", f"{split}.txt"),
                ("\n".join(stems) + "\n").encode("utf-8", "surrogateescape"),
            )
        yield from self.class_files()

    def abort(self) -> None:
        return


def _numbers(instances: Sequence[DatasetInstance]) -> list[int]:
    """The object value of every instance: the one it was read with, 255 for a crowd, 0 for what is
    to be ignored, else its place among all.

    Places count from 1 over all instances, ignored ones too, as in labelme2voc; 255 and values that
    others were read with are left out.
    """
    taken = {one.number for one in instances} | {0, IGNORE}
    seen: set[tuple[str, int]] = set()
    found = []
    for place, one in enumerate(instances, 1):
        # A number that comes again, in a copy of a shape for example, would make one object of two.
        if one.number is not None and (
            (one.label, one.number) not in seen or one.number in (0, IGNORE)
        ):
            seen.add((one.label, one.number))
            found.append(one.number)
        elif one.crowd:
            found.append(IGNORE)
        elif one.label == IGNORE_LABEL:
            found.append(0)
        else:
            value = place
            while value in taken:
                value += 1
            taken.add(value)
            found.append(value)
    return found
