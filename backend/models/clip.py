"""CLIP and SigLIP behind the ``Namer`` protocol, through ``transformers``.

The words of a class become features once, when the model is loaded. Each mask is looked at twice,
with what is around it and alone, and all views of a batch of images share model calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backend.core.masks import tidy_mask
from backend.core.naming import TEMPLATES, Words, phrases_besides, softmax, split_by_image
from backend.core.types import ClassProbabilities, Image, Mask
from backend.core.views import alone, in_context
from backend.errors import ConfigError
from backend.models.chunks import in_chunks
from backend.models.pretrained import folder_digest, load_part, load_pretrained

CLIP_TYPES = ("clip", "siglip", "metaclip_2")  # of a configuration's model_type
_OPTION = "--namer"
SPECK = 0.03  # of a mask's area
_VIEWS = {"cpu": 32, "cuda": 256, "mps": 64}  # of one model call


def _processor_of(folder: Path) -> dict[str, Any]:
    """The settings of the image processor, in a file of its own or among those of all."""
    path = folder / "preprocessor_config.json"
    if not path.is_file() and (folder / "processor_config.json").is_file():
        found = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
        return dict(found["image_processor"])
    return dict(json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Preprocessing:
    """How a picture goes into the model: its side in pixels, and what is taken out of a channel."""

    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, folder: Path) -> Preprocessing:
        """As the image processor in a folder says.

        Raises:
            ConfigError: the folder has none, or one for pictures that are no squares.
        """
        try:
            found = _processor_of(folder)
            size: Any = found.get("size")
            if found.get("do_center_crop", True) and found.get("crop_size"):
                size = found["crop_size"]
            (side,) = {size} if isinstance(size, int) else set(size.values())
            if not found.get("do_normalize", True):
                return cls(int(side), (0.0,) * 3, (1.0,) * 3)
            return cls(int(side), tuple(found["image_mean"]), tuple(found["image_std"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            told = f"--namer: {folder} does not tell how square pictures go in: {error}"
            raise ConfigError(told) from None

    def __call__(self, views: Sequence[Image], device: torch.device) -> Tensor:
        """Views of ``side`` x ``side`` pixels as a batch, (N, 3, side, side) float32."""
        pixels = torch.from_numpy(np.stack(views)).to(device).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        return (pixels - mean) / torch.tensor(self.deviation, device=device).view(1, 3, 1, 1)


class Views(Sequence[Image]):
    """Both views of every mask of some images, made when they are asked for.

    First every mask with what is around it, then every mask alone. Specks and pinholes are left
    out: a speck far away would make the object small in its views.

    Args:
        images: RGB uint8 (H, W, 3), any sizes.
        masks: of each image, any number.
        side: of a view, in pixels.
    """

    def __init__(self, images: Sequence[Image], masks: Sequence[Sequence[Mask]], side: int) -> None:
        self._pairs = [
            (image, tidy_mask(mask, SPECK))
            for image, own in zip(images, masks, strict=True)
            for mask in own
        ]
        self._side = side

    def __len__(self) -> int:
        return 2 * len(self._pairs)

    def _one(self, k: int) -> Image:
        look = in_context if k < len(self._pairs) else alone
        return look(*self._pairs[k % len(self._pairs)], self._side)

    @overload
    def __getitem__(self, at: int) -> Image: ...
    @overload
    def __getitem__(self, at: slice) -> list[Image]: ...
    def __getitem__(self, at: int | slice) -> Image | list[Image]:
        numbers = range(len(self))[at]
        return self._one(numbers) if isinstance(numbers, int) else [self._one(k) for k in numbers]


class ClipNamer:
    """Names for masks, chosen among words.

    Args:
        folder: of the model, as ``save_pretrained`` writes it.
        classes: what masks may show; each is the mean of all its words in all templates.
        device: torch device; CUDA runs in bf16 autocast, CPU and MPS in float32.
        background: phrases for what shows none of the classes; those that are a class are left out.

    Raises:
        ConfigError: no class, or a folder that does not load.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[Words],
        *,
        device: str,
        background: Sequence[str],
    ) -> None:
        self.device = torch.device(device)
        self._input = Preprocessing.of(folder)
        self._tokenizer = load_part("AutoTokenizer", folder, _OPTION)
        self._model: Any = load_pretrained("AutoModel", folder, _OPTION).to(self.device)
        self._background = tuple(background)
        self._stem = folder.name
        self._digest = folder_digest(folder)
        self._choose(classes)

    def _choose(self, classes: Sequence[Words]) -> None:
        if not classes:
            raise ConfigError("--namer: has no names to choose from; give some with --names")
        phrases = phrases_besides(classes, self._background)
        self._n_classes = len(classes)
        self.names: Mapping[int, str] = {k: one.name for k, one in enumerate(classes)}
        if len(classes) + len(phrases) < 2:
            raise ConfigError(
                f"--names: with {classes[0].name!r} alone every mask is one; give --background"
                " phrases that it can be told from"
            )
        words = [one.all for one in classes] + [(phrase,) for phrase in phrases]
        self._texts = self._features_of_words(words)
        recipe = json.dumps([self._digest, words, TEMPLATES])
        self._version = f"{self._stem}-{sha256(recipe.encode()).hexdigest()[:8]}"

    def for_classes(self, classes: Sequence[Words]) -> ClipNamer:
        """The same model with other words.

        Raises:
            ConfigError: as when it is made.
        """
        made = copy(self)
        made._choose(classes)
        return made

    @property
    def version(self) -> str:
        """The folder's name, and a digest of weights and words."""
        return self._version

    def _scope(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _features_of_words(self, words: Sequence[Sequence[str]]) -> Tensor:
        """(N, D) unit features; each the mean of all words in all templates."""
        # SigLIP was trained on captions of a fixed length, CLIP on any.
        fixed = self._model.config.model_type.startswith("siglip")
        most = getattr(self._model.config.text_config, "max_position_embeddings", 77)
        rows = []
        with torch.inference_mode(), self._scope():
            for of_class in words:
                captions = [t.format(word) for word in of_class for t in TEMPLATES]
                given = self._tokenizer(
                    captions,
                    padding="max_length" if fixed else True,
                    truncation=True,
                    max_length=most,
                    return_tensors="pt",
                ).to(self.device)
                found = self._model.get_text_features(**given).pooler_output.float()
                rows.append(F.normalize(F.normalize(found, dim=-1).mean(0), dim=0))
        return torch.stack(rows)

    def features(
        self, images: Sequence[Image], masks: Sequence[Sequence[Mask]]
    ) -> NDArray[np.float32]:
        """What the model sees in masks, the mean of both views.

        Args:
            images: RGB uint8 (H, W, 3), any sizes.
            masks: of each image, any number.

        Returns:
            (N, D) unit features of all masks in order.

        Raises:
            Unavailable: out of memory even with a single view.
        """
        views = Views(images, masks, self._input.side)
        if not views:
            return np.zeros((0, self._texts.shape[1]), np.float32)

        def run(start: int, stop: int) -> Tensor:
            pixels = self._input(views[start:stop], self.device)
            found = self._model.get_image_features(pixel_values=pixels).pooler_output
            return F.normalize(found.float(), dim=-1).cpu()

        with torch.inference_mode(), self._scope():
            parts = in_chunks(self.device, len(views), _VIEWS[self.device.type], "views", run)
        of_views = torch.cat(parts).view(2, len(views) // 2, -1)
        return np.asarray(F.normalize(of_views.mean(0), dim=-1).numpy(), np.float32)

    def name(
        self, images: Sequence[Image], masks: Sequence[Sequence[Mask]]
    ) -> list[ClassProbabilities]:
        """How likely each mask shows each class.

        Args:
            images: RGB uint8 (H, W, 3), any sizes.
            masks: of each image, any number.

        Returns:
            Per image the probabilities of its masks.

        Raises:
            Unavailable: out of memory even with a single view.
        """
        return split_by_image(self.compare(self.features(images, masks)), masks)

    def compare(self, features: NDArray[np.float32]) -> ClassProbabilities:
        """How likely what was seen shows each class.

        Args:
            features: (N, D) as ``features`` gives them.
        """
        scale = float(self._model.logit_scale.exp())
        return softmax(scale * features @ self._texts.cpu().numpy().T, self._n_classes)
