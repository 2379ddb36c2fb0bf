"""Three ways of running encoder and decoder of a SAM 2: layer by layer, replayed on a GPU, and in
parts that OpenVINO runs.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.models.graphs import Graphs, padded_count
from backend.models.openvino import OpenVinoParts
from backend.models.sam2.preprocess import Features, decoded, embedded

_LOGIT_LIMIT = 60_000.0  # of float16
_AT_ONCE = 4  # boxes of a converted decoder
_COMPARED = 8  # boxes that show what bf16 costs
logger = logging.getLogger(__name__)


def small_logits(logits: Tensor) -> Tensor:
    """Logits as float16, cut to what it can hold."""
    return logits.float().clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).half()


class Layers:
    """Every layer told by Python.

    Args:
        model: a ``SAM2Base``.
        device: where it is.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = model
        self.device = device
        self._corner_labels = torch.tensor([[2, 3]], dtype=torch.int, device=device)

    def encode(self, pixels: Tensor) -> Features:
        """Features of prepared pictures.

        Args:
            pixels: (B, 3, S, S) float32, see ``prepared``.
        """
        return embedded(self.model, pixels)

    def boxes(self, features: Features, owner: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
        """Outline what is in boxes.

        Args:
            features: of B pictures.
            owner: (N,) int64 on the host, the picture of each box.
            corners: (N, 2, 2) x and y in pixels of the model's input.

        Returns:
            Logits (N, h, w) float16 and quality (N,) float32, on the device.
        """
        if bool((owner == owner[0]).all()):
            owner = owner[:1]
        return self.boxes_of(owner.to(self.device), corners, features.image, *features.fine)

    def features_of(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """``encode`` with tensors alone."""
        features = embedded(self.model, pixels)
        return features.image, *features.fine

    def boxes_of(self, owner: Tensor, corners: Tensor, *levels: Tensor) -> tuple[Tensor, Tensor]:
        """``boxes`` with tensors alone; ``owner`` may be one for all."""
        features = Features(levels[0], tuple(levels[1:])).rows(owner)
        labels = self._corner_labels.expand(len(corners), 2)
        answer = decoded(self.model, features, corners, labels)
        return small_logits(answer.logits[:, 0]), answer.quality[:, 0].float()


class Replayed(Layers):
    """Calls that come again are recorded and replayed.

    Args:
        model: a ``SAM2Base``.
        device: a CUDA device.
        most_boxes: of a call.
        graphs: the recordings.
    """

    def __init__(
        self, model: Any, device: torch.device, most_boxes: int, graphs: Graphs | None = None
    ) -> None:
        super().__init__(model, device)
        self._graphs = Graphs() if graphs is None else graphs
        self._most_boxes = most_boxes
        self._most_images = 0

    def encode(self, pixels: Tensor) -> Features:
        n = len(pixels)
        self._most_images = max(n, self._most_images)
        if n & (n - 1) and n < self._most_images:
            return super().encode(pixels)  # a number that is not worth a recording
        image, *fine = self._graphs.run(("encode", n), self.features_of, pixels)
        return Features(image, tuple(fine))

    def boxes(self, features: Features, owner: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
        # Numbers are rounded up, with boxes and pictures that nobody asks for.
        count = len(corners)
        more = padded_count(count, max(self._most_boxes, count)) - count
        n_images = len(features.image)
        more_images = (1 << (n_images - 1).bit_length()) - n_images
        levels = [
            F.pad(level, (0, 0, 0, 0, 0, 0, 0, more_images)) if more_images else level
            for level in (features.image, *features.fine)
        ]
        logits, quality = self._graphs.run(
            ("boxes", n_images + more_images, count + more),
            self.boxes_of,
            F.pad(owner, (0, more)).to(self.device),
            F.pad(corners, (0, 0, 0, 0, 0, more)),
            *levels,
        )
        return logits[:count], quality[:count]


class InParts(Layers):
    """Encoder and decoder converted for OpenVINO.

    Args:
        model: a ``SAM2Base`` on the CPU.
        digest: tells its weights and configuration from others'.
        bf16: whether they compute in bfloat16.
    """

    def __init__(self, model: Any, digest: str, *, bf16: bool = False) -> None:
        super().__init__(model, torch.device("cpu"))
        self._parts = OpenVinoParts(model, digest, bf16=bf16)

    def encode(self, pixels: Tensor) -> Features:
        # On a CPU, pictures together take no less time than one after the other.
        single = [self._parts.run("encode", self.features_of, one[None]) for one in pixels]
        image, *fine = (torch.cat(level) for level in zip(*single, strict=True))
        return Features(image, tuple(fine))

    def boxes(self, features: Features, owner: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.zeros(1, dtype=torch.int64)
        answers = []
        for image in dict.fromkeys(owner.tolist()):  # boxes of a picture follow each other
            own = features.rows(torch.tensor([image]))
            rest = corners[owner == image]
            while len(rest):
                size = _AT_ONCE if len(rest) > 1 else 1
                taken, rest = rest[:size], rest[size:]
                padded = F.pad(taken, (0, 0, 0, 0, 0, size - len(taken)))
                logits, quality = self._parts.run(
                    f"boxes-{size}", self.boxes_of, first, padded, own.image, *own.fine
                )
                answers.append((logits[: len(taken)], quality[: len(taken)]))
        logits, quality = (torch.cat(level) for level in zip(*answers, strict=True))
        return logits, quality


class InBf16(InParts):
    """Parts in bfloat16; what that costs is measured with the first picture, and told.

    Args:
        model: a ``SAM2Base`` on the CPU.
        digest: tells its weights and configuration from others'.
    """

    def __init__(self, model: Any, digest: str) -> None:
        super().__init__(model, digest, bf16=True)
        self._digest = digest
        self._first: Tensor | None = None  # the first picture, until its masks were compared
        self._is_told = False

    def encode(self, pixels: Tensor) -> Features:
        if not self._is_told:
            self._first = pixels[:1]
        return super().encode(pixels)

    def boxes(self, features: Features, owner: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
        logits, quality = super().boxes(features, owner, corners)
        first, self._first = self._first, None
        taken = torch.nonzero(owner == 0)[:_COMPARED, 0]
        if not self._is_told and first is not None and len(taken):
            self._is_told = True
            exact = InParts(self.model, self._digest)
            wanted, _ = exact.boxes(exact.encode(first), owner[taken], corners[taken])
            logger.warning(
                "--precision bf16: the masks of the first picture overlap those of float32 by"
                " %.3f (mean IoU of %d)",
                mean_overlap(logits[taken], wanted),
                len(taken),
            )
        return logits, quality


def mean_overlap(logits: Tensor, others: Tensor) -> float:
    """Mean IoU of masks, 0..1; two that are empty are the same.

    Args:
        logits: (N, h, w), inside above 0.
        others: likewise, of the same masks.

    >>> mean_overlap(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, -1.0]]]))
    0.5
    """
    inside = logits.flatten(1) > 0
    theirs = others.flatten(1) > 0
    common = (inside & theirs).sum(1)
    either = (inside | theirs).sum(1)
    return float(torch.where(either > 0, common / either.clamp(min=1), 1.0).mean())
