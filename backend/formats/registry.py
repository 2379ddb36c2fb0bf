"""The formats by name: telling what a source is, and making readers and writers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backend.core.classes import ClassNames
from backend.datasets.copying import Copies
from backend.errors import ConfigError, LabelingError
from backend.files.find import find_files
from backend.files.pictures import Pictures
from backend.formats.base import Reader, Writer
from backend.formats.coco.reader import CocoReader, category_names, coco_files, is_coco
from backend.formats.coco.writer import CocoWriter
from backend.formats.label_studio.reader import ANNOTATIONS, LabelStudioReader, What, export_files
from backend.formats.label_studio.writer import LabelStudioWriter
from backend.formats.voc.class_names import own_class_names
from backend.formats.voc.reader import VocReader
from backend.formats.voc.writer import VocWriter
from backend.formats.yolo.labels import read_data_yaml
from backend.formats.yolo.reader import YoloReader, has_labels, yaml_of
from backend.formats.yolo.writer import YoloWriter
from labelme_plugin.reader import LabelmeReader, is_labelme
from labelme_plugin.writer import LabelmeWriter

FORMATS = ("labelme", "label-studio", "coco", "yolo", "voc")
_LOOKED_AT = 200  # files of a folder
_OWN_PICTURES = ("yolo", "voc")  # datasets that hold their pictures


def detect_format(source: Path) -> str:
    """Which of ``FORMATS`` a file or folder is in.

    Raises:
        ConfigError: not there, none of them, or several.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    if source.is_file():
        with source.open("rb") as stream:
            head = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        if head.startswith(b"["):
            return "label-studio"
        if head.startswith(b"{"):
            return "coco" if is_coco(source) else "labelme"
        raise ConfigError(f"{source}: is neither a folder nor a JSON file of labelme, Label Studio or COCO")
    found = _formats_in(source)
    if len(found) > 1:
        corrected = source / "labelme" if (source / "labelme").is_dir() else "--from labelme"
        told = f"; what people corrected with labelme is in the labelme files: {corrected}" if "labelme" in found else ""
        raise ConfigError(f"{source}: holds {', '.join(found)}; say with --from which is to be read, or name a folder in it{told}")
    if found:
        return found[0]
    if first := list(itertools.islice(find_files(source, (".json",)), _LOOKED_AT)):
        return "coco" if not any(map(is_labelme, first)) and coco_files(source) else "labelme"
    raise ConfigError(f"{source}: holds no labelme JSON, Label Studio export, COCO file, YOLO labels or VOC label maps; say which it is with --from")


def _formats_in(folder: Path) -> list[str]:
    """The formats whose files lie at the top of a folder."""
    documents = itertools.islice(sorted(folder.glob("*.json")) + sorted((folder / "labelme").glob("*.json")), _LOOKED_AT)
    there = {
        "labelme": any(map(is_labelme, documents)),
        "label-studio": bool(export_files(folder)),
        "coco": (folder / "annotations").is_dir() and bool(coco_files(folder)),
        "yolo": yaml_of(folder) is not None or has_labels(folder),
        "voc": (folder / "SegmentationClass").is_dir(),
    }
    return [kind for kind in FORMATS if there[kind]]


def _made_of(source: Path) -> list[Path]:
    """Folders below a folder of labelme files that hold what this program made of it in other formats."""
    made = {path.parent for path in source.rglob(".yolosam2-*") if path.name.removeprefix(".yolosam2-") in FORMATS[1:]} - {source}
    return sorted(made | ({source / "label-studio"} if (source / "label-studio" / "label_config.xml").is_file() else set()))


def names_in(out: Path, kind: str) -> tuple[str, ...]:
    """The classes of an earlier conversion into a folder, in the order of their numbers; none where there was none, or nothing numbers them.

    Raises:
        ConfigError: COCO files that contradict each other.
        InputError: a COCO file that cannot be read.
    """
    try:
        if kind == "voc":
            return own_class_names(out) or ()
        if kind == "yolo" and (out / "data.yaml").is_file():
            return read_data_yaml((out / "data.yaml").read_text(encoding="utf-8"), "")[0]
    except (LabelingError, OSError, ValueError):
        return ()
    return category_names(files) if kind == "coco" and (files := coco_files(out)) else ()


def _splits_in(out: Path) -> list[str]:
    """The splits of a YOLO dataset, as far as it is there."""
    folders = sorted((out / "labels").iterdir()) if (out / "labels").is_dir() else []
    return [folder.name for folder in folders if folder.is_dir() and next(folder.rglob("*.txt"), None) is not None]


@dataclass(frozen=True)
class ReadOptions:
    """What to read."""

    split: str | None = None
    what: What | None = None  # None is annotations
    url_prefix: str = ""


def make_reader(source: Path, kind: str, names: ClassNames, pictures: Pictures, options: ReadOptions, skip: Path) -> Reader:
    """The reader of a source.

    Args:
        source: file or folder.
        kind: of ``FORMATS``.
        names: of the classes; grows by what the source lists.
        pictures: where pictures may be.
        options: what to read.
        skip: the output folder, which may lie inside the source.

    Raises:
        ConfigError: nothing to read there.
    """
    if kind == "labelme":
        return LabelmeReader(source, names, pictures, [skip, *_made_of(source)])
    if kind == "label-studio":
        return LabelStudioReader(source, pictures, options.what or What(ANNOTATIONS), options.url_prefix)
    if kind == "coco":
        return CocoReader(source, names, pictures, options.split)
    if not source.is_dir():
        raise ConfigError(f"{source}: expected the folder of a {kind} dataset")
    return YoloReader(source, names, pictures, options.split, [skip]) if kind == "yolo" else VocReader(source, names, pictures, options.split)


@dataclass(frozen=True)
class WriteOptions:
    """How to write. ``None`` takes the format's own default."""

    shape: str = "mask"
    tolerance: float | None = None
    split: str = "train"
    copy: str | None = None
    url_prefix: str = "/data/local-files/?d="
    what: What | None = None


def make_writer(out: Path, kind: str, names: ClassNames, pictures: Pictures, options: WriteOptions) -> Writer:
    """The writer of a format; see ``make_reader``."""
    copies = Copies(options.copy or ("copy" if kind in _OWN_PICTURES else "none"), pictures)
    if kind == "labelme":
        return LabelmeWriter(out, names, copies, options.shape, options.tolerance)
    if kind == "label-studio":
        return LabelStudioWriter(out, names, pictures, options.url_prefix, options.what)
    if kind == "coco":
        return CocoWriter(out, names, copies, options.split)
    if kind == "yolo":
        return YoloWriter(names, copies, options.split, options.tolerance or 0.0, partial(_splits_in, out))
    return VocWriter(names, copies, options.split)
