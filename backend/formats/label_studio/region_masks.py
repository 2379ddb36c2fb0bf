"""The pixels of Label Studio's regions, whoever made them: brush, bitmask, polygon, rectangle,
ellipse.

Coordinates are percent of the upright image; a rectangle is turned around its first corner, an
ellipse around its centre (Label Studio 1.23).
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from backend.core.masks import mask_from_full
from backend.core.rasterize import ellipse_mask, polygon_of_edges, turned_box_mask
from backend.core.types import Mask
from backend.errors import InputError, told
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.regions import StoredRegion

_MOST_POINTS = 100_000
_MOST_PERCENT = 1e4


def masks_of(
    regions: Sequence[StoredRegion], faults: list[str]
) -> Iterator[tuple[StoredRegion, Mask | None]]:
    """The pixels of regions, one after the other; a region that has none that can be read is
    skipped, and a sentence is added to ``faults``.

    >>> from backend.formats.label_studio.regions import read_regions
    >>> value = {"x": 0, "y": 0, "width": "wide", "height": 1, "rectanglelabels": ["cat"]}
    >>> box = {"original_width": 4, "original_height": 2, "type": "rectanglelabels", "value": value}
    >>> faults = []
    >>> list(masks_of(read_regions([box], "result").regions, faults)), faults
    ([], ["result[0].value.width: expected a number of percent, got 'wide'"])
    """
    for one in regions:
        try:
            yield one, region_mask(one)
        except InputError as error:
            faults.append(str(error))


def _percent(region: StoredRegion, name: str, side: int, default: float | None = None) -> float:
    number = region.value.get(name, default)
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not abs(number) <= _MOST_PERCENT
    ):
        raise InputError(
            f"{region.where}.value.{name}: expected a number of percent, got {told(number)}"
        )
    return float(number) * side / 100


def _bitmask(region: StoredRegion) -> Mask | None:
    text = region.value["imageDataURL"]
    field = f"{region.where}.value.imageDataURL"
    try:
        head, _, body = str(text).partition(",")
        if not head.startswith("data:image/png"):
            raise InputError(f"{field}: expected a PNG as data URL, got {head[:40]!r}")
        with PIL.Image.open(
            io.BytesIO(base64.b64decode(body, validate=True)), formats=("PNG",)
        ) as picture:
            if picture.size != region.size_hw[::-1]:
                raise InputError(
                    f"{field}: is {picture.width}x{picture.height}, expected"
                    f" {region.size_hw[1]}x{region.size_hw[0]}"
                )
            alpha = "A" in picture.mode or "transparency" in picture.info
            pixels: NDArray[np.uint8] = np.array(
                picture.convert("RGBA").getchannel("A") if alpha else picture.convert("L")
            )
    except PIL.UnidentifiedImageError:
        raise InputError(f"{field}: is no PNG") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        binascii.Error,
        PIL.Image.DecompressionBombError,
    ) as error:
        raise InputError(f"{field}: cannot read the picture: {error}") from None
    return mask_from_full(pixels)


def _polygon(region: StoredRegion) -> Mask | None:
    points = region.value["points"]
    field = f"{region.where}.value.points"
    if not isinstance(points, list) or not 3 <= len(points) <= _MOST_POINTS:
        raise InputError(f"{field}: expected at least three points")
    for point in points:
        if not (
            isinstance(point, list | tuple)
            and len(point) == 2
            and all(_is_percent(v) for v in point)
        ):
            raise InputError(f"{field}: expected pairs of numbers of percent, got {told(point)}")
    height, width = region.size_hw
    return polygon_of_edges(
        [(x * width / 100, y * height / 100) for x, y in points], region.size_hw
    )


def _is_percent(value: Any) -> bool:
    return (
        not isinstance(value, bool)
        and isinstance(value, int | float)
        and abs(value) <= _MOST_PERCENT
    )


def region_mask(region: StoredRegion) -> Mask | None:
    """The pixels of a region.

    Returns:
        The tight mask, or None where it covers no pixel.

    Raises:
        InputError: naming the field.

    >>> from backend.formats.label_studio.regions import read_regions
    >>> value = {"x": 50, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["cat"]}
    >>> box = {"original_width": 4, "original_height": 2, "type": "rectanglelabels", "value": value}
    >>> region_mask(read_regions([box], "result").regions[0])  # the upper right quarter
    Mask(x=2, y=0, crop=array([[ True,  True]]))
    """
    height, width = region.size_hw
    if region.kind == "brush":
        try:
            return rle.decode_brush(region.value["rle"], region.size_hw)
        except InputError as error:
            raise InputError(f"{region.where}.value.{error}") from None
    if region.kind == "bitmask":
        return _bitmask(region)
    if region.kind == "polygon":
        return _polygon(region)
    x = _percent(region, "x", width)
    y = _percent(region, "y", height)
    turned = _percent(region, "rotation", 100, 0.0)
    if region.kind == "ellipse":
        radii = _percent(region, "radiusX", width), _percent(region, "radiusY", height)
        return ellipse_mask(x, y, *radii, turned, region.size_hw) if min(radii) > 0 else None
    return turned_box_mask(
        x,
        y,
        _percent(region, "width", width),
        _percent(region, "height", height),
        turned,
        region.size_hw,
    )
