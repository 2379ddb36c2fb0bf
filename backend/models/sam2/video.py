"""SAM 2 behind the ``VideoSegmenter`` protocol: every object has a memory of its own, all share the
features of a frame, and are decoded together.

The arithmetic is that of ``sam2.sam2_video_predictor.SAM2VideoPredictor`` (sam2 1.1.0), which works
through the objects one by one and keeps all frames in memory. Objects may begin on any frame
without harm to the others, a prompt on a frame that was gone through is a correction that takes
effect, and going backward reads nothing that was made going forward.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.core.masks import full_frame
from backend.core.protocols import Frames
from backend.core.types import FrameMasks, Mask, Masks, Prompts
from backend.errors import InputError
from backend.models.chunks import in_chunks
from backend.models.sam2.attention import MemoryAttention
from backend.models.sam2.corrections import correction_base
from backend.models.sam2.memory import (
    Memory,
    MemoryBank,
    Read,
    load_banks,
    save_banks,
)
from backend.models.sam2.preprocess import prepared

if TYPE_CHECKING:
    from backend.models.sam2.image import Sam2Segmenter

_KEPT_FEATURES = 2  # frames whose features are kept
_LOGIT_LIMIT = 60_000.0  # of float16
_PRIOR_LIMIT = 32.0  # of logits that are corrected, as the predictor limits them


class _Features:
    """What the encoder makes of a frame, for any number of objects."""

    def __init__(self, model: Any, pixels: Tensor) -> None:
        out = model.forward_image(pixels)
        _, self._levels, self._places, self.sizes = model._prepare_backbone_features(out)

    def flat(self, count: int) -> tuple[Tensor, Tensor]:
        """The coarsest level and its place code, (h w, count, C) each."""
        return tuple(one[-1].expand(-1, count, -1) for one in (self._levels, self._places))

    def fine(self, count: int) -> list[Tensor]:
        """The finer levels, (count, C, h, w) each."""
        return [
            level.permute(1, 2, 0).reshape(1, level.size(2), *size).expand(count, -1, -1, -1)
            for level, size in zip(self._levels[:-1], self.sizes[:-1], strict=True)
        ]


class Sam2Session:
    """One video in work, as ``core.protocols.VideoSession`` asks.

    Args:
        segmenter: whose model is used.
        frames: of the video, by number from 0 on; all of one size.
        saved: by ``saved`` of a session of the same frames, to go on from there.
        prune: whether memories that are never read again are dropped; the masks are the same.
    """

    def __init__(
        self,
        segmenter: Sam2Segmenter,
        frames: Frames,
        saved: bytes | None = None,
        *,
        prune: bool = True,
    ) -> None:
        self._segmenter = segmenter
        self._model = segmenter.model
        self._frames = frames
        self._n_frames = len(frames) if isinstance(frames, Sized) else None
        self._prune = prune
        self._attention = MemoryAttention(segmenter.model)
        self._banks: dict[int, MemoryBank] = {}
        self._features: dict[int, _Features] = {}
        self._size_hw: tuple[int, int] | None = None
        self._at: int | None = None
        if saved is not None:
            self._banks, self._at, self._size_hw = load_banks(saved, segmenter.device)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects that are followed."""
        return tuple(self._banks)

    def prompt(self, frame: int, object_id: int, prompts: Prompts) -> FrameMasks:
        """Begin an object, or correct it.

        A frame that the object was not followed in is a new start, which reads no memory; in one
        that it was followed in, its mask there is the base of the correction, and what was made
        around is forgotten. A model that did not learn to correct what it remembers mostly corrects
        as in a picture, see ``corrections``. ``step`` goes on from this frame.

        Args:
            frame: number of the frame.
            object_id: of a new object, or a known one.
            prompts: a box, signed points, or both, in pixels of the frame.

        Raises:
            InputError: no such frame, or nothing to go by.
        """
        if prompts.xyxy is None and not len(prompts.points_xy):
            raise InputError("prompt: expected a box or a point")
        with self._segmenter.scope():
            features = self._of_frame(frame)
            bank = self._banks.get(object_id, MemoryBank())
            was = bank.prompted.get(frame) or bank.forward.get(frame) or bank.backward.get(frame)
            is_backward = frame in bank.backward and frame not in bank.forward
            before = None if was is None else was.logits[None, None].float()
            with_memory = was is not None and bank.begins_before(frame, is_backward)
            if was is not None and not self._segmenter.corrects_with_memory:
                base = correction_base(was, prompts, self._known_size())
                if base == "memory" and not with_memory:
                    base = "mask"
                before = before if base == "mask" else None
                with_memory = with_memory and base == "memory"
            reads = None
            if with_memory:
                reads = [bank.read(self._model, frame, self._n_frames, backward=is_backward)]
            if before is not None:
                before = before.clamp(-_PRIOR_LIMIT, _PRIOR_LIMIT)
            points = self._points(prompts)
            made = self._decode(features, reads, points, None, before)
            self._remember(object_id, bank, frame, made)
        return self._answer(frame, [object_id], made)

    def prompt_mask(self, frame: int, object_id: int, mask: Mask) -> FrameMasks:
        """Begin an object with its mask, or put a mask in the place of what was found.

        Raises:
            InputError: no such frame.
        """
        side = self._model.image_size
        with self._segmenter.scope():
            features = self._of_frame(frame)
            full = torch.from_numpy(full_frame(mask, self._known_size())[None, None])
            small = F.interpolate(
                full.float().to(self._segmenter.device),
                (side, side),
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )
            made = self._decode(features, None, None, (small >= 0.5).float(), None)
            self._remember(object_id, self._banks.get(object_id, MemoryBank()), frame, made)
        return self._answer(frame, [object_id], made)

    def drop(self, object_id: int) -> None:
        """Follow an object no longer."""
        self._banks.pop(object_id, None)

    def step(self, *, backward: bool = False) -> FrameMasks | None:
        """The objects in the next frame, towards the end or the start; None past it.

        Objects that were prompted on the frame itself keep that mask.

        Raises:
            InputError: nothing was prompted yet, or frames change their size.
        """
        if self._at is None:
            raise InputError("step: prompt an object first")
        frame = self._at + (-1 if backward else 1)
        if frame < 0:
            return None
        with self._segmenter.scope():
            try:
                features = self._of_frame(frame)
            except IndexError:
                return None
            self._at = frame
            found: dict[int, Memory] = {}
            for object_id, bank in self._banks.items():
                if frame in bank.prompted:
                    found[object_id] = bank.prompted[frame]
                    bank.clear_around(self._model, frame)
            self._follow(frame, features, found, backward)
        ids = [object_id for object_id in self._banks if object_id in found]
        return self._answer(frame, ids, [found[object_id] for object_id in ids])

    def saved(self) -> bytes:
        """The memories of all objects, for ``Sam2Segmenter.start`` of another process."""
        return save_banks(self._banks, self._at, self._size_hw)

    def forget(self, before: int) -> None:
        """Let go of the features of frames before one; memories go by themselves."""
        for frame in [frame for frame in self._features if frame < before]:
            del self._features[frame]

    def _follow(
        self, frame: int, features: _Features, found: dict[int, Memory], backward: bool
    ) -> None:
        """Follow every object that was prompted on the way, those of alike memories together."""
        alike: dict[Any, list[tuple[int, Read]]] = {}
        for object_id, bank in self._banks.items():
            if object_id in found or not bank.begins_before(frame, backward):
                continue
            read = bank.read(self._model, frame, self._n_frames, backward=backward)
            alike.setdefault(read.shape, []).append((object_id, read))
        for group in alike.values():
            run = partial(self._part, features, [read for _, read in group])
            parts = in_chunks(
                self._segmenter.device, len(group), self._segmenter.chunk, "objects", run
            )
            made = [memory for part in parts for memory in part]
            for (object_id, _), memory in zip(group, made, strict=True):
                bank = self._banks[object_id]
                bank.between(backward)[frame] = memory
                found[object_id] = memory
                if self._prune:
                    bank.forget(self._model, frame, backward=backward)

    def _part(
        self, features: _Features, reads: Sequence[Read], start: int, stop: int
    ) -> list[Memory]:
        return self._decode(features, reads[start:stop], None, None, None)

    def _remember(
        self, object_id: int, bank: MemoryBank, frame: int, made: Sequence[Memory]
    ) -> None:
        bank.clear_around(self._model, frame)
        bank.prompted[frame] = made[0]
        self._banks[object_id] = bank
        self._at = frame

    def _of_frame(self, frame: int) -> _Features:
        if frame in self._features:
            return self._features[frame]
        image = self._frames[frame]
        size_hw = (image.shape[0], image.shape[1])
        if self._size_hw not in (None, size_hw):
            raise InputError(
                f"frame {frame}: is {size_hw[1]}x{size_hw[0]}, the frames before it"
                f" {self._known_size()[1]}x{self._known_size()[0]}"
            )
        self._size_hw = size_hw
        pixels = prepared([image], self._model.image_size, self._segmenter.device)
        while len(self._features) >= _KEPT_FEATURES:
            del self._features[next(iter(self._features))]
        self._features[frame] = _Features(self._model, pixels)
        return self._features[frame]

    def _known_size(self) -> tuple[int, int]:
        return self._size_hw or (0, 0)

    def _points(self, prompts: Prompts) -> dict[str, Tensor]:
        height, width = self._known_size()
        scale = np.array([self._model.image_size / width, self._model.image_size / height])
        xy = [prompts.points_xy * scale]
        kinds = [prompts.positive.astype(np.int32)]
        if prompts.xyxy is not None:
            xy.insert(0, prompts.xyxy.reshape(2, 2) * scale)
            kinds.insert(0, np.array([2, 3], np.int32))
        device = self._segmenter.device
        where = torch.from_numpy(np.concatenate(xy).astype(np.float32))[None]
        labels = torch.from_numpy(np.concatenate(kinds))[None]
        return {"point_coords": where.to(device), "point_labels": labels.to(device)}

    def _decode(
        self,
        features: _Features,
        reads: Sequence[Read] | None,
        points: dict[str, Tensor] | None,
        mask: Tensor | None,
        before: Tensor | None,
    ) -> list[Memory]:
        """The objects in a frame as memories.

        Args:
            features: of the frame.
            reads: of each object; None for one that begins here.
            points: of a prompt.
            mask: (1, 1, S, S), of a prompt.
            before: (1, 1, h, w) logits that are corrected.
        """
        model = self._model
        count = 1 if reads is None else len(reads)
        fine = features.fine(count)
        if mask is not None and model.use_mask_input_as_output_without_sam:
            plain = _square(features.flat(count)[0], features.sizes[-1])
            out = model._use_mask_as_output(plain, fine, mask)
        else:
            out = model._forward_sam_heads(
                backbone_features=self._conditioned(features, reads),
                point_inputs=points,
                mask_inputs=before if mask is None else mask,
                high_res_features=fine,
                multimask_output=model._use_multimask(reads is None, points),
            )
        _, _, _, logits, large, pointers, presence = out
        if points is not None or mask is not None:  # as the predictor does once prompts are final
            side = model.image_size
            large = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        flat, _ = features.flat(count)
        kept, _ = model._encode_new_memory(
            current_vision_feats=[flat],
            feat_sizes=features.sizes[-1:],
            pred_masks_high_res=large,
            object_score_logits=presence,
            is_mask_from_pts=points is not None or mask is not None,
        )
        kept = kept.to(torch.bfloat16)
        return [Memory(kept[k], pointers[k], logits[k, 0], presence[k, 0]) for k in range(count)]

    def _conditioned(self, features: _Features, reads: Sequence[Read] | None) -> Tensor:
        """The coarsest level of a frame with what is remembered, (B, C, h, w)."""
        flat, places = features.flat(1)
        if reads is None:
            return _square(flat + self._model.no_mem_embed, features.sizes[-1])
        told = self._attention.read(flat[:, 0], places[:, 0], reads, self._n_frames)
        return _square(told.transpose(0, 1), features.sizes[-1])

    def _answer(self, frame: int, ids: Sequence[int], made: Sequence[Memory]) -> FrameMasks:
        side = self._model.image_size // 4
        logits = np.zeros((0, side, side), np.float16)
        presence = np.zeros(0, np.float32)
        if made:
            stacked = torch.stack([one.logits for one in made]).float()
            limited = stacked.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).half()
            logits = limited.cpu().numpy()
            seen = torch.stack([one.presence for one in made]).float()
            presence = seen.sigmoid().cpu().numpy()
        masks = Masks(logits, presence, self._known_size())
        return FrameMasks(frame, tuple(ids), masks)


def _square(flat: Tensor, size: tuple[int, int]) -> Tensor:
    """(h w, B, C) as (B, C, h, w)."""
    return flat.permute(1, 2, 0).reshape(flat.size(1), flat.size(2), *size)
