"""How others turn a segmenter's logits into annotations, faithfully: the yardsticks of ``yolosam2
bench``.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from backend.errors import ConfigError
from backend.models.sam2.stock import full_masks


def sdk_brush() -> ModuleType:
    """The peer's masks: ``label_studio_sdk.converter.brush``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("label_studio_sdk.converter.brush")
    except ModuleNotFoundError:
        raise ConfigError(
            "bench compares with label-studio-sdk, which is not installed: pip install"
            " label-studio-sdk"
        ) from None


def label_studio_json(logits: NDArray[Any], size_hw: tuple[int, int], labels: Sequence[str]) -> str:
    """The route of Label Studio's own SAM 2 example: full masks, ``mask2rle``, ``json.dumps``."""
    mask2rle = sdk_brush().mask2rle
    result = []
    for mask, label in zip(full_masks(logits, size_hw), labels, strict=True):
        rle = mask2rle((mask * 255).astype(np.uint8))
        value = {"format": "rle", "rle": rle, "brushlabels": [label]}
        result.append(
            {
                "id": label,
                "from_name": "brush",
                "to_name": "image",
                "original_width": size_hw[1],
                "original_height": size_hw[0],
                "image_rotation": 0,
                "value": value,
                "score": 0.5,
                "type": "brushlabels",
                "readonly": False,
            }
        )
    return json.dumps([{"result": result, "score": 0.5}])


def labelme_file(
    logits: NDArray[Any], size_hw: tuple[int, int], labels: Sequence[str], path: Path
) -> None:
    """The route of upstream YOLO-SAM2 from logits to a file."""
    labelme_file_of_masks(full_masks(logits, size_hw), size_hw, labels, path)


def labelme_file_of_masks(
    masks: NDArray[np.float32], size_hw: tuple[int, int], labels: Sequence[str], path: Path
) -> None:
    """Upstream's writing: ``np.where`` for the box, Pillow's defaults, indented JSON.

    Args:
        masks: (N, H, W), 0 or 1; those with nothing in them are left out.
        size_hw: of the picture.
        labels: N.
        path: of the file.
    """
    shapes: list[dict[str, Any]] = []
    for mask, label in zip(masks, labels, strict=True):
        if not mask.any():
            continue
        rows, columns = np.where(mask == 1)
        y1 = int(rows.min())
        x1 = int(columns.min())
        y2 = int(rows.max())
        x2 = int(columns.max())
        stream = io.BytesIO()
        PIL.Image.fromarray(mask[y1 : y2 + 1, x1 : x2 + 1].astype(np.uint8)).save(
            stream, format="PNG"
        )
        shapes.append(
            {
                "label": label,
                "points": [[x1, y1], [x2, y2]],
                "group_id": None,
                "description": "",
                "shape_type": "mask",
                "flags": {},
                "mask": base64.b64encode(stream.getvalue()).decode("utf-8"),
            }
        )
    document: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": size_hw[0],
        "imageWidth": size_hw[1],
    }
    with path.open("w") as text:
        json.dump(document, text, indent=4)
