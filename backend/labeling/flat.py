"""A labeler whose masks share no pixel: every pixel of an image has one class, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.core.classes import NOT_CLASSES
from backend.core.masks import mask_xyxy
from backend.core.protocols import Labeler
from backend.core.stacking import flattened
from backend.core.types import Detections, Image, Instance, Mask, Prediction
from backend.errors import ConfigError


class FlatLabeler:
    """Another labeler's predictions without overlaps.

    Args:
        labeler: asked for everything.
        order: which mask keeps a pixel; of ``stacking.FLAT_ORDERS``.
        rest: class of what no mask covers; None leaves it without one.
        least_area: what is left of a mask and covers a smaller share of the image is left out.

    Raises:
        ConfigError: ``rest`` is a class already.
    """

    def __init__(
        self, labeler: Labeler, order: str, rest: str | None, least_area: float = 0.0
    ) -> None:
        taken = {name.casefold() for name in (*labeler.names.values(), *NOT_CLASSES)}
        if rest is not None and not rest.strip():
            raise ConfigError("--rest: expected a name, got nothing")
        if rest is not None and rest.casefold() in taken:
            raise ConfigError(f"--rest: {rest!r} is a class already; choose another name")
        self._labeler = labeler
        self._order = order
        self._rest = rest
        self._least_area = least_area
        self._rest_id = max(labeler.names, default=-1) + 1
        own = {} if rest is None else {self._rest_id: rest}
        self.names: Mapping[int, str] = {**labeler.names, **own}
        told = ["flat", order, *([] if rest is None else [rest])]
        told += [f"{least_area:g}"] if least_area else []
        self.model_version = "-".join([labeler.model_version, *told])

    def infer(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None] | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> Sequence[Any]:
        """As the other labeler does."""
        return self._labeler.infer(images, given, thresholds)

    def _flat(self, prediction: Prediction) -> tuple[list[Instance], Mask | None]:
        """Without overlaps, and without what is left of a mask and too small to be one."""
        least = self._least_area * prediction.size_hw[0] * prediction.size_hw[1]
        flat, uncovered = flattened(prediction.instances, prediction.size_hw, self._order)
        large = [one for one in flat if one.mask and one.mask.area >= least]
        if len(large) == len(flat):
            return flat, uncovered
        return flattened(large, prediction.size_hw, self._order)

    def finish(self, raw: Any) -> Prediction:
        """The other labeler's prediction, flat."""
        prediction = self._labeler.finish(raw)
        flat, uncovered = self._flat(prediction)
        without = Counter(prediction.left_out)
        hidden = sum(one.mask is not None for one in prediction.instances) - len(flat)
        if hidden:
            without["hidden by others"] += hidden
        if self._rest is not None and uncovered is not None:
            box = mask_xyxy(uncovered)
            flat.append(Instance(self._rest, self._rest_id, 1.0, box, uncovered))
        return replace(
            prediction,
            instances=tuple(flat),
            left_out=dict(without),
            model_version=self.model_version,
        )
