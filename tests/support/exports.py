"""Made-up Label Studio exports for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance, Prediction
from tests.support.results import regions_of

SIZE = (60, 80)
NAMES = ("car", "dog", "cat")


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(rows - y, columns - x) <= radius


def regions(*objects: tuple[str, np.ndarray, float], salt: str = "") -> list[dict[str, Any]]:
    """Brush regions for labels, full masks and scores."""
    instances = []
    for label, frame, score in objects:
        mask = mask_from_full(frame)
        assert mask is not None
        instances.append(Instance(label, NAMES.index(label), score, mask_xyxy(mask), mask))
    return regions_of(Prediction(tuple(instances), SIZE, "v" + salt))


def task(
    number: int, accepted: Sequence[Any] | None, predicted: Sequence[Any] | None, **more: Any
) -> dict[str, Any]:
    """A task with one annotation and one prediction; None for none."""
    prediction = {"id": 100 + number, "model_version": "v1", "score": 0.5, "result": predicted}
    annotation = {
        "id": number,
        "completed_by": 1,
        "was_cancelled": False,
        "ground_truth": False,
        "parent_prediction": 100 + number,
        "result": accepted,
    }
    made = {
        "id": number,
        "data": {"image": f"/data/upload/1/0123abcd-{number}.jpg"},
        "annotations": [] if accepted is None else [annotation],
        "predictions": [] if predicted is None else [prediction],
    }
    return {**made, **more}


def write(path: Path, tasks: Sequence[Any]) -> Path:
    path.write_text(json.dumps(list(tasks)))
    return path
