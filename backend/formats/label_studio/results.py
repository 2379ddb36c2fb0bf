"""Predictions as Label Studio regions and tasks, and back. The only module that speaks in percent of the image.

Region and task layout as Label Studio 1.23 stores them; ``original_width`` and ``original_height`` are the upright size and
``image_rotation`` is 0, because the editor works on the image with EXIF applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from backend.core.masks import mask_xyxy
from backend.core.outlines import outlines
from backend.core.types import Instance, Prediction
from backend.errors import InputError
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.bitmask import bitmask_url
from backend.formats.label_studio.regions import StoredRegion, read_regions, region_mask

BRUSH, BITMASK, POLYGON, RECTANGLE = (
    "brushlabels",
    "bitmasklabels",
    "polygonlabels",
    "rectanglelabels",
)
_PLACE = "\0rle"  # no text from an XML file can hold a zero
_MOST_PARTS = 20  # polygons of one instance
_PLACE_JSON = json.dumps(_PLACE)


def region_id(prediction: Prediction, index: int, salt: str = "") -> str:
    """Ten characters that are the same whenever the same prediction is written, and differ within one.

    Args:
        prediction: what is written.
        index: of the instance.
        salt: tells regions of one instance apart, such as those in several tags.
    """
    instance = prediction.instances[index]
    key = f"{prediction.model_version}|{index}|{instance.label}|{instance.xyxy.tolist()}|{prediction.size_hw}{salt}"
    return blake2b(key.encode(), digest_size=5).hexdigest()


def prediction_score(prediction: Prediction) -> float:
    """One number to sort tasks by, 0..1: the mean of detection score times mask quality; 0 without instances."""
    products = [i.score * (1.0 if i.quality is None else i.quality) for i in prediction.instances]
    return round(float(np.clip(np.mean(products), 0, 1)), 4) if products else 0.0


def _box_percent(instance: Instance, size_hw: tuple[int, int]) -> dict[str, Any]:
    height, width = size_hw
    x0, y0, x1, y1 = np.clip(instance.xyxy, 0, [width, height, width, height]).tolist()
    return {
        "x": 100 * x0 / width,
        "y": 100 * y0 / height,
        "width": 100 * (x1 - x0) / width,
        "height": 100 * (y1 - y0) / height,
        "rotation": 0,
    }


def _values(
    instance: Instance, size_hw: tuple[int, int], kind: str, min_area: float
) -> list[tuple[dict[str, Any], int]]:
    """What the regions of one instance hold in a tag of this kind, and how many holes each cannot show. Brush masks get a place holder."""
    if kind == RECTANGLE:
        return [(_box_percent(instance, size_hw), 0)]
    if instance.mask is None:
        return []
    if kind == BRUSH:
        return [({"format": "rle", "rle": _PLACE}, 0)]
    if kind == BITMASK:
        return [({"imageDataURL": bitmask_url(instance.mask, size_hw)}, 0)]
    scale = 100 / np.array(size_hw[::-1])
    kept = [
        ring for k, ring in enumerate(outlines(instance.mask)) if k == 0 or ring.area >= min_area
    ][:_MOST_PARTS]
    rings = [
        (np.clip(outline.points_xy * scale, 0, 100).round(4).tolist(), outline.n_holes)
        for outline in kept
    ]
    return [({"points": points, "closed": True}, holes) for points, holes in rings]


def _regions(prediction: Prediction, index: int, output: Output) -> list[dict[str, Any]]:
    height, width = prediction.size_hw
    instance = prediction.instances[index]
    made = []
    for part, (value, holes) in enumerate(
        _values(instance, prediction.size_hw, output.kind, output.min_area)
    ):
        region = {
            "id": region_id(prediction, index, f"|{output.from_name}|{part}"),
            "type": output.kind,
            "from_name": output.from_name,
            "to_name": output.to_name,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "origin": "prediction",
            "score": round(float(instance.score), 4),
            "value": {**value, output.kind: [output.labels.get(instance.class_id, instance.label)]},
        }
        if holes:
            region["meta"] = {
                "text": [
                    f"{holes} hole{'s' if holes > 1 else ''} not shown: a polygon cannot have any"
                ]
            }
        made.append(region)
    return made


def chosen(prediction: Prediction, output: Output) -> list[int]:
    """Indices of the instances that a tag shows: labelled by it, over its thresholds, the best ``max_regions`` of them, in their own order."""
    kept = []
    for k, instance in enumerate(prediction.instances):
        height, width = instance.xyxy[3] - instance.xyxy[1], instance.xyxy[2] - instance.xyxy[0]
        area = height * width if instance.mask is None else np.count_nonzero(instance.mask.crop)
        if (
            instance.class_id in output.labels
            and instance.score >= output.thresholds[instance.class_id]
            and area >= output.min_area
        ):
            kept.append(k)
    best = sorted(kept, key=lambda k: -prediction.instances[k].score)[: output.max_regions]
    return sorted(best)


def outputs_json(prediction: Prediction, outputs: Iterable[Output]) -> tuple[list[str], int]:
    """Regions for every tag that is to be filled, as compact JSON texts; brush masks never become lists of integers.

    Args:
        prediction: of one image.
        outputs: the tags, their labels and limits.

    Returns:
        One text per region, and how many holes polygons could not show.
    """
    texts, holes = [], 0
    for output in outputs:
        for k in chosen(prediction, output):
            instance = prediction.instances[k]
            for region in _regions(prediction, k, output):
                text = json.dumps(region, ensure_ascii=False, separators=(",", ":"))
                if output.kind == BRUSH:
                    text = text.replace(
                        _PLACE_JSON, rle.to_json(rle.encode(instance.mask, prediction.size_hw)), 1
                    )
                texts.append(text)
                holes += "meta" in region
    return texts, holes


def _plain(
    prediction: Prediction, brush_name: str, box_name: str, to_name: str
) -> tuple[Output, Output]:
    """Every instance as it is: masks into the brush tag, instances without one into the rectangle tag."""
    labels = {i.class_id: i.label for i in prediction.instances}
    zero = dict.fromkeys(labels, 0.0)
    return Output(BRUSH, brush_name, to_name, labels, zero), Output(
        RECTANGLE, box_name, to_name, labels, zero
    )


def to_result(
    prediction: Prediction, brush_name: str = "brush", box_name: str = "box", to_name: str = "image"
) -> list[dict[str, Any]]:
    """The ``result`` list of a Label Studio prediction.

    Args:
        prediction: what to show; instances without a mask become rectangles.
        brush_name: name of the BrushLabels tag.
        box_name: name of the RectangleLabels tag.
        to_name: name of the Image tag.

    Returns:
        One region per instance, in the same order.
    """
    return list(json.loads(result_json(prediction, brush_name, box_name, to_name)))


def result_json(
    prediction: Prediction, brush_name: str = "brush", box_name: str = "box", to_name: str = "image"
) -> str:
    """``to_result`` as compact JSON text."""
    brush, box = _plain(prediction, brush_name, box_name, to_name)
    texts = []
    for k, instance in enumerate(prediction.instances):
        (region,) = _regions(prediction, k, box if instance.mask is None else brush)
        text = json.dumps(region, ensure_ascii=False, separators=(",", ":"))
        if instance.mask is not None:
            text = text.replace(
                _PLACE_JSON, rle.to_json(rle.encode(instance.mask, prediction.size_hw)), 1
            )
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


def _instance(region: StoredRegion, class_ids: Mapping[str, int]) -> Instance | None:
    """A region as an instance; a rectangle stays a box, everything else becomes a mask."""
    class_id, score = class_ids.get(region.label, -1), region.score or 0.0
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
    """
    class_ids = {name: k for k, name in enumerate(names)}
    regions, _ = read_regions(list(result), "result")
    instances: list[Instance] = []
    for region in regions:
        try:
            found = _instance(region, class_ids)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{region.where}: {type(error).__name__}: {error}") from None
        instances += [found] if found is not None else []
    sizes = {region.size_hw for region in regions}
    if len(sizes) > 1:
        raise InputError(f"regions of several image sizes: {sorted(sizes)}")
    return Prediction(tuple(instances), next(iter(sizes), (0, 0)), model_version)
