"""Pictures as labelme's window has them, and as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from backend.core.types import Image


def image_of(pixels: np.ndarray) -> Image:
    """The picture as RGB from what labelme hands over, which is in the order of Qt's memory.

    Args:
        pixels: (H, W, C) uint8, blue, green and red first.
    """
    return np.ascontiguousarray(pixels[:, :, 2::-1])


def pixels_of(img_qt: Any) -> np.ndarray:
    """A Qt image of any format as (H, W, 4) uint8, blue first, on white.

    Takes the place of labelme's own function, which gives the indices of palettes, shears rows of
    odd width, and raises for one bit a pixel.
    """
    from PyQt5 import QtGui

    plain = QtGui.QImage(img_qt.size(), QtGui.QImage.Format.Format_RGB32)
    plain.fill(0xFFFFFFFF)
    painter = QtGui.QPainter(plain)
    painter.drawImage(0, 0, img_qt)
    painter.end()
    data = plain.bits()
    memory = b"" if data is None else data.asstring(plain.sizeInBytes())
    return np.frombuffer(memory, np.uint8).reshape(plain.height(), plain.width(), 4)
