"""Following objects through the frames of a video with gradients, and what is wrong with the masks.

The steps are those of ``sam2.modeling.sam2_base.SAM2Base`` (sam2 1.1.0) in a video, for B objects
of different videos together, always with the token of the single mask. Masks are not hidden by the
score of presence for the loss, as a wrong score would stop what teaches the mask; memories are made
of what the model would show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.models.sam2.preprocess import Features, decoded_tokens
from backend.training.clips import Draw, Encoded
from backend.training.data import jittered, point_in

_SEEN = 0.0008  # share of the picture from which on an object counts as seen
_ABSENT = -1024.0  # logits where an object is not seen: NO_OBJ_SCORE of sam2
_FIRM = 10.0  # logits of a mask that is given


@dataclass(frozen=True)
class Plan:
    """How the objects of a batch are followed.

    Attributes:
        prompt: ``box``, ``mask`` or ``point``, on the first frame.
        corrected: place of the frame that is corrected; None for none.
        by_box: whether it is corrected with a box, else with a click into what is wrong.
        teacher: share of the memories that are made of the truth.
        n_frames: of the video, as the model is told; it scales the time code of pointers.
        gap: frames that passed unseen after the prompted one, as in a long video.
    """

    prompt: str = "box"
    corrected: int | None = None
    by_box: bool = False
    teacher: float = 0.0
    n_frames: int = 16
    gap: int = 0


@dataclass(frozen=True, eq=False)
class Step:
    """What came out for B objects in one frame, s being the side of the model's input.

    Attributes:
        logits: (B, s/4, s/4) of the mask.
        quality: (B,) estimate of its IoU.
        present: (B,) logit.
        truth: (B, s, s), 0 or 1.
        told: (B, C, s/16, s/16) the image features with what is remembered.
        plain: (B, C, s/16, s/16) the image features.
        learned: whether memory or a correction made it; else it is the prompted first frame.
    """

    logits: Tensor
    quality: Tensor
    present: Tensor
    truth: Tensor
    told: Tensor
    plain: Tensor
    learned: bool

    @property
    def shown(self) -> Tensor:
        """(B, 1, s/4, s/4) logits as the model shows them: none where the object is absent."""
        return torch.where((self.present > 0)[:, None, None], self.logits, _ABSENT)[:, None]


class Follower:
    """Follows the objects of one batch.

    Args:
        model: a ``SAM2Base`` in eval mode.
        encoded: the videos.
        generator: where chance comes from, on the CPU.
    """

    def __init__(self, model: Any, encoded: Encoded, generator: torch.Generator) -> None:
        self._model = model
        self._encoded = encoded
        self._generator = generator

    def run(self, draws: list[Draw], plan: Plan) -> list[Step]:
        """All frames of the draws, in order; a corrected one is in it twice, before and after."""
        kept: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        steps = []
        for at in range(len(draws[0].frames)):
            first = at == 0
            frame = _Frame(self._model, *self._encoded.at(draws, at))
            number = at if first else at + plan.gap
            told = self._told(frame, kept, number, plan)
            points, labels, mask = self._prompt(frame, plan) if first else (None, None, None)
            step, token = self._decode(frame, told, points, labels, mask)
            steps.append(step)
            if at == plan.corrected and not first:
                points, labels = self._correction(step, plan)
                before = step.shown.detach().clamp(-32, 32)
                step, token = self._decode(frame, told, points, labels, before)
                steps.append(step)
            given = first and plan.prompt == "mask"
            made = self._memory(frame, step, token, 1.0 if given else plan.teacher)
            asked = first or at == plan.corrected
            kept["cond_frame_outputs" if asked else "non_cond_frame_outputs"][number] = made
        return steps

    def _told(self, frame: _Frame, kept: dict[str, Any], number: int, plan: Plan) -> Tensor:
        told: Tensor = self._model._prepare_memory_conditioned_features(
            frame_idx=number,
            is_init_cond_frame=number == 0,
            current_vision_feats=[frame.flat],
            current_vision_pos_embeds=[frame.places],
            feat_sizes=[frame.size],
            output_dict=kept,
            num_frames=plan.n_frames,
        )
        return told

    def _decode(
        self,
        frame: _Frame,
        told: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> tuple[Step, Tensor]:
        """The masks of a frame, and the token that the pointer is made of."""
        if points is None or labels is None:
            points = told.new_zeros(len(told), 1, 2)
            labels = -torch.ones(len(told), 1, dtype=torch.int32, device=told.device)
        out = decoded_tokens(self._model, Features(told, frame.fine), points, labels, mask)
        learned = told.requires_grad
        step = Step(
            out.logits[:, 0],
            out.quality[:, 0],
            out.present[:, 0],
            frame.truth,
            told,
            frame.plain,
            learned,
        )
        return step, out.tokens[:, 0]

    def _prompt(
        self, frame: _Frame, plan: Plan
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Points, labels and mask for the first frame."""
        truth = frame.truth
        if plan.prompt == "mask":
            return None, None, self._model.mask_downsample(truth[:, None])
        if plan.prompt == "point":
            inside = F.avg_pool2d(truth[:, None], 9, 1, 4)[:, 0] * truth
            points = point_in(inside.pow(3).cpu(), self._generator).to(truth.device)
            return points[:, None], torch.ones(len(truth), 1, device=truth.device), None
        return *self._boxes(truth), None

    def _boxes(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        boxes = jittered(boxes_of(truth).cpu(), truth.shape[-1], self._generator)
        labels = torch.tensor([[2, 3]], device=truth.device).expand(len(truth), 2)
        return boxes.view(-1, 2, 2).to(truth.device), labels

    def _correction(self, step: Step, plan: Plan) -> tuple[Tensor, Tensor]:
        """A click into what is wrong, or a box around the truth; what is right gets a click too."""
        truth = step.truth
        if plan.by_box:
            return self._boxes(truth)
        side = truth.shape[-1]
        guess = F.interpolate(step.shown, (side, side), mode="bilinear", align_corners=False)
        wrong = ((guess[:, 0] > 0).float() - truth).abs()
        deep = F.avg_pool2d(wrong[:, None], 9, 1, 4)[:, 0] * wrong  # people click into the middle
        points = point_in((deep.pow(3) + 1e-6 * truth).cpu(), self._generator).to(truth.device)
        at = points.long()
        labels = truth[torch.arange(len(truth), device=truth.device), at[:, 1], at[:, 0]]
        return points[:, None], labels[:, None]

    def _memory(self, frame: _Frame, step: Step, token: Tensor, teacher: float) -> dict[str, Any]:
        """What is remembered of a frame."""
        model = self._model
        truth = step.truth
        side = truth.shape[-1]
        chance = torch.rand(len(truth), generator=self._generator).to(truth.device)
        use_truth = chance < teacher
        present = torch.where(use_truth, truth.amax((1, 2)) > 0, step.present > 0)
        given = self.as_logits(truth)
        logits = torch.where(use_truth[:, None, None, None], given, step.shown)
        large = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        features, codes = model._encode_new_memory(
            current_vision_feats=[frame.flat],
            feat_sizes=[frame.size],
            pred_masks_high_res=large,
            object_score_logits=present[:, None].float() * 2 - 1,
            is_mask_from_pts=False,
        )
        seen = present[:, None].float()
        pointer = seen * model.obj_ptr_proj(token) + (1 - seen) * model.no_obj_ptr
        return {"maskmem_features": features, "maskmem_pos_enc": codes, "obj_ptr": pointer}

    @staticmethod
    def as_logits(truth: Tensor) -> Tensor:
        """A mask as the logits of one, (B, 1, s/4, s/4)."""
        side = truth.shape[-1] // 4
        firm = truth[:, None] * (2 * _FIRM) - _FIRM
        return F.interpolate(
            firm, (side, side), mode="bilinear", align_corners=False, antialias=True
        )


class _Frame:
    """One frame for B objects, laid out as the model wants it."""

    def __init__(self, model: Any, levels: tuple[Tensor, ...], truth: Tensor) -> None:
        *fine, self.plain = levels
        self.fine = tuple(fine)
        self.truth = truth
        self.size = (self.plain.shape[-2], self.plain.shape[-1])
        self.flat = self.plain.flatten(2).permute(2, 0, 1)
        codes = model.image_encoder.neck.position_encoding(self.plain[:1])
        self.places = codes.flatten(2).permute(2, 0, 1).expand(-1, len(self.plain), -1)


def boxes_of(masks: Tensor) -> Tensor:
    """Tight boxes, (B, 4) xyxy half-open in pixels, of (B, S, S) masks; all 0 for an empty one."""
    sides = []
    for axis in (1, 2):  # columns, then rows
        there = masks.amax(axis) > 0.5
        low = there.int().argmax(1)
        high = there.shape[1] - there.flip(1).int().argmax(1)
        sides.append((low, torch.where(there.any(1), high, 0)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).float()


def iou(step: Step) -> Tensor:
    """(B,) IoU of the masks on the model's grid; 1 where both are empty."""
    truth = F.avg_pool2d(step.truth[:, None], 4)[:, 0] > 0.5
    guess = step.shown[:, 0] > 0
    both = (truth & guess).sum((1, 2))
    either = (truth | guess).sum((1, 2))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def seen(step: Step) -> Tensor:
    """(B,) 1 where the object is seen, else 0."""
    return (step.truth.mean((1, 2)) > _SEEN).float()


def step_loss(step: Step, presence: float) -> Tensor:
    """Loss of one frame: mask, estimate of quality, and presence.

    The mask's part is binary cross-entropy, weighted near the truth or the guess, plus dice.
    """
    goal = F.avg_pool2d(step.truth[:, None], 4)[:, 0]
    there = seen(step)
    near = torch.maximum(goal, (step.logits.detach() > 0).float())
    weight = F.max_pool2d(near[:, None], 9, 1, 4)[:, 0] * 0.9 + 0.1
    weight = weight / weight.sum((1, 2), keepdim=True)
    logits = step.logits.clamp(-30, 30)
    loss = 3 * (F.binary_cross_entropy_with_logits(logits, goal, reduction="none") * weight).sum(
        (1, 2)
    )
    share = logits.sigmoid()
    total = share.sum((1, 2)) + goal.sum((1, 2))
    loss = loss + 1 - (2 * (share * goal).sum((1, 2)) + 1) / (total + 1)
    with torch.no_grad():
        guess = step.logits > 0
        truth = goal > 0.5
        true_iou = (guess & truth).sum((1, 2)) / (guess | truth).sum((1, 2)).clamp(min=1)
    loss = loss + 0.3 * (step.quality - true_iou).abs()
    told = F.binary_cross_entropy_with_logits(step.present.clamp(-12, 12), there)
    return (loss * there).mean() + presence * told


def feature_loss(model: Any, step: Step) -> Tensor:
    """How far the features with memory are from those that the truth as a prompt would give.

    The decoder knows what to do with those, as a mask prompt is added to the features; where the
    object is absent they are the plain ones.
    """
    with torch.no_grad():
        encoder = model.sam_prompt_encoder
        none = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        added = encoder._embed_masks(Follower.as_logits(step.truth)) - none
        there = (step.truth.amax((1, 2)) > 0).float()[:, None, None, None]
        plain = step.plain + model.no_mem_embed.transpose(1, 2)[..., None]
        goal = plain + added * there
        cells = F.avg_pool2d(step.truth[:, None], 16)
        near = F.max_pool2d(cells, 5, 1, 2).gt(0).float() * 0.8 + 0.2
    off = F.smooth_l1_loss(step.told, goal, reduction="none", beta=2.0).mean(1, keepdim=True)
    return ((off * near).sum((1, 2, 3)) / near.sum((1, 2, 3))).mean()
