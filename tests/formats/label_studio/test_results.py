"""Label Studio results: what the SDK accepts, what comes back unchanged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

from backend.core.masks import full_frame, mask_difference, mask_from_full, mask_xyxy
from backend.core.types import Instance, Prediction
from backend.errors import InputError
from backend.formats.json_text import json_text
from backend.formats.label_studio import results as labelstudio
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.brush_rle import decode_brush
from backend.formats.label_studio.from_result import from_result
from backend.formats.label_studio.made_regions import BRUSH, RECTANGLE
from backend.formats.label_studio.make_config import make_config
from tests.conftest import random_mask
from tests.support.results import regions_of


def prediction(
    rng: np.random.Generator, n: int = 3, size_hw: tuple[int, int] = (60, 80)
) -> Prediction:
    instances = []
    for k in range(n):
        mask = mask_from_full(random_mask(rng, *size_hw, 4))
        instances.append(
            Instance(
                ["cat", 'the "dog" & <co>', "图"][k % 3],
                k % 3,
                0.9 - 0.1 * k,
                mask_xyxy(mask),
                mask,
                0.8,
            )
        )
    instances.append(Instance("cat", 0, 0.5, np.array([8, 6, 40, 30], np.float32)))
    return Prediction(tuple(instances), size_hw, "v1")


NAMES = ["cat", 'the "dog" & <co>', "图"]


def test_the_sdk_reads_the_masks_and_accepts_the_task(rng: np.random.Generator) -> None:
    one = prediction(rng)
    task = json.loads(json_text(labelstudio.task_object(one, "/data/local-files/?d=a%20b.jpg")))
    regions = task["predictions"][0]["result"]
    for region, instance in zip(regions[:-1], one.instances, strict=False):
        assert np.array_equal(
            decode_rle(region["value"]["rle"]).reshape(60, 80, 4)[..., 3] > 0,
            full_frame(instance.mask, one.size_hw),
        )
    interface = LabelInterface(make_config(NAMES))
    interface.validate()
    assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []
    assert len({region["id"] for region in regions}) == len(regions)


def test_rectangles_are_percent_of_the_upright_image(rng: np.random.Generator) -> None:
    region = regions_of(prediction(rng))[-1]
    assert region["type"] == "rectanglelabels"
    assert (region["original_width"], region["original_height"], region["image_rotation"]) == (
        80,
        60,
        0,
    )
    assert [round(region["value"][k], 6) for k in ("x", "y", "width", "height")] == [10, 10, 40, 40]


def test_round_trip(rng: np.random.Generator) -> None:
    one = prediction(rng)
    again = from_result(regions_of(one), NAMES, "v1")
    assert again.size_hw == one.size_hw
    for a, b in zip(one.instances, again.instances, strict=True):
        assert (a.label, a.class_id, pytest.approx(a.score)) == (b.label, b.class_id, b.score)
        if a.mask is None:
            assert np.allclose(a.xyxy, b.xyxy, atol=1e-4)
        else:
            assert np.array_equal(full_frame(a.mask, (60, 80)), full_frame(b.mask, (60, 80)))


def test_ids_are_stable_and_differ_by_version(rng: np.random.Generator) -> None:
    one = prediction(rng)
    ids = [[region["id"] for region in regions_of(each)] for each in (one, one)]
    other = [region["id"] for region in regions_of(replace(one, model_version="v2"))]
    assert ids[0] == ids[1]
    assert not set(other) & set(ids[0])


@pytest.mark.parametrize("labels_from", [None, "names"])
@pytest.mark.parametrize("item_index", [None, 2])
def test_run_lengths_are_laid_out_like_any_other_value(
    rng: np.random.Generator, labels_from: str | None, item_index: int | None
) -> None:
    """Their text is put together from parts; boxes of the same objects go the usual way."""
    one = prediction(rng)
    kept = replace(one, instances=one.instances[:-1])
    made = {}
    for kind in (BRUSH, RECTANGLE):
        output = Output(
            kind,
            "tag",
            "image",
            labels=dict(enumerate(NAMES)),
            thresholds=dict.fromkeys(range(3), 0.0),
            labels_from=labels_from,
            item_index=item_index,
        )
        text = labelstudio.result_of(kept, [output]).regions
        made[kind] = json.loads(f"[{text}]")
        assert text == json_text(made[kind])[1:-1]
    assert len(made[BRUSH]) == len(made[RECTANGLE]) == 3 * (2 if labels_from else 1)
    for brush, box in zip(made[BRUSH], made[RECTANGLE], strict=True):
        assert list(brush) == list(box)
        assert brush.pop("type") == box.pop("type").replace("rectangle", "brush")
        values = brush.pop("value"), box.pop("value")
        assert brush == box
        assert values[0].get("brushlabels") == values[1].get("rectanglelabels")
        assert values[0].get("labels") == values[1].get("labels")
        if labels_from is None:
            shown = decode_brush(values[0]["rle"], one.size_hw)
            truth = kept.instances[NAMES.index(values[0]["brushlabels"][0])].mask
            assert shown is not None
            assert mask_difference(truth, shown) == 0


def test_a_score_that_is_no_number_is_refused(rng: np.random.Generator) -> None:
    one = prediction(rng)
    odd = replace(one, instances=(replace(one.instances[0], score=float("nan")),))
    output = Output(BRUSH, "tag", "image", labels={0: "cat"}, thresholds={0: float("-inf")})
    with pytest.raises(InputError, match="not a number"):
        labelstudio.result_of(odd, [output])


def test_empty_prediction() -> None:
    empty = Prediction((), (10, 10), "v1")
    assert regions_of(empty) == []
    assert json.loads(json_text(labelstudio.task_object(empty, "x")))["predictions"][0] == {
        "model_version": "v1",
        "score": 0.5,
        "result": [],
    }


@pytest.mark.parametrize(
    "change",
    [
        {"value": {}},
        {"value": {"rle": [1, 2], "brushlabels": ["cat"]}},
        {"value": {"rle": [0] * 20, "brushlabels": []}},
        {"original_width": None},
    ],
)
def test_bad_regions_are_named(rng: np.random.Generator, change: dict[str, object]) -> None:
    region = {**regions_of(prediction(rng))[0], **change}
    with pytest.raises(InputError, match=r"result\[0\]"):
        from_result([region], NAMES)


def test_other_kinds_of_region_are_left_out() -> None:
    assert from_result([{"type": "choices", "value": {}}], NAMES).instances == ()
