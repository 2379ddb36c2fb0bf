"""Label Studio's regions as a prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Prediction
from backend.errors import InputError
from backend.formats.label_studio.region_masks import region_mask
from backend.formats.label_studio.regions import StoredRegion, read_regions


def _instance(region: StoredRegion, class_ids: Mapping[str, int]) -> Instance | None:
    """A region as an instance; a rectangle stays a box, everything else becomes a mask."""
    class_id = class_ids.get(region.label, -1)
    score = region.score or 0.0
    if region.kind != "rectangle":
        mask = region_mask(region)
        return (
            None if mask is None else Instance(region.label, class_id, score, mask_xyxy(mask), mask)
        )
    if region.value.get("rotation"):
        raise InputError(f"{region.where}: rotated rectangles are not supported")
    scale = np.array([region.size_hw[1], region.size_hw[0]] * 2) / 100
    x, y, width, height = (float(region.value[name]) for name in ("x", "y", "width", "height"))
    return Instance(
        region.label,
        class_id,
        score,
        (np.array([x, y, x + width, y + height]) * scale).astype(np.float32),
    )


def from_result(
    result: Iterable[Mapping[str, Any]], names: Sequence[str], model_version: str = ""
) -> Prediction:
    """Regions as a prediction; empty masks and what covers no area are left out.

    Args:
        result: a ``result`` list with ``value`` objects, as exports hold it.
        names: class names in order; a label that is not among them gets class_id -1.
        model_version: of the prediction.

    Raises:
        InputError: naming the region and what is wrong with it.

    >>> from backend.formats.label_studio.brush_rle import encode_brush
    >>> from backend.formats.label_studio.made_regions import region
    >>> tag = {"kind": "brushlabels", "from_name": "brush", "to_name": "image"}
    >>> value = {"format": "rle", "rle": [*encode_brush(None, (1, 2))]}
    >>> nothing = region(key="a", **tag, size_hw=(1, 2), value=value, label="cat")
    >>> from_result([nothing], ["cat"]).instances  # an empty mask
    ()
    """
    class_ids = {name: k for k, name in enumerate(names)}
    read = read_regions(list(result), "result")
    if read.faults:
        raise InputError(read.faults[0])
    instances: list[Instance] = []
    for region in read.regions:
        try:
            found = _instance(region, class_ids)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{region.where}: {type(error).__name__}: {error}") from None
        instances += [found] if found is not None else []
    sizes = {region.size_hw for region in read.regions}
    if len(sizes) > 1:
        raise InputError(f"regions of several image sizes: {sorted(sizes)}")
    return Prediction(tuple(instances), next(iter(sizes), (0, 0)), model_version)
