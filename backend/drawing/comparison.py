"""Prediction, truth and errors of one image side by side, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from backend.core.classes import IGNORE
from backend.core.colours import class_colour
from backend.core.types import Image, LabelMap
from backend.drawing.overlays import font

Colour = tuple[int, int, int]

_FILL = 0.5  # opacity of classes
_GAP = 6
_TALLEST = 2  # times the width of a panel
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
# Error kinds are told apart by brightness too, for people who see colours differently and for grey
# printers.
ERRORS: dict[str, Colour] = {
    "right": (150, 205, 150),
    "missed": (230, 140, 0),
    "too much": (30, 90, 220),
    "wrong class": (190, 0, 140),
}
_IGNORED = (90, 90, 90)


def _name(value: int, names: Sequence[str]) -> str:
    return names[value - 1] if value <= len(names) else str(value)


def _coloured(image: Image, label_map: LabelMap, names: Sequence[str]) -> Image:
    """Classes over the image, with their outlines; ignored pixels dark."""
    canvas = image.copy()
    values = [int(v) for v in np.unique(label_map) if v]
    for value in values:
        inside = label_map == value
        colour = _IGNORED if value == IGNORE else class_colour(_name(value, names))
        mixed = cv2.addWeighted(canvas, 1 - _FILL, np.full_like(canvas, colour), _FILL, 0)
        np.copyto(canvas, mixed, where=inside[..., None])
        if value != IGNORE:
            outlines, _ = cv2.findContours(
                inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
            )
            cv2.drawContours(
                canvas, outlines, -1, colour, max(1, round(min(image.shape[:2]) / 300)), cv2.LINE_AA
            )
    return canvas


def error_map(image: Image, truth: LabelMap, predicted: LabelMap) -> Image:
    """The image in grey, with right, missed, superfluous and mistaken pixels in the colours of
    ``ERRORS``; ignored pixels are dark.
    """
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    canvas: NDArray[np.uint8] = np.asarray(
        cv2.addWeighted(grey, 0.45, np.full_like(grey, 255), 0.45, 0), np.uint8
    )
    counts = truth != IGNORE
    kinds = {
        "right": (truth == predicted) & (truth > 0),
        "missed": (truth > 0) & (predicted == 0),
        "too much": (truth == 0) & (predicted > 0),
        "wrong class": (truth > 0) & (predicted > 0) & (truth != predicted),
    }
    for name, where in kinds.items():
        share = 0.55 if name == "right" else 0.85
        mixed = cv2.addWeighted(canvas, 1 - share, np.full_like(canvas, ERRORS[name]), share, 0)
        np.copyto(canvas, mixed, where=(where & counts)[..., None])
    canvas[~counts] = _IGNORED
    return canvas


def _strip(width: int, entries: Sequence[tuple[str, Colour | None]], size: int) -> Image:
    """Words with coloured squares, in as many lines as they need."""
    letters = font(size)
    pen = PIL.ImageDraw.Draw(PIL.Image.new("RGB", (1, 1)))
    line = 0
    places = []
    x = _GAP
    for text, colour in entries:
        needs = round(pen.textlength(text, font=letters)) + (size + 6 if colour else 0) + 14
        if x + needs > width and x > _GAP:
            line = line + 1
            x = _GAP
        places.append((x, line, text, colour))
        x += needs
    height = (line + 1) * (size + 8) + 4
    picture = PIL.Image.new("RGB", (width, height), _PAPER)
    pen = PIL.ImageDraw.Draw(picture)
    for x, row, text, colour in places:
        y = row * (size + 8) + 4
        if colour:
            pen.rectangle((x, y + 1, x + size - 2, y + size - 1), fill=colour, outline=_INK)
        pen.text((x + (size + 6 if colour else 0), y - 1), text, fill=_INK, font=letters)
    return np.array(picture)


def _scaled(picture: Image, scale: float, method: int) -> Image:
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def compare(
    image: Image | None,
    truth: LabelMap,
    predicted: LabelMap,
    names: Sequence[str],
    *,
    captions: tuple[str, str] = ("prediction", "truth"),
    panel_width: int | None = None,
) -> Image:
    """Draw prediction, truth and error map side by side.

    Args:
        image: (H, W, 3) RGB uint8; None where the picture is not at hand.
        truth: (H, W), 255 ignored.
        predicted: (H, W).
        names: of the classes; value k + 1 is ``names[k]``.
        captions: of the first two panels.
        panel_width: of each panel in pixels, less where the image is very tall; the image's own
            width if None.

    Returns:
        RGB uint8, three panels wide, with captions above and a legend of what occurs below.
    """
    height, width = truth.shape
    if image is None:
        image = np.full((height, width, 3), 200, np.uint8)
    scale = (
        1.0 if panel_width is None else min(panel_width / width, _TALLEST * panel_width / height)
    )
    if scale != 1.0:
        image = _scaled(image, scale, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        truth, predicted = (
            _scaled(one.astype(np.uint8), scale, cv2.INTER_NEAREST) for one in (truth, predicted)
        )
    panels = [
        _coloured(image, predicted, names),
        _coloured(image, truth, names),
        error_map(image, truth, predicted),
    ]
    w = image.shape[1]
    size = int(np.clip(w / 26, 11, 30))
    rows = [
        [_strip(w, [(text, None)], size), panel]
        for text, panel in zip((*captions, "errors"), panels, strict=True)
    ]
    columns = [np.concatenate(parts) for parts in rows]
    gap = np.full((columns[0].shape[0], _GAP, 3), 255, np.uint8)
    sheet = np.concatenate([columns[0], gap, columns[1], gap, columns[2]], 1)
    occurring = sorted({int(v) for one in (truth, predicted) for v in np.unique(one)} - {0})
    classes = [
        (("ignored", _IGNORED) if v == IGNORE else (_name(v, names), class_colour(_name(v, names))))
        for v in occurring
    ]
    # Each legend under its own panels, as the colours of errors may be those of classes.
    left = _strip(2 * w + _GAP, classes, size)
    right = _strip(w + _GAP, list(ERRORS.items()), size)
    below = np.full((max(left.shape[0], right.shape[0]), sheet.shape[1], 3), 255, np.uint8)
    below[: left.shape[0], : left.shape[1]], below[: right.shape[0], left.shape[1] :] = left, right
    return np.concatenate([sheet, below])
