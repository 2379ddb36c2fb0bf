"""Label maps in PASCAL VOC layout as samples, so that writing them again gives the very same maps.

Every distinct pair of class and object value becomes an instance that remembers its object value.
Pixels of a class that belong to no object (0) or to no single one (255) are a crowd; class 255 is
an instance called ``__ignore__``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from backend.core.classes import BACKGROUND_LABEL, IGNORE, IGNORE_LABEL
from backend.core.stacking import masks_by_value
from backend.core.types import LabelMap, Mask
from backend.errors import ConfigError, InputError
from backend.files.find import is_there
from backend.files.images import SUFFIXES
from backend.files.picture_data import header_of
from backend.formats.base import ReadRequest
from backend.formats.sample import (
    DatasetInstance,
    Fault,
    Part,
    Sample,
    check_something_left,
)
from backend.formats.voc.class_names import own_class_names
from backend.formats.voc.colours import FILES as COLOUR_FILES
from backend.formats.voc.dataset import VocDataset, open_voc

_WHOLE = ("trainval", "all")  # lists that repeat others


def _splits(root: Path, split: str | None, encoding: str | None) -> dict[str, VocDataset]:
    """The lists to read: the one that was named, or all; without any, every label map there is."""
    folder = root / "ImageSets" / "Segmentation"
    if split is not None:
        return {split: open_voc(root, split, encoding)}
    names = sorted(
        path.stem for path in folder.glob("*.txt") if path.is_file() and path.read_bytes().strip()
    )
    # The lists that repeat others come last: the others tell more.
    ordered = sorted(names, key=lambda name: name in _WHOLE)
    splits = [name.removesuffix("_videos") for name in ordered]
    return {name: open_voc(root, name, encoding) for name in splits}


class VocReader:
    """The images of a dataset's lists.

    Args:
        request: its source is a folder with ``SegmentationClass``; without a list of class names
            there, its names must be given by the user. Its split says which list is read; None for
            all.

    Raises:
        ConfigError: nothing to read, or no names.
    """

    def __init__(self, request: ReadRequest) -> None:
        root = request.source
        names = request.names
        pictures = request.pictures
        split = request.options.split
        if not root.is_dir():
            raise ConfigError(f"{root}: expected the folder of a voc dataset")
        self._root = root
        self._pictures = pictures
        pictures.add_base(root / "JPEGImages")
        found = _splits(root, split, request.options.encoding)
        self._split_of: dict[str, str | None] = {}
        n_again = 0
        for name, dataset in found.items():
            for image_id in dataset.image_ids:
                n_again += self._split_of.setdefault(image_id, name) != name and name not in _WHOLE
        if not found:
            maps = (root / "SegmentationClass").rglob("*.png")
            self._split_of = {
                path.relative_to(root / "SegmentationClass").with_suffix("").as_posix(): None
                for path in sorted(maps)
            }
        if not self._split_of:
            raise ConfigError(f"{root}: no label maps in SegmentationClass")
        for listed in ("class_names.txt", "labels.txt", *COLOUR_FILES):
            pictures.check(root / listed)
        own = own_class_names(root, request.options.encoding)
        self._names = names.given if own is None else own
        if own is None and not self._names:
            raise ConfigError(
                f"{root}: has no class_names.txt or labels.txt; name its classes with --classes, in"
                " the order of their values"
            )
        names.add(self._names)
        self._has_objects = (root / "SegmentationObject").is_dir()
        self.total: int | None = len(self._split_of)
        self.remarks = (
            []
            if self._has_objects
            else [
                "there is no SegmentationObject: every connected part of a class is taken for one"
                " object"
            ]
        )
        if n_again:
            self.remarks.append(
                f"{n_again} images are in several lists: each is taken as one of the first"
            )
        self._dataset = VocDataset(root, tuple(self._split_of), self._names)
        self._dataset.reading.check(self._names)
        if self._dataset.reading.only_255:
            self.remarks.append(
                "255 is the only foreground value of all label maps: it is taken for the class"
                f" {self._names[0]}"
            )

    def samples(self) -> Iterator[Sample | Fault]:
        """Every listed image, or what is wrong with it."""
        for image_id, split in self._split_of.items():
            where = str(self._root / "SegmentationClass" / f"{image_id}.png")
            try:
                yield self._sample(image_id, split, where)
            except Exception as error:
                yield Fault.of(where, error, str(self._root))

    def _sample(self, image_id: str, split: str | None, where: str) -> Sample:
        beside = self._root / "SegmentationObject" / f"{image_id}.png"
        for path in (Path(where), *([beside] if self._has_objects else [])):
            if is_there(path) and not self._pictures.inside(path):
                raise InputError(f"{path}: is a link that leads outside of the folders given")
        classes, objects = self._dataset.maps(image_id)
        try:
            picture: Path | None = self._dataset.image_path(image_id)
        except InputError:
            picture = None
        picture = self._pictures.find(picture, f"{image_id}.jpg")
        if picture is not None and (size := header_of(picture, where).size_hw) != classes.shape:
            raise InputError(
                f"{where}: is {classes.shape[1]}x{classes.shape[0]}, its picture"
                f" {size[1]}x{size[0]}"
            )
        pieces = _connected(classes) if objects is None else _pairs(classes, objects)
        instances: list[DatasetInstance] = []
        faults: list[str] = []
        for order, piece in enumerate(pieces):
            try:
                instances.append(self._instance(*piece, order, where))
            except InputError as error:
                faults.append(str(error))
        check_something_left(instances, faults)
        suffix = (
            picture.suffix if picture is not None and picture.suffix.lower() in SUFFIXES else ".jpg"
        )
        return Sample(
            name=PurePosixPath(image_id + suffix),
            where=where,
            size_hw=(classes.shape[0], classes.shape[1]),
            instances=tuple(instances),
            faults=tuple(faults),
            picture=picture,
            split=split,
        )

    def _instance(
        self, value: int, number: int | None, mask: Mask, order: int, where: str
    ) -> DatasetInstance:
        if value not in (0, IGNORE) and value > len(self._names):
            raise InputError(f"{where}: value {value} is beyond the {len(self._names)} classes")
        label = {0: BACKGROUND_LABEL, IGNORE: IGNORE_LABEL}.get(value) or self._names[value - 1]
        return DatasetInstance(
            label,
            (Part(mask, order),),
            crowd=number in (0, IGNORE) and value not in (0, IGNORE),
            number=number,
        )


def _pairs(classes: LabelMap, objects: LabelMap) -> list[tuple[int, int | None, Mask]]:
    """Class value, object value and pixels of every pair but background, by object value."""
    return [
        (key & 0xFFFF, key >> 16, mask)
        for key, mask in masks_by_value(objects.astype(np.int64) << 16 | classes)
    ]


def _connected(classes: LabelMap) -> Sequence[tuple[int, int | None, Mask]]:
    """The 8-connected parts of every class; what is to be ignored stays in one piece."""
    found: list[tuple[int, int | None, Mask]] = []
    for value in np.unique(classes):
        if value == 0:
            continue
        inside = (classes == value).astype(np.uint8)
        labels = inside if value == IGNORE else cv2.connectedComponents(inside, connectivity=8)[1]
        found += [
            (int(value), 0 if value == IGNORE else None, mask)
            for _, mask in masks_by_value(labels.astype(np.int64))
        ]
    return found
