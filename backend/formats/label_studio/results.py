"""Predictions as Label Studio's results and tasks, laid out as Label Studio 1.23 stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.core.effort import effort_of, expected_effort
from backend.core.types import Instance, Prediction
from backend.formats.json_text import RawJson, json_items
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.made_regions import BRUSH, RECTANGLE, regions_text


def prediction_score(effort: float) -> float:
    """One number by which Label Studio sorts tasks, 0..1: low where there is much to correct.

    Args:
        effort: expected number of corrections.

    >>> prediction_score(0), prediction_score(1), prediction_score(3)
    (1.0, 0.5, 0.25)
    """
    return round(1 / (1 + max(0.0, effort)), 4)


def shown_instances(prediction: Prediction, output: Output) -> list[int]:
    """Indices of the instances that a tag shows, in their own order.

    They are labelled by it, over its thresholds, and the best ``max_regions`` of those.

    >>> import numpy as np
    >>> from backend.formats.label_studio.made_regions import RECTANGLE
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

    >>> import numpy as np
    >>> cat = Instance("cat", 0, 0.9, np.array([0, 0, 4, 4], np.float32))
    >>> prediction = Prediction((cat,), (8, 8), "")
    >>> result = result_of(prediction, plain_outputs(prediction))
    >>> result.n_instances, round(result.effort, 3), result.regions.count('"width":50.0')
    (1, 0.1, 1)
    """
    shown = [(output, shown_instances(prediction, output)) for output in outputs]
    texts = [regions_text(prediction, indices, output) for output, indices in shown]
    places = sorted({k for _, indices in shown for k in indices})
    return Result(
        regions=",".join([text for text, _ in texts if text]),
        effort=expected_effort([prediction.instances[k] for k in places]),
        n_instances=len(places),
        n_holed=sum(n_holed for _, n_holed in texts),
    )


def result_of_regions(regions: Sequence[Mapping[str, Any]]) -> Result:
    """Regions that are made already, such as those of a video, as a result.

    >>> result_of_regions([{"score": 0.5}, {"score": 1.0}]).effort
    0.5
    """
    scores = [float(one["score"]) for one in regions if "score" in one]
    return Result(
        regions=json_items(regions),
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

    >>> import numpy as np
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
