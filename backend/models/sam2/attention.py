"""How SAM 2 reads what it remembers: memory attention for many objects over one frame.

The arithmetic is that of ``sam2.modeling.memory_attention`` (sam2 1.1.0). Two things are not done
again for every object and frame: what the tokens of a frame say to each other before any object
comes in, and the keys of what is remembered. A key is a linear map of place, content and time. So
place and content are mapped once, and the time, the same for all objects, is added as it passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from backend.models.sam2.memory import Read, most_pointers

_SCORES = 1 << 22  # numbers that are held at once
_KEY_BYTES = 1 << 29  # of keys that are kept; those beyond are made again for each frame


class MemoryAttention:
    """Reads memories for the objects of one video.

    Args:
        model: a ``SAM2Base``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layers = model.memory_attention.layers
        # By the tensor that was remembered: keys go when it goes.
        self._keys: Any = WeakIdKeyDictionary()
        self._times: dict[int, list[Tensor]] = {}
        self._turns: dict[tuple[int, int], Tensor] = {}

    def read(
        self, tokens: Tensor, places: Tensor, reads: Sequence[Read], n_frames: int | None
    ) -> Tensor:
        """A frame as each object sees it.

        Args:
            tokens: (L, C) of the frame's coarsest level.
            places: (L, C), their code of place.
            reads: of each object, all of the same shape.
            n_frames: of the video; None for unknown.

        Returns:
            (B, L, C).
        """
        memory = self._spatial(reads, tokens.dtype)
        pointers, times = self._pointers(reads, memory, n_frames)
        if not self._is_known():
            return self._by_package(tokens, places, reads, memory, pointers, times)
        attention = self._model.memory_attention
        values = torch.cat([memory, pointers], 1)
        told = tokens[None] + (0.1 * places if attention.pos_enc_at_input else 0)
        for depth, layer in enumerate(attention.layers):
            told = told + self._self(layer, told, places)
            keys = self._keys_of(depth, reads, pointers + times)
            told = told + self._cross(layer, told, keys, values)
            told = told + _widened(layer, layer.norm3(told))
        normed: Tensor = attention.norm(told)
        return normed

    def _is_known(self) -> bool:
        """Whether the layers are those of the published models."""
        from sam2.modeling.sam.transformer import RoPEAttention

        return all(
            isinstance(layer.cross_attn_image, RoPEAttention)
            and isinstance(layer.self_attn, RoPEAttention)
            and layer.pos_enc_at_cross_attn_keys
            and not layer.pos_enc_at_cross_attn_queries
            for layer in self._layers
        )

    def _by_package(
        self,
        tokens: Tensor,
        places: Tensor,
        reads: Sequence[Read],
        memory: Tensor,
        pointers: Tensor,
        times: Tensor,
    ) -> Tensor:
        count = len(reads)
        codes = torch.cat(
            [
                self._place(one) + self._model.maskmem_tpos_enc[place].flatten()
                for place, one in reads[0].spatial
            ]
        )
        told: Tensor = self._model.memory_attention(
            curr=[tokens[:, None].expand(-1, count, -1)],
            curr_pos=[places[:, None].expand(-1, count, -1)],
            memory=torch.cat([memory, pointers], 1).transpose(0, 1),
            memory_pos=torch.cat([codes.expand(count, -1, -1), times], 1).transpose(0, 1),
            num_obj_ptr_tokens=pointers.shape[1],
        )
        return told.transpose(0, 1)

    def _self(self, layer: Any, told: Tensor, places: Tensor) -> Tensor:
        attention = layer.self_attn
        normed = layer.norm1(told)
        asked = normed + places if layer.pos_enc_at_attn else normed
        q = self._turned(attention, _heads(attention, attention.q_proj(asked)))
        k = self._turned(attention, _heads(attention, attention.k_proj(asked)))
        v = _heads(attention, attention.v_proj(normed))
        return _joined(attention, F.scaled_dot_product_attention(q, k, v))

    def _cross(self, layer: Any, told: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        attention = layer.cross_attn_image
        q = self._turned(attention, _heads(attention, attention.q_proj(layer.norm2(told))))
        q = q.expand(len(keys), -1, -1, -1)
        if attention.num_heads == 1 and q.device.type == "cpu":
            means = _weighted(q[:, 0], keys[:, 0], values)
            mapped: Tensor = attention.out_proj(attention.v_proj(means))
            return mapped
        v = _heads(attention, attention.v_proj(values))
        return _joined(attention, F.scaled_dot_product_attention(q, keys, v))

    def _keys_of(self, depth: int, reads: Sequence[Read], pointers: Tensor) -> Tensor:
        """Keys of all that is read in a layer, (B, heads, M, C / heads)."""
        attention = self._layers[depth].cross_attn_image
        of_pointers = _heads(attention, attention.k_proj(pointers))
        count, heads, n_pointers, width = of_pointers.shape
        length = reads[0].spatial[0][1][0].numel()
        n_spatial = length * len(reads[0].spatial)
        keys = of_pointers.new_empty(count, heads, n_spatial + n_pointers, width)
        keys[:, :, n_spatial:] = of_pointers
        for k, read in enumerate(reads):
            for slot, (place, features) in enumerate(read.spatial):
                own = keys[k, :, slot * length : (slot + 1) * length]
                torch.add(self._key(features, depth), self._time(place, length)[depth], out=own)
        return keys

    def _key(self, features: Tensor, depth: int) -> Tensor:
        """Keys of a remembered frame in a layer, without its time."""
        kept: list[Tensor] | None = self._keys.get(features)
        if kept is None:
            first = self._project(features, [0])
            if first[0].nbytes * len(self._layers) * (len(self._keys) + 1) > _KEY_BYTES:
                return first[0] if depth == 0 else self._project(features, [depth])[0]
            kept = first + self._project(features, range(1, len(self._layers)))
            self._keys[features] = kept
        return kept[depth]

    def _project(self, features: Tensor, depths: Iterable[int]) -> list[Tensor]:
        tokens = features.flatten(1).T.float() + self._place(features)
        attentions = [self._layers[depth].cross_attn_image for depth in depths]
        return [self._turned(one, _heads(one, one.k_proj(tokens[None])))[0] for one in attentions]

    def _time(self, place: int, length: int) -> list[Tensor]:
        """What the time code of a place adds to the keys of each layer."""
        if place not in self._times:
            code = self._model.maskmem_tpos_enc[place].reshape(1, 1, -1).expand(1, length, -1)
            self._times[place] = [
                self._turned(one, _heads(one, F.linear(code, one.k_proj.weight)))[0]
                for one in (layer.cross_attn_image for layer in self._layers)
            ]
        return self._times[place]

    def _turned(self, attention: Any, x: Tensor) -> Tensor:
        """With the rotary code of place, (B, heads, L, C / heads)."""
        length, width = x.shape[-2:]
        if (length, width) not in self._turns:
            side = round(length**0.5)
            made = attention.compute_cis(end_x=side, end_y=side).to(x.device)
            self._turns[length, width] = made
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self._turns[length, width]).flatten(-2).type_as(x)

    def _place(self, features: Tensor) -> Tensor:
        """The code of place of a remembered frame, (L, C)."""
        code: Tensor = self._model.memory_encoder.position_encoding(features[None].float())
        return code[0].flatten(1).T

    def _spatial(self, reads: Sequence[Read], dtype: torch.dtype) -> Tensor:
        """Remembered frames as tokens, (B, S L, C)."""
        both = torch.stack([torch.stack([one for _, one in read.spatial]) for read in reads])
        return both.flatten(3).transpose(2, 3).flatten(1, 2).to(dtype)

    def _pointers(
        self, reads: Sequence[Read], memory: Tensor, n_frames: int | None
    ) -> tuple[Tensor, Tensor]:
        """Pointers as tokens of the memory's width, and their codes of time, (B, P, C) each."""
        from sam2.modeling.sam2_utils import get_1d_sine_pe

        model = self._model
        count = len(reads)
        width = model.mem_dim
        if not reads[0].pointers:
            return memory[:, :0], memory[:, :0]
        pointers = torch.stack([torch.stack([one for _, one in read.pointers]) for read in reads])
        n, deep = pointers.shape[1:]
        if model.add_tpos_enc_to_obj_ptrs:
            far = torch.tensor(
                [[distance for distance, _ in read.pointers] for read in reads],
                device=pointers.device,
            )
            scaled = far / (most_pointers(model, n_frames) - 1)
            wide = deep if model.proj_tpos_enc_in_obj_ptrs else width
            times = model.obj_ptr_tpos_proj(get_1d_sine_pe(scaled.flatten(), dim=wide))
            times = times.view(count, n, width)
        else:
            times = pointers.new_zeros(count, n, width)
        parts = deep // width
        tokens = pointers.reshape(count, n * parts, width).to(memory.dtype)
        return tokens, times.repeat_interleave(parts, dim=1).to(memory.dtype)


def _widened(layer: Any, x: Tensor) -> Tensor:
    wide = layer.linear1(x)
    # In place where it can be, as this is the largest tensor of all.
    wide = wide.relu_() if layer.activation is F.relu else layer.activation(wide)
    out: Tensor = layer.linear2(wide)
    return out


def _heads(attention: Any, x: Tensor) -> Tensor:
    """(B, L, C) as (B, heads, L, C / heads)."""
    heads = attention.num_heads
    return x.view(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


def _joined(attention: Any, x: Tensor) -> Tensor:
    """(B, heads, L, C / heads) as (B, L, C), mapped out."""
    out: Tensor = attention.out_proj(x.transpose(1, 2).flatten(2))
    return out


def _weighted(q: Tensor, k: Tensor, values: Tensor) -> Tensor:
    """Values by their weights, (B, L, C), of queries (B, L, D), keys (B, M, D), values (B, M, C).

    The weights of a query add up to one, so a linear map of the values can as well be applied to
    their mean. That is for less than half the price where the values are a quarter as wide as the
    keys, as here, but no attention of torch takes two widths.
    """
    means = q.new_empty(*q.shape[:2], values.shape[2])
    rows = max(1, _SCORES // k.shape[1])
    scaled = q * q.shape[2] ** -0.5
    for one, of_keys, of_values, out in zip(scaled, k, values, means, strict=True):
        for start in range(0, len(one), rows):
            scores = one[start : start + rows] @ of_keys.T
            torch.mm(scores.softmax(1), of_values, out=out[start : start + rows])
    return means
