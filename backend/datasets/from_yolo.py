"""YOLO segmentation labels as samples: pictures in ``images``, a text file for each in ``labels``, names in ``data.yaml``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from backend.datasets.model import ClassNames, DatasetInstance, Fault, Part, Sample
from backend.datasets.pictures import Pictures, header_of
from backend.errors import ConfigError, InputError
from backend.files import find_files, is_inside
from backend.formats import yolo
from backend.images import SUFFIXES

_MOST_BYTES = 64 << 20  # of a label file
_NAMES = re.compile(rb"^(names|nc)\s*:", re.M)
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # folders, and what they are called here
_CLASS_FILES = ("classes.txt", "obj.names")


def yaml_of(root: Path) -> Path | None:
    """The ``data.yaml`` of a dataset, or whatever YAML file in it names classes."""
    direct = root / "data.yaml"
    found = [direct] if direct.is_file() else sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    return next((path for path in found if _NAMES.search(path.read_bytes()[:1_000_000])), None)


def _folder_split(picture: Path, root: Path) -> str | None:
    """The split a picture belongs to by its folder, where no file says."""
    return _SPLITS.get(picture.relative_to(root / "images").parts[0])


class YoloReader:
    """The pictures of a dataset's splits with their labels.

    Args:
        root: with ``data.yaml``, or with ``images`` and ``labels``.
        names: grows by the names of ``data.yaml`` or ``classes.txt``.
        pictures: where pictures may be.
        split: only this one.
        skip: folders to leave out.

    Raises:
        ConfigError: nothing to read, no names, or folders outside of those given.
    """

    def __init__(self, root: Path, names: ClassNames, pictures: Pictures, split: str | None = None, skip: Sequence[Path] = ()) -> None:
        self._root, self._pictures, self._skip = root, pictures, skip
        self.remarks: list[str] = []
        pictures.add_base(root / "images")
        listed = yaml_of(root)
        splits: dict[str, list[str]] = {}
        base = root
        if listed is not None:
            own, splits, written = yolo.read_data_yaml(listed.read_text(encoding="utf-8-sig", errors="replace"), str(listed))
            base = next((one for one in (listed.parent / written, Path(written)) if written and one.is_dir()), root)
        else:
            own = self._class_file() or tuple(names.names)
        if not own:
            raise ConfigError(f"{root}: has no data.yaml or classes.txt; name its classes with --classes, in the order of their numbers")
        names.add(own)
        self._names = own
        if split is not None and splits and split not in splits:
            raise ConfigError(f"{listed}: has no split {split!r}; it has {', '.join(splits)}")
        wanted = {split: splits[split]} if split in splits and split is not None else splits
        loose = [(path, split or _folder_split(path, root)) for path in self._below(root / "images")] if not wanted else []
        self._files = loose or self._listed(wanted, base, listed or root)
        if not self._files:
            raise ConfigError(f"{root}: no pictures in images; a label file says nothing about the size of its picture")
        self.total: int | None = len(self._files)
        self._n_labels = 0  # label files that have a picture

    def _class_file(self) -> tuple[str, ...]:
        found = [self._root / folder / name for folder in ("", "labels") for name in _CLASS_FILES]
        texts = [path.read_text(encoding="utf-8-sig", errors="replace") for path in found if path.is_file()]
        return tuple(line.strip() for line in texts[0].splitlines() if line.strip()) if texts else ()

    def _below(self, folder: Path) -> list[Path]:
        return list(find_files(folder, SUFFIXES, self._skip, self._pictures.roots))

    def _listed(self, splits: dict[str, list[str]], base: Path, where: Path) -> list[tuple[Path, str | None]]:
        """Pictures of every split, each once; an entry is a folder, or a text file with a picture a line."""
        found: dict[Path, str | None] = {}
        missing: list[str] = []
        for split, entries in splits.items():
            for entry in entries:
                path = base / entry
                if entry.startswith("../") and not path.exists():
                    path = base / entry[3:]  # as some exports write it, and Ultralytics reads it
                if split not in _SPLITS and not path.exists():
                    continue  # another key of the file
                if not any(is_inside(path, root) for root in self._pictures.roots):
                    raise ConfigError(f"{where}: {split}: {entry[:80]!r} lies outside of the folders that were given; name it with --images")
                if path.is_dir():
                    files = self._below(path)
                elif path.is_file():
                    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
                    files = [(path.parent / line if line.startswith("./") else base / line) for line in map(str.strip, lines) if line]
                else:
                    if split in _SPLITS:
                        missing.append(f"{split}: {entry[:80]!r}: no such file or folder in {base}")
                    continue
                own = path.name if path.name in splits else split  # training and validation may name one folder, which tells what it is
                for file in files:
                    found.setdefault(file, _SPLITS.get(own, own))
        if missing and not found:
            raise ConfigError(f"{where}: {missing[0]}")
        self.remarks += [f"{where}: {one}" for one in missing]
        return list(found.items())

    def samples(self) -> Iterator[Sample | Fault]:
        """Every picture, or what is wrong with it or its labels."""
        for picture, split in self._files:
            try:
                yield self._sample(picture, split)
            except Exception as error:
                yield Fault.of(str(picture), error, str(self._root))
        others = sum(1 for _ in find_files(self._root / "labels", (".txt",), self._skip)) - self._n_labels if (self._root / "labels").is_dir() else 0
        if others > 0:
            self.remarks.append(f"{others} files in labels have no picture that could be read, and were left out")

    def _sample(self, picture: Path, split: str | None) -> Sample:
        if not self._pictures.inside(picture):
            raise InputError(f"{picture}: no such file in the folders that were given")
        size_hw = header_of(picture, str(picture)).size_hw
        parts = list(picture.parts)
        at = len(parts) - 1 - parts[::-1].index("images") if "images" in parts else None
        labels = picture.with_suffix(".txt") if at is None else Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
        inner = list(parts[at + 1 :]) if at is not None else list(self._pictures.relative(picture).parts)
        name = PurePosixPath(*inner[1:]) if len(inner) > 1 and split is not None and inner[0] == split else PurePosixPath(*inner)
        instances: list[DatasetInstance] = []
        left_out: Counter[str] = Counter()
        if labels.is_symlink() or labels.exists():
            self._n_labels += 1
            if not self._pictures.inside(labels):
                raise InputError(f"{labels}: is no file in the folders that were given")
            if labels.stat().st_size > _MOST_BYTES:
                raise InputError(f"{labels}: is larger than {_MOST_BYTES >> 20} MiB")
            lines = labels.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = yolo.read_line(line, size_hw, len(self._names), f"{labels}: line {number}")
                    if row.is_box:
                        left_out["boxes, read as filled rectangles"] += 1
                    if row.mask is None:
                        left_out["lines that cover no pixel"] += 1
                    else:
                        instances.append(DatasetInstance(self._names[row.class_id], (Part(row.mask, len(instances)),), row.score))
        return Sample(name, str(labels), size_hw, tuple(instances), picture, split=split, left_out=left_out)
