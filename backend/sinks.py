"""Output formats of a run: what is there already, what to write for an image, and what to write at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from backend.errors import disk_error
from backend.files import write_atomic
from backend.formats import labelstudio, voc
from backend.overlays import draw, encode_picture
from backend.sources import Item
from backend.types import Image, Prediction
from labelme_plugin import files as labelme

FORMATS = ("labelme", "label-studio", "voc", "overlay")
_IMPORT_BYTES = 64 << 20  # Label Studio refuses uploads over 250 MB; smaller files keep our own memory small too

Output = tuple[Path, bytes]


class Sink(Protocol):
    """One output format under one folder."""

    def state(self, item: Item) -> str | None:
        """None if the item is to be written; else why not: ``done`` or ``hand-made``."""

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        """Files to write for one image; runs on any thread."""

    def close(self) -> list[Path]:
        """Write what needs the whole run; returns the files to point the user at."""


class LabelmeSink:
    """``<stem>.json`` for labelme, beside the pictures or in a folder of its own."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def _path(self, item: Item) -> Path:
        return self._out / f"{item.stem}.json"

    def state(self, item: Item) -> str | None:
        path = self._path(item)
        if not path.exists():
            return None
        return "done" if labelme.made_by_us(path) is not None else "hand-made"

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        path = self._path(item)
        if self.state(item) == "hand-made":
            labelme.set_aside(path)
        return [(path, labelme.to_json(prediction, labelme.relative_image_path(item.path, path)))]

    def close(self) -> list[Path]:
        return [self._out]


class LabelStudioSink:
    """``label-studio/``: a task file per image, so that a run can be resumed, joined into ``import.json`` at the end."""

    def __init__(self, out: Path, names: Sequence[str], url_prefix: str) -> None:
        self._out, self._names, self._prefix = out / "label-studio", names, url_prefix
        self._tasks = self._out / "tasks"

    def state(self, item: Item) -> str | None:
        return "done" if (self._tasks / f"{item.stem}.json").exists() else None

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        url = self._prefix + quote(item.relative.as_posix())
        return [(self._tasks / f"{item.stem}.json", labelstudio.task_json(prediction, url).encode())]

    def _chunks(self) -> Iterator[bytes]:
        texts: list[bytes] = []
        size = 0
        for path in sorted(self._tasks.rglob("*.json")):
            text = path.read_bytes()
            if texts and size + len(text) > _IMPORT_BYTES:
                yield b"[" + b",\n".join(texts) + b"]\n"
                texts, size = [], 0
            texts.append(text)
            size += len(text) + 2
        yield b"[" + b",\n".join(texts) + b"]\n"

    def close(self) -> list[Path]:
        config = self._out / "label_config.xml"
        write_atomic(config, labelstudio.label_config(self._names).encode())
        written = []
        for number, chunk in enumerate(self._chunks(), 1):
            path = self._out / ("import.json" if number == 1 else f"import-{number}.json")
            write_atomic(path, chunk)
            written.append(path)
        return [*written, config]


class VocSink:
    """Indexed PNGs: ``SegmentationClass/``, ``SegmentationObject/`` and ``class_names.txt``."""

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        self._out, self._names = out, names

    def _paths(self, item: Item) -> tuple[Path, Path]:
        name = f"{item.stem}.png"
        return self._out / "SegmentationClass" / name, self._out / "SegmentationObject" / name

    def state(self, item: Item) -> str | None:
        return "done" if all(path.exists() for path in self._paths(item)) else None

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        maps = voc.label_maps(prediction)
        return [(path, voc.encode_png(one)) for path, one in zip(self._paths(item), maps, strict=True)]

    def close(self) -> list[Path]:
        path = self._out / "class_names.txt"
        write_atomic(path, voc.class_names_text(self._names).encode())
        return [path.parent / "SegmentationClass", path]


class OverlaySink:
    """A picture with masks, outlines and labels drawn over it."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def state(self, item: Item) -> str | None:
        return "done" if (self._out / f"{item.stem}.jpg").exists() else None

    def encode(self, item: Item, image: Image, prediction: Prediction) -> list[Output]:
        return [(self._out / f"{item.stem}.jpg", encode_picture(draw(image, prediction)))]

    def close(self) -> list[Path]:
        return [self._out]


def make_sinks(formats: Sequence[str], out: Path, names: Sequence[str], url_prefix: str = "/data/local-files/?d=") -> list[Sink]:
    """The sinks for a run.

    Args:
        formats: of ``FORMATS``.
        out: output folder.
        names: class names in order.
        url_prefix: put before an image's quoted relative path to make the URL in Label Studio tasks.
    """
    table: dict[str, Sink] = {
        "labelme": LabelmeSink(out),
        "label-studio": LabelStudioSink(out, names, url_prefix),
        "voc": VocSink(out, names),
        "overlay": OverlaySink(out / "overlays" if set(formats) != {"overlay"} else out),
    }
    return [table[name] for name in dict.fromkeys(formats)]


def item_state(sinks: Sequence[Sink], item: Item) -> str | None:
    """``hand-made`` if any output was made by a person, ``done`` if all are there, else None."""
    try:
        states = [sink.state(item) for sink in sinks]
    except OSError as error:
        raise disk_error(error, item.path) from error
    if "hand-made" in states:
        return "hand-made"
    return "done" if all(states) else None


def summary_json(report: dict[str, object]) -> str:
    """A run's summary as indented JSON text."""
    return json.dumps(report, indent=2, ensure_ascii=False)
