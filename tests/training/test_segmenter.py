"""A segmenter learns from masks, and only where it may."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from backend.core.masks import mask_from_full, mask_iou, mask_xyxy
from backend.core.types import Prompts
from backend.core.upsample import crop_masks
from backend.demo.scenes.clips import Clip
from backend.errors import ConfigError
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.preprocess import Decoded, decoded_tokens, embedded, load_model
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG
from backend.training import judging
from backend.training.judged import EncodedPictures
from backend.training.judging import best_margin, box_ious
from backend.training.learner import Pace
from backend.training.losses import answer_loss, dice_loss, focal_loss, true_iou
from backend.training.parts import learner_of, thaw
from backend.training.prompting import box_prompts, click_prompts, corrections
from backend.training.segmenter import NotFinite, Recipe, SegmenterTrainer
from backend.training.views import DrawnViews, EncodedViews
from tests.support.cells import cells

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
QUICK = Recipe(prompts=6, seed=3)


@pytest.fixture
def model() -> Any:
    return load_model(str(DEMO_SAM2_CONFIG), DEMO_SAM2)


def encoded(folder: Path, model: Any, seeds: Sequence[int], count: int = 2) -> EncodedViews:
    views = EncodedViews(folder, model, CPU)
    for seed in seeds:
        views.add(*cells(seed), count, seed)
    return views


def unclipped(trainer: SegmenterTrainer) -> None:
    """Leave gradients as they come."""
    trainer._learner._pace = Pace(rate=1e-4, clip=1e9)


def judged(folder: Path, model: Any, seeds: Sequence[int]) -> EncodedPictures:
    folder.mkdir()
    pictures = EncodedPictures(folder, model, CPU)
    for seed in seeds:
        pictures.add(*cells(seed))
    return pictures


def mean_iou(model: Any, pictures: EncodedPictures) -> float:
    return float(np.mean([iou for of_one in box_ious(model, pictures) for iou in of_one]))


def test_it_learns_what_it_never_saw_and_nothing_else_changes(model: Any, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held_out = judged(tmp_path / "judged", model, (11, 12))
    base = mean_iou(model, held_out)
    trainer = SegmenterTrainer(model, encoded(tmp_path, model, range(4)), QUICK, CPU)
    losses = [trainer.advance(k / 40) for k in range(40)]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    model.load_state_dict(trainer.averaged(), strict=False)
    assert mean_iou(model, held_out) > base + 0.08
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert all(name.startswith("sam_mask_decoder.") for name in changed)
    assert not any("conv_s" in name for name in changed)


@pytest.mark.parametrize("parts", ["decoder", "lora"])
def test_a_training_goes_on_as_if_nothing_had_happened(
    model: Any, tmp_path: Path, parts: str
) -> None:
    recipe = replace(QUICK, parts=parts)
    kind = EncodedViews if parts == "decoder" else DrawnViews
    views = kind(tmp_path, model, CPU)
    views.add(*cells(0), 2, 0)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole = SegmenterTrainer(model, views, recipe, CPU)
    for k in range(4):
        whole.advance(k / 4)
    wanted = whole.averaged()
    model.load_state_dict(start)
    first = SegmenterTrainer(model, views, recipe, CPU)
    for k in range(2):
        first.advance(k / 4)
    torch.save(first.state(), tmp_path / "state")
    model.load_state_dict(start)
    second = SegmenterTrainer(model, views, recipe, CPU)
    second.restore(torch.load(tmp_path / "state", weights_only=True))
    for k in range(2, 4):
        second.advance(k / 4)
    found = second.averaged()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())


def test_a_loss_that_is_no_number_changes_nothing(model: Any, tmp_path: Path) -> None:
    trainer = SegmenterTrainer(
        model, encoded(tmp_path, model, (0,), 1), Recipe(rate=1.0, prompts=4), CPU
    )
    parameters = thaw(model)
    name = "sam_mask_decoder.mask_tokens.weight"
    with torch.no_grad():
        parameters[name].fill_(float("nan"))
    others = {key: value.clone() for key, value in parameters.items() if key != name}
    with pytest.raises(NotFinite, match="the loss became nan at step 1; a lower --rate may help"):
        trainer.advance(0)
    assert all(torch.equal(value, parameters[key]) for key, value in others.items())


def test_less_memory_takes_fewer_objects_at_once(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = SegmenterTrainer(model, encoded(tmp_path, model, (0,), 1), Recipe(prompts=8), CPU)
    asked: list[int] = []
    loss_of = trainer._loss

    def limited(view: Any, seen: Any, rows: torch.Tensor, by_click: torch.Tensor) -> torch.Tensor:
        asked.append(len(rows))
        if len(rows) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return loss_of(view, seen, rows, by_click)

    monkeypatch.setattr(trainer, "_loss", limited)
    trainer.advance(0)
    assert "out of memory with 8 objects at once, going on with 4" in caplog.text
    trainer.advance(0.5)
    assert asked == [8, 4, 4, 4, 4]


@pytest.mark.parametrize("parts", ["neck", "all"])
def test_more_parts_learn_and_what_videos_need_stays(
    model: Any, tmp_path: Path, parts: str
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    views = DrawnViews(tmp_path, model, CPU)
    for seed in range(2):
        views.add(*cells(seed), 1, seed)
    trainer = SegmenterTrainer(model, views, Recipe(prompts=4, parts=parts), CPU)
    for k in range(3):
        trainer.advance((k + 1) / 4)
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    encoder = "image_encoder.neck." if parts == "neck" else "image_encoder."
    assert all(name.startswith(("sam_mask_decoder.", encoder)) for name in changed)
    for name in ("image_encoder.neck.convs.0.conv.weight", "sam_mask_decoder.conv_s0.weight"):
        assert name in changed
    assert any("trunk" in name for name in changed) == (parts == "all")


def test_low_rank_changes_are_merged_into_plain_weights(model: Any, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    views = DrawnViews(tmp_path, model, CPU)
    for seed in range(2):
        views.add(*cells(seed), 1, seed)
    trainer = SegmenterTrainer(model, views, Recipe(rate=1e-2, prompts=4, parts="lora"), CPU)
    for k in range(4):
        trainer.advance((k + 1) / 5)
    weights = trainer.averaged()
    assert set(weights) < set(before)
    changed = {
        name: (weights[name] - before[name]).flatten(1)
        for name in weights
        if ".trunk." in name and not torch.equal(weights[name], before[name])
    }
    assert len(changed) > 20
    for name, change in changed.items():
        rank = int(torch.linalg.matrix_rank(change, rtol=1e-3))
        assert 0 < rank <= 8 < min(change.shape), name

    adapted = trainer._model
    names = trainer._learner.parameters
    adapted.load_state_dict({name: trainer._learner.averaged[name] for name in names}, strict=False)
    model.load_state_dict(weights, strict=False)
    pixels = torch.rand(1, 3, model.image_size, model.image_size)
    with torch.no_grad():
        alike = embedded(model, pixels), embedded(adapted, pixels)
    torch.testing.assert_close(alike[0].image, alike[1].image, rtol=1e-4, atol=1e-4)


def test_lora_without_its_package_says_so(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'yolo-sam2-labeling\[lora\]'"):
        learner_of(model, "lora")


def test_an_encoder_learns_the_same_from_few_objects_at_once(model: Any, tmp_path: Path) -> None:
    """What parts of the objects ask of the features is gathered before it goes through them."""
    start = {name: value.clone() for name, value in model.state_dict().items()}
    views = DrawnViews(tmp_path, model, CPU)
    views.add(*cells(3), 1, 0)
    found = []
    for chunk in (6, 2):
        model.load_state_dict(start)
        trainer = SegmenterTrainer(model, views, Recipe(prompts=6, parts="all"), CPU)
        unclipped(trainer)
        trainer._chunk = chunk
        # Prompts are drawn by chance, chunk by chunk: here all are the same.
        trainer._loss = _plain_loss(trainer)  # type: ignore[method-assign]
        trainer.advance(0.1)
        parameters = dict(model.named_parameters())
        weight = parameters["image_encoder.trunk.patch_embed.proj.weight"].grad
        assert weight is not None
        found.append(weight.clone())
    torch.testing.assert_close(found[0], found[1], rtol=2e-3, atol=1e-6)
    assert float(found[0].abs().max()) > 0


def _plain_loss(trainer: SegmenterTrainer) -> Any:
    """True boxes, one answer each."""

    def loss(view: Any, seen: Any, rows: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        corners = view.boxes[rows].reshape(-1, 2, 2)
        labels = torch.tensor([[2, 3]], dtype=torch.int).expand(len(rows), 2)
        answer = decoded_tokens(trainer._model, seen, corners, labels)
        real = torch.ones(len(rows))
        return answer_loss(answer, view.targets[rows], real, ambiguous=False)

    return loss


def test_a_tuned_encoder_still_follows_objects(model: Any, tmp_path: Path) -> None:
    """The memory is not trained, and goes on understanding what the encoder says."""
    clip = Clip(7_000_003)
    frames = list(clip.frames(6))
    views = DrawnViews(tmp_path, model, CPU)
    for k, frame in enumerate(frames[:3]):
        found = [mask_from_full(frame.objects == n) for n in np.unique(frame.objects)[1:]]
        views.add(frame.image, [one for one in found if one is not None], 1, k)
    segmenter = Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu")
    number = int(np.bincount(frames[0].objects.ravel())[1:].argmax()) + 1
    before = followed(segmenter, frames, number)
    trainer = SegmenterTrainer(model, views, Recipe(prompts=8, parts="all"), CPU)
    for k in range(12):
        trainer.advance((k + 1) / 13)
    segmenter.model.load_state_dict(model.state_dict())
    after = followed(segmenter, frames, number)
    assert before > 0.7
    assert after > before - 0.1


def followed(segmenter: Sam2Segmenter, frames: Sequence[Any], number: int) -> float:
    """Mean IoU of an object, from its box on the first frame."""
    truth = [mask_from_full(frame.objects == number) for frame in frames]
    session = segmenter.start([frame.image for frame in frames])
    first = truth[0]
    assert first is not None
    session.prompt(0, 1, Prompts(mask_xyxy(first).astype(np.float32)))
    ious = []
    while (one := session.step()) is not None:
        [mask] = crop_masks(one.masks)
        wanted = truth[one.frame]
        if wanted is not None:
            ious.append(0.0 if mask is None else mask_iou(mask, wanted))
    return float(np.mean(ious))


def test_objects_that_memory_did_not_hold_count_once(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = encoded(tmp_path, model, (0,), 1)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    gradient_of, found = torch.autograd.grad, []
    for failing in ([], [1]):
        model.load_state_dict(start)
        trainer = SegmenterTrainer(model, views, Recipe(prompts=4), CPU)
        unclipped(trainer)
        trainer._chunk = 4 if failing else 2
        trainer._loss = _plain_loss(trainer)  # type: ignore[method-assign]

        def gradient(*given: Any, failing: list[int] = failing, **more: Any) -> Any:
            made = gradient_of(*given, **more)
            if failing:
                failing.pop()
                raise torch.OutOfMemoryError("out of memory")
            return made

        monkeypatch.setattr(torch.autograd, "grad", gradient)
        trainer.advance(0.1)
        assert failing == []
        found.append(dict(model.named_parameters())["sam_mask_decoder.mask_tokens.weight"].grad)
    assert torch.equal(found[0], found[1])


def test_losses_are_those_of_others() -> None:
    """Against torchvision's focal loss, and the F1 that a soft Dice coefficient is."""
    from torchvision.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(5)
    logits = 4 * torch.randn((3, 2, 8, 8), generator=generator)
    goal = (torch.rand((3, 1, 8, 8), generator=generator) > 0.6).float().expand(3, 2, 8, 8)
    wanted = sigmoid_focal_loss(logits, goal, alpha=0.25, gamma=2.0).mean((2, 3))
    torch.testing.assert_close(focal_loss(logits, goal), wanted)
    hard = torch.where(logits > 0, 50.0, -50.0)
    hits = ((logits > 0) & (goal > 0)).sum((2, 3))
    total = (logits > 0).sum((2, 3)) + (goal > 0).sum((2, 3))
    torch.testing.assert_close(dice_loss(hard, goal), 1 - (2 * hits + 1) / (total + 1))


def test_views_hold_what_can_be_learned(model: Any, tmp_path: Path) -> None:
    """Boxes fit their objects in every view, the mirror too; what is too small is no question."""
    image, masks = cells(5)
    tiny = mask_from_full(np.pad(np.ones((1, 1), bool), ((3, 156), (3, 196))))
    assert tiny is not None
    views = EncodedViews(tmp_path, model, CPU)
    assert views.add(image, [*masks, tiny], 4, 0) == len(masks)
    assert views.add(image, [], 4, 0) == 0
    assert len(views) == 4
    for place in range(4):
        view = views.view(place, RNG)
        assert view.targets.shape[1:] == (224, 224)
        assert len(view.targets) == len(view.boxes) > 4
        for target, box in zip(view.targets.numpy(), view.boxes.numpy(), strict=True):
            x, y, w, h = cv2.boundingRect((target > 0.5).astype(np.uint8))
            assert np.allclose(box, [2 * x, 2 * y, 2 * (x + w), 2 * (y + h)])
    whole, mirrored = views.view(0, RNG).targets, views.view(1, RNG).targets
    assert torch.equal(whole.flip(2), mirrored)


def test_outlines_are_cut_where_that_fits_best(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that spills over is cut to its boxes; one that fits is left alone."""
    pictures = judged(tmp_path / "judged", model, [1, 2])
    crop = judging.crop_mask

    def spilling(grid: np.ndarray, size_hw: tuple[int, int]) -> Any:
        found = crop(grid, size_hw)
        if found is None:
            return None
        full = np.zeros(size_hw, np.uint8)
        h, w = found.crop.shape
        full[found.y : found.y + h, found.x : found.x + w] = found.crop
        return mask_from_full(cv2.dilate(full, np.ones((9, 9), np.uint8)) > 0)

    monkeypatch.setattr(judging, "crop_mask", spilling)
    assert best_margin(model, pictures, 0) == 0.0
    cut = np.mean([iou for of_one in box_ious(model, pictures, 0.0) for iou in of_one])
    spilled = np.mean([iou for of_one in box_ious(model, pictures) for iou in of_one])
    assert spilled < cut - 0.05

    # Whole objects whose boxes are far too small are not to be cut.
    monkeypatch.setattr(judging, "crop_mask", crop)
    monkeypatch.setattr(judging, "jittered", lambda boxes, side, generator: _smaller(boxes))
    assert best_margin(model, pictures, 0) != 0.0


def _smaller(boxes: torch.Tensor) -> torch.Tensor:
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * 0.8
    return torch.cat([middle - half, middle + half], 1)


def test_drawn_views_differ_and_their_boxes_fit(model: Any, tmp_path: Path) -> None:
    """Each time another part in another light; the same chance draws the same."""
    image, masks = cells(5)
    views = DrawnViews(tmp_path, model, CPU)
    assert views.add(image, [], 4, 0) == 0
    assert views.add(image, masks, 4, 0) == len(masks)
    assert len(views) == 4
    drawn = [views.view(0, np.random.default_rng(seed)) for seed in (1, 1, 2, 3)]
    pixels = [view.features for view in drawn]
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[0], pixels[2])
    assert not torch.equal(pixels[2], pixels[3])
    for view in drawn:
        assert len(view.targets) == len(view.boxes) > 0
        for target, box in zip(view.targets.numpy(), view.boxes.numpy(), strict=True):
            x, y, w, h = cv2.boundingRect((target > 0.5).astype(np.uint8))
            assert np.allclose(box, [2 * x, 2 * y, 2 * (x + w), 2 * (y + h)])


def test_a_drawn_view_shows_an_object_wherever_it_is(model: Any, tmp_path: Path) -> None:
    """In most windows there is none of it: then one that is known to show it is taken."""
    full = np.zeros((400, 400), bool)
    full[2:12, 2:12] = True
    mask = mask_from_full(full)
    assert mask is not None
    views = DrawnViews(tmp_path, model, CPU)
    views.add(np.full((400, 400, 3), 90, np.uint8), [mask], 1, 0)
    rng = np.random.default_rng(4)
    assert all(len(views.view(0, rng).boxes) == 1 for _ in range(30))


@pytest.mark.parametrize("size_hw", [(120, 900), (700, 100), (448, 448), (90, 90)])
def test_targets_are_the_shares_that_objects_cover(
    model: Any, tmp_path: Path, size_hw: tuple[int, int]
) -> None:
    """Against areas by arithmetic, in pictures of any shape."""
    height, width = size_hw
    full = np.zeros(size_hw, bool)
    full[height // 5 : height - height // 3, width // 7 : width - width // 4] = True
    mask = mask_from_full(full)
    assert mask is not None
    views = EncodedViews(tmp_path, model, CPU)
    views.add(np.zeros((*size_hw, 3), np.uint8), [mask], 1, 0)
    target = views.view(0, RNG).targets[0].numpy()
    edges = [
        [np.clip((np.arange(225) * size / 224), low, high) for size, low, high in one]
        for one in (
            [(height, height // 5, height - height // 3)],
            [(width, width // 7, width - width // 4)],
        )
    ]
    rows, columns = (np.diff(one[0]) * 224 / size for one, size in zip(edges, size_hw, strict=True))
    shrinking = (height >= 224, width >= 224)
    exact = np.outer(rows, columns)
    if all(shrinking):
        assert np.abs(target - exact).max() < 0.02
    assert abs(target.sum() - exact.sum()) < 0.02 * exact.sum()
    assert ((target > 0.5) != (exact > 0.5)).mean() < 0.02


def test_prompts_show_what_they_should() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(2, 20, 20)
    targets[0, 2:6, 3:9] = 1
    targets[1, 10:18, 12:15] = 1
    for _ in range(20):
        points, labels = click_prompts(targets, 40, generator)
        assert labels.tolist() == [[1], [1]]
        for target, (x, y) in zip(targets, points[:, 0].tolist(), strict=True):
            assert target[int(y / 2), int(x / 2)] == 1
        answer = torch.full((2, 5, 5), -1.0)
        answer[0] = 1.0  # far too much; of the second nothing was found
        points, labels = corrections(answer, targets, 40, generator)
        assert labels.tolist() == [[0], [1]]
        for target, label, (x, y) in zip(targets, labels, points[:, 0].tolist(), strict=True):
            assert target[int(y / 2), int(x / 2)] == label
    boxes = torch.tensor([[6.0, 4.0, 18.0, 12.0]])
    corners, kinds = box_prompts(boxes, 40, generator)
    assert corners.shape == (1, 2, 2)
    assert kinds.tolist() == [[2, 3]]
    assert (corners.view(-1) - boxes[0]).abs().max() < 8


def test_losses_are_small_for_what_is_right() -> None:
    target = torch.zeros(2, 8, 8)
    target[:, 2:6, 2:6] = 1
    right = (target * 40 - 20)[:, None].expand(2, 4, 8, 8)
    goal = target[:, None].expand_as(right)
    assert torch.all(focal_loss(right, goal) < 1e-6)
    assert torch.all(dice_loss(right, goal) < 1e-4)
    assert torch.equal(true_iou(right, goal), torch.ones(2, 4))
    assert torch.all(focal_loss(-right, goal) > 1)
    sure = torch.full((2, 1), 20.0)
    answer = Decoded(right, torch.ones(2, 4), sure, torch.zeros(2, 4, 1))
    real = torch.ones(2)
    assert answer_loss(answer, target, real, ambiguous=False) < 1e-3
    assert answer_loss(answer, target, real, ambiguous=True) < 1e-3
    nothing = answer_loss(answer, target, torch.zeros(2), ambiguous=False)
    assert nothing > 15, "sure of an object and of its mask, where there is none"
