"""The order in which tasks are offered for review: what has most to correct comes first."""

from __future__ import annotations

import numpy as np
import pytest

from backend.config.models import load_settings
from backend.core.effort import expected_effort
from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance
from backend.demo.run import DEMO_MARGIN, DEMO_MIN_PART
from backend.demo.scenes.compose import Scene, generate
from backend.demo.scenes.objects import CLASS_NAMES
from backend.evaluation.effort import join, looked_at
from backend.evaluation.pairs import Region
from backend.formats.label_studio.results import prediction_score
from backend.labeling.load import build_cascade

_SEED = 8_400_000
_COUNT = 60


def truth_of(scene: Scene) -> list[Region]:
    masks = [mask_from_full(scene.objects == k + 1) for k in range(len(scene.class_ids))]
    return [
        region(Instance(CLASS_NAMES[class_id], class_id, 1.0, mask_xyxy(mask), mask))
        for class_id, mask in zip(scene.class_ids, masks, strict=True)
        if mask is not None
    ]


def corrections(found: list[Region], truth: list[Region]) -> int:
    """Objects that are missed, are none, or have another label or outline."""
    wrong = sum(not one.is_right for one in looked_at(found, truth))
    return wrong + len(truth) - int(np.count_nonzero(join(found, truth) >= 0))


def region(instance: Instance) -> Region:
    return Region(key=None, instance=instance)


@pytest.mark.slow
def test_the_hardest_come_first() -> None:
    """The area under the curve of corrections that were met, against that of a random order."""
    settings = load_settings(
        {
            "detector": "demo",
            "segmenter": "demo",
            "device": "cpu",
            "box_margin": DEMO_MARGIN,
            "min_part": DEMO_MIN_PART,
        },
        {},
    )
    cascade = build_cascade(settings)
    scores, efforts = [], []
    for k in range(_COUNT):
        scene = generate(_SEED + k)
        (prediction,) = cascade.predict([scene.image])
        scores.append(prediction_score(expected_effort(prediction.instances)))
        found = [region(one) for one in prediction.instances]
        efforts.append(corrections(found, truth_of(scene)))
    order = np.argsort(scores, kind="stable")
    met = np.cumsum(np.array(efforts)[order]) / sum(efforts)
    assert (met.mean() - 0.5 / _COUNT) / 0.5 >= 1.2
