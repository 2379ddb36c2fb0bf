"""labelme JSON as samples: every shape that covers pixels, parts of a group joined, and whatever
else a file holds kept as notes.
"""

from __future__ import annotations

import base64
import binascii
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from backend.core.classes import NOT_CLASSES
from backend.errors import ConfigError, InputError
from backend.files.find import PassedOver, find_files
from backend.files.images import SUFFIXES
from backend.files.names import safe_name
from backend.files.picture_data import header_of, without_exif
from backend.formats.base import ReadRequest
from backend.formats.sample import (
    DatasetInstance,
    Fault,
    Sample,
    check_something_left,
    object_value,
    with_holes,
)
from backend.formats.voc.class_names import read_class_names
from labelme_plugin.document import MARK, predicted_by, read_document, unchanged_version
from labelme_plugin.instances import (
    AREA_SHAPES,
    LINE_SHAPES,
    LabelledMask,
    declared_size_of,
    labelled_masks,
    score_of,
    size_of,
)

SHAPE_KEYS = (
    "label",
    "points",
    "shape_type",
    "mask",
    "score",
    "iscrowd",
    "voc_object",
)  # what of a shape becomes the instance itself
DOCUMENT_KEYS = (
    "version",
    "flags",
    "shapes",
    "imagePath",
    "imageData",
    "imageHeight",
    "imageWidth",
    MARK,
)


def _embedded(document: Mapping[str, Any], where: str) -> bytes | None:
    data = document.get("imageData")
    if data is None:
        return None
    try:
        return base64.b64decode(data)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InputError(f"{where}: imageData: {error}") from None


def is_labelme(path: Path) -> bool:
    """True if the beginning of a file looks like labelme's."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            return False
        with path.open("rb") as stream:
            return b'"shapes"' in stream.read(1 << 16)
    except OSError:
        return False


def _made_of(source: Path) -> list[Path]:
    """Folders below a folder of labelme files that hold what this program made of it in other
    formats.
    """
    made = {path.parent for path in source.rglob(".yolosam2-*") if path.name != ".yolosam2-labelme"}
    tasks = source / "label-studio"
    if (tasks / "label_config.xml").is_file():
        made.add(tasks)
    return sorted(made - {source})


class LabelmeReader:
    """Files of a folder, or one file.

    Args:
        request: its source is searched recursively for ``.json``; a ``labels.txt`` in it gives the
            order of the classes.

    Raises:
        ConfigError: nothing there.
    """

    def __init__(self, request: ReadRequest) -> None:
        source = request.source
        pictures = request.pictures
        skip = [*request.skip, *_made_of(source)] if source.is_dir() else request.skip
        self._is_folder = source.is_dir()
        self._skip = skip
        self._root = source if source.is_dir() else source.parent
        passed = PassedOver()
        self._files = (
            list(find_files(source, (".json",), skip, passed_over=passed))
            if source.is_dir()
            else [source]
        )
        self._pictures = pictures
        self._encoding = request.options.encoding
        self._for_scoring = request.options.for_scoring
        self.files = [path.relative_to(self._root) for path in self._files]
        self.remarks = passed.remarks()
        self._refused = passed.refused
        if not self._files:
            raise ConfigError("; ".join([f"{source}: no labelme JSON there", *self.remarks]))
        self._listed: tuple[str, ...] | None = None
        if (listed := self._root / "labels.txt").is_file():
            pictures.check(listed)
            self._listed = read_class_names(listed, self._encoding)
            request.names.add(self._listed)
        self._unlisted: Counter[str] = Counter()
        self._seen: set[Path] = set()  # pictures
        self._again: list[str] = []  # files about a picture that was seen
        self.total: int | None = len(self._files)

    def samples(self) -> Iterator[Sample | Fault]:
        """Every file as a sample, or what is wrong with it."""
        for where, sentence in self._refused:
            yield Fault(where, sentence)
        for path in self._files:
            try:
                sample = self._sample(path)
                self._look(sample)
                yield sample
            except Exception as error:  # whatever a file holds, it costs only itself
                yield Fault.of(str(path), error)
        self._conclude()

    def _look(self, sample: Sample) -> None:
        picture = sample.picture if isinstance(sample.picture, Path) else sample.named
        if picture is not None:
            picture = Path(os.path.abspath(picture))
            self._again += [sample.where] if picture in self._seen else []
            self._seen.add(picture)
        if self._listed is not None:
            self._unlisted.update(
                one.label
                for one in sample.instances
                if one.label not in (*self._listed, *NOT_CLASSES)
            )

    def _conclude(self) -> None:
        """Remarks on the folder as a whole."""
        if self._again:
            told = (
                "files are about a picture that another file is about as well, so that it is in the"
                " dataset twice"
            )
            self.remarks.append(f"{len(self._again)} {told}, such as {self._again[0]}")
        if self._unlisted:
            told = ", ".join(f"{label!r} ({n})" for label, n in self._unlisted.most_common(10))
            self.remarks.append(
                f"{len(self._unlisted)} labels are not in {self._root / 'labels.txt'}: {told}"
            )

        folders = {path.parent for path in self._files} if self._is_folder else set()
        without = [
            path
            for path in (find_files(self._root, SUFFIXES, self._skip) if self._is_folder else ())
            if path.parent in folders
            and Path(os.path.abspath(path)) not in self._seen
            and not path.with_suffix(".json").exists()
        ]
        if without:
            self.remarks.append(
                f"{len(without)} pictures have no labelme file, and are no part of the dataset,"
                f" such as {without[0]}"
            )

    def read(self, relative: Path) -> Sample:
        """One file; see ``formats.base.FileReader``."""
        return self._sample(self._root / relative)

    def _sample(self, path: Path) -> Sample:
        document = read_document(path, self._encoding)
        declared = declared_size_of(document)
        picture: Path | bytes | None = None
        suffix = ".jpg"
        if not self._for_scoring or declared is None:
            picture, suffix = self._picture(document, path, declared)
        given = [document.get(key) for key in ("imageHeight", "imageWidth")]
        if declared is None and picture is not None:
            size_hw = header_of(picture, str(path)).size_hw
        elif declared is not None or given != [None, None]:
            size_hw = size_of(document, str(path))
        else:
            raise InputError(
                f"{path}: imageHeight and imageWidth are missing, and its picture, which would tell"
                " them, is not at hand (--images names its folder)"
            )
        kinds = AREA_SHAPES if self._for_scoring else (*AREA_SHAPES, *LINE_SHAPES)
        found = labelled_masks(document, size_hw, str(path), kinds)
        check_something_left(found.objects, found.faults)
        shapes = document["shapes"]
        instances = with_holes([_instance(one, shapes) for one in found.objects])
        flags = document.get("flags")
        notes = {key: value for key, value in document.items() if key not in DOCUMENT_KEYS}
        return Sample(
            name=PurePosixPath(path.relative_to(self._root).with_suffix(suffix).as_posix()),
            where=str(path),
            size_hw=size_hw,
            instances=instances,
            picture=picture,
            named=self._named(document, path) if picture is None else None,
            model_version=unchanged_version(document),
            first_model_version=predicted_by(document),
            notes={**({"flags": flags} if flags else {}), **notes},
            left_out=found.left_out,
            faults=found.faults,
        )

    def _named(self, document: Mapping[str, Any], path: Path) -> Path | None:
        """Where the file says its picture is, if it is a picture's name at all."""
        text = document.get("imagePath")
        found = (
            path.parent / text.replace("\\", "/")
            if isinstance(text, str) and "\0" not in text and not PureWindowsPath(text).drive
            else None
        )
        return (
            found
            if found is not None and found.suffix.lower() in SUFFIXES and found != path
            else None
        )

    def _picture(
        self, document: Mapping[str, Any], path: Path, size_hw: tuple[int, int] | None
    ) -> tuple[Path | bytes | None, str]:
        """The picture and its suffix; the file where it may be read, else what is embedded."""
        named = document.get("imagePath")
        text = named.replace("\\", "/") if isinstance(named, str) else ""
        suffix = PurePosixPath(text).suffix
        direct = (
            path.parent / text if suffix.lower() in SUFFIXES else None
        )  # a file with its picture inside may be named there itself
        if direct is not None and _is_absolute(text) and not self._pictures.inside(direct):
            direct = path.parent / PurePosixPath(text).name  # on another machine it lay elsewhere
        beside = path.relative_to(self._root)
        called = posixpath.normpath(posixpath.join(beside.parent.as_posix(), text))
        if direct is None or not self._pictures.inside(direct):
            direct = self._own_picture(path) or direct
        found: Path | bytes | None = self._pictures.find(
            direct, called, beside.with_suffix(suffix).as_posix()
        )
        embedded = document.get("imageData") is not None
        if found is None or (
            embedded
            and isinstance(found, Path)
            and (size_hw is None or header_of(found, str(path)).size_hw != size_hw)
        ):  # labelme shows what is embedded
            found = _embedded(document, str(path))
            if found is not None and header_of(found, str(path)).turned:
                found = without_exif(found, str(path))  # labelme does not look at it there
        if suffix.lower() not in SUFFIXES:  # embedded pictures may be named by their JSON
            suffix = (
                f".{header_of(found, str(path)).format.lower()}"
                if isinstance(found, bytes)
                else ".jpg"
            )
        if found is not None:
            header = header_of(found, str(path))
            if size_hw is not None and header.size_hw != size_hw:
                told = (
                    "; its EXIF orientation turns it, and labelme shows it turned"
                    if header.turned and header.size_hw == size_hw[::-1]
                    else ""
                )
                shown = found if isinstance(found, Path) else "the picture in imageData"
                raise InputError(
                    f"{path}: imageHeight and imageWidth say {size_hw[1]}x{size_hw[0]}, but {shown}"
                    f" is {header.size_hw[1]}x{header.size_hw[0]}{told}"
                )
        safe_name(path.with_suffix(suffix).name, str(path))
        return found, suffix

    def _own_picture(self, path: Path) -> Path | None:
        """The picture beside a file that has the file's own name, as people rename both."""
        own = {path.with_suffix(suffix) for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))}
        there = [one for one in sorted(own) if self._pictures.inside(one)]
        distinct = {one.resolve(): one for one in there}
        return next(iter(distinct.values())) if len(distinct) == 1 else None


def _is_absolute(text: str) -> bool:
    return text.startswith("/") or bool(PureWindowsPath(text).drive)


def _instance(found: LabelledMask, shapes: Sequence[Mapping[str, Any]]) -> DatasetInstance:
    first = shapes[found.held[0].order]
    number = first.get("voc_object")
    return DatasetInstance(
        label=found.label,
        parts=tuple(
            part.noted(_ring(shapes[part.order]), _differing(shapes[part.order], first))
            for part in found.held
        ),
        score=found.score,
        crowd=first.get("iscrowd") in (1, True),
        number=object_value(number),
        notes=_notes(first),
        is_box=all(shapes[part.order].get("shape_type") == "rectangle" for part in found.held),
    )


def _differing(shape: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any] | None:
    """Notes and score of a part of a group, if they are not those of its first."""
    notes, expected = ({**_notes(one), "score": score_of(one)} for one in (shape, first))
    return notes if notes != expected else None


def _ring(shape: Mapping[str, Any]) -> tuple[tuple[float, float], ...] | None:
    if (shape.get("shape_type") or "polygon") != "polygon":
        return None
    return tuple((float(x), float(y)) for x, y in shape["points"])


def _notes(shape: Mapping[str, Any]) -> dict[str, Any]:
    """What labelme keeps with a shape beside its pixels.

    Empty values are left out, an unusual score is kept.
    """
    kept = {
        key: value
        for key, value in shape.items()
        if key not in SHAPE_KEYS
        and not (key in ("group_id", "flags", "description") and value in (None, {}, ""))
    }
    score = shape.get("score")
    if (
        score is not None and score_of(shape) != score and score == score
    ):  # not a number is nothing to keep
        kept["score"] = score
    return kept
