"""Masks as the 1-bit pictures of Label Studio's BitmaskLabels."""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image

from backend.core.masks import full_frame
from backend.core.types import Mask


def bitmask_url(mask: Mask, size_hw: tuple[int, int]) -> str:
    """The mask as Label Studio's ``imageDataURL``.

    Args:
        mask: a crop inside the image.
        size_hw: of the upright image.

    Returns:
        A data URL of a 1-bit palette PNG of the image's size whose background is transparent;
        without alpha the editor would fill the whole picture.

    >>> bitmask_url(Mask(0, 0, np.ones((1, 1), np.bool_)), (1, 1)).partition(",")[0]
    'data:image/png;base64'
    """
    picture = PIL.Image.fromarray(full_frame(mask, size_hw).astype(np.uint8))
    picture = picture.convert("P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    stream = io.BytesIO()
    picture.save(stream, "PNG", bits=1, transparency=0)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
