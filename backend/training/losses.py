"""What a segmenter is taught by: focal and dice loss of its masks, its own estimate of their IoU,
and whether there is an object at all.

The weights (20, 1, 1, 1), the focal loss's alpha and gamma, and the choice of the best of several
masks are those that SAM 2 was trained with (``sam2/configs/sam2.1_training``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.models.sam2.preprocess import Decoded

_FOCAL = 20.0
_ALPHA = 0.25
_GAMMA = 2.0


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017) averaged over pixels: (N, K, h, w) to (N, K)."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    share = logits.sigmoid()
    hit = share * target + (1 - share) * (1 - target)
    weight = _ALPHA * target + (1 - _ALPHA) * (1 - target)
    return (weight * (1 - hit) ** _GAMMA * loss).mean((2, 3))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One less the soft Dice coefficient: (N, K, h, w) to (N, K)."""
    share = logits.sigmoid()
    common = (share * target).sum((2, 3))
    return 1 - (2 * common + 1) / (share.sum((2, 3)) + target.sum((2, 3)) + 1)


def true_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of thresholded masks with the truth: (N, K, h, w) to (N, K), 0..1."""
    found = logits > 0
    truth = target > 0.5
    common = (found & truth).sum((2, 3))
    return common / (found | truth).sum((2, 3)).clamp(min=1)


def answer_loss(answer: Decoded, target: Tensor, real: Tensor, *, ambiguous: bool) -> Tensor:
    """Mean loss of N prompts.

    Args:
        answer: all four masks of each prompt, as ``decoded_tokens`` gives them.
        target: (N, h, w) 0..1, the share of each cell that the object covers; masks are compared on
            this grid.
        real: (N,) 1 where the prompt shows an object, else 0; masks count only there.
        ambiguous: whether the three masks of an ambiguous click answer, of which the best learns;
            else the single one does.
    """
    logits = answer.logits[:, 1:] if ambiguous else answer.logits[:, :1]
    quality = answer.quality[:, 1:] if ambiguous else answer.quality[:, :1]
    logits = F.interpolate(logits.float(), target.shape[1:], mode="bilinear", align_corners=False)
    goal = target[:, None].expand_as(logits)
    masks = _FOCAL * focal_loss(logits, goal) + dice_loss(logits, goal)
    best = masks.min(1).values
    with torch.no_grad():
        iou = true_iou(logits, goal) * real[:, None]
    estimate = (quality.float() - iou).abs().mean(1)
    sure = answer.present[:, 0].float()
    present = F.binary_cross_entropy_with_logits(sure, real, reduction="none")
    return (best * real + estimate + present).mean()
