"""What SAM 2 remembers of one object in a video, and which of it is read for a frame.

The choice is that of ``sam2.modeling.sam2_base.SAM2Base`` (sam2 1.1.0): all prompted frames (or the
closest), the last ``num_maskmem - 1`` frames, and the pointers of up to
``max_obj_ptrs_in_encoder`` frames. Older ones are never read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from backend.errors import InputError

_KINDS = ("prompted", "forward", "backward")  # of the frames of a bank
# What torch and its unpickler raise on bytes that are not whole.
_DAMAGED = (RuntimeError, LookupError, TypeError, ValueError, EOFError, UnpicklingError, OSError)


@dataclass(frozen=True, eq=False)
class Memory:
    """One frame as an object was seen in it.

    Attributes:
        features: (C, h, w), None once only the pointer may still be read.
        pointer: (D,).
        logits: (h, w) of the mask, on the model's grid.
        presence: () logit, above 0 where the object is seen.
    """

    features: Tensor | None
    pointer: Tensor
    logits: Tensor
    presence: Tensor


@dataclass(frozen=True, eq=False)
class Read:
    """What is read for a frame.

    Attributes:
        spatial: (C, h, w) each, with the place of its time code.
        pointers: (D,) each, with its distance in frames.
    """

    spatial: tuple[tuple[int, Tensor], ...]
    pointers: tuple[tuple[int, Tensor], ...]

    @property
    def shape(self) -> tuple[tuple[int, ...], int]:
        """Objects of the same shape can be read in one batch."""
        return tuple(place for place, _ in self.spatial), len(self.pointers)


@dataclass
class MemoryBank:
    """The memories of one object.

    Frames that a person or a detector prompted are kept; those in between are kept as long as they
    may be read. Both directions have frames in between of their own, so that going backward never
    reads what was made going forward.
    """

    prompted: dict[int, Memory] = field(default_factory=dict)
    forward: dict[int, Memory] = field(default_factory=dict)
    backward: dict[int, Memory] = field(default_factory=dict)

    def between(self, backward: bool) -> dict[int, Memory]:
        """The frames in between of a direction."""
        return self.backward if backward else self.forward

    def begins_before(self, frame: int, backward: bool) -> bool:
        """Whether the object was prompted on the way to a frame."""
        return any(t > frame if backward else t < frame for t in self.prompted)

    def read(self, model: Any, frame: int, n_frames: int | None, *, backward: bool) -> Read:
        """What is read for a frame, in the order in which the model was trained on it.

        Args:
            model: a ``SAM2Base``.
            frame: its number.
            n_frames: of the video; None for unknown.
            backward: which way the video is gone through.
        """
        step = -1 if backward else 1
        between = self.between(backward)
        chosen, others = _closest(frame, self.prompted, model.max_cond_frames_in_attn)
        spatial = [(model.num_maskmem - 1, one) for one in chosen.values()]
        stride = model.memory_temporal_stride_for_eval
        for place in range(1, model.num_maskmem):
            at = _earlier(frame, model.num_maskmem - place, stride, step)
            found = between.get(at, others.get(at))
            if found is not None:
                spatial.append((model.num_maskmem - place - 1, found))
        pointers: list[tuple[int, Tensor]] = []
        if model.use_obj_ptrs_in_encoder:
            signed = model.use_signed_tpos_enc_to_obj_ptrs
            only_past = model.only_obj_ptrs_in_the_past_for_eval
            for at, one in chosen.items():
                distance = (frame - at) * step
                if distance >= 0 or not only_past:
                    pointers.append((distance if signed else abs(distance), one.pointer))
            for distance in range(1, most_pointers(model, n_frames)):
                at = frame - step * distance
                if at < 0 or (n_frames is not None and at >= n_frames):
                    break
                found = between.get(at, others.get(at))
                if found is not None:
                    pointers.append((distance, found.pointer))
        return Read(
            tuple((place, one.features) for place, one in spatial if one.features is not None),
            tuple(pointers),
        )

    def forget(self, model: Any, frame: int, *, backward: bool) -> None:
        """Let go of what is read neither for the frame after this one nor for later ones."""
        stride = model.memory_temporal_stride_for_eval
        for at, one in list(self.between(backward).items()):
            age = (at - frame) if backward else (frame - at)
            if age >= model.max_obj_ptrs_in_encoder:
                del self.between(backward)[at]
            elif age >= (model.num_maskmem - 1) * stride and one.features is not None:
                self.between(backward)[at] = replace(one, features=None)

    def clear_around(self, model: Any, frame: int) -> None:
        """Forget what was made around a frame that was corrected since, as it may repeat what was
        wrong.
        """
        reach = model.num_maskmem * model.memory_temporal_stride_for_eval
        for between in (self.forward, self.backward):
            for at in [at for at in between if abs(at - frame) <= reach]:
                del between[at]


def save_banks(
    banks: Mapping[int, MemoryBank], at: int | None, size_hw: tuple[int, int] | None
) -> bytes:
    """The state of a session as bytes that hold nothing but tensors and numbers.

    Args:
        banks: of each object.
        at: the frame that the session is at.
        size_hw: of the frames.
    """
    file = BytesIO()
    rows = {
        object_id: {
            kind: {at: _fields(one) for at, one in getattr(bank, kind).items()} for kind in _KINDS
        }
        for object_id, bank in banks.items()
    }
    torch.save({"banks": rows, "at": at, "size_hw": size_hw}, file)
    return file.getvalue()


def load_banks(
    saved: bytes, device: torch.device | str
) -> tuple[dict[int, MemoryBank], int | None, tuple[int, int] | None]:
    """What ``save_banks`` was given.

    Raises:
        InputError: the bytes are not whole.
    """
    try:
        state = torch.load(BytesIO(saved), map_location=device, weights_only=True)
        banks = {
            object_id: MemoryBank(
                **{kind: {at: Memory(*one) for at, one in rows[kind].items()} for kind in _KINDS}
            )
            for object_id, rows in state["banks"].items()
        }
        return banks, state["at"], state["size_hw"]
    except _DAMAGED as error:
        raise InputError(f"the memory of a video cannot be read: {error}") from None


def _fields(one: Memory) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    # Clones, as a view would be saved with all that it is a view of.
    own = (one.pointer.clone(), one.logits.clone(), one.presence.clone())
    return (None if one.features is None else one.features.clone(), *own)


def most_pointers(model: Any, n_frames: int | None) -> int:
    """From how many frames pointers are read; their time code is scaled by it."""
    most = int(model.max_obj_ptrs_in_encoder)
    return most if n_frames is None else min(n_frames, most)


def _earlier(frame: int, back: int, stride: int, step: int) -> int:
    """The frame ``back`` places before one: the one just before it, then every stride-th."""
    if back == 1:
        return frame - step
    if step > 0:
        return ((frame - 2) // stride) * stride - (back - 2) * stride
    return -(-(frame + 2) // stride) * stride + (back - 2) * stride


def _closest(
    frame: int, prompted: Mapping[int, Memory], most: int
) -> tuple[dict[int, Memory], dict[int, Memory]]:
    """The prompted frames that are read, and the others."""
    from sam2.modeling.sam2_utils import select_closest_cond_frames

    chosen, others = select_closest_cond_frames(frame, dict(prompted), most)
    return dict(chosen), dict(others)
