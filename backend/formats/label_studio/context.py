"""What the editor's smart tools send, as prompts in pixels.

``context.result`` holds regions in percent of the image: key points, which accumulate from click to
click, and rectangles. A point is positive unless ``is_positive`` (or ``value.positive``) says
false.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from backend.core.types import Prompts
from backend.errors import InputError

# all prompts of a request are one job on the inference thread
MAX_PROMPTS = 200
MAX_OBJECTS = 32
_KINDS = {"keypointlabels": "point", "rectanglelabels": "box"}


@dataclass(frozen=True)
class Mark:
    """One click or box as it was sent; coordinates in percent of the image."""

    kind: str  # point or box
    from_name: str
    label: str | None
    positive: bool
    corners: tuple[float, ...]  # x, y or x0, y0, x1, y1
    page: int | None = None  # number of the picture, where the tag shows several


@dataclass(frozen=True)
class PromptedObject:
    """The marks that describe one object, in the order they were made."""

    from_name: str
    label: str | None
    marks: tuple[Mark, ...]

    @property
    def page(self) -> int | None:
        """Number of the picture that it is on, where the tag shows several."""
        return self.marks[0].page

    def key(self, without_last: bool = False) -> str:
        """Names the prompt by its content; without the last mark, it names the prompt before it."""
        marks = self.marks[:-1] if without_last else self.marks
        return sha256(repr([(m.kind, m.positive, m.corners) for m in marks]).encode()).hexdigest()


def _numbers(value: Mapping[str, Any], names: Sequence[str], where: str) -> list[float]:
    numbers = []
    for name in names:
        number = value.get(name)
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e9:
            raise InputError(
                f"{where}.value.{name}: expected a finite number of percent, got"
                f" {type(number).__name__}"
            )
        numbers.append(float(number))
    return numbers


def _mark(region: Any, where: str) -> Mark:
    if not isinstance(region, dict) or not isinstance(region.get("value"), dict):
        raise InputError(f"{where}: expected a region with a value")
    kind = _KINDS.get(str(region.get("type")))
    if kind is None:
        raise InputError(
            f"{where}.type: {str(region.get('type'))[:40]!r} cannot prompt; supported are"
            " keypointlabels and rectanglelabels"
        )
    value = region["value"]
    from_name = region.get("from_name")
    if not isinstance(from_name, str):
        raise InputError(f"{where}.from_name: expected the name of a tag")
    labels = value.get(str(region["type"]), value.get("labels"))
    if labels is not None and not (
        isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    ):
        raise InputError(f"{where}.value.{region['type']}: expected a list of labels")
    positive = region.get("is_positive", value.get("positive", True))
    if kind == "point":
        corners = _numbers(value, ("x", "y"), where)
    else:
        x, y, width, height = _numbers(value, ("x", "y", "width", "height"), where)
        if value.get("rotation") not in (None, 0):
            raise InputError(
                f"{where}.value.rotation: turned boxes cannot prompt; draw the box upright"
            )
        corners = [min(x, x + width), min(y, y + height), max(x, x + width), max(y, y + height)]
    page = region.get("item_index")
    if page is not None and (isinstance(page, bool) or not isinstance(page, int) or page < 0):
        raise InputError(f"{where}.item_index: expected the number of a picture")
    return Mark(kind, from_name, labels[0] if labels else None, positive != 0, tuple(corners), page)


def _is_half(region: Any) -> bool:
    """Whether this is a click once more as a box without a size: Label Studio sends both where a
    label of each tool is chosen.
    """
    if not isinstance(region, dict) or region.get("type") != "rectanglelabels":
        return False
    value = region.get("value")
    return isinstance(value, dict) and value.get("height") is None


def _contains(box: Mark, point: Mark) -> bool:
    x, y = point.corners
    return box.corners[0] <= x <= box.corners[2] and box.corners[1] <= y <= box.corners[3]


def read_context(context: Mapping[str, Any]) -> list[PromptedObject]:
    """Group what was drawn into objects.

    Every box is an object, and the points inside it belong to it. Without boxes, the points of one
    label are one object. Negative points that belong nowhere count for every object.

    Args:
        context: ``params.context`` of a /predict call.

    Returns:
        At least one target.

    Raises:
        InputError: naming the field, for example ``context.result[2].value.x``.

    >>> value = {"x": 25, "y": 50, "keypointlabels": ["cat"]}
    >>> click = {"type": "keypointlabels", "from_name": "point", "value": value}
    >>> [cat] = read_context({"result": [click]})
    >>> cat.label, cat.marks[0].corners, cat.marks[0].positive
    ('cat', (25.0, 50.0), True)
    """
    result = context.get("result")
    if not isinstance(result, list) or not result:
        raise InputError("context.result: expected a list with at least one click or box")
    if len(result) > MAX_PROMPTS:
        raise InputError(
            f"context.result: {len(result)} clicks and boxes, the limit is {MAX_PROMPTS}"
        )
    halves = [_is_half(region) for region in result]
    marks = [
        _mark(region, f"context.result[{k}]")
        for k, region in enumerate(result)
        if not halves[k] or all(halves)
    ]
    points = [mark for mark in marks if mark.kind == "point"]
    groups: list[tuple[Mark, list[Mark]]] = [(mark, [mark]) for mark in marks if mark.kind == "box"]
    if not groups:
        for point in points:
            if point.positive and not any(
                first.label == point.label and first.from_name == point.from_name
                for first, _ in groups
            ):
                groups.append((point, []))
        if not groups:
            raise InputError("context.result: only negative points; click on the object first")
    for point in points:
        boxes = [
            group for first, group in groups if first.kind == "box" and _contains(first, point)
        ]
        same = [
            group
            for first, group in groups
            if first.kind == "point"
            and first.label == point.label
            and first.from_name == point.from_name
        ]
        home = boxes[:1] or same[:1] or ([] if point.positive else [group for _, group in groups])
        # A positive point outside every box refines the only box, or starts an object of its own.
        if not home:
            home = [groups[0][1]] if len(groups) == 1 else []
            groups += [] if home else [(point, [])]
            home = home or [groups[-1][1]]
        for group in home:
            group.append(point)
    if len(groups) > MAX_OBJECTS:
        raise InputError(
            f"context.result: {len(groups)} objects at once, the limit is {MAX_OBJECTS}"
        )
    return [PromptedObject(first.from_name, first.label, tuple(group)) for first, group in groups]


def to_prompts(
    target: PromptedObject, size_hw: tuple[int, int], logits: np.ndarray | None = None
) -> Prompts:
    """A target in pixels of its image.

    Args:
        target: at most one box.
        size_hw: of the upright image.
        logits: (h, w) float, of the answer before the last mark, or None.

    Raises:
        InputError: the box covers less than a pixel.

    >>> click = Mark("point", "point", "cat", positive=True, corners=(25, 50))
    >>> prompts = to_prompts(PromptedObject("point", "cat", (click,)), size_hw=(200, 400))
    >>> prompts.points_xy.tolist(), prompts.positive.tolist()
    ([[100.0, 100.0]], [True])
    """
    scale = np.array([size_hw[1], size_hw[0]], np.float32) / 100
    points = [mark for mark in target.marks if mark.kind == "point"]
    xy = np.array([mark.corners for mark in points], np.float32).reshape(-1, 2) * scale
    box = next((mark.corners for mark in target.marks if mark.kind == "box"), None)
    xyxy = None
    if box is not None:
        xyxy = np.clip(np.array(box, np.float32), 0, 100) * np.tile(scale, 2)
        if (xyxy[2:] - xyxy[:2] < 1).any():
            raise InputError("context: the box covers less than a pixel of the image")
    limit = np.array([size_hw[1], size_hw[0]], np.float32)
    return Prompts(
        xyxy, np.clip(xy, 0, limit), np.array([mark.positive for mark in points], np.bool_), logits
    )


def context_of(params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """``params.context`` where there is one, also as the JSON text that some versions send.

    Raises:
        InputError: it is something else.

    >>> context_of({"context": '{"result": []}'}), context_of({})
    ({'result': []}, None)
    """
    context = params.get("context")
    if isinstance(context, str):
        try:
            context = json.loads(context)
        except (ValueError, RecursionError):
            raise InputError("params.context: is text, but not JSON") from None
    if context is None or context == {}:
        return None
    if not isinstance(context, dict):
        raise InputError(f"params.context: expected an object, got {type(context).__name__}")
    return context
