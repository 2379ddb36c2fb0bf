"""What smart tools send, as prompts in pixels."""

from __future__ import annotations

import numpy as np
import pytest

from backend.errors import InputError
from backend.formats.label_studio.context import context_of, read_context, to_prompts


def point(x: float, y: float, label: str = "car", **more: object) -> dict:
    return {
        "type": "keypointlabels",
        "from_name": "kp",
        "value": {"x": x, "y": y, "width": 0.3, "keypointlabels": [label]},
        **more,
    }


def box(x: float, y: float, w: float, h: float, label: str = "car", **more: object) -> dict:
    return {
        "type": "rectanglelabels",
        "from_name": "box",
        "value": {
            "x": x,
            "y": y,
            "width": w,
            "height": h,
            "rotation": 0,
            "rectanglelabels": [label],
        },
        **more,
    }


def read(*marks: dict) -> list:
    return read_context({"result": list(marks)})


def test_percent_becomes_pixels() -> None:
    (target,) = read(point(25, 50), point(50, 75, is_positive=False))
    prompts = to_prompts(target, (200, 400))
    assert prompts.points_xy.tolist() == [[100, 100], [200, 150]]
    assert prompts.positive.tolist() == [True, False]
    (target,) = read(box(10, 20, 30, 40))
    assert np.allclose(to_prompts(target, (200, 400)).xyxy, [40, 40, 160, 120])


def test_points_accumulate_per_label() -> None:
    first, second = read(point(1, 1), point(2, 2, "bus"), point(3, 3))
    assert (first.label, len(first.marks), second.label, len(second.marks)) == ("car", 2, "bus", 1)


@pytest.mark.parametrize(
    ("more", "positive"),
    [
        ({}, True),
        ({"is_positive": False}, False),
        ({"is_positive": None}, True),
        ({"is_positive": True}, True),
    ],
)
def test_a_point_is_positive_unless_it_says_otherwise(more: dict, positive: bool) -> None:
    targets = read(point(1, 1), point(2, 2, **more))
    assert targets[0].marks[1].positive is positive


def test_several_boxes_are_several_objects_and_take_their_points() -> None:
    first, second = read(
        box(0, 0, 20, 20), box(50, 50, 20, 20, "bus"), point(55, 55), point(5, 5, is_positive=False)
    )
    assert [m.kind for m in first.marks] == ["box", "point"]
    assert not first.marks[1].positive
    assert second.label == "bus"
    assert [m.corners for m in second.marks[1:]] == [(55.0, 55.0)]


def test_a_negative_point_elsewhere_counts_for_all() -> None:
    targets = read(box(0, 0, 20, 20), box(50, 50, 20, 20), point(90, 90, is_positive=False))
    assert [len(t.marks) for t in targets] == [2, 2]


def test_the_key_of_a_prompt_is_that_of_the_next_one_without_its_last_mark() -> None:
    (one,), (two,) = read(point(1, 1)), read(point(1, 1), point(2, 2))
    assert one.key() == two.key(without_last=True)
    assert one.key() != two.key()


def test_drawn_from_the_lower_right_and_beyond_the_edge() -> None:
    (target,) = read(box(30, 40, -20, -30))
    assert np.allclose(to_prompts(target, (100, 100)).xyxy, [10, 10, 30, 40])
    (target,) = read(box(-10, 90, 50, 50))
    assert np.allclose(to_prompts(target, (100, 100)).xyxy, [0, 90, 40, 100])


@pytest.mark.parametrize(
    ("context", "match"),
    [
        ({}, "context.result: expected a list"),
        ({"result": []}, "context.result: expected a list"),
        ({"result": [3]}, r"context.result\[0\]: expected a region"),
        (
            {"result": [{"type": "ellipselabels", "from_name": "x", "value": {}}]},
            "supported are keypointlabels and rectanglelabels",
        ),
        ({"result": [point(float("nan"), 1)]}, r"context.result\[0\].value.x"),
        ({"result": [point(True, 1)]}, r"value.x"),
        ({"result": [{**point(1, 1), "from_name": 3}]}, "from_name"),
        ({"result": [point(1, 1, is_positive=False)]}, "only negative points"),
        ({"result": [point(1, 1)] * 201}, "limit is 200"),
        ({"result": [box(1, 1, 5, 5)] * 33}, "33 objects at once"),
    ],
)
def test_x09_what_cannot_prompt_is_named(context: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read_context(context)


def test_a_turned_or_empty_box_is_refused() -> None:
    turned = box(1, 1, 5, 5)
    turned["value"]["rotation"] = 30
    with pytest.raises(InputError, match="turned"):
        read(turned)
    with pytest.raises(InputError, match="less than a pixel"):
        to_prompts(read(box(1, 1, 0, 5))[0], (100, 100))


def test_context_may_be_json_text() -> None:
    assert context_of({"context": '{"result": [1]}'}) == {"result": [1]}
    assert context_of({"context": None}) is None
    assert context_of({}) is None
    with pytest.raises(InputError, match="not JSON"):
        context_of({"context": "{"})
    with pytest.raises(InputError, match="expected an object"):
        context_of({"context": [1]})


def test_a_click_that_comes_once_more_as_a_box_without_a_size_is_a_click() -> None:
    value = {"x": 25, "y": 50, "width": 0.3, "keypointlabels": ["cat"]}
    click = {"type": "keypointlabels", "from_name": "point", "value": value}
    half = {"x": 25, "y": 50, "width": None, "height": None, "rectanglelabels": ["cat"]}
    twin = {"type": "rectanglelabels", "from_name": "box", "value": half}
    (cat,) = read_context({"result": [click, twin]})
    assert [mark.kind for mark in cat.marks] == ["point"]
    with pytest.raises(InputError, match=r"result\[0\].value.width"):
        read_context({"result": [twin]})
