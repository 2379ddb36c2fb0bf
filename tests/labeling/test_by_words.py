"""What a window with a text field asks: masks of everything for any words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.config.models import Settings
from backend.core.naming import Words
from backend.demo.scenes.compose import Scene
from backend.errors import ConfigError
from backend.labeling.by_words import load_for_window
from tests.support.namers import write_classifier

DEMO = Settings(detector="demo", segmenter="demo", device="cpu", points_per_side=10)


def test_the_detector_comes_first_and_words_name_the_rest(scenes: list[Scene]) -> None:
    models = load_for_window(replace(DEMO, classes=("cup",)), "both")
    assert models.names == ("cup",)
    assert models.words == ()
    assert models.labeler_of is not None
    assert models.labeler.point_segmenter is not None
    image = np.ascontiguousarray(scenes[0].image[::2, ::2])
    (raw,) = models.labeler_of([Words("star"), Words("box"), Words("ball")]).infer([image])
    assert {one.label for one in raw.instances} <= {"cup", "star", "box", "ball", "unsure"}
    (other,) = models.labeler_of([]).infer([image])
    assert {one.label for one in other.instances} <= {"cup", "object"}
    places = [
        {(one.mask.x, one.mask.y) for one in found.instances if one.mask is not None}
        for found in (raw, other)
    ]
    assert places[0] <= places[1], "the same masks, whatever they are called"


def test_classes_of_a_classifier_are_words(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / "own", ("ripe", "rotten"))
    models = load_for_window(replace(DEMO, detector=None, namer=str(folder)), "automatic")
    assert models.words == (Words("ripe"), Words("rotten"))
    assert models.labeler.names == {}
    assert models.labeler_of is not None
    with pytest.raises(ConfigError, match="does not know 'green'"):
        models.labeler_of([Words("green")])


def test_known_classes_need_no_words() -> None:
    models = load_for_window(DEMO, "cascade")
    assert models.labeler_of is None
    assert len(models.labeler.names) == 6


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"least_area": 0.5, "most_area": 0.1}, "--least-area: is larger than --most-area"),
        ({"namer": "nosuch/folder/here"}, "--namer: no such folder"),
        ({"examples": Path("nosuch")}, "--examples: no such file or folder"),
        ({"classes": ("cup",)}, "--classes: chooses among the classes of a detector"),
        ({"prompts": Path("boxes.json")}, "--prompts: --mode automatic asks for no boxes"),
    ],
)
def test_what_is_wrong_is_told_before_a_window_opens(changed: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_for_window(replace(DEMO, detector=None, **changed), "automatic")
