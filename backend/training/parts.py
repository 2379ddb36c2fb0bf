"""Which parts of a segmenter learn, and what is written of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from backend.errors import ConfigError

DECODER, NECK, LORA, ALL = "decoder", "neck", "lora", "all"
PARTS = (DECODER, NECK, LORA, ALL)
_DECODER = "sam_mask_decoder."
# Of the decoder, but part of what is encoded once.
_ENCODED = (f"{_DECODER}conv_s0", f"{_DECODER}conv_s1")
_ENCODER = "image_encoder."
_NECK = f"{_ENCODER}neck."
_RANK = 8  # of the changes of a layer, as in the paper's own experiments with transformers
_LOW_RANK = ".lora_"  # in the names of parameters that peft adds
_ADAPTER = "yolosam2"
# The linear layers of the blocks of the encoder: attention and what comes after it.
_LAYERS = r"image_encoder\.trunk\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.layers\.\d+)"
_ENCODER_RATE = 0.5  # of the rate of the decoder


def rate_share(name: str) -> float:
    """Of the highest rate, the part that a parameter learns at."""
    return _ENCODER_RATE if name.startswith(_ENCODER) and _LOW_RANK not in name else 1.0


def check_parts(parts: str) -> None:
    """Refuse what cannot learn here.

    Raises:
        ConfigError: LoRA needs a package that is not there.
    """
    if parts != LORA:
        return
    try:
        import peft  # noqa: F401 - it is looked for
    except ImportError:
        raise ConfigError(
            "--parts lora needs the package peft: pip install 'yolo-sam2-labeling[lora]'"
        ) from None


def learner_of(model: Any, parts: str, seed: int = 0) -> Any:
    """The model that is trained in the place of another: that one, or with LoRA (Hu et al. 2021) a
    copy of it that has low-rank changes beside its layers.

    Args:
        model: a ``SAM2Base``.
        parts: of ``PARTS``.
        seed: of chance.

    Raises:
        ConfigError: LoRA needs a package that is not there.
    """
    check_parts(parts)
    if parts != LORA:
        return model
    from peft import LoraConfig, inject_adapter_in_model

    adapted = copy.deepcopy(model)
    config = LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules=_LAYERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, adapted, adapter_name=_ADAPTER)
    return adapted.eval()


def thaw(model: Any, parts: str = DECODER) -> dict[str, nn.Parameter]:
    """Let some parameters change, and nothing else: these by name.

    Args:
        model: what ``learner_of`` gave.
        parts: of ``PARTS``: what turns features and prompts into masks; the neck of the image
            encoder too; the neck, and low-rank changes of the rest of that encoder; or all of it.
    """
    model.requires_grad_(False)
    found = {name: one for name, one in model.named_parameters() if _learns(name, parts)}
    for parameter in found.values():
        parameter.requires_grad_(True)
    return found


def _learns(name: str, parts: str) -> bool:
    if name.startswith(_DECODER):
        return parts != DECODER or not name.startswith(_ENCODED)
    if parts == LORA and _LOW_RANK in name:
        return True
    encoder = {NECK: _NECK, LORA: _NECK, ALL: _ENCODER}.get(parts)
    return encoder is not None and name.startswith(encoder)


def plain(model: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that learned, by the names that they have in a model without LoRA, on the CPU.

    Args:
        model: what ``learner_of`` gave.
        weights: of the parameters of ``thaw``.
    """
    found = {
        name: one.to("cpu", copy=True) for name, one in weights.items() if _LOW_RANK not in name
    }
    if len(found) < len(weights):
        with with_weights(model, weights), torch.no_grad():
            for name, layer in model.named_modules():
                if hasattr(layer, "get_delta_weight"):
                    changed = layer.get_base_layer().weight + layer.get_delta_weight(_ADAPTER)
                    found[f"{name}.weight"] = changed.cpu()
    return found


@contextmanager
def with_weights(model: Any, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Other weights for a while, in the place of those that are called so."""
    state = model.state_dict()
    own = {name: state[name].clone() for name in weights}
    model.load_state_dict(weights, strict=False)
    try:
        yield
    finally:
        model.load_state_dict(own, strict=False)
