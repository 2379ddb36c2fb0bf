"""Instances as regions of Label Studio's tags.

Region layout as Label Studio 1.23 stores it; ``original_width`` and ``original_height`` are the
upright size and ``image_rotation`` is 0, because the editor works on the image with EXIF applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from backend.core.outlines import outlines
from backend.core.types import Instance, Mask, Prediction
from backend.formats.json_text import JsonTemplate, RawJson, json_items, json_number, json_text
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.bitmask import bitmask_url

BRUSH = "brushlabels"
BITMASK = "bitmasklabels"
POLYGON = "polygonlabels"
RECTANGLE = "rectanglelabels"
_MOST_PARTS = 20  # polygons of one instance
_LONG = 200  # characters of a name or label of which nothing is kept


def region(
    *,
    key: str,
    kind: str,
    from_name: str,
    to_name: str,
    size_hw: tuple[int, int],
    value: Mapping[str, Any],
    label: str | RawJson,
    origin: str | None = None,
    score: float | RawJson | None = None,
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
        "id": _id(key),
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


def _id(key: str) -> str:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


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
    return [_brush_value(text) for text in rle.brush_jsons(masks, size_hw)]


def _brush_value(text: str) -> dict[str, Any]:
    return {"format": "rle", "rle": RawJson(text)}


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


def regions_text(prediction: Prediction, indices: Sequence[int], output: Output) -> tuple[str, int]:
    """The regions of instances in a tag.

    Their ids are the same whenever the same prediction is written, and differ within one.

    Args:
        prediction: of one image.
        indices: of the instances that are shown.
        output: the tag.

    Returns:
        Their JSON texts with commas between, and how many polygons hide holes.

    >>> cat = Instance("cat", 0, 0.9, np.array([0, 0, 4, 4], np.float32))
    >>> output = Output(RECTANGLE, "box", "image", labels={0: "Cat"}, thresholds={0: 0.0})
    >>> text, n_holed = regions_text(Prediction((cat,), (8, 8), "v1"), [0], output)
    >>> text[-26:], n_holed
    ('rectanglelabels":["Cat"]}}', 0)
    """
    if not indices:
        return "", 0
    instances = [prediction.instances[k] for k in indices]
    if output.kind == BRUSH and all(one.track is None for one in instances):
        return _brushes_text(prediction, indices, output), 0
    regions: list[dict[str, Any]] = []
    n_holed = 0
    values = _values(instances, prediction.size_hw, output)
    for k, of_instance in zip(indices, values, strict=True):
        for part, (value, holes) in enumerate(of_instance):
            meta: dict[str, Any] = {}
            score = _score(prediction.instances[k])
            if prediction.instances[k].track is not None:
                meta = {"track": prediction.instances[k].track, "score": score}
            if holes:
                noun = "holes" if holes > 1 else "hole"
                meta["text"] = [f"{holes} {noun} not shown: a polygon cannot have any"]
                n_holed += 1
            regions += _stored(
                output,
                prediction.size_hw,
                key=_key(prediction, k, output, part),
                value=value,
                label=_label(prediction.instances[k], output),
                score=score,
                meta=meta,
            )
    return json_items(regions), n_holed


def _brushes_text(prediction: Prediction, indices: Sequence[int], output: Output) -> str:
    """The regions of a tag that holds run lengths; what they have in common is written once."""
    found = prediction.instances
    masks = [(k, mask) for k in indices if (mask := found[k].mask) is not None]
    if not masks:
        return ""
    names = (output.from_name, output.to_name, output.labels_from or "")
    make = _brush_template if max(map(len, names)) < _LONG else _brush_template.__wrapped__
    template = make(
        output.from_name,
        output.to_name,
        output.labels_from,
        output.item_index,
        prediction.size_hw,
    )
    texts = rle.brush_jsons([mask for _, mask in masks], prediction.size_hw)
    return ",".join(
        [
            template.filled(
                {
                    "id": f'"{_id(_key(prediction, k, output, 0))}"',
                    "rle": text,
                    "label": _quoted(_label(found[k], output)),
                    "score": json_number(_score(found[k])),
                }
            )
            for (k, _), text in zip(masks, texts, strict=True)
        ]
    )


@lru_cache(maxsize=256)
def _brush_template(
    from_name: str,
    to_name: str,
    labels_from: str | None,
    item_index: int | None,
    size_hw: tuple[int, int],
) -> JsonTemplate:
    """A region of run lengths without its id, run lengths, label and score."""
    output = Output(
        BRUSH, from_name, to_name, {}, {}, labels_from=labels_from, item_index=item_index
    )
    stored = _stored(
        output,
        size_hw,
        key="",
        value=_brush_value("rle"),
        label=RawJson("label"),
        score=RawJson("score"),
        meta={},
    )
    return JsonTemplate([{**one, "id": RawJson("id")} for one in stored])


_quoted_before = lru_cache(maxsize=4096)(json_text)


def _quoted(label: str) -> str:
    # A project may have labels of any length; those are not kept.
    return _quoted_before(label) if len(label) < _LONG else json_text(label)


def _score(instance: Instance) -> float:
    return round(float(instance.score), 4)


def _label(instance: Instance, output: Output) -> str:
    return output.labels.get(instance.class_id, instance.label)


def _key(prediction: Prediction, index: int, output: Output, part: int) -> str:
    """What the id of a region is made of."""
    instance = prediction.instances[index]
    page = "" if output.item_index is None else f"|{output.item_index}"
    return (
        f"{prediction.model_version}|{index}|{instance.label}|{instance.xyxy.tolist()}"
        f"|{prediction.size_hw}|{output.from_name}|{part}{page}"
    )


def _stored(
    output: Output,
    size_hw: tuple[int, int],
    *,
    key: str,
    value: Mapping[str, Any],
    label: str | RawJson,
    score: float | RawJson,
    meta: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """One region as Label Studio stores it: as two where the tag has no labels of its own."""
    one = region(
        key=key,
        kind=output.kind,
        from_name=output.from_name,
        to_name=output.to_name,
        size_hw=size_hw,
        value=value,
        label=label,
        origin="prediction",
        score=score,
        meta=meta,
    )
    if output.item_index is not None:
        one["item_index"] = output.item_index
    return [one] if output.labels_from is None else bare_regions(one, output.labels_from)
