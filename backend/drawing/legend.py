"""What the colours of a picture mean, beside it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import PIL.Image
import PIL.ImageDraw

from backend.core.colours import class_colour
from backend.core.naming import UNNAMED
from backend.core.types import Image, Prediction
from backend.drawing.overlays import font

_GROUND = (24, 24, 24)
_TEXT = (235, 235, 235)
_LINE = 1.7  # height of a line, in letters
_SMALLEST = 9  # letters, in pixels
_LARGEST = 28


def shares_of_classes(prediction: Prediction) -> dict[str, float]:
    """How much of an image each class covers, the largest first; for masks that do not overlap.

    >>> from backend.core.types import Instance, Mask
    >>> mask = Mask(0, 0, np.ones((1, 3), np.bool_))
    >>> cat = Instance("cat", 0, 0.9, np.zeros(4, np.float32), mask)
    >>> shares_of_classes(Prediction((cat,), (1, 4), "version"))
    {'cat': 0.75}
    """
    pixels = prediction.size_hw[0] * prediction.size_hw[1]
    covered: Counter[str] = Counter()
    for instance in prediction.instances:
        if instance.mask is not None:
            covered[instance.label] += instance.mask.area
    return {label: count / pixels for label, count in covered.most_common()}


def with_legend(picture: Image, prediction: Prediction) -> Image:
    """A picture with its classes, their colours and their shares of the image at its right.

    Args:
        picture: (H, W, 3) RGB uint8, drawn from the prediction.
        prediction: whose masks do not overlap.

    Returns:
        A wider RGB uint8 picture.
    """
    shares = shares_of_classes(prediction)
    rows: list[tuple[str | None, str]]
    rows = [
        (None if label == UNNAMED else label, f"{label}  {share:.1%}")
        for label, share in shares.items()
    ]
    uncovered = 1 - sum(shares.values())
    if uncovered > 0.0005:
        rows.append((None, f"no class  {uncovered:.1%}"))
    height = picture.shape[0]
    size = int(np.clip(height / (_LINE * (len(rows) + 1)), _SMALLEST, _LARGEST))
    fitting = max(1, int(height / (_LINE * size)) - 1)
    if len(rows) > fitting:
        rows = [*rows[: fitting - 1], (None, f"and {len(rows) - fitting + 1} more")]
    letters = font(size)
    width = int(max(letters.getlength(text) for _, text in rows)) + 4 * size if rows else 4 * size
    panel = PIL.Image.new("RGB", (width, height), _GROUND)
    pen = PIL.ImageDraw.Draw(panel)
    for k, (label, text) in enumerate(rows):
        y = int(size * (0.8 + _LINE * k))
        box = (size, y, 2 * size, y + size)
        colour = None if label is None else class_colour(label)
        pen.rectangle(box, fill=colour, outline=_TEXT if colour is None else colour)
        pen.text((int(2.6 * size), y + size / 2), text, fill=_TEXT, font=letters, anchor="lm")
    return np.concatenate([picture, np.array(panel)], axis=1)
