"""Masks of everything against a dataset's objects: what is found, whether names are right, and what
a person reads of it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.core.types import ClassProbabilities, Instance, Mask, NamedProposals, Proposals
from backend.demo.dataset import write_voc
from backend.demo.scenes.objects import CLASS_NAMES
from backend.evaluation.named_masks import NamedMasks, best_threshold, judge_masks
from backend.evaluation.named_masks_text import named_masks_text

MODELS = ("--segmenter", "demo", "--device", "cpu", "--no-progress", "--points-per-side", "8")


def square(x: int, side: int = 40) -> Mask:
    return Mask(x, 0, np.ones((side, side), np.bool_))


def named(masks: list[Mask], shares: list[list[float]]) -> NamedProposals:
    probabilities = np.array(shares, np.float32).reshape(len(masks), 2)
    one = np.ones(len(masks), np.float32)
    proposals = Proposals(tuple(masks), one * np.float32(0.9), one, (50, 300))
    background = (1 - probabilities.sum(1)).astype(np.float32)
    # The namer's classes are the labeler's 3 and 7.
    return NamedProposals(proposals, ClassProbabilities(probabilities, background), (3, 7))


def objects(*pairs: tuple[int, int]) -> list[Instance]:
    box = np.zeros(4, np.float32)
    return [Instance(str(k), k, 1.0, box, square(x)) for x, k in pairs]


def test_masks_and_names_are_counted() -> None:
    masks = [square(0), square(100), square(200, 30), square(250, 10)]
    shares = [[0.9, 0.05], [0.3, 0.6], [0.2, 0.5], [0.8, 0.1]]
    found = named(masks, shares)
    # The labeler's 3 is the dataset's 0, its 7 is 1; a third object is found by no mask.
    judged = judge_masks(found, objects((0, 0), (100, 0), (200, 1)), {3: 0, 7: 1})
    assert judged.on_object.tolist() == [True, True, True, False]
    assert judged.right.tolist() == [True, False, True, False]
    total = NamedMasks()
    total.add(judged)
    document = total.document()
    half, strict = document["found"]
    assert (half["least_iou"], strict["least_iou"]) == (0.5, 0.75)
    assert half["sizes"][-1] == {
        "size": "all",
        "objects": 3,
        "found": 3,
        "recall": 1.0,
        "masks": 4,
        "on_an_object": 3,
        "precision": 0.75,
    }
    assert strict["sizes"][-1]["found"] == 2, "30 x 30 of 40 x 40 pixels is an IoU of 0.56"
    names = document["names"]
    assert names["masks_on_objects"] == 3
    assert names["accuracy"] == pytest.approx(2 / 3)
    assert [round(point["accuracy"], 2) for point in names["curve"]] == [1.0, 0.5, 0.67]
    # 0.9 is right, 0.8 lies on no object, 0.6 is wrong, 0.5 is right.
    assert judged.named.all()
    assert names["best"] == {"name_min": pytest.approx(0.9, abs=2e-4), "right": 1, "wrong": 0}
    text = named_masks_text(document)
    assert "names of the 3 masks on objects: 0.667 right" in text
    assert "--name-min 0.8999 would have been best: 1 right, 0 wrong" in text


def test_names_that_no_threshold_gives_do_not_count_for_it() -> None:
    """One looks more like background, one like two classes alike."""
    found = named([square(0), square(100)], [[0.3, 0.05], [0.45, 0.4]])
    judged = judge_masks(found, objects((0, 0), (100, 0)), {3: 0, 7: 1}, margin=0.1)
    assert judged.right.all()
    assert not judged.named.any()
    total = NamedMasks()
    total.add(judged)
    assert total.document()["names"]["best"] is None


def test_ignored_pixels_count_for_nothing() -> None:
    void = np.zeros((50, 300), np.bool_)
    void[:, 100:200] = True
    void[:30, :20] = True
    found = named([square(0), square(120)], [[0.9, 0.0], [0.9, 0.0]])
    truth = objects((0, 0))
    half = np.ones((40, 40), np.bool_)
    half[:30, :20] = False
    truth = [replace(truth[0], mask=Mask(0, 0, half))]
    judged = judge_masks(found, truth, {3: 0, 7: 1}, void=void)
    assert judged.on_object.tolist() == [True]
    assert judged.counts[1].total.recall == judged.counts[1].total.precision == 1.0


def test_a_threshold_is_rounded_down() -> None:
    best = best_threshold(np.array([0.99999]), np.array([True]))
    assert best is not None
    assert best["name_min"] == 0.9999


def test_nothing_is_no_number() -> None:
    total = NamedMasks()
    total.add(judge_masks(named([], []), [], {3: 0}))
    document = total.document()
    assert document["found"][0]["sizes"][-1]["recall"] is None
    assert document["names"]["accuracy"] is None
    assert document["names"]["best"] is None
    assert document["names"]["curve"] == []
    assert "no --name-min gives more right names than wrong ones" in named_masks_text(document)
    json.dumps(document, allow_nan=False)
    wrong = best_threshold(np.array([0.9, 0.8]), np.array([False, False]))
    assert wrong is None


def test_the_curve_keeps_its_last_point_however_long_it_is() -> None:
    total = NamedMasks()
    n = 1001
    masks = [square(0)] * n
    shares = [[(k + 1) / (n + 1), 0.0] for k in range(n)]
    for k in range(n):
        total.add(judge_masks(named([masks[k]], [shares[k]]), objects((0, 0)), {3: 0}))
    curve = total.document()["names"]["curve"]
    assert len(curve) <= 200
    assert curve[-1]["coverage"] == 1.0


def test_evaluate_judges_masks_of_everything(run_cli, tmp_path: Path) -> None:
    dataset = tmp_path / "voc"
    write_voc(dataset, seed=3_000_040, count=2)
    report, page = tmp_path / "r.json", tmp_path / "r.html"
    code, text, err = run_cli(
        *("evaluate", dataset, "--mode", "automatic", *MODELS, "--json", report, "--report", page)
    )
    assert code == 0, err
    assert "masks of everything" in text
    assert "would have been best" in text
    document = json.loads(report.read_text())
    assert document["settings"]["mode"] == "automatic"
    assert [one["name"] for one in document["views"][0]["classes"]][1:] == list(CLASS_NAMES)
    found = document["named_masks"]["found"][0]["sizes"][-1]
    assert found["objects"] > 4
    assert found["recall"] > 0.5
    assert document["named_masks"]["names"]["accuracy"] > 0.7
    html = page.read_text()
    assert "Masks of everything" in html
    assert 'id="chart-names"' in html
    code, text, _ = run_cli("evaluate", dataset, "--mode", "automatic", *MODELS, "--flat")
    assert code == 0
    assert "Mean_IOU" in text


def test_evaluate_without_everything_has_no_such_figures(run_cli, tmp_path: Path) -> None:
    dataset = tmp_path / "voc"
    write_voc(dataset, seed=3_000_040, count=1)
    code, text, _ = run_cli("evaluate", dataset, "--detector", "demo", *MODELS)
    assert code == 0
    assert "masks of everything" not in text
    code, _, err = run_cli(
        *("evaluate", dataset, "--mode", "automatic", "--predictions", tmp_path, "--no-progress")
    )
    assert (code, "leave --mode and --flat out" in err) == (2, True)
