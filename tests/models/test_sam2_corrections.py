"""What a correction goes by in a model that did not learn to correct what it remembers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.core.types import Prompts
from backend.models.sam2.corrections import correction_base
from backend.models.sam2.memory import Memory

SIZE = (120, 160)


def memory(presence: float = 3.0, *, seen: bool = True) -> Memory:
    """An object of 10 by 10 cells in a grid of 40 by 40."""
    logits = torch.full((40, 40), -5.0)
    if seen:
        logits[10:20, 10:20] = 5.0
    return Memory(None, torch.zeros(4), logits, torch.tensor(presence))


def click(x: float, y: float, positive: bool = True) -> Prompts:
    """A click; a cell of the grid is 4 by 3 pixels."""
    return Prompts(points_xy=np.array([[x, y]], np.float32), positive=np.array([positive]))


@pytest.mark.parametrize(
    ("prompts", "was", "base"),
    [
        (Prompts(np.array([10, 10, 50, 50], np.float32)), memory(), "nothing"),
        (click(60, 45), memory(-0.5), "nothing"),
        (click(60, 45), memory(seen=False), "nothing"),
        (click(60, 45), memory(), "mask"),  # inside
        (click(90, 45), memory(), "mask"),  # beside
        (click(155, 115), memory(), "nothing"),  # farther away than the object is wide
        (click(60, 45, positive=False), memory(), "memory"),
        (click(155, 115, positive=False), memory(), "memory"),
    ],
)
def test_what_a_correction_goes_by(prompts: Prompts, was: Memory, base: str) -> None:
    assert correction_base(was, prompts, SIZE) == base


def test_the_farthest_of_several_points_decides() -> None:
    both = Prompts(
        points_xy=np.array([[60, 45], [159.9, 119.9]], np.float32), positive=np.array([True, True])
    )
    assert correction_base(memory(), both, SIZE) == "nothing"
    one = Prompts(points_xy=both.points_xy, positive=np.array([True, False]))
    assert correction_base(memory(), one, SIZE) == "mask"
