"""YOLO segmentation labels as samples: pictures in ``images``, a text file for each in ``labels``,
names in ``data.yaml``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from backend.core.classes import ClassNames
from backend.errors import ConfigError, InputError
from backend.files.find import find_files, is_inside, is_regular_file, is_there
from backend.files.images import SUFFIXES
from backend.files.picture_data import header_of
from backend.files.text import read_text
from backend.formats.base import ReadRequest
from backend.formats.sample import DatasetInstance, Fault, Part, Sample, check_something_left
from backend.formats.yolo import labels as yolo

_MOST_BYTES = 64 << 20  # of a label file
_NAMES = re.compile(rb"^(names|nc)\s*:", re.M)
_SPLITS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}  # folders, and what they are called here
CLASS_FILES = ("classes.txt", "obj.names")


def yaml_of(root: Path) -> Path | None:
    """The ``data.yaml`` of a dataset, or whatever YAML file in it names classes."""
    direct = root / "data.yaml"
    found = (
        [direct]
        if direct.is_file()
        else sorted(path for path in [*root.glob("*.yaml"), *root.glob("*.yml")] if path.is_file())
    )
    return next((path for path in found if _NAMES.search(_beginning(path))), None)


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(1_000_000)
    except OSError:
        return b""


def has_labels(root: Path) -> bool:
    """True for a folder with label files in ``labels``, or with a list of classes and label files
    beside it.
    """
    if (root / "labels").is_dir():
        return next((root / "labels").rglob("*.txt"), None) is not None
    return any((root / name).is_file() for name in CLASS_FILES) and any(
        path.name not in CLASS_FILES for path in root.glob("*.txt")
    )


class YoloReader:
    """The pictures of a dataset's splits with their labels.

    Args:
        request: its source is a folder with ``data.yaml``, or with ``images`` and ``labels``.

    Raises:
        ConfigError: nothing to read, no names, or folders outside of those given.
    """

    def __init__(self, request: ReadRequest) -> None:
        root = request.source
        names = request.names
        pictures = request.pictures
        split = request.options.split
        if not root.is_dir():
            raise ConfigError(f"{root}: expected the folder of a yolo dataset")
        self._root = root
        self._encoding = request.options.encoding
        self._pictures = pictures
        self._skip = request.skip
        self.remarks: list[str] = []
        self._labels_of: dict[Path, Path] = {}  # of pictures that were found by their label file
        pictures.add_base(root / "images")
        listed = yaml_of(root)
        own, splits, base = self._names_and_splits(listed, names)
        names.add(own)
        self._names = own
        if twice := sorted({name for name in own if own.count(name) > 1}):
            self.remarks.append(
                f"{listed or root}: names of several numbers are one class: {', '.join(twice)}"
            )
        if split is not None and splits and split not in splits:
            raise ConfigError(f"{listed}: has no split {split!r}; it has {', '.join(splits)}")
        wanted = {split: splits[split]} if split in splits and split is not None else splits
        found, missing = self._listed(wanted, base, listed or root)
        self._files = found or self._loose(split)
        if not self._files:
            told = missing or [
                f"{root}: no pictures in images, nor beside labels; a label file says nothing about"
                " the size of its picture"
            ]
            raise ConfigError(f"{told[0]}; --images names the folder of the pictures")
        self.remarks += missing if found else []
        self.total: int | None = len(self._files)
        self._n_labels = 0  # label files that have a picture

    def _names_and_splits(
        self, listed: Path | None, names: ClassNames
    ) -> tuple[tuple[str, ...], dict[str, list[str]], Path]:
        """The classes, the entries of every split, and the folder they are relative to.

        Raises:
            ConfigError: nobody names the classes.
        """
        root = self._root
        if listed is not None:
            self._pictures.check(listed)
            own, splits, written = yolo.read_data_yaml(
                read_text(listed, self._encoding), str(listed)
            )
            places = [listed.parent / written, Path(written)] if written else []
            return (
                own,
                splits,
                next((one for one in places if is_there(one) and one.is_dir()), root),
            )
        own = self._class_file() or names.given
        if own:
            return own, {}, root
        plain = root / "data.yaml"
        reason = (
            f"{plain}: names no classes"
            if plain.is_file()
            else f"{root}: has no data.yaml or classes.txt"
        )
        raise ConfigError(
            f"{reason}; name its classes with --classes, in the order of their numbers"
        )

    def _class_file(self) -> tuple[str, ...]:
        found = [
            self._root / folder / name
            for folder in ("", "labels")
            for name in CLASS_FILES
            if (self._root / folder / name).is_file()
        ]
        if not found:
            return ()
        self._pictures.check(found[0])
        names = tuple(
            line.strip() for line in (read_text(found[0], self._encoding).rstrip().splitlines())
        )
        if "" in names:
            raise ConfigError(
                f"{found[0]}: has an empty line, so that numbers do not tell classes apart"
            )
        return names

    def _below(self, folder: Path) -> list[Path]:
        return list(find_files(folder, SUFFIXES, self._skip, self._pictures.roots))

    def _loose(self, split: str | None) -> list[tuple[Path, str | None]]:
        """The pictures that no file lists: in ``images``, else beside their labels, else the ones
        that labels have in another folder.
        """
        folder = self._root / "images"
        if found := self._below(folder):
            return [
                (path, split or _SPLITS.get(path.relative_to(folder).parts[0])) for path in found
            ]
        if (self._root / "labels").is_dir():
            folder = self._root / "labels"
        else:
            folder = self._root
            found = self._below(self._root)
            if any(path.with_suffix(".txt").exists() for path in found):
                return [(path, split) for path in found]
        for labels in find_files(folder, (".txt",), self._skip):
            picture = self._pictures.find(
                None, labels.relative_to(folder).with_suffix(".jpg").as_posix()
            )
            if picture is not None and labels.name not in CLASS_FILES:
                self._labels_of[picture] = labels
        return [
            (picture, split or _SPLITS.get(labels.relative_to(folder).parts[0]))
            for picture, labels in self._labels_of.items()
        ]

    def _listed(
        self, splits: dict[str, list[str]], base: Path, where: Path
    ) -> tuple[list[tuple[Path, str | None]], list[str]]:
        """Pictures of every split, each once.

        An entry is a folder, or a text file with a picture a line. And what is listed, but not
        there.
        """
        found: dict[Path, str | None] = {}
        missing: list[str] = []
        for split, entries in splits.items():
            for entry in entries:
                path = base / entry
                if entry.startswith("../") and not is_there(path):
                    path = base / entry[3:]  # as some exports write it, and Ultralytics reads it
                if not is_there(path):
                    missing += (
                        [f"{where}: {split}: {entry[:80]!r}: no such file or folder in {base}"]
                        if split in _SPLITS
                        else []
                    )
                    continue  # else another key of the file
                own = (
                    path.name if path.name in splits else split
                )  # training and validation may name one folder, which tells what it is
                if PurePosixPath(own).name != own or own.startswith("."):
                    raise ConfigError(f"{where}: {own[:80]!r} cannot be the name of a split")
                for file in self._entry(path, base, f"{where}: {split}: {entry[:80]!r}"):
                    found.setdefault(file, _SPLITS.get(own, own))
        return list(found.items()), missing

    def _entry(self, path: Path, base: Path, where: str) -> list[Path]:
        """The pictures behind one entry."""
        if not any(is_inside(path, root) for root in self._pictures.roots):
            raise ConfigError(
                f"{where} lies outside of the folders that were given; name it with --images"
            )
        if path.is_dir():
            return self._below(path)
        lines = read_text(path, self._encoding).splitlines() if path.is_file() else []
        return [
            (path.parent / line if line.startswith("./") else base / line)
            for line in map(str.strip, lines)
            if line
        ]

    def samples(self) -> Iterator[Sample | Fault]:
        """Every picture, or what is wrong with it or its labels."""
        for picture, split in self._files:
            try:
                yield self._sample(picture, split)
            except Exception as error:
                yield Fault.of(str(picture), error, str(self._root))
        others = (
            sum(1 for _ in find_files(self._root / "labels", (".txt",), self._skip))
            - self._n_labels
            if (self._root / "labels").is_dir()
            else 0
        )
        if others > 0:
            self.remarks.append(
                f"{others} files in labels have no picture that could be read, and were left out"
            )

    def _sample(self, picture: Path, split: str | None) -> Sample:
        if not self._pictures.inside(picture):
            raise InputError(f"{picture}: no such file in the folders that were given")
        size_hw = header_of(picture, str(picture)).size_hw
        parts = list(picture.parts)
        at = len(parts) - 1 - parts[::-1].index("images") if "images" in parts else None
        beside = picture.with_suffix(".txt")
        apart = (
            beside
            if at is None
            else Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
        )
        labels = self._labels_of.get(
            picture, beside if is_regular_file(beside) and not is_there(apart) else apart
        )
        inner = (
            list(parts[at + 1 :])
            if at is not None
            else list(self._pictures.relative(picture).parts)
        )
        is_split = (
            len(inner) > 1 and split is not None and split in (inner[0], _SPLITS.get(inner[0]))
        )
        name = PurePosixPath(*inner[1:] if is_split else inner)
        instances: list[DatasetInstance] = []
        left_out: Counter[str] = Counter()
        faults: list[str] = []
        if labels.is_symlink() or is_there(labels):
            self._n_labels += 1
            instances = self._instances(labels, size_hw, left_out, faults)
            check_something_left(instances, faults)
        return Sample(
            name=name,
            where=str(labels),
            size_hw=size_hw,
            instances=tuple(instances),
            picture=picture,
            split=split,
            left_out=left_out,
            faults=tuple(faults),
        )

    def _instances(
        self, labels: Path, size_hw: tuple[int, int], left_out: Counter[str], faults: list[str]
    ) -> list[DatasetInstance]:
        """The instances of a label file; a line that cannot be read costs only itself."""
        if not self._pictures.inside(labels):
            raise InputError(f"{labels}: is no file in the folders that were given")
        if labels.stat().st_size > _MOST_BYTES:
            raise InputError(f"{labels}: is larger than {_MOST_BYTES >> 20} MiB")
        lines = read_text(labels, self._encoding).splitlines()
        with_ids = yolo.ends_with_ids(lines)
        instances: list[DatasetInstance] = []
        seen: set[str] = set()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if line.strip() in seen:
                left_out["lines that repeat another one"] += 1
                continue
            seen.add(line.strip())
            where = f"{labels}: line {number}"
            try:
                row = yolo.read_line(line, size_hw, len(self._names), where, with_ids)
            except InputError as error:
                faults.append(str(error))
                continue
            left_out.update({"ids of tracks at the end of lines": 1} if with_ids else {})
            if row.is_box:
                left_out["boxes, read as filled rectangles"] += 1
            if row.mask is None:
                left_out["lines that cover no pixel"] += 1
                continue
            part = Part(row.mask, len(instances))
            label = self._names[row.class_id]
            instances.append(DatasetInstance(label, (part,), row.score, is_box=row.is_box))
        return instances
