"""Fine-tune a SAM 2 on masks that people accepted, step by step.

What turns features and prompts into masks learns, on features that were encoded once. The image
encoder, the prompt encoder and everything that videos remember stay as they are, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backend.errors import LabelingError, Unavailable
from backend.models.chunks import in_chunks
from backend.models.sam2.preprocess import Features, decoded_tokens, embedded
from backend.training.losses import answer_loss
from backend.training.prompting import box_prompts, click_prompts, corrections
from backend.training.views import View, Views

_MASK_LIMIT = 32.0  # of a mask that is given as a prompt
_DECODER = "sam_mask_decoder."
# Of the decoder, but part of what is encoded once.
_ENCODED = (f"{_DECODER}conv_s0", f"{_DECODER}conv_s1")
_ENCODER_RATE = 0.5  # of the rate of the decoder
DECODER, NECK, ALL = "decoder", "neck", "all"
PARTS = (DECODER, NECK, ALL)
_TIMES = 2  # so often an object is asked for in a step at most; views differ more than prompts
_CORRECTED = 0.5  # weight of an answer after a correction
_SMALL = 10_000_000  # parameters; a smaller model learns at a higher rate


class NotFinite(LabelingError):
    """A loss that is no number."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        rate: the highest; None for what suits the size of the model.
        prompts: objects of a step at most.
        warm_up: share of the training in which the rate rises.
        decay: of the weights.
        clip: most length of a gradient.
        average: most share of the old in the running average of the weights.
        seed: of chance.
        parts: of ``PARTS``, that learn.
    """

    rate: float | None = None
    prompts: int = 24
    warm_up: float = 0.05
    decay: float = 0.01
    clip: float = 1.0
    average: float = 0.995
    seed: int = 0
    parts: str = DECODER

    def rate_for(self, model: nn.Module) -> float:
        """The highest rate for a model."""
        if self.rate is not None:
            return self.rate
        return 6e-4 if sum(one.numel() for one in model.parameters()) < _SMALL else 1e-4


def thaw(model: Any, parts: str = DECODER) -> dict[str, nn.Parameter]:
    """Let some parameters change, and nothing else: these by name.

    Args:
        model: a ``SAM2Base``.
        parts: of ``PARTS``: what turns features and prompts into masks; the neck of the image
            encoder too; or all of that encoder.
    """
    model.requires_grad_(False)
    encoder = {NECK: "image_encoder.neck.", ALL: "image_encoder."}.get(parts)
    found = {
        name: parameter
        for name, parameter in model.named_parameters()
        if (name.startswith(_DECODER) and (encoder is not None or not name.startswith(_ENCODED)))
        or (encoder is not None and name.startswith(encoder))
    }
    for parameter in found.values():
        parameter.requires_grad_(True)
    return found


def _learn(loss: Tensor, tensors: Sequence[Tensor]) -> None:
    """Add the gradients of a loss; all of them or, where memory ends in the midst, none."""
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    for one, gradient in zip(tensors, found, strict=True):
        if gradient is not None:
            one.grad = gradient if one.grad is None else one.grad + gradient


@contextmanager
def _in_memory() -> Iterator[None]:
    """What cannot be done in smaller parts.

    Raises:
        Unavailable: it does not fit.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Unavailable(
            f"out of memory while the image encoder learns ({error}); --parts decoder, or a smaller"
            " --segmenter, needs less"
        ) from None


class _Seen:
    """The features of a view. Where the encoder learns, what objects ask of them is gathered, and
    goes through the encoder once.

    Args:
        model: a ``SAM2Base``.
        held: features, or pixels.
    """

    def __init__(self, model: Any, held: Features | Tensor) -> None:
        self._made: list[Tensor] = []
        self.asked: list[Tensor] = []
        if isinstance(held, Features):
            self.features = held
            return
        made = embedded(model, held)
        self._made = [made.image, *made.fine]
        leaves = [one.detach().requires_grad_(one.requires_grad) for one in self._made]
        self.asked = [one for one in leaves if one.requires_grad]
        self._made = [one for one in self._made if one.requires_grad]
        self.features = Features(leaves[0], tuple(leaves[1:]))

    def backward(self) -> None:
        """Let the encoder learn from what was asked."""
        pairs = [
            (made, asked.grad)
            for made, asked in zip(self._made, self.asked, strict=True)
            if asked.grad is not None
        ]
        if pairs:
            torch.autograd.backward([made for made, _ in pairs], [grad for _, grad in pairs])


class SegmenterTrainer:
    """Training of one model.

    Args:
        model: a ``SAM2Base`` on its device; training changes it.
        views: what it learns from, at least one.
        recipe: how.
        device: where the model is; CUDA trains in bf16.
    """

    def __init__(self, model: Any, views: Views, recipe: Recipe, device: torch.device) -> None:
        self._model = model
        self._views = views
        self._recipe = recipe
        self._device = device
        self._parameters = thaw(model, recipe.parts)
        self._averaged = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._highest = recipe.rate_for(model)
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self._parameters.items():
            share = _ENCODER_RATE if name.startswith("image_encoder.") else 1.0
            groups.setdefault(share, []).append(parameter)
        self._optimiser = torch.optim.AdamW(
            [{"params": members, "share": share} for share, members in groups.items()],
            lr=self._highest,
            weight_decay=recipe.decay,
        )
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self._rng = np.random.default_rng(recipe.seed)
        self._order: list[int] = []
        self._chunk = recipe.prompts
        self.step = 0

    def advance(self, progress: float) -> float:
        """One step of the optimiser.

        Args:
            progress: of the whole training, 0..1; the rate falls with it to nothing.

        Returns:
            The loss.

        Raises:
            NotFinite: the loss is no number; no weight was changed.
            Unavailable: out of memory even with one object.
        """
        warm = min(1.0, (progress + 1e-3) / max(1e-3, self._recipe.warm_up))
        for group in self._optimiser.param_groups:
            falling = warm * (1 + math.cos(math.pi * progress)) / 2
            group["lr"] = group["share"] * self._highest * falling
        self._optimiser.zero_grad(set_to_none=True)
        if not self._order:
            self._order = self._rng.permutation(len(self._views)).tolist()
        view = self._views.view(self._order.pop(), self._rng)
        with _in_memory(), self._precision():
            seen = _Seen(self._model, view.features)
        count = len(view.boxes)
        wanted = min(self._recipe.prompts, _TIMES * count)
        rows = torch.from_numpy(self._rng.choice(count, wanted, replace=count < wanted))

        by_click = torch.zeros(len(rows), dtype=torch.bool)
        by_click[torch.randperm(len(rows), generator=self._generator)[: len(rows) // 3]] = True
        fitting: list[int] = []

        def run(start: int, stop: int) -> float:
            share = (stop - start) / len(rows)
            part = slice(start, stop)
            with self._precision():
                loss = self._loss(view, seen.features, rows[part], by_click[part]) * share
            if torch.isfinite(loss):
                _learn(loss, [*self._parameters.values(), *seen.asked])
            fitting.append(stop - start)
            return float(loss.detach())

        total = sum(in_chunks(self._device, len(rows), self._chunk, "objects", run))
        if max(fitting) < min(self._chunk, len(rows)):
            self._chunk = max(fitting)  # what memory held: no more is tried in vain
        if not math.isfinite(total):
            raise NotFinite(
                f"the loss became {total} at step {self.step + 1}; a lower --rate may help"
            )
        with _in_memory():
            seen.backward()
        nn.utils.clip_grad_norm_(self._parameters.values(), self._recipe.clip)
        self._optimiser.step()
        self.step += 1
        self._average()
        return total

    def _average(self) -> None:
        share = min(self._recipe.average, self.step / (self.step + 20))
        with torch.no_grad():
            for name, value in self._parameters.items():
                self._averaged[name].lerp_(value, 1 - share)

    def _precision(self) -> AbstractContextManager[Any]:
        on_cuda = self._device.type == "cuda"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=on_cuda)

    def _loss(self, view: View, features: Features, rows: Tensor, by_click: Tensor) -> Tensor:
        """The mean loss of some objects, each asked for by a box or by a click."""
        parts = [(rows[~by_click], False), (rows[by_click], True)]
        losses = [
            self._answers(view, features, part, ambiguous=ambiguous) * (len(part) / len(rows))
            for part, ambiguous in parts
            if len(part)
        ]
        return torch.stack(losses).sum()

    def _answers(self, view: View, features: Features, rows: Tensor, *, ambiguous: bool) -> Tensor:
        """The loss of first answers, and of those to half of the objects after a correction."""
        goal = view.targets[rows]
        real = torch.ones(len(goal), device=goal.device)
        side = int(self._model.image_size)
        if ambiguous:
            points, labels = click_prompts(goal, side, self._generator)
        else:
            points, labels = box_prompts(view.boxes[rows], side, self._generator)
        first = decoded_tokens(self._model, features, points, labels)
        loss = answer_loss(first, goal, real, ambiguous=ambiguous)
        some = slice(0, (len(rows) + 1) // 2)
        every = torch.arange(len(goal), device=goal.device)
        best = first.quality[:, 1:].argmax(1) + 1 if ambiguous else torch.zeros_like(every)
        before = first.logits.detach().float()[every, best][some]
        more, kinds = corrections(before, goal[some], side, self._generator)
        second = decoded_tokens(
            self._model,
            features,
            torch.cat([points[some], more], 1),
            torch.cat([labels[some], kinds], 1),
            before[:, None].clamp(-_MASK_LIMIT, _MASK_LIMIT),
        )
        again = answer_loss(second, goal[some], real[some], ambiguous=False)
        return loss + _CORRECTED * again

    def averaged(self) -> dict[str, Tensor]:
        """The running average of the weights that learn, by their names, on the CPU."""
        return {name: mean.to("cpu", copy=True) for name, mean in self._averaged.items()}

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to go on as if nothing had happened."""
        return {
            "step": self.step,
            "order": list(self._order),
            "parameters": {name: value.detach().cpu() for name, value in self._parameters.items()},
            "averaged": {name: value.cpu() for name, value in self._averaged.items()},
            "optimiser": self._optimiser.state_dict(),
            "generator": self._generator.get_state(),
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, with the same views and recipe."""
        self.step = state["step"]
        self._order = list(state["order"])
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(state["parameters"][name])
                self._averaged[name].copy_(state["averaged"][name])
        self._optimiser.load_state_dict(state["optimiser"])
        self._generator.set_state(state["generator"])
        self._rng.bit_generator.state = state["rng"]
