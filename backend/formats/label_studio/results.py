"""Predictions as Label Studio's regions and tasks.

Region and task layout as Label Studio 1.23 stores them; ``original_width`` and ``original_height``
are the upright size and ``image_rotation`` is 0, because the editor works on the image with EXIF
applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from backend.core.effort import effort_of, expected_effort
from backend.core.outlines import outlines
from backend.core.types import Instance, Mask, Prediction
from backend.formats.json_text import RawJson, json_text
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.bitmask import bitmask_url

BRUSH = "brushlabels"
BITMASK = "bitmasklabels"
POLYGON = "polygonlabels"
RECTANGLE = "rectanglelabels"
_MOST_PARTS = 20  # polygons of one instance


def region(
    *,
    key: str,
    kind: str,
    from_name: str,
    to_name: str,
    size_hw: tuple[int, int],
    value: Mapping[str, Any],
    label: str,
    origin: str | None = None,
    score: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One region of a ``result`` list.

    Args:
        key: what tells this region from all others; the id is made of it.
        kind: type of the control tag, such as ``brushlabels``.
        from_name: of the control tag.
        to_name: of the Image tag.
        size_hw: of the upright image.
        value: the geometry.
        label: as the tag has it.
        origin: ``prediction`` for a model's region.
        score: 0..1.
        meta: what Label Studio shows, or keeps, with the region.

    >>> tag = {"kind": "rectanglelabels", "from_name": "box", "to_name": "image"}
    >>> made = region(key="a", **tag, size_hw=(2, 4), value={"x": 50}, label="cat")
    >>> made["original_width"], made["original_height"], made["value"]
    (4, 2, {'x': 50, 'rectanglelabels': ['cat']})
    """
    made: dict[str, Any] = {
        "id": blake2b(key.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest(),
        "type": kind,
        "from_name": from_name,
        "to_name": to_name,
        "original_width": size_hw[1],
        "original_height": size_hw[0],
        "image_rotation": 0,
    }
    if origin is not None:
        made["origin"] = origin
    if score is not None:
        made["score"] = score
    made["value"] = {**value, kind: [label]}
    if meta:
        made["meta"] = meta
    return made


def bare_regions(made: dict[str, Any], labels_from: str) -> list[dict[str, Any]]:
    """A region of a tag that has no labels of its own (``Brush``, ``Polygon`` ...), as Label Studio
    stores it: its geometry, and its label from the ``Labels`` tag under the same id.

    Args:
        made: by ``region``, of the kind with labels.
        labels_from: name of the Labels tag.

    >>> tag = {"kind": "rectanglelabels", "from_name": "box", "to_name": "image"}
    >>> made = region(key="a", **tag, size_hw=(2, 4), value={"x": 50}, label="cat")
    >>> [(one["type"], one["from_name"], one["value"]) for one in bare_regions(made, "label")]
    [('rectangle', 'box', {'x': 50}), ('labels', 'label', {'x': 50, 'labels': ['cat']})]
    """
    kind = made["type"]
    geometry = {name: value for name, value in made["value"].items() if name != kind}
    return [
        {**made, "type": kind.removesuffix("labels"), "value": geometry},
        {
            **made,
            "type": "labels",
            "from_name": labels_from,
            "value": {**geometry, "labels": made["value"][kind]},
        },
    ]


def brush_values(masks: Sequence[Mask], size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """The values of brush regions of one image; their run lengths are JSON text already.

    >>> [value] = brush_values([Mask(0, 0, np.ones((1, 1), np.bool_))], (1, 1))
    >>> value["format"], value["rle"].text[:9]  # one pixel of four values
    ('rle', '[0,0,0,4,')
    """
    return [{"format": "rle", "rle": RawJson(text)} for text in rle.brush_jsons(masks, size_hw)]


def prediction_score(effort: float) -> float:
    """One number by which Label Studio sorts tasks, 0..1: low where there is much to correct.

    Args:
        effort: expected number of corrections.

    >>> prediction_score(0), prediction_score(1), prediction_score(3)
    (1.0, 0.5, 0.25)
    """
    return round(1 / (1 + max(0.0, effort)), 4)


def box_percent(xyxy: ArrayLike, size_hw: tuple[int, int]) -> dict[str, Any]:
    """The value of a rectangle region, cut to the image.

    Args:
        xyxy: (4,) in pixels.
        size_hw: of the image.

    Returns:
        Left, top, width and height in percent of the image.

    >>> box = box_percent([10, 5, 30, 99], (20, 40))
    >>> box["x"], box["y"], box["width"], box["height"]
    (25.0, 25.0, 50.0, 75.0)
    """
    height, width = size_hw
    x0, y0, x1, y1 = np.clip(xyxy, 0, [width, height, width, height]).tolist()
    return {
        "x": 100 * x0 / width,
        "y": 100 * y0 / height,
        "width": 100 * (x1 - x0) / width,
        "height": 100 * (y1 - y0) / height,
        "rotation": 0,
    }


_Values = list[tuple[dict[str, Any], int]]  # of the regions of an instance, and how many holes
# each cannot show


def _values(
    instances: Sequence[Instance], size_hw: tuple[int, int], output: Output
) -> list[_Values]:
    """What the regions of each instance hold in a tag."""
    if output.kind != BRUSH:
        return [_values_of(one, size_hw, output) for one in instances]
    brushes = iter(brush_values([one.mask for one in instances if one.mask is not None], size_hw))
    return [[] if one.mask is None else [(next(brushes), 0)] for one in instances]


def _values_of(instance: Instance, size_hw: tuple[int, int], output: Output) -> _Values:
    if output.kind == RECTANGLE:
        return [(box_percent(instance.xyxy, size_hw), 0)]
    if instance.mask is None:
        return []
    if output.kind == BITMASK:
        return [({"imageDataURL": bitmask_url(instance.mask, size_hw)}, 0)]
    scale = 100 / np.array(size_hw[::-1])
    rings = enumerate(outlines(instance.mask))
    kept = [ring for k, ring in rings if k == 0 or ring.area >= output.min_area][:_MOST_PARTS]
    return [
        (
            {
                "points": np.clip(ring.points_xy * scale, 0, 100).round(4).tolist(),
                "closed": True,
            },
            ring.n_holes,
        )
        for ring in kept
    ]


def _regions(
    prediction: Prediction, index: int, output: Output, values: _Values
) -> list[dict[str, Any]]:
    """The regions of one instance in a tag, with their values.

    Their ids are the same whenever the same prediction is written, and differ within one.
    """
    instance = prediction.instances[index]
    size_hw = prediction.size_hw
    about = f"{instance.label}|{instance.xyxy.tolist()}|{size_hw}|{output.from_name}"
    page = "" if output.item_index is None else f"|{output.item_index}"
    made = []
    for part, (value, holes) in enumerate(values):
        meta: dict[str, Any] = {}
        if instance.track is not None:
            meta = {"track": instance.track, "score": round(float(instance.score), 4)}
        if holes:
            noun = "holes" if holes > 1 else "hole"
            meta["text"] = [f"{holes} {noun} not shown: a polygon cannot have any"]
        one = region(
            key=f"{prediction.model_version}|{index}|{about}|{part}{page}",
            kind=output.kind,
            from_name=output.from_name,
            to_name=output.to_name,
            size_hw=size_hw,
            value=value,
            label=output.labels.get(instance.class_id, instance.label),
            origin="prediction",
            score=round(float(instance.score), 4),
            meta=meta,
        )
        if output.item_index is not None:
            one["item_index"] = output.item_index
        made += [one] if output.labels_from is None else bare_regions(one, output.labels_from)
    return made


def shown_instances(prediction: Prediction, output: Output) -> list[int]:
    """Indices of the instances that a tag shows, in their own order.

    They are labelled by it, over its thresholds, and the best ``max_regions`` of those.

    >>> box = np.array([0, 0, 4, 4], np.float32)
    >>> found = (Instance("cat", 0, 0.4, box), Instance("cat", 0, 0.9, box))
    >>> output = Output(RECTANGLE, "box", "image", labels={0: "cat"}, thresholds={0: 0.5})
    >>> shown_instances(Prediction(found, (8, 8), ""), output)
    [1]
    """
    kept = []
    for k, instance in enumerate(prediction.instances):
        if instance.class_id not in output.labels:
            continue
        if output.boxes_only and instance.mask is not None:
            continue
        if instance.score < output.thresholds[instance.class_id]:
            continue
        # Counting pixels takes time, and a mask has some.
        if (not output.min_area and instance.mask is not None) or _area(
            instance
        ) >= output.min_area:
            kept.append(k)
    best = sorted(kept, key=lambda k: -prediction.instances[k].score)[: output.max_regions]
    return sorted(best)


def _area(instance: Instance) -> float:
    """Pixels of the mask, or of the box where there is none."""
    if instance.mask is not None:
        return instance.mask.area
    left, top, right, bottom = instance.xyxy.tolist()
    return float((right - left) * (bottom - top))


@dataclass(frozen=True, kw_only=True)
class Result:
    """The regions of one image in all tags that are filled.

    Attributes:
        regions: their JSON texts with commas between; text, so that it can be kept in memory.
        effort: expected number of corrections, see ``core.effort``.
        n_instances: how many instances are shown.
        n_holed: how many polygons hide holes.
    """

    regions: str
    effort: float
    n_instances: int
    n_holed: int


def result_of(prediction: Prediction, outputs: Sequence[Output]) -> Result:
    """Fill tags with a prediction.

    Args:
        prediction: of one image.
        outputs: the tags, their labels and limits.

    >>> cat = Instance("cat", 0, 0.9, np.array([0, 0, 4, 4], np.float32))
    >>> prediction = Prediction((cat,), (8, 8), "")
    >>> result = result_of(prediction, plain_outputs(prediction))
    >>> result.n_instances, round(result.effort, 3), result.regions.count('"width":50.0')
    (1, 0.1, 1)
    """
    shown = [(output, shown_instances(prediction, output)) for output in outputs]
    regions = []
    for output, indices in shown:
        instances = [prediction.instances[k] for k in indices]
        values = _values(instances, prediction.size_hw, output)
        for k, of_instance in zip(indices, values, strict=True):
            regions += _regions(prediction, k, output, of_instance)
    places = sorted({k for _, indices in shown for k in indices})
    return Result(
        regions=json_text(regions)[1:-1],
        effort=expected_effort([prediction.instances[k] for k in places]),
        n_instances=len(places),
        n_holed=sum("text" in one.get("meta", {}) for one in regions),
    )


def result_of_regions(regions: Sequence[Mapping[str, Any]]) -> Result:
    """Regions that are made already, such as those of a video, as a result.

    >>> result_of_regions([{"score": 0.5}, {"score": 1.0}]).effort
    0.5
    """
    scores = [float(one["score"]) for one in regions if "score" in one]
    return Result(
        regions=json_text(list(regions))[1:-1],
        effort=effort_of(scores),
        n_instances=len(regions),
        n_holed=0,
    )


def prediction_object(results: Sequence[Result], model_version: str) -> dict[str, Any]:
    """One prediction as Label Studio takes it, ready for ``json_text``.

    Args:
        results: of all images of a task.
        model_version: of the prediction.

    >>> result = Result(regions="{}", effort=0.5, n_instances=1, n_holed=0)
    >>> prediction_object([result, result], "v1")
    {'model_version': 'v1', 'score': 0.5, 'result': RawJson(text='[{},{}]')}
    """
    regions = ",".join(result.regions for result in results if result.regions)
    return {
        "model_version": model_version,
        "score": prediction_score(sum(result.effort for result in results)) if results else 0.0,
        "result": RawJson(f"[{regions}]"),
    }


def plain_outputs(
    prediction: Prediction, brush_name: str = "brush", box_name: str = "box", to_name: str = "image"
) -> list[Output]:
    """Every instance as it is: masks into the brush tag, others into the rectangle tag.

    >>> cat = Instance("cat", 0, 0.9, np.zeros(4, np.float32))
    >>> [(one.kind, one.labels) for one in plain_outputs(Prediction((cat,), (8, 8), ""))]
    [('brushlabels', {0: 'cat'}), ('rectanglelabels', {0: 'cat'})]
    """
    labels = {i.class_id: i.label for i in prediction.instances}
    zero = dict.fromkeys(labels, 0.0)
    return [
        Output(kind=BRUSH, from_name=brush_name, to_name=to_name, labels=labels, thresholds=zero),
        Output(
            kind=RECTANGLE,
            from_name=box_name,
            to_name=to_name,
            labels=labels,
            thresholds=zero,
            boxes_only=True,
        ),
    ]


def task_object(prediction: Prediction, image_url: str) -> dict[str, Any]:
    """One importable task with its prediction, ready for ``json_text``.

    Args:
        prediction: of the image.
        image_url: what ``data.image`` holds.

    >>> task = task_object(Prediction((), (8, 8), "v1"), "/data/a.jpg")
    >>> task["data"], task["predictions"][0]["model_version"]
    ({'image': '/data/a.jpg'}, 'v1')
    """
    result = result_of(prediction, plain_outputs(prediction))
    return {
        "data": {"image": image_url},
        "predictions": [prediction_object([result], prediction.model_version)],
    }
