"""The segmenter against plain ``SAM2ImagePredictor`` on the same weights, and its scopes and
limits.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor

from backend.core.masks import full_frame, mask_iou
from backend.core.types import Embedding, Prompts
from backend.core.upsample import crop_masks
from backend.demo.dataset import true_detections, true_masks
from backend.demo.scenes.compose import Scene
from backend.errors import ConfigError, InputError, Unavailable
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.preprocess import (
    decoded,
    decoded_tokens,
    embedded,
    load_model,
    prepared,
)
from backend.models.weights import DEMO_SAM2, DEMO_SAM2_CONFIG, DEMO_YOLO


@pytest.fixture(scope="module")
def segmenter() -> Sam2Segmenter:
    return Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu")


@pytest.fixture(scope="module")
def reference(segmenter: Sam2Segmenter) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(segmenter.model)
    side = segmenter.model.image_size
    predictor._bb_feat_sizes = [(side // 4,) * 2, (side // 8,) * 2, (side // 16,) * 2]
    return predictor


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.usefixtures("by_openvino")
def test_box_masks_equal_the_predictor(
    runtime: str, reference: SAM2ImagePredictor, scenes: list[Scene]
) -> None:
    segmenter = Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu", runtime=runtime)
    boxes = [true_detections(scene).xyxy for scene in scenes]
    answers = segmenter.segment([scene.image for scene in scenes], boxes)
    ious = []
    for scene, of_image, answer in zip(scenes, boxes, answers, strict=True):
        reference.set_image(scene.image)
        masks, quality, _ = reference.predict(box=of_image, multimask_output=False)
        expected = masks.reshape(len(of_image), *scene.image.shape[:2]) > 0
        assert np.allclose(answer.quality, quality.ravel(), atol=1e-3)
        for mask, frame in zip(crop_masks(answer), expected, strict=True):
            ious.append(iou(full_frame(mask, scene.image.shape[:2]), frame))
    assert len(ious) >= 12
    assert np.mean(ious) >= 0.999


@pytest.mark.parametrize("multimask", [True, False])
def test_point_masks_equal_the_predictor(
    segmenter: Sam2Segmenter, reference: SAM2ImagePredictor, scenes: list[Scene], multimask: bool
) -> None:
    scene = scenes[0]
    size_hw = scene.image.shape[:2]
    y, x = np.argwhere(scene.objects == 1).mean(0)
    points = np.array([[x, y]] if multimask else [[x, y], [3, 3]], np.float32)
    positive = np.array([True] if multimask else [True, False])
    answer = segmenter.refine(
        segmenter.embed(scene.image), [Prompts(points_xy=points, positive=positive)]
    )
    reference.set_image(scene.image)
    masks, quality, _ = reference.predict(
        point_coords=points, point_labels=positive.astype(int), multimask_output=multimask
    )
    best = masks[quality.argmax()] > 0
    mask = crop_masks(answer)[0]
    assert mask is not None
    assert iou(full_frame(mask, size_hw), best) >= 0.999
    assert answer.quality[0] == pytest.approx(quality.max(), abs=1e-3)


def test_a_previous_mask_and_a_box_are_used(
    segmenter: Sam2Segmenter, reference: SAM2ImagePredictor, scenes: list[Scene]
) -> None:
    scene = scenes[1]
    box = true_detections(scene).xyxy[0]
    embedding = segmenter.embed(scene.image)
    first = segmenter.refine(embedding, [Prompts(xyxy=box)])
    y, x = np.argwhere(scene.objects == 1).mean(0)
    prompt = Prompts(
        xyxy=box,
        points_xy=np.array([[x, y]], np.float32),
        positive=np.array([True]),
        logits=first.logits[0].astype(np.float32),
    )
    again = segmenter.refine(embedding, [prompt])
    reference.set_image(scene.image)
    _, _, low = reference.predict(box=box, multimask_output=False)
    masks, _, _ = reference.predict(
        box=box,
        point_coords=prompt.points_xy,
        point_labels=np.array([1]),
        mask_input=low,
        multimask_output=False,
    )
    assert iou(full_frame(crop_masks(again)[0], scene.image.shape[:2]), masks[0] > 0) >= 0.995


def test_an_image_does_not_depend_on_its_neighbours(
    segmenter: Sam2Segmenter, scenes: list[Scene]
) -> None:
    boxes = [true_detections(scene).xyxy for scene in scenes]
    together = segmenter.segment([s.image for s in scenes], boxes)
    for scene, of_image, answer in zip(scenes, boxes, together, strict=True):
        (alone,) = segmenter.segment([scene.image], [of_image])
        for a, b in zip(crop_masks(alone), crop_masks(answer), strict=True):
            assert mask_iou(a, b) >= 0.999


def test_images_without_boxes_never_reach_the_encoder(
    segmenter: Sam2Segmenter, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    forward = segmenter.model.forward_image

    def counted(images: torch.Tensor) -> object:
        batches.append(len(images))
        return forward(images)

    monkeypatch.setattr(segmenter.model, "forward_image", counted)
    none = np.zeros((0, 4), np.float32)
    boxes = [true_detections(scenes[0]).xyxy, none, true_detections(scenes[2]).xyxy, none]
    answers = segmenter.segment([s.image for s in scenes], boxes)
    assert [len(a) for a in answers] == [len(b) for b in boxes]
    assert batches == [2]  # one batch for the whole image batch
    segmenter.segment([scenes[1].image], [none])
    assert batches == [2]
    assert segmenter.segment([], []) == []


def test_only_small_logits_leave_the_model(segmenter: Sam2Segmenter, scenes: list[Scene]) -> None:
    boxes = true_detections(scenes[0]).xyxy
    (answer,) = segmenter.segment([scenes[0].image], [boxes])
    side = segmenter.model.image_size // 4
    assert answer.logits.shape == (len(boxes), side, side)
    assert answer.logits.dtype == np.float16


def test_m06_no_mode_is_left_on(segmenter: Sam2Segmenter, scenes: list[Scene]) -> None:
    segmenter.segment([scenes[0].image], [true_detections(scenes[0]).xyxy])
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_running_out_of_memory_halves_the_chunk_and_goes_on(
    segmenter: Sam2Segmenter,
    scenes: list[Scene],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    boxes = [true_detections(scene).xyxy for scene in scenes[:2]]
    expected = segmenter.segment([s.image for s in scenes[:2]], boxes)
    sizes = []

    def tight(model, features, coordinates, labels):  # type: ignore[no-untyped-def]
        sizes.append(len(coordinates))
        if len(coordinates) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return decoded(model, features, coordinates, labels)

    monkeypatch.setattr("backend.models.sam2.running.decoded", tight)
    with caplog.at_level(logging.WARNING):
        found = segmenter.segment([s.image for s in scenes[:2]], boxes)
    assert [len(f) for f in found] == [len(b) for b in boxes]
    for a, b in zip(expected, found, strict=True):
        for one, other in zip(crop_masks(a), crop_masks(b), strict=True):
            assert mask_iou(one, other) >= 0.999
    assert "lower --sam-batch" in caplog.text
    assert sizes[:3] == [4, 2, 1]


def test_no_memory_for_even_one_says_what_to_do(
    segmenter: Sam2Segmenter, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(segmenter.model, "forward_image", never)
    with pytest.raises(
        Unavailable, match="out of memory with one of the images; use a smaller --segmenter"
    ):
        segmenter.segment([scenes[0].image], [true_detections(scenes[0]).xyxy])


def test_other_errors_are_not_taken_for_memory(
    segmenter: Sam2Segmenter, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(segmenter.model, "forward_image", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        segmenter.segment([scenes[0].image], [true_detections(scenes[0]).xyxy])


def test_m05_a_wrong_pair_is_named() -> None:
    with pytest.raises(
        ConfigError,
        match=(
            r"demo_sam2.1.pt and configuration configs/sam2.1/sam2.1_hiera_t.yaml do not fit"
            r" together"
        ),
    ):
        load_model("configs/sam2.1/sam2.1_hiera_t.yaml", DEMO_SAM2)
    with pytest.raises(
        ConfigError, match=r"demo_yolov8.pt and configuration .*demo_sam2.1.yaml do not fit"
    ):
        load_model(str(DEMO_SAM2_CONFIG), DEMO_YOLO)
    with pytest.raises(ConfigError, match="nothing.yaml do not fit"):
        load_model("nothing.yaml", DEMO_SAM2)


def test_the_version_follows_the_configuration(tmp_path: Path, segmenter: Sam2Segmenter) -> None:
    changed = tmp_path / "other.yaml"
    changed.write_text(DEMO_SAM2_CONFIG.read_text().replace("image_size: 448", "image_size: 384"))
    other = Sam2Segmenter(DEMO_SAM2, str(changed), device="cpu")
    assert other.version != segmenter.version
    assert (
        Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu").version == segmenter.version
    )


def test_a_yaml_file_decodes_as_build_sam2_does(tmp_path: Path, segmenter: Sam2Segmenter) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text(DEMO_SAM2_CONFIG.read_text().split("  sam_mask_decoder_extra_args")[0])
    assert (
        load_model(str(plain), DEMO_SAM2).sam_mask_decoder.dynamic_multimask_via_stability is True
    )
    assert segmenter.model.sam_mask_decoder.dynamic_multimask_via_stability is False


def test_packaged_configurations_load_through_build_sam2(tmp_path: Path) -> None:
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    weights = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save(
        {
            "model": (
                build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu").state_dict()
            )
        },
        weights,
    )
    model = load_model("configs/sam2.1/sam2.1_hiera_t.yaml", weights)
    assert model.image_size == 1024


def test_prompts_need_something_and_embeddings_an_owner(
    segmenter: Sam2Segmenter, scenes: list[Scene]
) -> None:
    embedding = segmenter.embed(scenes[0].image)
    assert embedding.n_bytes > 100_000
    assert len(segmenter.refine(embedding, [])) == 0
    with pytest.raises(InputError, match="a box, a point or a previous mask"):
        segmenter.refine(embedding, [Prompts()])
    with pytest.raises(InputError, match="another segmenter"):
        segmenter.refine(Embedding("x", (3, 3), 0), [Prompts()])


def test_the_embedded_model_outlines_objects(segmenter: Sam2Segmenter, scenes: list[Scene]) -> None:
    ious = []
    for scene in scenes:
        (answer,) = segmenter.segment([scene.image], [true_detections(scene).xyxy])
        ious += [
            mask_iou(mask, true) if mask else 0.0
            for mask, true in zip(crop_masks(answer), true_masks(scene), strict=True)
        ]
    assert np.mean(ious) >= 0.8


def test_a_smaller_input_gives_coarser_outlines(
    segmenter: Sam2Segmenter, scenes: list[Scene]
) -> None:
    small = Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu", size=320)
    assert small.version != segmenter.version
    same = Sam2Segmenter(DEMO_SAM2, str(DEMO_SAM2_CONFIG), device="cpu", size=448)
    assert same.version == segmenter.version
    ious = []
    for scene in scenes[:6]:
        (answer,) = small.segment([scene.image], [true_detections(scene).xyxy])
        assert answer.logits.shape[1:] == (80, 80)
        ious += [
            mask_iou(mask, true) if mask else 0.0
            for mask, true in zip(crop_masks(answer), true_masks(scene), strict=True)
        ]
    assert np.mean(ious) >= 0.75


def test_the_trainer_embeds_and_decodes_as_the_model_does(
    segmenter: Sam2Segmenter, scenes: list[Scene]
) -> None:
    """Weights are trained on what they are asked for later, whatever the model's settings say."""
    model = segmenter.model
    box = true_detections(scenes[0]).xyxy[:1]
    with torch.inference_mode():
        pixels = prepared([scenes[0].image], model.image_size, torch.device("cpu"))
        features = embedded(model, pixels)
        corners = torch.from_numpy(box / segmenter._scale(scenes[0].image.shape[:2]))
        prompts = (corners.view(1, 2, 2), torch.tensor([[2, 3]]))
        tokens = decoded_tokens(model, features, *prompts)
        one = decoded(model, features, *prompts, multimask=False)
        three = decoded(model, features, *prompts, multimask=True)
        (answer,) = segmenter.segment([scenes[0].image], [box])
        plain = not model.directly_add_no_mem_embed
        other = model.forward_image(pixels)["backbone_fpn"][-1]
    assert torch.equal(tokens.logits[:, :1], one.logits)
    assert torch.equal(tokens.logits[:, 1:], three.logits)
    assert torch.equal(tokens.quality[:, :1], one.quality)
    assert np.array_equal(answer.logits, one.logits[:, 0].half().numpy())
    assert torch.equal(features.image, other) == plain


def test_the_embedding_for_no_memory_is_added_only_where_the_model_says_so(
    segmenter: Sam2Segmenter, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = segmenter.model
    with torch.inference_mode():
        pixels = prepared([scenes[0].image], model.image_size, torch.device("cpu"))
        found = []
        for add in (True, False):
            monkeypatch.setattr(model, "directly_add_no_mem_embed", add)
            found.append(embedded(model, pixels).image)
        added = model.no_mem_embed.transpose(1, 2)[..., None]
    assert torch.allclose(found[0] - added, found[1], atol=1e-5)
    assert not torch.equal(found[0], found[1])


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    for k, content in enumerate((b"", b"hello", b"\xff\xd8\xff" * 50)):
        path = tmp_path / f"{k}.pt"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is no file of weights of PyTorch"):
            load_model(str(DEMO_SAM2_CONFIG), path)
