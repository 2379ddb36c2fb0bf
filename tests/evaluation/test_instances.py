"""Matching of instances, panoptic quality by hand, and average precision against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import jaccard_score

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance, Mask
from backend.evaluation.average_precision import AveragePrecision
from backend.evaluation.instances import iou_matrix, match_instances
from tests.conftest import random_mask


def box(class_id: int, x: int, y: int, w: int, h: int, score: float = 1.0) -> Instance:
    mask = Mask(x, y, np.ones((h, w), bool))
    return Instance("abc"[class_id], class_id, score, mask_xyxy(mask), mask)


def test_overlaps_equal_those_of_full_frames(rng: np.random.Generator) -> None:
    frames = [frame for k in range(12) if (frame := random_mask(rng, 30, 40, k % 6)).any()]
    table = iou_matrix([mask_from_full(f) for f in frames], [mask_from_full(f) for f in frames])
    expected = [[jaccard_score(a.ravel(), b.ravel()) for b in frames] for a in frames]
    assert table == pytest.approx(np.array(expected))
    assert iou_matrix([], []).shape == (0, 0)


def test_panoptic_quality_by_hand() -> None:
    # Class a: one perfect match, one with IoU 60 / 100, one miss, one false alarm. Class b: IoU of
    # exactly 0.5 is no match for panoptic quality.
    truth = [
        box(0, 0, 0, 10, 10),
        box(0, 20, 0, 10, 10),
        box(0, 40, 0, 10, 10),
        box(1, 0, 20, 10, 10),
    ]
    found = [
        box(0, 0, 0, 10, 10),
        box(0, 20, 0, 10, 6),
        box(0, 60, 0, 10, 10),
        box(1, 0, 20, 10, 5),
    ]
    counts = match_instances(truth, found, 3).counts
    assert counts.truth.tolist() == [3, 1, 0]
    assert counts.predicted.tolist() == [3, 1, 0]
    assert counts.hit50.tolist() == [2, 1, 0]
    assert counts.hit75.tolist() == [1, 0, 0]
    assert counts.segmentation_quality[0] == pytest.approx((1 + 0.6) / 2)
    assert counts.recognition_quality[0] == pytest.approx(2 / (2 + 0.5 + 0.5))
    assert counts.panoptic_quality[0] == pytest.approx(0.8 * 2 / 3)
    assert counts.panoptic_quality[1] == 0
    assert np.isnan(counts.panoptic_quality[2])
    assert counts.mean_panoptic_quality == pytest.approx(0.8 * 2 / 3 / 2)
    assert counts.precision().tolist()[:2] == pytest.approx([2 / 3, 1])
    assert counts.f1(0.75)[0] == pytest.approx(1 / 3)
    assert counts.total_f1() == pytest.approx(2 * 3 / 8)


def test_the_surer_prediction_gets_the_object() -> None:
    truth = [box(0, 0, 0, 10, 10)]
    worse_but_surer = box(0, 0, 0, 10, 8, 0.9)
    better = box(0, 0, 0, 10, 10, 0.5)
    matched = match_instances(truth, [better, worse_but_surer], 1)
    assert matched.hits50.tolist() == [False, True]
    assert matched.counts.hit50[0] == 1


def test_another_class_is_no_match() -> None:
    counts = match_instances([box(0, 0, 0, 9, 9)], [box(1, 0, 0, 9, 9)], 2).counts
    assert counts.hit50.tolist() == [0, 0]
    assert counts.f1().tolist() == [0, 0]


def test_ignored_pixels_count_neither_way() -> None:
    void = np.zeros((40, 40), bool)
    void[:, 10:30] = True
    truth = [box(0, 0, 0, 10, 10)]
    spills = box(0, 0, 0, 20, 10)
    inside = box(0, 12, 0, 10, 10)
    half = box(0, 25, 20, 10, 10)
    matched = match_instances(truth, [spills, inside, half], 1, void)
    assert matched.counts.hit75[0] == 1  # what spills into ignored pixels is not held against it
    assert (
        matched.counts.predicted[0] == 2
    )  # one that lies in them altogether is no false alarm, one that lies half in them is
    mostly = match_instances(truth, [box(0, 24, 20, 10, 10)], 1, void)
    assert mostly.counts.predicted[0] == 0


def test_a_prediction_mostly_on_ignored_pixels_still_matches() -> None:
    void = np.zeros((40, 40), bool)
    void[:, 10:] = True
    matched = match_instances([box(0, 0, 0, 10, 10)], [box(0, 0, 0, 30, 10)], 1, void)
    assert (matched.counts.predicted[0], matched.counts.hit75[0]) == (1, 1)


def test_each_threshold_has_a_matching_of_its_own() -> None:
    truth = [box(0, 0, 0, 10, 10)]
    counts = match_instances(truth, [box(0, 0, 0, 10, 6, 0.9), box(0, 0, 0, 10, 9, 0.5)], 1).counts
    assert (counts.hit50[0], counts.hit75[0]) == (
        1,
        1,
    )  # the surer one at 0.5, the better one at 0.75


def scenes(
    seed: int, n_images: int
) -> list[tuple[list[np.ndarray], np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]]:
    """Per image: true masks and classes, predicted masks, classes and scores.

    With ties, empty images and overlaps.
    """
    rng = np.random.default_rng(seed)

    def block() -> np.ndarray:
        frame = np.zeros((40, 50), bool)
        y = rng.integers(0, 30)
        x = rng.integers(0, 40)
        frame[y : y + rng.integers(3, 12), x : x + rng.integers(3, 12)] = True
        return frame

    made = []
    for _ in range(n_images):
        truth = [block() for _ in range(rng.integers(0, 6))]
        found = [np.roll(t, rng.integers(-1, 2), 1) for t in truth if rng.random() < 0.9] + [
            block() for _ in range(rng.integers(0, 3))
        ]
        classes = rng.integers(0, 3, len(truth))
        guessed = np.concatenate([classes, rng.integers(0, 4, 9)])[: len(found)]
        made.append((truth, classes, found, guessed, rng.random(len(found)).round(1)))
    return made


def with_pycocotools(images: list, n_classes: int) -> np.ndarray:
    """AP, AP50 and AP75 over run-length encoded masks, all images at once."""

    def encoded(frame: np.ndarray) -> dict:
        return coco_mask.encode(np.asfortranarray(frame.astype(np.uint8)))

    truth = []
    found = []
    for k, (true_masks, true_classes, masks, classes, scores) in enumerate(images):
        for mask, c in zip(true_masks, true_classes, strict=True):
            one = {
                "id": len(truth) + 1,
                "image_id": k,
                "category_id": int(c),
                "iscrowd": 0,
                "area": int(mask.sum()),
                "segmentation": encoded(mask),
            }
            truth.append(one)
        for mask, c, score in zip(masks, classes, scores, strict=True):
            found.append(
                {
                    "image_id": k,
                    "category_id": int(c),
                    "score": float(score),
                    "segmentation": encoded(mask),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        sizes = [{"id": k, "height": 40, "width": 50} for k in range(len(images))]
        data.dataset = {
            "images": sizes,
            "categories": [{"id": c} for c in range(n_classes)],
            "annotations": truth,
            "info": {},
        }
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3]


@pytest.mark.parametrize("n_images", [40, 300])  # within one piece, and over several
def test_average_precision_equals_pycocotools(n_images: int) -> None:
    images = scenes(n_images, n_images)
    ours = AveragePrecision()
    first = AveragePrecision()
    second = AveragePrecision()
    for k, (truth, classes, found, guessed, scores) in enumerate(images):
        iou = iou_matrix([mask_from_full(m) for m in found], [mask_from_full(m) for m in truth])
        for target in (ours, first if k < n_images // 2 else second):
            target.add(classes, guessed, scores, iou)
    expected = with_pycocotools(images, 4)
    figures, per_class = ours.figures(4)
    assert [figures["AP"], figures["AP50"], figures["AP75"]] == pytest.approx(expected, abs=1e-12)
    assert 0.05 < figures["AP"] < 0.95
    assert np.isnan(per_class[3])  # predicted, but never true
    assert (first + second).figures(4)[0] == pytest.approx(figures, abs=1e-12)


def test_average_precision_of_nothing() -> None:
    assert np.isnan(AveragePrecision().figures(2)[0]["AP"])
    assert AveragePrecision().figures(0)[1] == []
