"""A YOLO of Ultralytics on a CPU, whose network OpenVINO runs; the rest is its predictor's."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor

from backend.models.openvino import OpenVinoParts
from backend.models.yolo_direct import can_go_direct

_MOST_SHAPES = 8  # of inputs that are converted; each takes seconds, and memory
_WORTH = 3  # pictures of a shape, from which on a conversion pays


def run_in_parts(predictor: Any, digest: str) -> None:
    """Let a predictor run its network through OpenVINO; a model that gives more than boxes is left
    as it is.

    A network is converted for one shape of its input, which the shape of a picture decides. Torch
    runs the first pictures of a shape that was not converted before, and all of the shapes that
    come when ``_MOST_SHAPES`` are converted already.

    Args:
        predictor: of Ultralytics, set up.
        digest: tells its weights from others'.
    """
    if not can_go_direct(predictor) or predictor.args.task != "detect":
        return
    if getattr(predictor.model, "end2end", False):  # its choice among boxes would be converted, too
        return
    network = predictor.model
    parts = OpenVinoParts(network, f"{digest}-{version('ultralytics')}")
    by_torch: Callable[..., Any] = predictor.inference
    converted: set[tuple[int, ...]] = set()
    seen: LRUCache[tuple[int, ...], int] = LRUCache(64)

    def boxes_of(pixels: Tensor) -> tuple[Tensor]:
        answer = network(pixels)
        while isinstance(answer, list | tuple):  # boxes come first
            answer = answer[0]
        return (answer,)

    def inference(pixels: Tensor, *more: Any, **options: Any) -> Any:
        shape = tuple(pixels.shape[1:])
        name = "detect-" + "x".join(map(str, shape))
        if shape not in converted:
            seen[shape] = seen.get(shape, 0) + len(pixels)
            pays = parts.is_kept(name) or seen[shape] >= _WORTH
            if not pays or len(converted) >= _MOST_SHAPES:
                return by_torch(pixels, *more, **options)
            converted.add(shape)
        return torch.cat([parts.run(name, boxes_of, one[None])[0] for one in pixels])

    predictor.inference = inference
