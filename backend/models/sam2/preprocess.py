"""How a picture and its prompts go into SAM 2, shared by inference and training.

The arithmetic is that of ``sam2.sam2_image_predictor.SAM2ImagePredictor`` (sam2 1.1.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.core.types import Image
from backend.errors import ConfigError

MEAN = (0.485, 0.456, 0.406)  # of sam2.utils.transforms.SAM2Transforms
STD = (0.229, 0.224, 0.225)
_MOST_TOLD = 200  # characters of what PyTorch says
_WEIGHTS = (b"PK", b"\x80")  # what files of weights begin with: archives, and older pickles
_MOST_PIXELS = 32_000_000  # of pictures that a GPU resizes together
# What `build_sam2` adds unless told otherwise: an unstable single mask gives way to the best of
# three.
_BUILD_SAM2_EXTRAS = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


def _build(config: str, checkpoint: Path) -> Any:
    """The model on the CPU, from a name inside the sam2 package or a yaml file anywhere."""
    if not Path(config).is_file():
        from sam2.build_sam import build_sam2

        return build_sam2(config, str(checkpoint), device="cpu")
    # `build_sam2` finds packaged files only; outside them its steps are done here, without hydra's
    # global state.
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    recipe = OmegaConf.load(config).model
    _check_targets(OmegaConf.to_container(recipe), config)
    recipe.setdefault("sam_mask_decoder_extra_args", _BUILD_SAM2_EXTRAS)
    model = instantiate(recipe, _recursive_=True)
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])
    return model


def _check_targets(node: Any, config: str) -> None:
    """Refuse a configuration that names anything but the modules of sam2: it would be run.

    Raises:
        ConfigError: naming it.
    """
    if isinstance(node, list):
        for one in node:
            _check_targets(one, config)
    if not isinstance(node, dict):
        return
    target = node.get("_target_")
    if target is not None:
        module, _, name = str(target).rpartition(".")
        found = None
        if module.startswith("sam2.modeling."):
            with suppress(ImportError):
                found = getattr(import_module(module), name, None)
        if not isinstance(found, type) or not found.__module__.startswith("sam2."):
            raise ConfigError(f"{config}: {target} is no module of sam2, and is not run")
    for one in node.values():
        _check_targets(one, config)


def load_model(config: str, checkpoint: Path) -> Any:
    """Build a ``SAM2Base`` and load its weights.

    Args:
        config: name inside the sam2 package, such as ``configs/sam2.1/sam2.1_hiera_t.yaml``, or a
            yaml file.
        checkpoint: weights as sam2 publishes them; loaded with ``weights_only``.

    Raises:
        ConfigError: naming both, if they do not fit together or one does not load.
    """
    try:
        return _build(config, checkpoint).eval()
    except ConfigError:
        raise
    # sam2 raises a RuntimeError without text for wrong keys; hydra has a tree of its own.
    except Exception as error:
        if checkpoint.is_file():
            with checkpoint.open("rb") as file:
                if not file.read(2).startswith(_WEIGHTS):
                    said = f"checkpoint {checkpoint}: is no file of weights of PyTorch"
                    raise ConfigError(said) from error
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else "its weights have other names or shapes"
        if reason.startswith("Error(s) in loading") and len(lines) > 1:
            reason = lines[1].strip()[:_MOST_TOLD]  # which names or shapes
        if isinstance(error, UnpicklingError):
            reason = "the checkpoint holds more than weights, as a model of Ultralytics does"
        if isinstance(error, KeyError):
            reason = f"the checkpoint has no entry {reason}, as those that sam2 publishes have"
        raise ConfigError(
            f"checkpoint {checkpoint} and configuration {config} do not fit together: {reason}"
        ) from error


def resize_model(model: Any, size: int) -> None:
    """Let a model take pictures of another size.

    Its weights stay as they are; what it learned of places is interpolated.

    Args:
        model: a ``SAM2Base``.
        size: side of its square input in pixels, a multiple of 32.
    """
    side = size // 16
    model.image_size = size
    model.sam_image_embedding_size = side
    encoder = model.sam_prompt_encoder
    encoder.image_embedding_size = (side, side)
    encoder.input_image_size = (size, size)
    encoder.mask_input_size = (4 * side, 4 * side)


def beside_model(config: str) -> dict[str, Any]:
    """What a yaml file says beside ``model``; nothing for a name inside the sam2 package.

    ``corrects_with_memory: false`` tells that a model never learned to correct a frame of a video
    by what it remembers of others; those that sam2 publishes did. ``automatic`` holds what suits
    its automatic masks, by the names of ``AutomaticOptions``.

    Args:
        config: see ``load_model``.
    """
    if not Path(config).is_file():
        return {}
    from omegaconf import OmegaConf

    found = OmegaConf.to_container(OmegaConf.load(config))
    return {k: v for k, v in found.items() if k != "model"} if isinstance(found, dict) else {}


def normalised(pixels: Tensor) -> Tensor:
    """Pixels as SAM 2 wants them.

    Args:
        pixels: (B, 3, S, S) float32, 0..1.

    Returns:
        The same shape, with the mean and deviation of ImageNet taken out.
    """
    mean = torch.tensor(MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels - mean) / std


def prepared(images: Sequence[Image], side: int, device: torch.device) -> Tensor:
    """Images as a batch, resized as ``SAM2Transforms`` does it: antialiased, ignoring the aspect.

    Args:
        images: RGB uint8 (H, W, 3), any sizes.
        side: of the model's square input, in pixels.
        device: where the batch is to be.

    Returns:
        (B, 3, side, side) float32.
    """
    # MPS has no antialiased resize everywhere.
    at = torch.device("cpu") if device.type == "mps" else device
    # On a CPU, one at a time stays in its caches; a GPU takes all of a size at once.
    largest = max(image.shape[0] * image.shape[1] for image in images)
    together = max(1, _MOST_PIXELS // largest) if at.type == "cuda" else 1
    resized: dict[int, Tensor] = {}
    for members in _of_one_size(images, together):
        # From pinned memory the copy goes on while the next one is prepared.
        pixels = torch.stack(
            [
                torch.from_numpy(np.ascontiguousarray(images[k])).to(at, non_blocking=True)
                for k in members
            ]
        )
        square = F.interpolate(
            pixels.permute(0, 3, 1, 2).float().div_(255),
            (side, side),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        resized.update(zip(members, square, strict=True))
    batch = torch.stack([resized[k] for k in range(len(images))])
    return normalised(batch).to(device)


def _of_one_size(images: Sequence[Image], most: int) -> list[list[int]]:
    """Indices of images that have the same size, at most so many together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, image in enumerate(images):
        groups.setdefault(image.shape, []).append(k)
    return [
        members[start : start + most]
        for members in groups.values()
        for start in range(0, len(members), most)
    ]


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoder makes of B images."""

    image: Tensor  # (B, C, s/16, s/16)
    fine: tuple[Tensor, ...]  # the two finer levels for the decoder, at s/4 and s/8

    def rows(self, index: Tensor) -> Features:
        """The features of some of the images, or of some of them more than once.

        Args:
            index: (N,) which image each row is of.
        """
        return Features(self.image[index], tuple(level[index] for level in self.fine))


def embedded(model: Any, pixels: Tensor) -> Features:
    """Image features as ``SAM2ImagePredictor.set_image_batch`` computes them.

    Args:
        model: a ``SAM2Base``.
        pixels: (B, 3, S, S), normalised.
    """
    levels = model.forward_image(pixels)["backbone_fpn"][-model.num_feature_levels :]
    image = levels[-1]
    if model.directly_add_no_mem_embed:
        image = image + model.no_mem_embed.transpose(1, 2)[..., None]
    return Features(image, tuple(levels[:-1]))


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the decoder says about N prompts, K masks each."""

    logits: Tensor  # (N, K, s/4, s/4), > 0 is inside
    quality: Tensor  # (N, K) estimate of each mask's IoU
    present: Tensor  # (N, 1) logit of whether there is an object
    tokens: Tensor  # (N, K, C) what the decoder made of each mask's token


def _prompted(
    model: Any, features: Features, points: Tensor, labels: Tensor, mask: Tensor | None
) -> dict[str, Any]:
    """The decoder's arguments for N prompts."""
    sparse, dense = model.sam_prompt_encoder(points=(points, labels), boxes=None, masks=mask)
    return {
        "image_embeddings": features.image,
        "image_pe": model.sam_prompt_encoder.get_dense_pe(),
        "sparse_prompt_embeddings": sparse,
        "dense_prompt_embeddings": dense,
        "repeat_image": len(features.image) != len(points),
        "high_res_features": list(features.fine),
    }


def decoded(
    model: Any,
    features: Features,
    points: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    multimask: bool = False,
) -> Decoded:
    """Answer N prompts.

    Args:
        model: a ``SAM2Base``.
        features: of N images, or of one that all prompts share.
        points: (N, P, 2) x and y in pixels of the model's input.
        labels: (N, P) 0 beside the object, 1 on it, 2 and 3 the corners of a box.
        mask: (N, 1, s/4, s/4) logits of an earlier answer, or None.
        multimask: whether three masks are wanted, as for an ambiguous click; else one.
    """
    arguments = _prompted(model, features, points, labels, mask)
    logits, quality, tokens, present = model.sam_mask_decoder(
        multimask_output=multimask, **arguments
    )
    return Decoded(logits, quality, present, tokens)


def decoded_tokens(
    model: Any, features: Features, points: Tensor, labels: Tensor, mask: Tensor | None = None
) -> Decoded:
    """All four masks that the decoder makes of each prompt, of which ``decoded`` chooses.

    The first is the single mask, the others the three for ambiguous prompts; see ``decoded``.
    """
    arguments = _prompted(model, features, points, labels, mask)
    logits, quality, tokens, present = model.sam_mask_decoder.predict_masks(**arguments)
    return Decoded(logits, quality, present, tokens)
