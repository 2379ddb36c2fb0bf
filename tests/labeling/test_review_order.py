"""The order in which tasks are offered for review: what has most to correct comes first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from backend.config.models import load_settings
from backend.core.effort import expected_effort
from backend.core.masks import mask_from_full, mask_iou
from backend.core.types import Instance, Mask
from backend.demo.run import DEMO_MARGIN, DEMO_MIN_PART
from backend.demo.scenes.compose import Scene, generate
from backend.demo.scenes.objects import CLASS_NAMES
from backend.formats.label_studio.results import prediction_score
from backend.labeling.load import build_cascade

_SEED = 8_400_000
_COUNT = 60
_RIGHT = 0.9  # IoU from which nobody touches a mask


def corrections(found: Sequence[Instance], truth: Sequence[tuple[str, Mask]]) -> int:
    """Objects that are missed, are none, or have another label or outline."""
    pairs = sorted(
        (
            (mask_iou(one.mask, mask), i, j)
            for i, one in enumerate(found)
            if one.mask is not None
            for j, (_, mask) in enumerate(truth)
        ),
        reverse=True,
    )
    ours: set[int] = set()
    theirs: set[int] = set()
    n_changed = 0
    for iou, i, j in pairs:
        if iou < 0.5:
            break
        if i not in ours and j not in theirs:
            ours.add(i)
            theirs.add(j)
            n_changed += iou < _RIGHT or found[i].label != truth[j][0]
    return n_changed + len(found) - len(ours) + len(truth) - len(theirs)


def truth_of(scene: Scene) -> list[tuple[str, Mask]]:
    masks = [mask_from_full(scene.objects == k + 1) for k in range(len(scene.class_ids))]
    return [
        (CLASS_NAMES[class_id], mask)
        for class_id, mask in zip(scene.class_ids, masks, strict=True)
        if mask is not None
    ]


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
        efforts.append(corrections(prediction.instances, truth_of(scene)))
    order = np.argsort(scores, kind="stable")
    met = np.cumsum(np.array(efforts)[order]) / sum(efforts)
    assert (met.mean() - 0.5 / _COUNT) / 0.5 >= 1.2
