"""Predictions as Label Studio regions and tasks, and back. The only module that speaks in percent of the image.

Region and task layout as Label Studio 1.23 stores them; ``original_width`` and ``original_height`` are the upright size and
``image_rotation`` is 0, because the editor works on the image with EXIF applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from backend.errors import InputError
from backend.formats import rle
from backend.geometry import mask_xyxy
from backend.types import Instance, Prediction

BRUSH, RECTANGLE = "brushlabels", "rectanglelabels"
_PLACE = "@rle@"


def region_id(prediction: Prediction, index: int) -> str:
    """Ten characters that are the same whenever the same prediction is written, and differ within one."""
    instance = prediction.instances[index]
    key = f"{prediction.model_version}|{index}|{instance.label}|{instance.xyxy.tolist()}|{prediction.size_hw}"
    return blake2b(key.encode(), digest_size=5).hexdigest()


def prediction_score(prediction: Prediction) -> float:
    """One number to sort tasks by, 0..1: the mean of detection score times mask quality; 0 without instances."""
    products = [i.score * (1.0 if i.quality is None else i.quality) for i in prediction.instances]
    return round(float(np.clip(np.mean(products), 0, 1)), 4) if products else 0.0


def _region(prediction: Prediction, index: int, from_name: str, to_name: str) -> dict[str, Any]:
    height, width = prediction.size_hw
    instance = prediction.instances[index]
    value: dict[str, Any]
    if instance.mask is None:
        x0, y0, x1, y1 = np.clip(instance.xyxy, 0, [width, height, width, height]).tolist()
        value = {
            "x": 100 * x0 / width,
            "y": 100 * y0 / height,
            "width": 100 * (x1 - x0) / width,
            "height": 100 * (y1 - y0) / height,
            "rotation": 0,
            RECTANGLE: [instance.label],
        }
    else:
        value = {"format": "rle", "rle": _PLACE, BRUSH: [instance.label]}
    return {
        "id": region_id(prediction, index),
        "type": RECTANGLE if instance.mask is None else BRUSH,
        "from_name": from_name,
        "to_name": to_name,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "origin": "prediction",
        "score": round(float(instance.score), 4),
        "value": value,
    }


def to_result(prediction: Prediction, brush_name: str = "brush", box_name: str = "box", to_name: str = "image") -> list[dict[str, Any]]:
    """The ``result`` list of a Label Studio prediction.

    Args:
        prediction: what to show; instances without a mask become rectangles.
        brush_name: name of the BrushLabels tag.
        box_name: name of the RectangleLabels tag.
        to_name: name of the Image tag.

    Returns:
        One region per instance, in the same order.
    """
    result = []
    for index, instance in enumerate(prediction.instances):
        region = _region(prediction, index, box_name if instance.mask is None else brush_name, to_name)
        if instance.mask is not None:
            region["value"]["rle"] = list(rle.encode(instance.mask, prediction.size_hw))
        result.append(region)
    return result


def result_json(prediction: Prediction, brush_name: str = "brush", box_name: str = "box", to_name: str = "image") -> str:
    """``to_result`` as compact JSON text, without ever making lists of integers."""
    texts = []
    for index, instance in enumerate(prediction.instances):
        region = _region(prediction, index, box_name if instance.mask is None else brush_name, to_name)
        text = json.dumps(region, ensure_ascii=False, separators=(",", ":"))
        if instance.mask is not None:
            text = text.replace(f'"{_PLACE}"', rle.to_json(rle.encode(instance.mask, prediction.size_hw)), 1)
        texts.append(text)
    return f"[{','.join(texts)}]"


def task_json(prediction: Prediction, image_url: str) -> str:
    """One importable task with its prediction, as compact JSON text.

    Args:
        prediction: of the image.
        image_url: what ``data.image`` holds.
    """
    head = json.dumps({"image": image_url}, ensure_ascii=False)
    version = json.dumps(prediction.model_version, ensure_ascii=False)
    score = prediction_score(prediction)
    return f'{{"data":{head},"predictions":[{{"model_version":{version},"score":{score},"result":{result_json(prediction)}}}]}}'


def label_config(names: Sequence[str]) -> str:
    """A label config that shows brush masks and boxes with these class names."""
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in names)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="brush" toName="image">\n{labels}\n  </BrushLabels>\n'
        f'  <RectangleLabels name="box" toName="image">\n{labels}\n  </RectangleLabels>\n</View>\n'
    )


def _read_region(region: Mapping[str, Any], class_ids: Mapping[str, int]) -> tuple[Instance, tuple[int, int]] | None:
    kind = region.get("type")
    if kind not in (BRUSH, RECTANGLE):
        return None
    size_hw = (int(region["original_height"]), int(region["original_width"]))
    value, score = region["value"], float(region.get("score") or 0.0)
    label = value[kind][0]
    class_id = class_ids.get(label, -1)
    if kind == BRUSH:
        mask = rle.decode(value["rle"], size_hw)
        if mask is None:
            return None
        return Instance(label, class_id, score, mask_xyxy(mask), mask), size_hw
    if value.get("rotation"):
        raise InputError("rotated rectangles are not supported")
    scale = np.array([size_hw[1], size_hw[0]] * 2) / 100
    box = np.array([value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]) * scale
    return Instance(label, class_id, score, box.astype(np.float32)), size_hw


def from_result(result: Iterable[Mapping[str, Any]], names: Sequence[str], model_version: str = "") -> Prediction:
    """Brush and rectangle regions as a prediction; other kinds of region and empty masks are left out.

    Args:
        result: a ``result`` list with ``value`` objects, as exports hold it.
        names: class names in order; a label that is not among them gets class_id -1.
        model_version: of the prediction.

    Raises:
        InputError: naming the region and what is wrong with it.
    """
    class_ids = {name: k for k, name in enumerate(names)}
    instances: list[Instance] = []
    sizes: set[tuple[int, int]] = set()
    for region in result:
        try:
            read = _read_region(region, class_ids)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"region {region.get('id', '?')}: {type(error).__name__}: {error}") from None
        except InputError as error:
            raise InputError(f"region {region.get('id', '?')}: {error}") from None
        if read is not None:
            instances.append(read[0])
            sizes.add(read[1])
    if len(sizes) > 1:
        raise InputError(f"regions of several image sizes: {sorted(sizes)}")
    return Prediction(tuple(instances), next(iter(sizes), (0, 0)), model_version)
