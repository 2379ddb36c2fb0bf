"""The objects of a dataset drawn over its pictures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from backend.core.classes import ClassNames
from backend.core.types import Image
from backend.datasets.overview import as_prediction
from backend.datasets.stems import Stems
from backend.drawing.overlays import draw, encode_picture, made_by_us, mark_jpeg
from backend.errors import ConfigError, InputError, as_sentence, counted, is_disk_full
from backend.files.atomic import ensure_writable
from backend.files.images import DEFAULT_LIMITS, ImageLimits, decode_image, read_image
from backend.files.ownership import write_together
from backend.files.pictures import Pictures
from backend.formats.base import ReadRequest
from backend.formats.options import ReadOptions, parse_what
from backend.formats.registry import detect_format, format_of
from backend.formats.sample import Fault, Sample

_GREY = 90  # of the ground where there is no picture


def picture_of(sample: Sample, limits: ImageLimits) -> Image:
    """The pixels of a sample, of the size its objects are in; grey where no picture is at hand.

    Raises:
        InputError: the picture cannot be read, or how large it is nobody says.
    """
    height, width = sample.known_size()
    if isinstance(sample.picture, bytes):
        image = decode_image(sample.picture, str(sample.name), limits)
    elif sample.picture is not None:
        image = read_image(sample.picture, limits)
    else:
        image = np.full((height, width, 3), _GREY, np.uint8)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height)).astype(np.uint8)
    return image


@dataclass
class DrawnSummary:
    """What was drawn."""

    out: Path
    format: str
    images: int = 0
    objects: int = 0
    without_picture: int = 0
    kept: int = 0  # pictures of somebody else
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "format": self.format,
            "images": self.images,
            "objects": self.objects,
            "without_picture": self.without_picture,
            "kept": self.kept,
            "failed": [{"file": where, "reason": reason} for where, reason in self.failed],
            "stopped": self.stopped,
            "outputs": [str(self.out)],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        lines = [
            f"drew the labels of {counted(self.images, 'image')} with"
            f" {counted(self.objects, 'object')}, read as {self.format}; no model was asked"
        ]
        if self.without_picture:
            lines.append(
                f"{counted(self.without_picture, 'picture')} not at hand, drawn on grey; --images"
                " names their folder"
            )
        if self.kept:
            lines.append(f"kept {counted(self.kept, 'file')} that somebody else wrote")
        lines.append(f"wrote {self.out}")
        if self.failed:
            lines.append(f"failed {len(self.failed)}:")
            lines += [f"  {reason}" for _, reason in self.failed]
        if self.stopped:
            lines.append(f"stopped early: {self.stopped}")
        return "\n".join(lines)


def draw_labels(
    sources: Sequence[Path],
    out: Path,
    *,
    images: Path | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    overwrite: bool = False,
    progress: bool = True,
    stop: threading.Event | None = None,
) -> DrawnSummary:
    """Draw what is labelled in datasets of any format, a JPEG for each image.

    Args:
        sources: files or folders.
        out: folder, made if missing.
        images: where the pictures lie, if not there.
        limits: of what is read.
        overwrite: whether to replace pictures that this program did not make.
        progress: whether to show a bar.
        stop: set it to end early.

    Raises:
        ConfigError: there is nothing to draw, or nowhere to put it.
    """
    ensure_writable(out)
    kinds = [detect_format(source) for source in sources]
    stems = Stems(per_split=False)
    summary = DrawnSummary(out, ", ".join(dict.fromkeys(kinds)))
    for source, kind in zip(sources, kinds, strict=True):
        root = source if source.is_dir() else source.parent
        request = ReadRequest(
            source=source,
            names=ClassNames(),
            pictures=Pictures([root], images, [out]),
            options=ReadOptions(what=parse_what("best")),
            skip=(out,),
        )
        reader = format_of(kind).read(request)
        with tqdm(
            total=reader.total,
            unit="img",
            disable=not progress,
            file=sys.stderr,
            dynamic_ncols=True,
        ) as bar:
            for found in reader.samples():
                if stop is not None and stop.is_set():
                    summary.stopped = "interrupted"
                    return summary
                _draw(found, out, stems, limits, overwrite, summary)
                if summary.stopped:
                    return summary
                bar.update()
    if not summary.images and not summary.failed:
        raise ConfigError(f"{sources[0]}: no image in it")
    return summary


def _draw(
    found: Sample | Fault,
    out: Path,
    stems: Stems,
    limits: ImageLimits,
    overwrite: bool,
    summary: DrawnSummary,
) -> None:
    if isinstance(found, Fault):
        summary.failed.append((found.where, found.sentence))
        return
    path = out / f"{stems.stem_of(found)}.jpg"
    try:
        if found.picture is not None and found.picture == path:
            raise InputError(f"{path}: is the picture itself; choose another --out")
        drawn = draw(picture_of(found, limits), as_prediction(found))
        files = [(path, mark_jpeg(encode_picture(drawn)))]
        written = write_together(files, made_by_us, overwrite=overwrite)
    except Exception as error:  # whatever a picture holds, it costs only itself
        summary.failed.append((found.where, Fault.of(found.where, error).sentence))
        summary.stopped = as_sentence(error) if is_disk_full(error) else None
        return
    summary.kept += not written
    summary.images += written
    summary.objects += len(found.instances) if written else 0
    summary.without_picture += found.picture is None
