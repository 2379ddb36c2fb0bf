"""The cascade with fakes: names, boxes, empty answers, versions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.core.masks import full_frame
from backend.core.types import Detections
from backend.errors import ConfigError, InputError
from backend.labeling.cascade import Cascade
from tests.support.fakes import FakeDetector, FakeSegmenter

IMAGE = np.zeros((40, 60, 3), np.uint8)


def given(n: int, score: float = 0.9) -> Detections:
    boxes = np.array(
        [[k % 30, k % 20, k % 30 + 12, k % 20 + 12] for k in range(n)], np.float32
    ).reshape(-1, 4)
    return Detections(boxes, np.zeros(n, np.int64), np.full(n, score, np.float32))


def test_names_boxes_and_masks(fake: Cascade) -> None:
    (prediction,) = fake.predict([IMAGE])
    (instance,) = prediction.instances
    assert (instance.label, instance.class_id) == ("cat", 0)
    assert instance.score == pytest.approx(0.9)
    frame = full_frame(instance.mask, prediction.size_hw)
    assert frame[3:30, 2:20].mean() > 0.95
    assert frame.sum() <= 29 * 20


@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_m07_any_number_of_detections(n: int) -> None:
    cascade = Cascade(None, FakeSegmenter(), names={0: "cat"})
    (prediction,) = cascade.predict([IMAGE], [given(n)])
    assert len(prediction.instances) == n


def test_images_of_a_batch_do_not_mix() -> None:
    cascade = Cascade(None, FakeSegmenter(), names={0: "cat"})
    images = [np.zeros((40 + 10 * k, 60, 3), np.uint8) for k in range(4)]
    predictions = cascade.predict(images, [given(k) for k in (2, 0, 1, 3)])
    assert [len(p.instances) for p in predictions] == [2, 0, 1, 3]
    assert [p.size_hw[0] for p in predictions] == [40, 50, 60, 70]


def test_x08_useless_boxes_are_dropped_and_others_clipped() -> None:
    detector = FakeDetector(
        [(-10, -10, 20, 20), (70, 5, 90, 20), (5, 5, 5.2, 30), (30, 20, 100, 100)]
    )
    (prediction,) = Cascade(detector, FakeSegmenter()).predict([IMAGE])
    assert [i.xyxy.tolist() for i in prediction.instances] == [[0, 0, 20, 20], [30, 20, 60, 40]]


def test_given_boxes_below_the_threshold_are_dropped() -> None:
    cascade = Cascade(None, FakeSegmenter(), names={0: "cat"}, conf=0.5)
    assert len(cascade.predict([IMAGE], [given(3, score=0.4)])[0].instances) == 0
    assert len(cascade.predict([IMAGE], [given(3, score=0.5)])[0].instances) == 3


def test_given_boxes_replace_the_detector_only_where_given() -> None:
    detector = FakeDetector()
    cascade = Cascade(detector, None)
    cascade.predict([IMAGE, IMAGE], [given(1), given(2)])
    assert detector.calls == 0
    predictions = cascade.predict([IMAGE, IMAGE], [None, given(2)])
    assert detector.calls == 1
    assert [len(p.instances) for p in predictions] == [1, 2]


def test_boxes_only() -> None:
    (prediction,) = Cascade(FakeDetector(), None).predict([IMAGE])
    assert prediction.instances[0].mask is None


def test_the_box_margin_cuts() -> None:
    detector = FakeDetector([(2, 3, 20, 30)])
    segmenter = FakeSegmenter()
    inner = segmenter.segment

    def spilling(images, boxes):  # type: ignore[no-untyped-def]
        return inner(images, [b + np.array([-2, -3, 20, 8], np.float32) for b in boxes])

    segmenter.segment = spilling  # type: ignore[method-assign]
    whole = Cascade(detector, segmenter).predict([IMAGE])[0].instances[0].mask
    cut = Cascade(detector, segmenter, box_margin=0.0).predict([IMAGE])[0].instances[0].mask
    assert whole.crop.shape[1] > 30
    assert (cut.x, cut.y, *cut.crop.shape) == (2, 3, 27, 18)


def test_the_version_follows_everything_that_changes_results() -> None:
    other = FakeDetector()
    other.version = "fake-2"  # type: ignore[misc]
    versions = [
        Cascade(FakeDetector(), FakeSegmenter()).model_version,
        Cascade(other, FakeSegmenter()).model_version,
        Cascade(FakeDetector(), None).model_version,
        Cascade(FakeDetector(), FakeSegmenter(), box_margin=0.1).model_version,
        Cascade(FakeDetector(), FakeSegmenter(), names={0: "x"}).model_version,
        Cascade(None, FakeSegmenter(), names={0: "x"}, given_version="a").model_version,
    ]
    assert len(set(versions)) == len(versions)
    assert Cascade(FakeDetector(), FakeSegmenter()).model_version == versions[0]


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ConfigError, match="--classes"):
        Cascade(None, FakeSegmenter())
    with pytest.raises(InputError, match="no boxes were given"):
        Cascade(None, FakeSegmenter(), names={0: "x"}).predict([IMAGE])


class Outliner(FakeDetector):
    """A detector that outlines what it finds."""

    def detect(self, images):
        masks = FakeSegmenter().segment(images, [self.boxes] * len(images))
        found = super().detect(images)
        return [replace(one, masks=of) for one, of in zip(found, masks, strict=True)]


def test_the_masks_of_a_detector_stay_with_their_boxes() -> None:
    detector = Outliner([(2, 3, 20, 30), (70, 5, 90, 20), (30, 10, 50, 30)])  # one is outside
    (prediction,) = Cascade(detector, None).predict([IMAGE])
    assert [one.xyxy.tolist() for one in prediction.instances] == [[2, 3, 20, 30], [30, 10, 50, 30]]
    for one in prediction.instances:
        assert one.mask is not None
        x0, y0, x1, y1 = (int(v) for v in one.xyxy)
        frame = full_frame(one.mask, prediction.size_hw)
        assert frame[y0:y1, x0:x1].mean() > 0.9
        assert frame.sum() <= (x1 - x0 + 1) * (y1 - y0 + 1)


def test_a_segmenter_for_boxes_alone_answers_no_prompts() -> None:
    class Boxes:
        version = "boxes-1"
        segment = FakeSegmenter.segment

    assert Cascade(FakeDetector(), Boxes()).point_segmenter is None
    both = FakeSegmenter()
    assert Cascade(FakeDetector(), both).point_segmenter is both
