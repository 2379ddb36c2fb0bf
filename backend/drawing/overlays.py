"""Pictures to look at: masks, outlines, labels and scores drawn over the image, readable on any
background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from backend.core.colours import class_colour
from backend.core.naming import UNNAMED
from backend.core.stacking import painting_order
from backend.core.types import Image, Instance, Prediction

_FILL = 0.42  # opacity of a mask
_MARK = b"yolosam2"


@cache
def font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    """Pillow's own font; it knows Latin letters."""
    return PIL.ImageFont.load_default(size)


def _is_unnamed(instance: Instance) -> bool:
    """Whether it is an automatic mask without a name: all it tells is what the segmenter thinks."""
    return instance.label == UNNAMED and instance.score == instance.quality


def _colour(instance: Instance) -> tuple[int, int, int]:
    """Of the class; in a video each track has its own, the same in all frames.

    So has each mask that nobody named.
    """
    if _is_unnamed(instance):
        x, y = instance.xyxy[:2].tolist()
        return class_colour(f"{instance.label} {x:.0f} {y:.0f}")
    if instance.track is None:
        return class_colour(instance.label)
    return class_colour(f"{instance.label} {instance.track}")


def _fill(canvas: NDArray[np.uint8], instance: Instance, thickness: int) -> None:
    colour = _colour(instance)
    mask = instance.mask
    if mask is None:
        x0, y0, x1, y1 = (int(v) for v in instance.xyxy)
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), (255, 255, 255), thickness + 2)
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)
        return
    h, w = mask.crop.shape
    area = canvas[mask.y : mask.y + h, mask.x : mask.x + w]
    mixed = cv2.addWeighted(area, 1 - _FILL, np.full_like(area, colour), _FILL, 0)
    np.copyto(area, mixed, where=mask.crop[..., None])
    outlines, _ = cv2.findContours(
        mask.crop.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.x, mask.y)
    )
    cv2.drawContours(canvas, outlines, -1, (255, 255, 255), thickness + 2, cv2.LINE_AA)
    cv2.drawContours(canvas, outlines, -1, colour, thickness, cv2.LINE_AA)


def _tag(
    pen: PIL.ImageDraw.ImageDraw,
    instance: Instance,
    size_hw: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
    size: int,
) -> None:
    """The label on a dark plate at the top of the box, moved down past tags that are there."""
    score = "" if math.isnan(instance.score) else f" {instance.score:.2f}"  # a person's has none
    number = "" if instance.track is None else f" #{instance.track}"
    text = f"{instance.label}{number}{score}"
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font(size))
    w = right - left + 8
    h = bottom - top + 6
    x = min(max(0.0, float(instance.xyxy[0])), max(0.0, size_hw[1] - w))
    y = max(0.0, float(instance.xyxy[1]) - h)
    while (
        any(x < b[2] and b[0] < x + w and y < b[3] and b[1] < y + h for b in taken)
        and y + 2 * h < size_hw[0]
    ):
        y += h
    taken.append((x, y, x + w, y + h))
    pen.rectangle(
        (x, y, x + w, y + h),
        fill=(20, 20, 20),
        outline=_colour(instance),
        width=max(1, size // 9),
    )
    pen.text((x + 4 - left, y + 3 - top), text, fill=(255, 255, 255), font=font(size))


def draw(image: Image, prediction: Prediction, scale: float = 1.0) -> Image:
    """Draw a prediction over its image.

    Args:
        image: (H, W, 3) RGB uint8; not changed.
        prediction: of this image.
        scale: of lines and texts, where the picture is made smaller afterwards.

    Returns:
        A new (H, W, 3) RGB uint8 picture. Line and text size follow the image size.
    """
    canvas = np.ascontiguousarray(image).copy()
    side = min(image.shape[:2]) * scale
    order = painting_order(prediction.instances)
    for k in order:
        _fill(canvas, prediction.instances[k], max(1, round(side / 480)))
    picture = PIL.Image.fromarray(canvas)
    pen = PIL.ImageDraw.Draw(picture)
    taken = list[tuple[float, float, float, float]]()
    for k in order:
        if _is_unnamed(prediction.instances[k]):
            continue
        _tag(pen, prediction.instances[k], prediction.size_hw, taken, max(11, round(side / 38)))
    return np.array(picture)


def contact_sheet(pictures: Sequence[Image], columns: int, width: int) -> Image:
    """Pictures in a grid, each fitted into a cell of 4:3.

    Args:
        pictures: RGB uint8, any sizes.
        columns: cells per row.
        width: of the sheet, in pixels.

    Returns:
        One RGB uint8 picture.
    """
    cell_w = width // columns
    cell_h = cell_w * 3 // 4
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * cell_h, columns * cell_w, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        scale = min((cell_w - 6) / picture.shape[1], (cell_h - 6) / picture.shape[0])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        h, w = small.shape[:2]
        y = (k // columns) * cell_h + (cell_h - h) // 2
        x = (k % columns) * cell_w + (cell_w - w) // 2
        sheet[y : y + h, x : x + w] = small
    return sheet


def mark_jpeg(data: bytes) -> bytes:
    """Put our comment segment behind the first marker of a JPEG; see ``made_by_us``."""
    return data[:2] + b"\xff\xfe" + (len(_MARK) + 2).to_bytes(2, "big") + _MARK + data[2:]


def made_by_us(path: Path) -> bool:
    """True for a JPEG that carries our comment; programs that edit pictures drop it or move it."""
    with path.open("rb") as stream:
        return stream.read(6 + len(_MARK)).endswith(_MARK)


def encode_picture(picture: Image, suffix: str = ".jpg") -> bytes:
    """An RGB picture as JPEG (quality 92) or PNG bytes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if suffix == ".jpg" else []
    return bytes(cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1])
