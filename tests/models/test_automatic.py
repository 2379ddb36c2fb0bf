"""Automatic masks against ``SAM2AutomaticMaskGenerator`` on the same weights, and by their own
rules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backend.config.automatic import AutomaticOptions
from backend.config.models import load_settings
from backend.core.masks import full_frame, mask_iou
from backend.core.proposing import LEAST_SHARE_OF_NESTED, crops_of, only_piece
from backend.core.types import Image, Proposals
from backend.demo.scenes.compose import TEST_SEEDS, generate
from backend.errors import ConfigError, Unavailable
from backend.models.sam2.automatic import Sam2Proposer, _Candidates
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.preprocess import decoded, resize_model
from backend.models.sam2.stock import automatic_masks
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG

# What the embedded model's masks reach; those that it was not made for reach 0.8 and 0.95.
EMBEDDED = AutomaticOptions(
    points_per_side=12,
    pred_iou_thresh=0.6,
    stability_score_thresh=0.8,
    duplicates="box",
    connected=False,
)


@pytest.fixture(scope="module")
def segmenter() -> Sam2Segmenter:
    made = Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu")
    resize_model(made.model, 256)  # a third of the cost, and the arithmetic is the same
    return made


def theirs(
    segmenter: Sam2Segmenter, options: AutomaticOptions
) -> Callable[[Image], list[NDArray[np.bool_]]]:
    """The package's generator with the same options."""
    return automatic_masks(
        segmenter,
        points_per_side=options.points_per_side,
        points_per_batch=options.points_per_batch,
        pred_iou_thresh=options.pred_iou_thresh,
        stability_score_thresh=options.stability_score_thresh,
        stability_score_offset=options.stability_score_offset,
        mask_threshold=options.mask_threshold,
        box_nms_thresh=options.box_nms_thresh,
        crop_n_layers=options.crop_n_layers or 0,
        crop_nms_thresh=options.crop_nms_thresh,
        crop_overlap_ratio=options.crop_overlap_ratio,
        crop_n_points_downscale_factor=options.crop_n_points_downscale_factor,
        use_m2m=options.use_m2m,
        multimask_output=options.multimask_output,
    )


def matched(found: Proposals, expected: list[NDArray[np.bool_]]) -> list[float]:
    """IoU of each of the package's masks with the nearest of ours."""
    frames = [full_frame(mask, found.size_hw) for mask in found.masks]
    return [
        max((float((one & f).sum() / (one | f).sum()) for f in frames), default=0.0)
        for one in expected
    ]


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        (EMBEDDED, 3),
        (replace(EMBEDDED, points_per_side=6, crop_n_layers=1), 1),
        (replace(EMBEDDED, points_per_side=8, use_m2m=True), 1),
        (replace(EMBEDDED, multimask_output=False), 1),
        (replace(EMBEDDED, mask_threshold=0.5, stability_score_offset=0.5), 1),
    ],
    ids=["default", "crops", "m2m", "one mask a point", "threshold"],
)
def test_masks_are_those_of_the_package(
    segmenter: Sam2Segmenter, options: AutomaticOptions, seeds: int
) -> None:
    proposer = Sam2Proposer(segmenter, options)
    generator = theirs(segmenter, options)
    ious = []
    count = 0
    for seed in TEST_SEEDS[100 : 100 + seeds]:
        image = generate(seed, (240, 320)).image
        (found,) = proposer.propose([image])
        with torch.inference_mode():
            expected = generator(image)
        ious += matched(found, expected)
        count += len(found)
    assert len(ious) >= 5
    assert np.mean(ious) >= 0.99
    assert abs(count - len(ious)) <= max(1, 0.02 * len(ious))


def test_presets_and_options() -> None:
    def seen(given: dict[str, Any], own: dict[str, Any] | None = None) -> tuple[object, ...]:
        found = load_settings(given, {}).resolved(own)
        return found.points_per_side, found.crop_n_layers, found.pred_iou_thresh

    assert seen({}) == (32, 0, 0.8)
    assert seen({"preset": "coarse"}) == (16, 0, 0.8)
    assert seen({"preset": "fine", "points_per_side": 8}) == (8, 1, 0.8)
    own = {"points_per_side": 12, "pred_iou_thresh": 0.6}
    assert seen({}, own) == (12, 0, 0.6), "what suits the segmenter"
    assert seen({"preset": "coarse", "pred_iou_thresh": 0.8}, own) == (16, 0, 0.8), "a person first"
    with pytest.raises(ConfigError, match="automatic.use_m2m: cannot be said beside a model"):
        seen({}, {"use_m2m": True})
    with pytest.raises(ConfigError, match="automatic.pred_iou_thresh: expected 0 to 1, got 7"):
        seen({}, {"pred_iou_thresh": 7})
    with pytest.raises(ConfigError, match="--preset: expected one of coarse, default, fine"):
        load_settings({"preset": "finest"}, {})


def test_points_come_from_a_file(tmp_path: Path, segmenter: Sam2Segmenter) -> None:
    scene = generate(TEST_SEEDS[101], (240, 320))
    rows, cols = np.nonzero(scene.objects == 1)
    middle = len(rows) // 2
    path = tmp_path / "points.json"
    path.write_text(f"[[[{cols[middle] / 320}, {rows[middle] / 240}]]]")
    settings = load_settings({"point_grids": str(path), "pred_iou_thresh": 0}, {})
    (found,) = Sam2Proposer(segmenter, replace(settings, stability_score_thresh=0)).propose(
        [scene.image]
    )
    assert 1 <= len(found) <= 3, "three masks of one point, without duplicates"
    with pytest.raises(ConfigError, match="has points for 1 layers, the image and --crop-n-layers"):
        Sam2Proposer(segmenter, replace(settings, crop_n_layers=1))
    path.write_text("[[[2, 0.5]]]")
    with pytest.raises(ConfigError, match=r"--point-grids: .* expected 0 to 1, got 2"):
        load_settings({"point_grids": str(path)}, {})


def proposals(segmenter: Sam2Segmenter, **options: Any) -> Iterator[Proposals]:
    proposer = Sam2Proposer(segmenter, replace(EMBEDDED, duplicates="mask", **options))
    images = [generate(seed, (240, 320)).image for seed in TEST_SEEDS[100:103]]
    yield from proposer.propose(images)


def test_no_two_masks_overlap_more_than_the_threshold(segmenter: Sam2Segmenter) -> None:
    for found in proposals(segmenter, stability_score_thresh=0.5, mask_nms_thresh=0.4):
        areas = [np.count_nonzero(mask.crop) for mask in found.masks]
        assert len(found) >= 3
        for k, one in enumerate(found.masks):
            for j, other in enumerate(found.masks[:k]):
                assert mask_iou(one, other) <= 0.4
                nested = min(areas[k], areas[j]) / max(areas[k], areas[j])
                both = full_frame(one, found.size_hw) & full_frame(other, found.size_hw)
                inside = both.sum() / min(areas[k], areas[j])
                assert nested < LEAST_SHARE_OF_NESTED or inside <= 0.9
        scores = found.predicted_iou * found.stability**4
        assert (np.diff(scores) <= 0).all(), "the best first"


def test_an_image_is_answered_alone_as_among_others(segmenter: Sam2Segmenter) -> None:
    images = [generate(seed, size).image for seed, size in ((5, (96, 128)), (6, (120, 90)))]
    proposer = Sam2Proposer(segmenter, replace(EMBEDDED, points_per_side=6, crop_n_layers=1))
    together = proposer.propose(images)
    for image, found in zip(images, together, strict=True):
        (one,) = proposer.propose([image])
        assert len(one) == len(found)
        for mask, other in zip(one.masks, found.masks, strict=True):
            assert mask_iou(mask, other) > 0.99
    assert proposer.propose([]) == []


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (2, 2), (64, 64)])
@pytest.mark.parametrize("n_layers", [0, 1])
def test_pictures_without_anything_have_an_answer(
    segmenter: Sam2Segmenter, size_hw: tuple[int, int], n_layers: int
) -> None:
    options = replace(EMBEDDED, points_per_side=3, crop_n_layers=n_layers, duplicates="mask")
    (found,) = Sam2Proposer(segmenter, options).propose([np.full((*size_hw, 3), 90, np.uint8)])
    assert found.size_hw == size_hw
    assert len(found) == len(found.predicted_iou) == len(found.stability)


def test_what_an_edge_of_a_crop_cuts_hides_nothing(segmenter: Sam2Segmenter) -> None:
    """A region that bleeds over the edge of a crop is no reason to drop an object inside it."""
    proposer = Sam2Proposer(segmenter, replace(EMBEDDED, duplicates="mask", crop_n_layers=1))
    inside = np.zeros((2, 64, 64), np.bool_)
    inside[0, 20:64, 20:64] = True  # to the inner edges of the first crop
    inside[1, 24:46, 24:46] = True
    logits = np.where(inside, 4, -4).astype(np.float16)
    found = _Candidates(logits, np.array([0.9, 0.8], np.float32), np.ones(2, np.float32))
    crop = crops_of((200, 400), 1, 0.3)[1]
    stable = proposer._stable(found, np.zeros(2), crop, (200, 400))
    assert (stable.quality == np.float32(0.8)).tolist() == [True]


def test_small_parts_and_holes_go(segmenter: Sam2Segmenter) -> None:
    import cv2

    for found in proposals(segmenter, min_mask_region_area=30):
        for mask in found.masks:
            for value, connectivity in ((1, 8), (0, 4)):
                padded = np.pad(mask.crop, 1).astype(np.uint8)
                _, _, stats, _ = cv2.connectedComponentsWithStats(
                    (padded == value).astype(np.uint8), connectivity=connectivity
                )
                assert (stats[1:, cv2.CC_STAT_AREA] >= 30).all()


def test_running_out_of_memory_halves_the_batch_of_points_and_says_so(
    segmenter: Sam2Segmenter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = generate(TEST_SEEDS[100], (240, 320)).image
    options = replace(EMBEDDED, points_per_side=4)
    (expected,) = Sam2Proposer(segmenter, options).propose([image])
    sizes = []

    def tight(model, features, points, *rest, **options):  # type: ignore[no-untyped-def]
        sizes.append(len(points))
        if len(points) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return decoded(model, features, points, *rest, **options)

    monkeypatch.setattr("backend.models.sam2.automatic.decoded", tight)
    with caplog.at_level(logging.WARNING):
        (found,) = Sam2Proposer(segmenter, options).propose([image])
    assert sizes == [16, 8, 4, 4, 4, 4]
    assert len(found) == len(expected)
    assert "out of memory with 16 points at once, going on with 8; lower --points-per-batch" in (
        caplog.text
    )


def test_no_memory_for_one_point_says_what_to_do(
    segmenter: Sam2Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("backend.models.sam2.automatic.decoded", never)
    proposer = Sam2Proposer(segmenter, replace(EMBEDDED, points_per_side=2))
    with pytest.raises(Unavailable, match="out of memory with one of the points; use a smaller"):
        proposer.propose([np.zeros((32, 32, 3), np.uint8)])


def test_the_version_tells_what_decides_results(segmenter: Sam2Segmenter) -> None:
    version = Sam2Proposer(segmenter, EMBEDDED).version
    assert version.startswith("demo_sam2.1-automatic-")
    assert Sam2Proposer(segmenter, replace(EMBEDDED, points_per_batch=7)).version == version
    assert Sam2Proposer(segmenter, replace(EMBEDDED, pred_iou_thresh=0.5)).version != version


def test_connected_masks_are_single_pieces(segmenter: Sam2Segmenter) -> None:
    """What a point in one object finds elsewhere is left out."""
    image = generate(TEST_SEEDS[12], (240, 320)).image
    options = replace(EMBEDDED, duplicates="mask", pred_iou_thresh=0.3, stability_score_thresh=0.5)

    def in_one(found: Proposals) -> list[float]:
        """The share of each mask that its largest piece holds."""
        shares = []
        for mask in found.masks:
            _, labels = cv2.connectedComponents(mask.crop.astype(np.uint8), connectivity=8)
            areas = np.bincount(labels.ravel())[1:]
            shares.append(areas.max() / areas.sum())
        return shares

    (every,) = Sam2Proposer(segmenter, options).propose([image])
    (single,) = Sam2Proposer(segmenter, replace(options, connected=True)).propose([image])
    assert min(in_one(every)) < 0.9
    # Cells of the small grid that touch by a corner can fall apart in the image.
    assert min(in_one(single)) > 0.95
    versions = {
        Sam2Proposer(segmenter, replace(options, connected=one)).version for one in (True, False)
    }
    assert len(versions) == 2


def test_the_piece_of_the_point_stays() -> None:
    logits = np.full((8, 12), -4, np.float32)
    logits[1:3, 1:3] = 4
    logits[1:7, 6:11] = 4
    assert only_piece(logits, 2 / 12, 2 / 8)[1:3, 1:3].min() > 0
    assert not (only_piece(logits, 2 / 12, 2 / 8)[:, 5:] > 0).any()
    large = only_piece(logits, 0.0, 0.99)  # a point beside both: the larger one
    assert (large > 0).sum() == 30
    whole = np.full((3, 3), 4, np.float32)
    assert only_piece(whole, 0.5, 0.5) is whole
