"""Tasks with several pictures, and labels that a task brings: /predict, clicks and prelabel."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import InputError
from backend.files.images import ImageLimits
from backend.formats.label_studio.binding import bind
from backend.formats.label_studio.label_config import parse_label_config
from backend.label_studio.api.tasks import Task
from backend.label_studio.prelabel.stages import Labeller, Loader, TaskWork
from backend.labeling.cascade import Cascade
from tests.label_studio.server.test_app import Clicker, png, server  # noqa: F401 - a fixture
from tests.support.fakes import FakeDetector

LIST = """<View><Image name="image" valueList="$pages"/>
  <BrushLabels name="brush" toName="image"><Label value="cat"/></BrushLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="cat"/></KeyPointLabels>
</View>"""
REPEATER = """<View><Repeater on="$doc" indexFlag="{{idx}}">
  <Image name="page_{{idx}}" value="$doc[{{idx}}].page"/>
  <BrushLabels name="tag_{{idx}}" toName="page_{{idx}}"><Label value="cat"/></BrushLabels>
  <KeyPointLabels name="point_{{idx}}" toName="page_{{idx}}" smart="true"><Label value="cat"/>
  </KeyPointLabels></Repeater></View>"""
DATA = {
    LIST: {"pages": ["a", "b", "a"]},
    REPEATER: {"doc": [{"page": "a"}, {"page": "b"}, {"page": "a"}]},
}


def places(config: str, regions: list[dict[str, Any]]) -> list[object]:
    if config == LIST:
        assert {(one["from_name"], one["to_name"]) for one in regions} == {("brush", "image")}
        return [one["item_index"] for one in regions]
    assert all("item_index" not in one for one in regions)
    return [(one["from_name"], one["to_name"]) for one in regions]


PLACES = {LIST: [0, 1, 2], REPEATER: [(f"tag_{k}", f"page_{k}") for k in range(3)]}


def ask(
    server: SimpleNamespace,  # noqa: F811
    config: str,
    data: object,
    **params: object,
) -> dict[str, Any]:
    body = {"tasks": [{"id": 1, "data": data}], "project": "1", "label_config": config}
    reply = server.client.post("/predict", json={**body, "params": params})
    assert reply.status_code == 200
    (item,) = reply.json["results"]
    return dict(item)


@pytest.mark.parametrize("config", [LIST, REPEATER], ids=["valueList", "Repeater"])
def test_every_page_is_filled(server: SimpleNamespace, config: str) -> None:  # noqa: F811
    server.images.answers = {"a": png(1), "b": png(2)}
    for _ in range(2):  # the second time from memory
        item = ask(server, config, DATA[config])
        assert places(config, item["result"]) == PLACES[config]
        assert len({one["id"] for one in item["result"]}) == 3


@pytest.mark.parametrize("config", [LIST, REPEATER], ids=["valueList", "Repeater"])
def test_a_click_is_answered_on_its_page(server: SimpleNamespace, config: str) -> None:  # noqa: F811
    server.images.answers = {"a": png(1), "b": png(2, (240, 360))}
    mark = {
        "type": "keypointlabels",
        "from_name": "point" if config == LIST else "point_1",
        "value": {"x": 40, "y": 40, "keypointlabels": ["cat"]},
        **({"item_index": 1} if config == LIST else {}),
    }
    (made,) = ask(server, config, DATA[config], context={"result": [mark]})["result"]
    assert places(config, [made]) == PLACES[config][1:2]
    assert (made["original_height"], made["original_width"]) == (240, 360)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"pages": []}, "expected a list of pictures, got an empty one"),
        ({"pages": {"a": 1}}, "expected a list of pictures, got dict"),
        ({"pages": ["a", 3]}, r"data.pages\[1\]: expected the address of an image, got int"),
        ({}, "expected a list of pictures, got NoneType"),
    ],
)
def test_pages_that_are_none_are_told(
    server: SimpleNamespace,  # noqa: F811
    data: object,
    told: str,
) -> None:
    item = ask(server, LIST, data)
    assert item["result"] == []
    assert re.search(told, item["error"])


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([{"value": "cat"}, {"value": "car"}], ["cat"]),
        (["dog"], []),
        (None, ["cat"]),
    ],
)
def test_a_task_gets_only_labels_that_it_brings(
    server: SimpleNamespace,  # noqa: F811
    labels: object,
    shown: list[str],
) -> None:
    config = """<View><Image name="image" value="$image"/>
      <BrushLabels name="brush" toName="image" value="$labels"/></View>"""
    found = ask(server, config, {"image": "a", "labels": labels})["result"]
    assert [one["value"]["brushlabels"] for one in found] == [[label] for label in shown]


@pytest.mark.parametrize("config", [LIST, REPEATER], ids=["valueList", "Repeater"])
def test_prelabel_fills_every_page(config: str) -> None:
    cascade = Cascade(FakeDetector(), Clicker())
    binding = bind(parse_label_config(config), lambda path: cascade.names, 0.25)
    content = {"a": png(1), "b": png(2)}
    loader = Loader(binding, lambda uri, task, deadline: content[uri], ImageLimits())
    labeller = Labeller(binding, cascade, "v1")
    loaded = [loader(TaskWork(Task(k, DATA[config]))) for k in (1, 2)]
    for task, answers in zip((1, 2), labeller.infer(loaded), strict=True):
        made = json.loads(labeller.finish(task, answers))
        assert places(config, made["result"]) == PLACES[config]


def test_a_task_of_pages_that_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.label_studio.prelabel.stages._PAGES_BYTES", 10_000)
    binding = bind(parse_label_config(LIST), lambda path: {0: "cat"}, 0.25)
    loader = Loader(binding, lambda uri, task, deadline: png(1), ImageLimits())
    with pytest.raises(InputError, match="its 3 pictures take more than"):
        loader(TaskWork(Task(1, DATA[LIST])))
