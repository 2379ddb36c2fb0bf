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
from pathlib import Path
from typing import Any, ClassVar

from backend.errors import ConfigError, InputError, Unavailable, json_kind
from backend.files.text import open_utf8
from backend.formats.base import ReadRequest
from backend.formats.coco import parts
from backend.formats.coco.annotations import annotation_mask, image_size, instance_of
from backend.formats.coco.files import (
    INSTANCES,
    coco_files,
    id_text,
    panoptic_files,
    read_categories,
    split_of,
)
from backend.formats.coco.pictures import find_picture
from backend.formats.coco.writer import OUR_MARK
from backend.formats.json_stream import read_list
from backend.formats.sample import (
    EXTRA,
    DatasetInstance,
    Fault,
    Sample,
    check_something_left,
    extras_of,
    with_holes,
)

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


class CocoReader:
    """Annotation files, one after the other.

    Args:
        request: its source is a file, or a folder with ``annotations/instances_*.json``; a split
            chooses one of several files, and is the name of a single one.

    Raises:
        ConfigError: no file.
        InputError: the categories or images of a file cannot be read.
    """

    called: ClassVar[str] = INSTANCES

    def __init__(self, request: ReadRequest) -> None:
        source = request.source
        pictures = request.pictures
        split = request.options.split
        files = [source] if source.is_file() else self.files_in(source)
        if not files:
            raise ConfigError(f"{source}: no annotations/{self.called}_*.json there")
        if split is not None and len(files) > 1:
            files = [path for path in files if split_of(path) == split]
            if not files:
                raise ConfigError(f"{source}: no annotations/{self.called}_{split}*.json there")
        self._split = split
        self._pictures = pictures
        self._encoding = request.options.encoding
        self._root = source if source.is_dir() else source.parent
        self._categories: dict[Path, dict[str, str]] = {}
        self._ours: set[Path] = set()  # files that our own writer made
        self._trusted: dict[Path, bool] = {}  # whether ``iscrowd`` of a file means what it says
        self._broken: list[Fault] = []
        self.total: int | None = 0
        self.remarks: list[str] = self._also(source)
        for path in files:
            try:
                if path != source:
                    pictures.check(path)
                with open_utf8(path, self._encoding) as stream:
                    if OUR_MARK.encode() in stream.read(200):
                        self._ours.add(path)
                    stream.seek(0)
                    found = read_categories(read_list(stream, path, "categories"), path)
                self._tell_repeated(found, path)
                with open_utf8(path, self._encoding) as stream:
                    n_images = sum(1 for _ in read_list(stream, path, "images"))
                if not found and not n_images:
                    raise InputError(
                        f"{path}: has neither categories nor images; is it annotations of COCO?"
                    )
                self._categories[path] = found
                self.total += n_images
                request.names.add(list(found.values()))
            except (InputError, OSError) as error:
                self._broken.append(Fault.of(str(path), error))

    def files_in(self, folder: Path) -> list[Path]:
        """The annotation files of a dataset."""
        return coco_files(folder)

    def _also(self, source: Path) -> list[str]:
        """What else is in a folder, and how to read it."""
        if source.is_dir() and panoptic_files(source):
            return [f"{source}: has panoptic annotations too, which --from coco-panoptic reads"]
        return []

    def _tell_repeated(self, categories: Mapping[str, str], path: Path) -> None:
        counts = Counter(categories.values())
        if twice := [name for name, n in counts.items() if n > 1]:
            self.remarks.append(
                f"{path}: categories of the same name are one class: {', '.join(twice[:10])}"
            )

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
        crowds: Counter[bool] = Counter()

        def rows(stream: Any) -> Iterator[tuple[str, int, str]]:
            for place, one in enumerate(read_list(stream, path, "annotations")):
                key = id_text(one.get("image_id")) if isinstance(one, dict) else None
                if key is None:
                    faults.append(
                        f"{path}: annotations[{place}].image_id: expected the id of an image"
                    )
                    continue
                crowds[one.get("iscrowd") in (1, True)] += 1
                yield key, place, json.dumps(one)

        faults: list[str] = []
        try:
            with open_utf8(path, self._encoding) as stream:
                database.executemany("INSERT INTO annotation VALUES (?, ?, ?)", rows(stream))
        except InputError as error:  # what came before is there, and is used
            faults.append(str(error))
        database.execute("CREATE INDEX by_image ON annotation (image)")
        self._trusted[path] = crowds[False] > 0 or path in self._ours
        if crowds[True] and not self._trusted[path]:
            self.remarks.append(
                f"{path}: all {crowds[True]} annotations say iscrowd: 1, as CVAT writes it on every"
                " mask; each is taken for one object"
            )
        if not faults and database.execute("SELECT 1 FROM annotation LIMIT 1").fetchone() is None:
            self.remarks.append(f"{path}: has no annotations")
        for sentence in faults:
            yield Fault(str(path), sentence)

    def _images(self, path: Path, database: sqlite3.Connection) -> Iterator[Sample | Fault]:
        seen: set[str] = set()
        with open_utf8(path, self._encoding) as stream:
            for place, image in enumerate(read_list(stream, path, "images")):
                where = f"{path}: images[{place}]"
                try:
                    key = id_text(image.get("id")) if isinstance(image, dict) else None
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
        split = self._split or split_of(path)
        name, picture = find_picture(
            self._pictures, path, self._root, image["file_name"], f"{where}.file_name", split
        )
        size_hw = image_size(image, picture, rows, where)
        left_out: Counter[str] = Counter()
        faults: list[str] = []
        instances = self._instances(path, rows, where, size_hw, left_out, faults)
        check_something_left(instances, faults)
        instances = with_holes(instances)
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
            faults=tuple(faults),
        )

    def _instances(
        self,
        path: Path,
        rows: Sequence[tuple[int, dict[str, Any]]],
        where: str,
        size_hw: tuple[int, int],
        left_out: Counter[str],
        faults: list[str],
    ) -> tuple[DatasetInstance, ...]:
        """The instances of an image.

        Args:
            path: of the annotation file.
            rows: the annotations of the image, and the place of each in the file.
            where: the image, for messages.
            size_hw: of the image.
            left_out: takes what had no place.
            faults: takes a sentence for each annotation that cannot be read.

        Raises:
            InputError: nothing of the image can be read.
        """
        found: list[tuple[DatasetInstance, object]] = []
        seen: set[str] = set()
        for place, row in rows:
            at = f"{path}: annotations[{place}]"
            body = json.dumps({key: value for key, value in row.items() if key != "id"})
            if body in seen and path not in self._ours:
                left_out["annotations that repeat another one"] += 1
                continue
            seen.add(body)
            try:
                if "segments_info" in row:
                    raise InputError(f"{at}: is panoptic; say --from coco-panoptic")
                label = self._label(path, row, at)
                mask = annotation_mask(row, size_hw, at, left_out)
            except Exception as error:  # whatever a row holds, it costs only itself
                faults.append(Fault.of(at, error, str(path)).sentence)
                continue
            if mask is not None:
                trusted = self._trusted[path]
                one = instance_of(row, label, mask, order=len(found), trusted=trusted)
                found.append((one, extras_of(row).get(parts.DRAWN)))
        return parts.restore(found, size_hw)

    def _label(self, path: Path, row: Mapping[str, Any], at: str) -> str:
        """The name of an annotation's category.

        Raises:
            InputError: it is none of the file.
        """
        label = self._categories[path].get(id_text(row.get("category_id")) or "")
        if label is None:
            shown = str(row.get("category_id"))[:40]
            raise InputError(f"{at}.category_id: {shown} is none of the categories")
        return label
