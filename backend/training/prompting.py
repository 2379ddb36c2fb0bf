"""The questions that a segmenter learns from: what a detector or a person would ask about objects
whose masks are known.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.training.data import jittered, point_in

_EXACT = 0.5  # share of the boxes that fit


def box_prompts(boxes: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Boxes as a detector gives them, and as many as people draw: (N, 2, 2) points and (N, 2)
    labels. The latter fit, so that the model learns to end where they end.

    Args:
        boxes: (N, 4) xyxy in pixels of the model's input.
        side: of that input.
        generator: of chance.
    """
    exact = torch.rand(len(boxes), 1, generator=generator) < _EXACT
    drawn = torch.where(exact, boxes.cpu(), jittered(boxes.cpu(), side, generator))
    corners = drawn.to(boxes.device).view(-1, 2, 2)
    return corners, torch.tensor([[2, 3]], device=boxes.device).expand(len(boxes), 2)


def click_prompts(targets: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A click into each object: (N, 1, 2) points and (N, 1) labels.

    Args:
        targets: (N, h, w), more than 0.5 inside.
        side: of the model's input, in pixels.
        generator: of chance.
    """
    points = _anywhere_in(targets > 0.5, side, generator)
    return points, torch.ones(len(targets), 1, dtype=torch.int64, device=targets.device)


def corrections(
    logits: Tensor, targets: Tensor, side: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A click where an answer is wrong: (N, 1, 2) points and (N, 1) labels, 1 where the object was
    missed, 0 where it is not.

    Args:
        logits: (N, h, w) of the answer.
        targets: (N, H, W), more than 0.5 inside.
        side: of the model's input, in pixels.
        generator: of chance.
    """
    size = targets.shape[1:]
    found = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0] > 0
    truth = targets > 0.5
    wrong = found ^ truth
    wrong = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, truth)
    points = _anywhere_in(wrong, side, generator)
    cells = (points[:, 0] * (size[0] / side)).long().clamp(0, size[0] - 1)
    inside = truth[torch.arange(len(truth), device=truth.device), cells[:, 1], cells[:, 0]]
    return points, inside[:, None].long()


def _anywhere_in(masks: Tensor, side: int, generator: torch.Generator) -> Tensor:
    cell = side / masks.shape[-1]
    return ((point_in(masks.float(), generator) + 0.5) * cell)[:, None]
