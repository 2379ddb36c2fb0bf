"""Output formats of a run: what is there already, what to write for an image, and what to write at
the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from backend.core.classes import class_mapping, map_instances
from backend.core.types import Image, Prediction
from backend.drawing import overlays
from backend.drawing.comparison import compare
from backend.errors import ConfigError, InputError
from backend.files.atomic import write_atomic
from backend.formats.json_text import json_bytes
from backend.formats.label_studio import results as labelstudio
from backend.formats.label_studio.label_config import make_config
from backend.formats.voc.class_names import BACKGROUND, class_names_text
from backend.formats.voc.label_maps import encode_png, label_maps, made_by_us, read_label_map
from backend.labeling.sources import Item
from labelme_plugin import document as labelme

FORMATS = ("labelme", "label-studio", "voc", "overlay")
DATASETS = ("coco", "yolo")  # made of labelme files once these are complete
LABELME_FOLDER = "labelme"  # of those
_IMPORT_BYTES = (
    64 << 20
)  # Label Studio refuses uploads over 250 MB; smaller files keep our own memory small too
_MOST_CLASSES = 254  # 0 is background and 255 ignore

Output = tuple[Path, bytes]


class Sink(Protocol):
    """One output format under one folder."""

    def paths(self, item: Item) -> list[Path]:
        """The files of one image."""

    def ours(self, path: Path) -> bool:
        """False if a person made or changed this existing file."""

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        """The content of ``paths``, in that order; runs on any thread."""

    def shared(self) -> list[Output]:
        """Small files that all images of the folder share, such as the class names.

        A run with others is refused.
        """

    def close(self) -> list[Path]:
        """Write what needs all images; returns the files to point the user at."""


class LabelmeSink:
    """``<stem>.json`` for labelme, beside the pictures or in a folder of its own.

    Args:
        out: folder.
        names: of the classes, for a ``labels.txt`` that fixes their numbers in what is made of the
            files; None writes none.
    """

    def __init__(self, out: Path, names: Sequence[str] | None = None) -> None:
        self._out = out
        self._names = names

    def paths(self, item: Item) -> list[Path]:
        return [self._out / f"{item.stem}.json"]

    def ours(self, path: Path) -> bool:
        return labelme.made_by_us(path) is not None

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        (path,) = self.paths(item)
        return [(path, labelme.to_json(prediction, labelme.relative_image_path(item.path, path)))]

    def shared(self) -> list[Output]:
        if self._names is None:
            return []
        return [
            (
                self._out / "labels.txt",
                "\n".join(["__ignore__", BACKGROUND, *self._names, ""]).encode(),
            )
        ]

    def close(self) -> list[Path]:
        return [self._out]


class LabelStudioSink:
    """``label-studio/``: a task file per image, so that a run can be resumed, joined into
    ``import.json`` at the end.
    """

    def __init__(self, out: Path, names: Sequence[str], url_prefix: str) -> None:
        self._out = out / "label-studio"
        self._names = names
        self._prefix = url_prefix
        self._tasks = self._out / "tasks"

    def paths(self, item: Item) -> list[Path]:
        return [self._tasks / f"{item.stem}.json"]

    def ours(self, path: Path) -> bool:
        return True

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        url = self._prefix + quote(item.relative.as_posix())
        return [(self.paths(item)[0], json_bytes(labelstudio.task_object(prediction, url)))]

    def shared(self) -> list[Output]:
        return [(self._out / "label_config.xml", make_config(self._names).encode())]

    def _chunks(self) -> Iterator[bytes]:
        texts: list[bytes] = []
        size = 0
        for path in sorted(self._tasks.rglob("*.json")):
            text = path.read_bytes()
            if texts and size + len(text) > _IMPORT_BYTES:
                yield b"[" + b",\n".join(texts) + b"]\n"
                texts = []
                size = 0
            texts.append(text)
            size += len(text) + 2
        yield b"[" + b",\n".join(texts) + b"]\n"

    def close(self) -> list[Path]:
        written = []
        for number, chunk in enumerate(self._chunks(), 1):
            path = self._out / ("import.json" if number == 1 else f"import-{number}.json")
            write_atomic(path, chunk)
            written.append(path)
        for stale in set(self._out.glob("import-*.json")) - set(written):
            if stale.stem.removeprefix("import-").isdigit():  # others of the pattern are a person's
                stale.unlink()
        return [*written, self._out / "label_config.xml"]


class VocSink:
    """Indexed PNGs: ``SegmentationClass/``, ``SegmentationObject/`` and ``class_names.txt``."""

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        self._out = out
        self._names = names

    def paths(self, item: Item) -> list[Path]:
        return [
            self._out / folder / f"{item.stem}.png"
            for folder in ("SegmentationClass", "SegmentationObject")
        ]

    def ours(self, path: Path) -> bool:
        return made_by_us(path)

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        return [
            (path, encode_png(one))
            for path, one in zip(self.paths(item), label_maps(prediction), strict=True)
        ]

    def shared(self) -> list[Output]:
        if len(self._names) > _MOST_CLASSES:
            raise ConfigError(
                f"--format voc: a label map holds at most {_MOST_CLASSES} classes, these are"
                f" {len(self._names)}"
            )
        return [(self._out / "class_names.txt", class_names_text(self._names).encode())]

    def close(self) -> list[Path]:
        return [self._out / "SegmentationClass", self._out / "class_names.txt"]


class OverlaySink:
    """A picture with masks, outlines and labels drawn over it."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def paths(self, item: Item) -> list[Path]:
        return [self._out / f"{item.stem}.jpg"]

    def ours(self, path: Path) -> bool:
        return overlays.made_by_us(path)

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        return [
            (
                self.paths(item)[0],
                overlays.mark_jpeg(overlays.encode_picture(overlays.draw(image, prediction))),
            )
        ]

    def shared(self) -> list[Output]:
        return []

    def close(self) -> list[Path]:
        return [self._out]


class ComparisonSink:
    """Prediction, truth and error map of a VOC dataset side by side.

    Args:
        out: folder.
        model_names: class index to name of the model.
        names: of the dataset's classes.
        rename: model's name to the dataset's, where they differ.

    Raises:
        ConfigError: no class of the model is one of the dataset.
    """

    def __init__(
        self,
        out: Path,
        model_names: Mapping[int, str],
        names: Sequence[str],
        rename: Mapping[str, str],
    ) -> None:
        self._out = out
        self._names = names
        self._mapping = class_mapping(model_names, names, rename)

    def paths(self, item: Item) -> list[Path]:
        return [self._out / f"{item.stem}.jpg"]

    def ours(self, path: Path) -> bool:
        return overlays.made_by_us(path)

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        root = item.path.parents[len(item.relative.parts)]  # pictures lie in JPEGImages below it
        path = root / "SegmentationClass" / item.relative.with_suffix(".png")
        truth = read_label_map(path)
        if truth.shape != image.shape[:2]:
            raise InputError(
                f"{path}: is {truth.shape[1]}x{truth.shape[0]}, its picture"
                f" {image.shape[1]}x{image.shape[0]}"
            )
        known = replace(
            prediction,
            instances=tuple(map_instances(prediction.instances, self._mapping, self._names)),
        )
        sheet = compare(image, truth, label_maps(known)[0], self._names)
        return [(self.paths(item)[0], overlays.mark_jpeg(overlays.encode_picture(sheet)))]

    def shared(self) -> list[Output]:
        return []

    def close(self) -> list[Path]:
        return [self._out]


def make_sinks(
    formats: Sequence[str],
    out: Path,
    names: Sequence[str],
    url_prefix: str = "/data/local-files/?d=",
) -> list[Sink]:
    """The sinks for a run.

    Args:
        formats: of ``FORMATS`` and ``DATASETS``.
        out: output folder.
        names: class names in order.
        url_prefix: put before an image's quoted relative path to make the URL in Label Studio
            tasks.
    """
    table: dict[str, Sink] = {
        "labelme": (
            LabelmeSink(out / LABELME_FOLDER, names)
            if set(DATASETS) & set(formats)
            else LabelmeSink(out)
        ),
        "label-studio": LabelStudioSink(out, names, url_prefix),
        "voc": VocSink(out, names),
        "overlay": OverlaySink(out / "overlays" if set(formats) != {"overlay"} else out),
    }
    return [
        table[name]
        for name in dict.fromkeys("labelme" if name in DATASETS else name for name in formats)
    ]


def state(sink: Sink, item: Item) -> str | None:
    """None if the item's files are to be written; else why not: ``done`` or ``hand-made``.

    Raises:
        OSError: the system cannot even look, for example because a name is too long.
    """
    there = [path for path in sink.paths(item) if path.exists()]
    if not all(sink.ours(path) for path in there):
        return "hand-made"
    return "done" if len(there) == len(sink.paths(item)) else None


def check_outputs(sinks: Sequence[Sink], items: Sequence[Item], overwrite: bool) -> None:
    """Refuse, before any work, what would destroy an input or mix two sets of classes in one
    folder.

    Raises:
        ConfigError: naming the file.
    """
    inputs = {item.path.resolve() for item in items}
    for sink in sinks:
        for item in items:
            for path in sink.paths(item):
                if path.resolve() in inputs:
                    raise ConfigError(
                        f"{path}: is one of the pictures to label, and would be overwritten; choose"
                        " another --out"
                    )
        for path, data in sink.shared():
            if path.exists() and not overwrite and path.read_bytes().strip() != data.strip():
                raise ConfigError(
                    f"{path}: is there already, for other classes; choose another --out, or"
                    " --overwrite to replace it (a .bak copy is kept)"
                )
