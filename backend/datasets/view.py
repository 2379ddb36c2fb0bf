"""A dataset of any format as one page to look at: counts, what deserves a look, and pictures with
their objects.
"""

from __future__ import annotations

import base64
import io
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from backend.core.classes import ClassNames
from backend.core.types import Image
from backend.datasets.drawn import picture_of
from backend.datasets.overview import Overview, Suspect, as_prediction, first_suspects
from backend.drawing.overlays import draw, encode_picture
from backend.errors import ConfigError, LabelingError
from backend.files.atomic import write_atomic
from backend.files.images import DEFAULT_LIMITS, ImageLimits
from backend.files.pictures import Pictures
from backend.formats.base import ReadRequest
from backend.formats.options import ReadOptions
from backend.formats.registry import detect_format, format_of
from backend.formats.sample import Sample

_WIDTH = 420  # pixels of a picture on the page
_LARGER = 1.3  # texts, as a page shows pictures smaller still
_SUSPECT_SHARE = 0.5  # of the pictures that are shown, at most


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """What to show."""

    read: ReadOptions = field(default_factory=ReadOptions)
    images: Path | None = None  # where pictures lie
    limit: int = 60  # pictures on the page
    limits: ImageLimits = DEFAULT_LIMITS
    progress: bool = True


@dataclass(frozen=True)
class _Shown:
    name: str
    split: str
    about: str  # what is in it
    why: tuple[str, ...]
    src: str  # of a picture, as a data URL; empty where there is none
    problem: str


def view(
    source: Path,
    page: Path | None,
    options: ViewOptions,
    kind: str | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Look through a dataset, and write a page about it.

    The pictures on the page are spread over the dataset; half of the places are for those that
    deserve a look.

    Args:
        source: file or folder.
        page: HTML file to write; None for none.
        options: see ``ViewOptions``.
        kind: format of the source; None looks.
        stop: set it to end early, with what was seen until then.

    Returns:
        The counts, as ``Overview.as_dict``, with the format of the source.

    Raises:
        ConfigError: there is nothing to look at.
    """
    kind = kind or detect_format(source)
    root = source if source.is_dir() else source.parent
    request = ReadRequest(
        source=source,
        names=ClassNames(),
        pictures=Pictures([root], options.images),
        options=options.read,
    )
    reader = format_of(kind).read(request)
    overview = Overview()
    gallery = _Gallery(options.limit if page is not None else 0)
    stopped = False
    bar = tqdm(
        total=reader.total,
        unit="img",
        disable=not options.progress,
        file=sys.stderr,
        dynamic_ncols=True,
    )
    with bar:
        for found in reader.samples():
            stopped = stop is not None and stop.is_set()
            if stopped:
                break
            why = overview.add(found)
            if isinstance(found, Sample):
                gallery.offer(found, why, options)
            bar.update()
    if not overview.n_images and not overview.faults:
        raise ConfigError(f"{source}: no image in it")
    report = {
        "source": str(source),
        "format": kind,
        "stopped": "interrupted" if stopped else None,
        "remarks": list(reader.remarks),
        **overview.as_dict(),
    }
    if page is not None:
        write_atomic(page, _render(report, overview, gallery.shown()).encode("utf-8", "replace"))
    return report


class _Gallery:
    """Keeps a few pictures of a stream whose length nobody knows: every n-th, with n doubled
    whenever there are too many; and the first that deserve a look.
    """

    def __init__(self, limit: int) -> None:
        self._suspects_left = int(limit * _SUSPECT_SHARE)
        self._limit = max(0, limit - self._suspects_left)
        self._step = 1
        self._seen = 0
        self._plain: list[tuple[int, _Shown]] = []
        self._suspects: list[_Shown] = []
        self._kinds: dict[str, int] = {}

    def offer(self, sample: Sample, why: Sequence[Suspect], options: ViewOptions) -> None:
        number = self._seen
        self._seen += 1
        if why and self._suspects_left > 0:
            kind = why[0].kind
            if self._kinds.get(kind, 0) < 12:
                self._kinds[kind] = self._kinds.get(kind, 0) + 1
                self._suspects_left -= 1
                self._suspects.append(_shown(sample, why, options))
                return
        if not self._limit or number % self._step:
            return
        self._plain.append((number, _shown(sample, why, options)))
        if len(self._plain) > self._limit:
            self._step *= 2
            self._plain = [one for one in self._plain if one[0] % self._step == 0]

    def shown(self) -> list[_Shown]:
        return [*self._suspects, *(one for _, one in self._plain)]


def _shown(sample: Sample, why: Sequence[Suspect], options: ViewOptions) -> _Shown:
    counts: dict[str, int] = {}
    for one in sample.instances:
        counts[one.label] = counts.get(one.label, 0) + 1
    about = ", ".join(f"{n} {label}" for label, n in sorted(counts.items())) or "nothing"
    src = problem = ""
    try:
        src = _picture(sample, options)
    except LabelingError as error:
        problem = str(error)
    return _Shown(
        str(sample.name), sample.split or "", about, tuple(one.why for one in why), src, problem
    )


def _picture(sample: Sample, options: ViewOptions) -> str:
    prediction = as_prediction(sample)
    image = picture_of(sample, options.limits)
    return _data_url(draw(image, prediction, max(1.0, image.shape[1] / _WIDTH) * _LARGER))


def _data_url(picture: Image) -> str:
    scale = min(1.0, _WIDTH / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    stream = io.BytesIO(encode_picture(small.astype(np.uint8)))
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _part(name: str) -> str:
    return files("backend.datasets").joinpath("view_page", name).read_text(encoding="utf-8")


def _render(report: dict[str, Any], overview: Overview, shown: Sequence[_Shown]) -> str:
    from jinja2 import Environment
    from markupsafe import Markup

    from backend.core.colours import hex_colour

    template = Environment(autoescape=True).from_string(_part("view.html"))
    return template.render(
        report=report,
        suspects=first_suspects(overview),
        shown=shown,
        colour=hex_colour,
        css=Markup(_part("view.css")),  # noqa: S704 - not input
    )
