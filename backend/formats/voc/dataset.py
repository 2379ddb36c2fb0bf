"""The folder layout of PASCAL VOC segmentation.

JPEGImages/          SegmentationClass/    SegmentationObject/
ImageSets/Segmentation/<split>.txt         class_names.txt
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from backend.core.types import LabelMap
from backend.errors import ConfigError, InputError
from backend.files.find import is_regular_file, is_there
from backend.files.images import SUFFIXES
from backend.files.text import read_text
from backend.formats.voc.class_names import own_class_names
from backend.formats.voc.colours import own_colour_table
from backend.formats.voc.label_maps import MapReading, is_only_255, read_label_maps


@dataclass(frozen=True)
class VocDataset:
    """A folder in VOC layout: image ids of one split, in the order of the split file."""

    root: Path
    image_ids: tuple[str, ...]
    class_names: tuple[str, ...] | None

    def image_path(self, image_id: str) -> Path:
        """The image file of an id, whatever its suffix and the suffix's case.

        Raises:
            InputError: there is none.
        """
        folder = self.root / "JPEGImages"
        direct = folder / image_id
        if direct.suffix.lower() in SUFFIXES and is_regular_file(direct):
            return direct
        for suffix in SUFFIXES:
            for spelled in (suffix, suffix.upper()):
                if is_regular_file(path := folder / f"{image_id}{spelled}"):
                    return path
        if is_there(direct.parent) and direct.parent.is_dir():
            for path in sorted(direct.parent.iterdir()):
                if path.stem == direct.name and path.suffix.lower() in SUFFIXES and path.is_file():
                    return path
        raise InputError(
            f"{folder / image_id}: no image with this name and a suffix of {', '.join(SUFFIXES)}"
        )

    def maps(self, image_id: str) -> tuple[LabelMap, LabelMap | None]:
        """Class values and object values of an image; None where the dataset has no objects.

        Raises:
            InputError: missing or damaged, or of two sizes.
        """
        folder = self.root / "SegmentationObject"
        name = f"{image_id}.png"
        return read_label_maps(
            self.root / "SegmentationClass" / name,
            folder / name if folder.is_dir() else None,
            self.reading,
        )

    @cached_property
    def reading(self) -> MapReading:
        """How its label maps are to be read."""
        reading = MapReading(own_colour_table(self.root), self.class_names)
        maps = (self.root / "SegmentationClass" / f"{one}.png" for one in self.image_ids)
        return replace(reading, only_255=is_only_255(maps, reading))


def is_voc(root: Path) -> bool:
    """True if the folder has ``JPEGImages`` and ``ImageSets/Segmentation``."""
    return (root / "JPEGImages").is_dir() and (root / "ImageSets" / "Segmentation").is_dir()


def has_truth(root: Path) -> bool:
    """True if the folder is a dataset with ``SegmentationClass``."""
    return is_voc(root) and (root / "SegmentationClass").is_dir()


def _lines(listing: Path, encoding: str | None) -> list[str]:
    """The entries of a list; none if there is no such file."""
    if not listing.is_file():
        return []
    try:
        lines = read_text(listing, encoding).splitlines()
    except InputError as error:
        raise ConfigError(str(error)) from None
    return [entry for line in lines if (entry := line.strip())]


def _without_suffix(image_id: str) -> str:
    path = PurePosixPath(image_id)
    return image_id[: -len(path.suffix)] if path.suffix.lower() in SUFFIXES else image_id


def _frames(root: Path, split: str, encoding: str | None) -> list[str]:
    listing = root / "ImageSets" / "Segmentation" / f"{split}_videos.txt"
    ids: list[str] = []
    for folder in _lines(listing, encoding):
        _check_inside(listing, folder)
        found = sorted(
            p for p in (root / "JPEGImages" / folder).glob("*") if p.suffix.lower() in SUFFIXES
        )
        if not found:
            raise ConfigError(
                f"{listing}: {folder!r}: no such folder of frames in {root / 'JPEGImages'}, or no"
                " image in it"
            )
        ids.extend(f"{folder}/{path.stem}" for path in found)
    return ids


def _check_inside(listing: Path, entry: str) -> None:
    if ".." in PurePosixPath(entry).parts or entry.startswith("/"):
        raise ConfigError(f"{listing}: {entry!r} points outside the dataset")


def open_voc(root: Path, split: str, encoding: str | None = None) -> VocDataset:
    """Read the lists of a VOC folder.

    Args:
        root: the dataset folder.
        split: name of the list, such as ``val``; ``<split>_videos.txt`` lists folders of frames.
        encoding: of its text files; None is UTF-8.

    Raises:
        ConfigError: no list of that name, or one that points outside the folder.
    """
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    ids = [_without_suffix(line) for line in _lines(listing, encoding)]
    ids = list(dict.fromkeys([*ids, *_frames(root, split, encoding)]))
    if not ids:
        known = ", ".join(sorted(path.stem for path in listing.parent.glob("*.txt"))) or "none"
        raise ConfigError(
            f"{listing}: no such list, or nothing in it; lists there: {known}; --split chooses one"
        )
    for image_id in ids:
        _check_inside(listing, image_id)
    return VocDataset(root, tuple(ids), own_class_names(root, encoding))
