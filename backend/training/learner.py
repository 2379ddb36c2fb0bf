"""Weights that learn: AdamW, a rate that rises and falls, short gradients, a running average.

All that is trained here, but for detectors, learns by it; what they are shown differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How weights change.

    Attributes:
        rate: the highest.
        warm_up: share of the training in which the rate rises; it falls by a cosine then.
        decay: of weights; biases and gains keep theirs.
        betas: of AdamW.
        clip: most length of a gradient.
        average: most share of the old in the running average of the weights.
    """

    rate: float
    warm_up: float = 0.05
    decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    average: float = 0.995


class Learner:
    """Parameters of a model, while they are trained.

    Args:
        parameters: that learn, by name.
        pace: how fast.
        share: of the rate, by name.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        pace: Pace,
        share: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        self.parameters = dict(parameters)
        self.averaged = {name: value.detach().clone() for name, value in parameters.items()}
        self.steps = 0
        self._pace = pace
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            decay = pace.decay if parameter.ndim > 1 else 0.0
            groups.setdefault((share(name), decay), []).append(parameter)
        self._optimiser = torch.optim.AdamW(
            [
                {"params": members, "share": part, "weight_decay": decay}
                for (part, decay), members in groups.items()
            ],
            lr=pace.rate,
            betas=pace.betas,
        )

    def begin(self, progress: float) -> None:
        """Make ready for the gradients of a step.

        Args:
            progress: of the whole training, 0..1; the rate falls with it to nothing.
        """
        warm = min(1.0, (progress + 1e-3) / max(1e-3, self._pace.warm_up))
        for group in self._optimiser.param_groups:
            falling = warm * (1 + math.cos(math.pi * progress)) / 2
            group["lr"] = group["share"] * self._pace.rate * falling
        self._optimiser.zero_grad(set_to_none=True)

    def finish(self) -> None:
        """Change the weights by the gradients that came since ``begin``."""
        nn.utils.clip_grad_norm_(self.parameters.values(), self._pace.clip)
        self._optimiser.step()
        self.steps += 1
        share = min(self._pace.average, self.steps / (self.steps + 20))
        with torch.no_grad():
            for name, value in self.parameters.items():
                self.averaged[name].lerp_(value, 1 - share)

    def learn(self, loss: Tensor, progress: float) -> float:
        """A whole step from one loss; returns that loss."""
        self.begin(progress)
        torch.autograd.backward(loss)
        self.finish()
        return float(loss.detach())

    def take_average(self) -> None:
        """Put the running average in the place of the weights, at the end."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self.averaged[name])

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to go on as if nothing had happened."""
        return {
            "step": self.steps,
            "parameters": {name: value.detach().cpu() for name, value in self.parameters.items()},
            "averaged": {name: value.cpu() for name, value in self.averaged.items()},
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self.steps = state["step"]
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["parameters"][name])
                self.averaged[name].copy_(state["averaged"][name])
        self._optimiser.load_state_dict(state["optimiser"])
