"""Our session over a video against ``SAM2VideoPredictor``: the same masks, one object or many; what
is dropped is never missed; corrections, late objects and going backward.

The embedded model serves, trained or not: both sides do the same arithmetic with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.protocols import VideoSegmenter, VideoSession
from backend.core.types import FrameMasks, Prompts
from backend.demo.scenes.clips import Clip
from backend.errors import InputError
from backend.models.sam2 import attention
from backend.models.sam2.attention import MemoryAttention
from backend.models.sam2.image import Sam2Segmenter
from backend.models.sam2.preprocess import prepared
from backend.models.sam2.video import Sam2Session
from backend.models.weights import EMBEDDED_FOLDER

CONFIG = EMBEDDED_FOLDER / "demo_sam2.1.yaml"
WEIGHTS = EMBEDDED_FOLDER / "demo_sam2.1.pt"
SEED = 1_000_402
N_FRAMES = 8


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's configuration with a smaller input, so that a video takes seconds."""
    recipe = OmegaConf.load(CONFIG)
    recipe.model.image_size = 192
    recipe.corrects_with_memory = True  # as the predictor does
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    OmegaConf.save(recipe, path)
    return path


@pytest.fixture(scope="module")
def segmenter(small: Path) -> Sam2Segmenter:
    made = Sam2Segmenter(WEIGHTS, str(small), device="cpu")
    made.model.pred_obj_scores = False  # or a memory that was not trained hides every mask
    return made


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(SEED, (120, 160))


@pytest.fixture(scope="module")
def frames(clip: Clip) -> list[np.ndarray]:
    return [frame.image for frame in clip.frames(N_FRAMES)]


def boxes(clip: Clip, frame: int) -> dict[int, np.ndarray]:
    objects = clip.frame(frame).objects
    found = {k: mask_from_full(objects == k) for k in range(1, len(clip.class_ids) + 1)}
    return {
        k: mask_xyxy(mask).astype(np.float32)
        for k, mask in found.items()
        if mask is not None and mask.crop.sum() > 60
    }


@pytest.fixture(scope="module")
def official(small: Path) -> Any:
    from hydra.utils import instantiate

    recipe = OmegaConf.load(small).model
    recipe._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    recipe.add_all_frames_to_correct_as_cond = True
    recipe.fill_hole_area = 0
    model = instantiate(recipe, _recursive_=True)
    weights = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["model"]
    model.load_state_dict(weights)
    model.pred_obj_scores = False
    return model.eval()


def official_state(official: Any, frames: list[np.ndarray], folder: Path) -> Any:
    """A state over frames that were prepared as ours are."""
    import PIL.Image

    for k, frame in enumerate(frames):
        PIL.Image.fromarray(frame).save(folder / f"{k:05d}.jpg")
    with torch.inference_mode():
        state = official.init_state(str(folder), offload_video_to_cpu=True)
        state["images"] = prepared(frames, official.image_size, torch.device("cpu"))
        state["cached_features"].clear()  # of the first frame as it was read from its JPEG
    return state


def small_logits(official: Any, state: Any, frame: int) -> np.ndarray:
    """(N, h, w) before they are scaled to the video."""
    found = []
    for k in range(len(state["obj_ids"])):
        kept = state["output_dict_per_obj"][k]
        out = kept["cond_frame_outputs"].get(frame) or kept["non_cond_frame_outputs"][frame]
        found.append(out["pred_masks"][0, 0].float().numpy())
    return np.stack(found)


def forward(session: Sam2Session) -> Iterator[FrameMasks]:
    while (found := session.step()) is not None:
        yield found


@pytest.mark.parametrize("count", [1, 3])
def test_masks_are_those_of_the_predictor(
    segmenter: Sam2Segmenter,
    official: Any,
    clip: Clip,
    frames: list[np.ndarray],
    tmp_path: Path,
    count: int,
) -> None:
    chosen = dict(list(boxes(clip, 0).items())[:count])
    assert len(chosen) == count
    state = official_state(official, frames, tmp_path)
    with torch.inference_mode():
        for object_id, box in chosen.items():
            official.add_new_points_or_box(state, 0, object_id, box=box)
        for _ in official.propagate_in_video(state):
            pass
    session = segmenter.start(frames)
    given = [session.prompt(0, object_id, Prompts(box)) for object_id, box in chosen.items()]
    theirs = small_logits(official, state, 0)
    for k, one in enumerate(given):
        np.testing.assert_allclose(one.masks.logits[0], theirs[k], atol=0.05)
    n_seen = 0
    for found in forward(session):
        assert found.object_ids == tuple(chosen)
        theirs = np.clip(small_logits(official, state, found.frame), -60_000, 60_000)
        ours = found.masks.logits.astype(np.float32)
        same = (ours > 0) == (theirs > 0)
        assert same.mean() > 0.999
        np.testing.assert_allclose(np.clip(ours, -50, 50), np.clip(theirs, -50, 50), atol=0.25)
        n_seen += 1
    assert n_seen == N_FRAMES - 1


@pytest.mark.parametrize(
    "case", ["package", "no keys are kept", "few scores at once", "heads", "no pointers"]
)
def test_memory_is_read_as_the_package_reads_it(
    segmenter: Sam2Segmenter,
    frames: list[np.ndarray],
    clip: Clip,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def logits() -> np.ndarray:
        session = Sam2Session(segmenter, frames)
        for k, box in boxes(clip, 0).items():
            session.prompt(0, k, Prompts(box))
        return np.stack([one.masks.logits.astype(np.float32) for one in forward(session)])

    ours = logits()
    if case == "package":
        monkeypatch.setattr(MemoryAttention, "_is_known", lambda _: False)
    elif case == "no keys are kept":
        monkeypatch.setattr(attention, "_KEY_BYTES", 0)
    elif case == "no pointers":
        monkeypatch.setattr(segmenter.model, "use_obj_ptrs_in_encoder", False)
        ours = logits()
        monkeypatch.setattr(MemoryAttention, "_is_known", lambda _: False)
    elif case == "few scores at once":
        monkeypatch.setattr(attention, "_SCORES", 1000)
    else:
        monkeypatch.setattr(attention, "_weighted", None)  # must not be called
        for layer in segmenter.model.memory_attention.layers:
            monkeypatch.setattr(layer.cross_attn_image, "num_heads", 2)
            monkeypatch.setattr(layer.self_attn, "num_heads", 2)
            part = partial(layer.self_attn.compute_cis.func, dim=layer.self_attn.internal_dim // 2)
            for one in (layer.cross_attn_image, layer.self_attn):
                monkeypatch.setattr(one, "compute_cis", part)
                monkeypatch.setattr(one, "freqs_cis", one.freqs_cis[:1])
        ours = logits()
        monkeypatch.setattr(MemoryAttention, "_is_known", lambda _: False)
    assert np.allclose(ours, logits(), atol=2e-2)  # of logits up to 30, in float16
    assert ((ours > 0) == (logits() > 0)).mean() > 0.9999


def test_keys_go_with_what_they_are_of(
    segmenter: Sam2Segmenter, frames: list[np.ndarray], clip: Clip
) -> None:
    session = Sam2Session(segmenter, frames * 4)
    session.prompt(0, 1, Prompts(next(iter(boxes(clip, 0).values()))))
    counts = [len(session._attention._keys) for _ in forward(session)]
    assert counts[-1] == max(counts) == segmenter.model.num_maskmem - 1


def test_what_is_dropped_is_never_missed(segmenter: Sam2Segmenter, clip: Clip) -> None:
    long = [frame.image for frame in clip.frames(24)]
    chosen = dict(list(boxes(clip, 0).items())[:2])
    answers = []
    for prune in (True, False):
        session = Sam2Session(segmenter, long, prune=prune)
        for object_id, box in chosen.items():
            session.prompt(0, object_id, Prompts(box))
        answers.append([found.masks.logits for found in forward(session)])
        kept = max(len(bank.forward) for bank in session._banks.values())
        assert kept == 23 if not prune else kept <= 16
    for one, other in zip(*answers, strict=True):
        assert np.array_equal(one, other)


def test_objects_do_not_change_each_other(
    segmenter: Sam2Segmenter, clip: Clip, frames: list[np.ndarray]
) -> None:
    """Alone, with others, or with one that begins later: an object's masks stay the same."""
    (first, box), (second, other) = list(boxes(clip, 0).items())[:2]
    alone = segmenter.start(frames)
    alone.prompt(0, first, Prompts(box))
    expected = [found.masks.logits[0] for found in forward(alone)]
    together = segmenter.start(frames)
    together.prompt(0, first, Prompts(box))
    got = []
    for k in range(1, N_FRAMES):
        found = together.step()
        assert found is not None
        assert found.object_ids == ((first,) if k <= 3 else (first, second))
        got.append(found.masks.logits[0])
        if k == 3:
            together.prompt(3, second, Prompts(other))
    for one, two in zip(expected, got, strict=True):
        assert ((one > 0) == (two > 0)).mean() > 0.999
        np.testing.assert_allclose(one.astype(float), two.astype(float), atol=0.3)


def test_backward_is_forward_over_the_frames_the_other_way_round(
    segmenter: Sam2Segmenter, clip: Clip, frames: list[np.ndarray]
) -> None:
    last = N_FRAMES - 1
    (object_id, box) = next(iter(boxes(clip, last).items()))
    session = segmenter.start(frames)
    session.prompt(last, object_id, Prompts(box))
    ours = []
    while (found := session.step(backward=True)) is not None:
        ours.append(found)
    assert [found.frame for found in ours] == list(range(last - 1, -1, -1))
    turned = segmenter.start(frames[::-1])
    turned.prompt(0, object_id, Prompts(box))
    for one, other in zip(ours, forward(turned), strict=True):
        np.testing.assert_allclose(
            one.masks.logits.astype(float), other.masks.logits.astype(float), atol=0.05
        )


def test_a_correction_changes_its_frame_and_what_comes_after(
    segmenter: Sam2Segmenter, clip: Clip, frames: list[np.ndarray]
) -> None:
    object_id, box = next(iter(boxes(clip, 0).items()))
    session = segmenter.start(frames)
    session.prompt(0, object_id, Prompts(box))
    before = {found.frame: found.masks.logits.copy() for found in forward(session)}
    again = boxes(clip, 4).get(object_id)
    assert again is not None
    corrected = session.prompt(4, object_id, Prompts(again))
    assert not np.array_equal(corrected.masks.logits, before[4])
    later = session.step()
    assert later is not None
    assert later.frame == 5
    assert not np.array_equal(later.masks.logits, before[5])
    mask = mask_from_full(clip.frame(6).objects == object_id)
    assert mask is not None
    given = session.prompt_mask(6, object_id, mask)
    assert (given.masks.logits > 0).mean() == pytest.approx(
        (clip.frame(6).objects == object_id).mean(), rel=0.2
    )


def test_a_session_goes_on_from_what_it_saved(
    segmenter: Sam2Segmenter, clip: Clip, frames: list[np.ndarray]
) -> None:
    session = segmenter.start(frames)
    for object_id, box in list(boxes(clip, 0).items())[:2]:
        session.prompt(0, object_id, Prompts(box))
    for _ in range(4):
        session.step()
    saved = session.saved()
    again = segmenter.start(frames, saved)
    assert again.object_ids == session.object_ids
    n_compared = 0
    for one, other in zip(forward(session), forward(again), strict=True):
        assert one.frame == other.frame
        assert np.array_equal(one.masks.logits, other.masks.logits)
        assert np.array_equal(one.masks.quality, other.masks.quality)
        n_compared += 1
    assert n_compared > 2
    for bad in (b"", saved[: len(saved) // 2], b"text"):
        with pytest.raises(InputError, match="cannot be read"):
            segmenter.start(frames, bad)


def test_what_cannot_be_is_told(segmenter: Sam2Segmenter, frames: list[np.ndarray]) -> None:
    session = segmenter.start(frames)
    with pytest.raises(InputError, match="prompt an object first"):
        session.step()
    with pytest.raises(InputError, match="expected a box or a point"):
        session.prompt(0, 1, Prompts())
    session.prompt(0, 1, Prompts(np.array([10, 10, 60, 60], np.float32)))
    assert session.step(backward=True) is None
    session.drop(1)
    assert session.object_ids == ()
    found = session.step()
    assert found is not None
    assert found.object_ids == ()
    mixed = segmenter.start([frames[0], frames[0][:60]])
    mixed.prompt(0, 1, Prompts(np.array([10, 10, 60, 60], np.float32)))
    with pytest.raises(InputError, match="frame 1: is 160x60, the frames before it 160x120"):
        mixed.step()


def test_it_is_what_the_protocol_asks(segmenter: Sam2Segmenter) -> None:
    one: VideoSegmenter = segmenter
    session: VideoSession = one.start([np.zeros((20, 30, 3), np.uint8)])
    assert session.step is not None
