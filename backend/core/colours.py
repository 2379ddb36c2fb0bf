"""The colour of a class: the same in labeling configs, overlays and reports, whatever the order of
the classes.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from functools import cache
from hashlib import blake2b

# Saturation and value, so that classes of like hue differ.
_TONES = ((0.85, 1.0), (0.6, 1.0), (1.0, 0.78), (0.75, 0.88))
# Of many tried, the one that keeps the classes of the demo, of PASCAL VOC and of Cityscapes apart.
_SALT = b"3624"


@cache
def class_colour(name: str) -> tuple[int, int, int]:
    """RGB, 0..255, made of the name alone.

    >>> class_colour("ball"), class_colour("box")
    ((198, 96, 0), (56, 220, 224))
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4, person=_SALT).digest()
    saturation, value = _TONES[digest[2] % len(_TONES)]
    r, g, b = hsv_to_rgb(int.from_bytes(digest[:2], "big") / 65536, saturation, value)
    return int(255 * r), int(255 * g), int(255 * b)


def hex_colour(name: str) -> str:
    """The same as ``#rrggbb``.

    >>> hex_colour("ball")
    '#c66000'
    """
    return "#" + "".join(f"{part:02x}" for part in class_colour(name))
