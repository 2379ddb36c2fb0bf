"""Fine-tune a SAM 2 on masks that people accepted, step by step.

What turns features and prompts into masks learns, on features that were encoded once; the image
encoder too, if asked. The prompt encoder and everything that videos remember stay as they are, to
the bit.
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
from backend.training.learner import Learner, Pace
from backend.training.losses import answer_loss
from backend.training.parts import DECODER, learner_of, plain, rate_share, thaw
from backend.training.prompting import box_prompts, click_prompts, corrections
from backend.training.views import View, Views

_MASK_LIMIT = 32.0  # of a mask that is given as a prompt
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
        seed: of chance.
        parts: of ``PARTS``, that learn.
    """

    rate: float | None = None
    prompts: int = 24
    seed: int = 0
    parts: str = DECODER

    def rate_for(self, model: nn.Module) -> float:
        """The highest rate for a model."""
        if self.rate is not None:
            return self.rate
        return 6e-4 if sum(one.numel() for one in model.parameters()) < _SMALL else 1e-4


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
        model: a ``SAM2Base`` on its device; training changes it, or with LoRA a copy of it.
        views: what it learns from, at least one.
        recipe: how.
        device: where the model is; CUDA trains in bf16.
    """

    def __init__(self, model: Any, views: Views, recipe: Recipe, device: torch.device) -> None:
        self._model = learner_of(model, recipe.parts, recipe.seed)
        self._views = views
        self._recipe = recipe
        self._device = device
        learning = thaw(self._model, recipe.parts)
        self._learner = Learner(learning, Pace(rate=recipe.rate_for(model)), rate_share)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self._rng = np.random.default_rng(recipe.seed)
        self._order: list[int] = []
        self._chunk = recipe.prompts

    @property
    def step(self) -> int:
        """Steps so far."""
        return self._learner.steps

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
        self._learner.begin(progress)
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
                _learn(loss, [*self._learner.parameters.values(), *seen.asked])
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
        self._learner.finish()
        return total

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
        """The running average of the weights that learn, by their names in the model that was
        given, on the CPU.
        """
        return plain(self._model, self._learner.averaged)

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to go on as if nothing had happened."""
        return {
            "learner": self._learner.state(),
            "order": list(self._order),
            "generator": self._generator.get_state(),
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, with the same views and recipe."""
        self._learner.restore(state["learner"])
        self._order = list(state["order"])
        self._generator.set_state(state["generator"])
        self._rng.bit_generator.state = state["rng"]
