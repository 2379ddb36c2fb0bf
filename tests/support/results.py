"""What Label Studio would be told of a prediction, as Python objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from backend.core.types import Prediction
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.results import plain_outputs, result_of


def regions_of(
    prediction: Prediction, outputs: Sequence[Output] | None = None
) -> list[dict[str, Any]]:
    """The regions of a prediction; None fills a brush tag, and a rectangle tag for bare boxes."""
    chosen = plain_outputs(prediction) if outputs is None else outputs
    regions: list[dict[str, Any]] = json.loads(f"[{result_of(prediction, chosen).regions}]")
    return regions
