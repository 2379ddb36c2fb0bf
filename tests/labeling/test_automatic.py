"""Automatic masks as a labeler: which are kept, what they are called, and what is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from backend.core.masks import full_frame, mask_iou
from backend.core.types import (
    Boxes,
    ClassProbabilities,
    Detections,
    Image,
    Mask,
    Masks,
    Proposals,
)
from backend.labeling.automatic import AutomaticLabeler, AutomaticRules
from backend.labeling.cascade import Cascade

SIZE = (40, 60)
IMAGE = np.zeros((*SIZE, 3), np.uint8)


def block(x: int, y: int, w: int, h: int) -> Mask:
    return Mask(x, y, np.ones((h, w), np.bool_))


class Proposes:
    """The same masks for every image."""

    version = "proposes-1"

    def __init__(self, *masks: Mask) -> None:
        self.masks = masks

    def propose(self, images: Sequence[Image]) -> list[Proposals]:
        quality = np.linspace(0.9, 0.8, len(self.masks), dtype=np.float32)
        stable = np.ones(len(self.masks), np.float32)
        return [Proposals(self.masks, quality, stable, SIZE) for _ in images]


class Names:
    """Rows of probabilities by the corner of a mask; what is left is the background's."""

    version = "names-1"
    names: Mapping[int, str] = {0: "cat", 1: "dog"}

    def __init__(self, rows: Mapping[int, tuple[float, float]]) -> None:
        self.rows = rows
        self.asked: list[int] = []

    def name(
        self, images: Sequence[Image], masks: Sequence[Sequence[Mask]]
    ) -> list[ClassProbabilities]:
        self.asked += [len(own) for own in masks]
        found = []
        for own in masks:
            rows = np.array([self.rows[mask.x] for mask in own], np.float32).reshape(-1, 2)
            found.append(ClassProbabilities(rows, 1 - rows.sum(1)))
        return found


class Detects:
    """A dog in the left third, ``times`` over."""

    version = "detects-1"
    names: Mapping[int, str] = {3: "Dog"}

    def __init__(self, times: int = 1) -> None:
        self.times = times

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        boxes = np.array([[0, 0, 20, 40]] * self.times, np.float32)
        class_ids = np.full(self.times, 3, np.int64)
        one = Detections(boxes, class_ids, np.full(self.times, 0.7, np.float32))
        return [one for _ in images]


class FillsBoxes:
    """Each box is its mask."""

    version = "fills-1"

    def segment(self, images: Sequence[Image], boxes: Sequence[Boxes]) -> list[Masks]:
        answers = []
        for own in boxes:
            grid = np.full((len(own), *SIZE), -1, np.float32)
            for k, (x0, y0, x1, y1) in enumerate(own.astype(int).tolist()):
                grid[k, y0:y1, x0:x1] = 1
            answers.append(Masks(grid, np.ones(len(own), np.float32), SIZE))
        return answers


def nothing_detected() -> Cascade:
    return Cascade(None, FillsBoxes(), names={})


def labeler(
    proposer: Proposes, namer: Names | None = None, detect: bool = False, **rules: float
) -> AutomaticLabeler:
    cascade = Cascade(Detects(), FillsBoxes()) if detect else nothing_detected()
    made = AutomaticRules(**rules)  # type: ignore[arg-type]
    return AutomaticLabeler(proposer, namer, made, outlines=cascade, detect=detect)


def test_masks_that_nobody_names_are_objects() -> None:
    one = labeler(Proposes(block(0, 0, 4, 4), block(30, 0, 4, 4)))
    (found,) = one.predict([IMAGE])
    assert dict(one.names) == {0: "object"}
    assert [i.label for i in found.instances] == ["object", "object"]
    assert [round(i.score, 2) for i in found.instances] == [0.9, 0.8], "the predicted IoU"
    assert found.left_out == {}


def test_names_are_sure_unsure_or_background() -> None:
    rows = {0: (0.9, 0.05), 10: (0.5, 0.45), 20: (0.1, 0.1), 30: (0.05, 0.8)}
    namer = Names(rows)
    one = labeler(Proposes(*(block(x, 0, 4, 4) for x in rows)), namer)
    found, again = one.predict([IMAGE, IMAGE])
    assert dict(one.names) == {0: "cat", 1: "dog", 2: "unsure"}
    expected = [("cat", 0), ("unsure", 2), ("dog", 1)]
    assert [(i.label, i.class_id) for i in found.instances] == expected
    assert [round(i.score, 2) for i in found.instances] == [0.9, 0.5, 0.8]
    assert [round(i.quality or 0, 2) for i in found.instances] == [0.9, 0.87, 0.8]
    assert found.left_out == again.left_out == {"background": 1}
    assert namer.asked == [4, 4], "all images in one call"


def test_unsure_ones_are_dropped_where_that_is_wanted() -> None:
    namer = Names({0: (0.5, 0.45), 10: (0.9, 0.0)})
    one = labeler(Proposes(block(0, 0, 4, 4), block(10, 0, 4, 4)), namer, keep_unsure=False)
    (found,) = one.predict([IMAGE])
    assert dict(one.names) == {0: "cat", 1: "dog"}
    assert [i.label for i in found.instances] == ["cat"]
    assert found.left_out == {"unsure": 1}


def test_sizes_and_the_number_of_regions_are_limited_and_counted() -> None:
    masks = [block(0, 0, 60, 40), block(0, 0, 1, 1), *(block(10 * k, 0, 5, 5) for k in range(5))]
    one = labeler(Proposes(*masks), least_area=0.001, most_area=0.9, max_regions=3)
    (found,) = one.predict([IMAGE])
    assert len(found.instances) == 3
    assert found.left_out == {"too large": 1, "too small": 1, "more than --max-regions": 2}
    assert [i.mask.x for i in found.instances if i.mask] == [0, 10, 20], "the best stay"


def test_detected_objects_come_first_and_automatic_masks_fill_what_is_left() -> None:
    inside = block(2, 2, 10, 10)  # of the dog's box
    across = block(15, 0, 20, 10)  # a quarter of it lies under the dog
    beside = block(40, 0, 10, 10)
    namer = Names({15: (0.9, 0.0), 20: (0.9, 0.0), 40: (0.9, 0.0)})
    one = labeler(Proposes(inside, across, beside), namer, detect=True)
    (found,) = one.predict([IMAGE])
    assert dict(one.names) == {3: "Dog", 4: "cat", 5: "unsure"}, "both know the dog"
    assert [(i.label, i.class_id) for i in found.instances] == [("Dog", 3), ("cat", 4), ("cat", 4)]
    frames = [full_frame(i.mask, SIZE) for i in found.instances if i.mask]
    assert (np.sum(frames, axis=0) <= 1).all(), "nothing lies on a detected object"
    rest = found.instances[1].mask
    assert rest is not None
    assert mask_iou(rest, block(20, 0, 15, 10)) == 1
    assert found.left_out == {"detected already": 1}


def test_a_class_that_both_know_has_the_detectors_name_and_number() -> None:
    one = labeler(Proposes(block(40, 0, 9, 9)), Names({40: (0.0, 0.9)}), detect=True)
    (found,) = one.predict([IMAGE])
    assert [(i.label, i.class_id) for i in found.instances] == [("Dog", 3), ("Dog", 3)]


def test_what_two_detections_cover_together_counts_once() -> None:
    across = block(14, 0, 20, 10)  # three tenths of it lie under both dogs
    cascade = Cascade(Detects(times=2), FillsBoxes())
    rules = AutomaticRules()
    one = AutomaticLabeler(Proposes(across), None, rules, outlines=cascade, detect=True)
    (found,) = one.predict([IMAGE])
    assert [i.label for i in found.instances] == ["Dog", "Dog", "object"]
    assert found.left_out == {}


def test_thresholds_by_class_keep_what_a_labeling_config_wants() -> None:
    namer = Names({0: (0.9, 0.0), 10: (0.0, 0.9), 20: (0.6, 0.0)})
    one = labeler(Proposes(*(block(x, 0, 4, 4) for x in (0, 10, 20))), namer)
    (found,) = one.infer([IMAGE], thresholds={0: 0.7})
    assert [i.label for i in found.instances] == ["cat"]
    assert found.left_out == {"below a threshold": 2}


def test_nothing_proposed_gives_an_empty_prediction() -> None:
    for one in (labeler(Proposes()), labeler(Proposes(), Names({}))):
        (found,) = one.predict([IMAGE])
        assert found.instances == ()
        assert found.size_hw == SIZE
        assert one.predict([]) == []


@pytest.mark.parametrize("rules", [{"name_min": 0.6}, {"max_regions": 3}, {"least_area": 0.1}])
def test_the_version_tells_the_rules(rules: dict[str, float]) -> None:
    plain = labeler(Proposes(), Names({})).model_version
    assert plain.startswith("proposes+names-")
    assert labeler(Proposes(), Names({}), **rules).model_version != plain
    assert labeler(Proposes()).model_version != plain
