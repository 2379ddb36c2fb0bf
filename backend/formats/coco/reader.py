"""COCO instance annotations as samples.

Annotations may come in any order, so they are sorted by image in a temporary database, not in
memory.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from backend.core.classes import IGNORE_LABEL, NOT_CLASSES
from backend.errors import ConfigError, InputError, Unavailable, json_kind
from backend.files.images import SUFFIXES, declared_size
from backend.files.names import safe_name
from backend.files.pictures import header_of
from backend.formats.base import ReadRequest
from backend.formats.coco import parts
from backend.formats.coco import segmentation as coco
from backend.formats.json_stream import read_list
from backend.formats.sample import (
    EXTRA,
    DatasetInstance,
    Fault,
    Part,
    Sample,
    extras_of,
    object_value,
)

_OWN = ("id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "score", EXTRA)
_OWN_IMAGE = (
    "id",
    "file_name",
    "height",
    "width",
    "model_version",
    "license",
    "flickr_url",
    "coco_url",
    "date_captured",
    EXTRA,
)
_ROBOFLOW = "_annotations.coco.json"  # beside the pictures of each split
_SPLITS = ("train", "val", "test")


def coco_files(folder: Path) -> list[Path]:
    """The annotation files of a dataset: ``annotations/instances_*.json``, else every JSON file in
    the folder that looks like one.
    """
    found = sorted((folder / "annotations").glob("instances_*.json"))
    found = found or sorted([*folder.glob(f"*/{_ROBOFLOW}"), *folder.glob(_ROBOFLOW)])
    return found or sorted(path for path in folder.glob("*.json") if is_coco(path))


def is_coco(path: Path) -> bool:
    """True if the beginning of a file looks like COCO."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            return False
        with path.open("rb") as stream:
            head = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    listed = any(f'"{key}"'.encode() in head for key in ("annotations", "categories"))
    return head.startswith(b"{") and (listed or (b'"images"' in head and b'"shapes"' not in head))


def _split_of(path: Path) -> str | None:
    """The split a file is named after: ``instances_train2017.json`` is train."""
    if path.name == _ROBOFLOW:
        return {"train": "train", "valid": "val", "val": "val", "test": "test"}.get(
            path.parent.name
        )
    stem = path.stem.removeprefix("instances_")
    if path.stem != stem:
        return next((name for name in _SPLITS if stem.startswith(name)), stem)
    return next((name for name in _SPLITS if stem.startswith(name)), None)


class CocoReader:
    """Annotation files, one after the other.

    Args:
        request: its source is a file, or a folder with ``annotations/instances_*.json``; a split
            chooses one of several files, and is the name of a single one.

    Raises:
        ConfigError: no file.
        InputError: the categories or images of a file cannot be read.
    """

    def __init__(self, request: ReadRequest) -> None:
        source = request.source
        pictures = request.pictures
        split = request.options.split
        files = [source] if source.is_file() else coco_files(source)
        if not files:
            raise ConfigError(f"{source}: no annotations/instances_*.json there")
        if split is not None and len(files) > 1:
            files = [path for path in files if _split_of(path) == split]
            if not files:
                raise ConfigError(f"{source}: no annotations/instances_{split}*.json there")
        self._split = split
        self._pictures = pictures
        self._root = source if source.is_dir() else source.parent
        self._categories: dict[Path, dict[str, str]] = {}
        self._broken: list[Fault] = []
        self.total: int | None = 0
        self.remarks: list[str] = []
        for path in files:
            try:
                if path != source:
                    pictures.check(path)
                with path.open("rb") as stream:
                    found = _categories(read_list(stream, path, "categories"), path)
                with path.open("rb") as stream:
                    n_images = sum(1 for _ in read_list(stream, path, "images"))
                if not found and not n_images:
                    raise InputError(
                        f"{path}: has neither categories nor images; is it an instance annotation"
                        " file of COCO?"
                    )
                self._categories[path] = found
                self.total += n_images
                request.names.add(list(found.values()))
            except (InputError, OSError) as error:
                self._broken.append(Fault.of(str(path), error))

    def samples(self) -> Iterator[Sample | Fault]:
        """Every image, or what is wrong with it."""
        yield from self._broken
        try:
            yield from self._all()
        except sqlite3.Error as error:
            raise Unavailable(
                f"{tempfile.gettempdir()}: {error}; annotations are sorted there, and TMPDIR names"
                " another folder"
            ) from None

    def _all(self) -> Iterator[Sample | Fault]:
        for path in self._categories:
            with (
                tempfile.TemporaryDirectory(prefix="yolosam2-") as folder,
                closing(sqlite3.connect(Path(folder, "annotations.db"))) as database,
            ):
                yield from self._index(path, database)
                yield from self._images(path, database)

    def _index(self, path: Path, database: sqlite3.Connection) -> Iterator[Fault]:
        """Put all annotations into the database; what belongs to no image is a fault."""
        database.execute("PRAGMA journal_mode=OFF")
        database.execute("CREATE TABLE annotation (image TEXT, place INTEGER, body TEXT)")

        def rows(stream: Any) -> Iterator[tuple[str, int, str]]:
            for place, one in enumerate(read_list(stream, path, "annotations")):
                key = _key(one.get("image_id")) if isinstance(one, dict) else None
                if key is None:
                    faults.append(
                        f"{path}: annotations[{place}].image_id: expected the id of an image"
                    )
                    continue
                yield key, place, json.dumps(one)

        faults: list[str] = []
        try:
            with path.open("rb") as stream:
                database.executemany("INSERT INTO annotation VALUES (?, ?, ?)", rows(stream))
        except InputError as error:  # what came before is there, and is used
            faults.append(str(error))
        database.execute("CREATE INDEX by_image ON annotation (image)")
        if not faults and database.execute("SELECT 1 FROM annotation LIMIT 1").fetchone() is None:
            self.remarks.append(f"{path}: has no annotations")
        for sentence in faults:
            yield Fault(str(path), sentence)

    def _images(self, path: Path, database: sqlite3.Connection) -> Iterator[Sample | Fault]:
        seen: set[str] = set()
        with path.open("rb") as stream:
            for place, image in enumerate(read_list(stream, path, "images")):
                where = f"{path}: images[{place}]"
                try:
                    key = _key(image.get("id")) if isinstance(image, dict) else None
                    if key is None:
                        raise InputError(f"{where}.id: expected a number or text")
                    if key in seen:
                        raise InputError(f"{where}.id: {key} is the id of another image too")
                    seen.add(key)
                    found = database.execute(
                        "SELECT place, body FROM annotation WHERE image = ? ORDER BY place", (key,)
                    )
                    yield self._sample(
                        path, image, where, [(at, json.loads(body)) for at, body in found]
                    )
                except Exception as error:
                    yield Fault.of(where, error, str(path))
        known = {row[0] for row in database.execute("SELECT DISTINCT image FROM annotation")}
        if lost := known - seen:
            yield Fault(
                str(path),
                f"{path}: annotations of {len(lost)} images that are not listed, such as id"
                f" {min(lost)}",
            )

    def _sample(
        self,
        path: Path,
        image: Mapping[str, Any],
        where: str,
        rows: Sequence[tuple[int, dict[str, Any]]],
    ) -> Sample:
        if not isinstance(image.get("file_name"), str):
            raise InputError(
                f"{where}.file_name: expected a name, got {json_kind(image.get('file_name'))}"
            )
        split = self._split or _split_of(path)
        name, picture = self._picture(path, image["file_name"], f"{where}.file_name", split)
        if picture is not None and image.get("height") is None and image.get("width") is None:
            size_hw = header_of(picture, where).size_hw
        else:
            size_hw = declared_size(
                image.get("height"), image.get("width"), f"{where}.", ("height", "width")
            )
        if picture is not None and (actual := header_of(picture, where).size_hw) != size_hw:
            raise InputError(
                f"{where}: is {size_hw[1]}x{size_hw[0]}, but {picture} is {actual[1]}x{actual[0]}"
            )
        left_out: Counter[str] = Counter()
        found: list[tuple[DatasetInstance, object]] = []
        for place, row in rows:
            instance = self._instance(
                path, row, size_hw, f"{path}: annotations[{place}]", len(found), left_out
            )
            found += [(instance, extras_of(row).get(parts.DRAWN))] if instance is not None else []
        instances = parts.restore(found, size_hw)
        notes = {
            **{key: value for key, value in image.items() if key not in _OWN_IMAGE},
            **extras_of(image),
        }
        version = image.get("model_version")
        return Sample(
            name=name,
            where=where,
            size_hw=size_hw,
            instances=instances,
            picture=picture,
            url=None,
            model_version=version if isinstance(version, str) else None,
            split=split,
            notes=notes,
            left_out=left_out,
        )

    def _picture(
        self, path: Path, text: str, where: str, split: str | None
    ) -> tuple[PurePosixPath, Path | None]:
        """What the picture is called, and where it is.

        A name that leads elsewhere only helps to find it below ``--images``.
        """
        try:
            name = safe_name(text, where)
        except InputError:
            last = PurePosixPath(text.replace("\\", "/")).name
            found = self._pictures.find(None, last) if last and "\0" not in last else None
            if found is None:
                raise
            return safe_name(last, where), found
        called = path.stem.removeprefix("instances_")
        folders = [
            path.parent,
            self._root,
            self._root / "images",
            self._root / called,
            self._root / "images" / called,
        ]
        folders += [self._root / "images" / split] if split else []
        direct = next(
            (folder / name for folder in folders if self._pictures.inside(folder / name)), None
        )
        found = self._pictures.find(direct, str(name))
        if name.suffix.lower() not in SUFFIXES:
            name = name.with_name(name.name + (found.suffix if found is not None else ".jpg"))
        return name, found

    def _instance(
        self,
        path: Path,
        row: Mapping[str, Any],
        size_hw: tuple[int, int],
        where: str,
        order: int,
        left_out: Counter[str],
    ) -> DatasetInstance | None:
        label = self._categories[path].get(_key(row.get("category_id")) or "")
        if label is None:
            raise InputError(
                f"{where}.category_id: {str(row.get('category_id'))[:40]} is none of the categories"
            )
        segmentation = row.get("segmentation")
        if isinstance(segmentation, list) and all(isinstance(ring, list) for ring in segmentation):
            rings = [ring for ring in segmentation if len(ring) >= 6]
            if len(rings) < len(segmentation):
                left_out["polygons of fewer than three corners"] += len(segmentation) - len(rings)
            segmentation = rings
        if not segmentation:
            left_out["annotations without a segmentation, such as boxes"] += 1
            return None
        mask = coco.decode_segmentation(segmentation, size_hw, f"{where}.segmentation")
        if mask is None:
            left_out["annotations that cover no pixel"] += 1
            return None
        extra = dict(extras_of(row))
        crowd = extra.pop("iscrowd", None)
        number = extra.pop("voc_object", None)
        _ = extra.pop(parts.DRAWN, None)
        score = row.get("score")
        valid = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
        notes = {
            **{key: value for key, value in row.items() if key not in _OWN},
            **extra,
            **({} if valid or score is None else {"score": score}),
        }
        return DatasetInstance(
            label,
            (Part(mask, order),),
            float(score) if valid and score is not None else None,
            crowd=bool(crowd) if label == IGNORE_LABEL else row.get("iscrowd") in (1, True),
            number=object_value(number),
            notes=notes,
        )


def category_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The names of the categories of the files of a dataset, in the order of their ids.

    Raises:
        ConfigError: two files give one id to different names.
        InputError: the categories of a file cannot be read.
    """
    known: dict[str, str] = {}
    for path in paths:
        with path.open("rb") as stream:
            found = _categories(read_list(stream, path, "categories"), path)
        for key, name in found.items():
            if known.setdefault(key, name) != name:
                raise ConfigError(
                    f"{path}: category {key} is {name!r} here, but {known[key]!r} in"
                    f" {paths[0].parent}; choose another OUT"
                )
    ids = sorted(known, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0))
    return tuple(dict.fromkeys(known[key] for key in ids if known[key] not in NOT_CLASSES))


def _key(value: Any) -> str | None:
    """An id as text, the same for 5, 5.0 and "5"; None for what is no id."""
    if isinstance(value, float) and value == value // 1:
        value = int(value)
    return (
        str(value).strip()
        if isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip()
        else None
    )


def _categories(rows: Iterator[Any], path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, row in enumerate(rows):
        key = _key(row.get("id")) if isinstance(row, dict) else None
        if key is None or not isinstance(row.get("name"), str) or not row["name"].strip():
            raise InputError(f"{path}: categories[{place}]: expected an id and a name")
        found[key] = row["name"]
    return found
