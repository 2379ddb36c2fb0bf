"""CLIP and SigLIP behind the ``Namer`` protocol, through ``transformers``.

The words of a class become features once, when the model is loaded. Each mask is looked at twice,
with what is around it and alone, and all views of a batch of images share model calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backend.core.naming import TEMPLATES, Words, phrases_besides, softmax
from backend.core.types import ClassProbabilities, Image, Mask
from backend.core.views import alone, in_context
from backend.errors import ConfigError
from backend.files.atomic import file_digest
from backend.models.chunks import in_chunks

if TYPE_CHECKING:
    pass

CLIP_TYPES = ("clip", "siglip", "siglip2", "metaclip_2")  # of a configuration's model_type
_VIEWS = {"cpu": 32, "cuda": 256, "mps": 64}  # of one model call


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
        path = folder / "preprocessor_config.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            size = found.get("crop_size") or found["size"]
            sides = {size} if isinstance(size, int) else set(size.values())
            (side,) = sides
            return cls(int(side), tuple(found["image_mean"]), tuple(found["image_std"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"--namer: {path} does not tell how pictures go in: {error}"
            ) from None

    def __call__(self, views: Sequence[Image], device: torch.device) -> Tensor:
        """Views of ``side`` x ``side`` pixels as a batch, (N, 3, side, side) float32."""
        pixels = torch.from_numpy(np.stack(views)).to(device).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        return (pixels - mean) / torch.tensor(self.deviation, device=device).view(1, 3, 1, 1)


def views_of(
    images: Sequence[Image], masks: Sequence[Sequence[Mask]], side: int
) -> tuple[list[Image], list[Image]]:
    """Both views of every mask of some images, in order."""
    pairs = [(image, mask) for image, own in zip(images, masks, strict=True) for mask in own]
    return (
        [in_context(image, mask, side) for image, mask in pairs],
        [alone(image, mask, side) for image, mask in pairs],
    )


def quiet_transformers() -> None:
    """Keep ``transformers`` from drawing bars and from remarks: what fails is told by its error."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _loaded(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, on the CPU."""
    from transformers import AutoModel, AutoTokenizer

    quiet_transformers()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, told = AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    # The library raises many kinds; the remedy is the same.
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(f"--namer: {folder} does not load: {lines[0][:200]}") from error
    if told["missing_keys"]:
        names = sorted(told["missing_keys"])
        raise ConfigError(
            f"--namer: {folder} lacks {len(names)} of the model's weights, such as {names[0]}"
        )
    return model.eval().requires_grad_(False), tokenizer


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
        if not classes:
            raise ConfigError("--namer: has no names to choose from; give some with --names")
        self.device = torch.device(device)
        self._input = Preprocessing.of(folder)
        model, self._tokenizer = _loaded(folder)
        self._model = model.to(self.device)
        phrases = phrases_besides(classes, background)
        self._n_classes = len(classes)
        self.names: Mapping[int, str] = {k: one.name for k, one in enumerate(classes)}
        words = [one.all for one in classes] + [(phrase,) for phrase in phrases]
        self._texts = self._features_of_words(words)
        recipe = json.dumps([_digest(folder), words, TEMPLATES])
        self._version = f"{folder.name}-{sha256(recipe.encode()).hexdigest()[:8]}"

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
        both = views_of(images, masks, self._input.side)
        views = [*both[0], *both[1]]
        if not views:
            return np.zeros((0, self._texts.shape[1]), np.float32)

        def run(start: int, stop: int) -> Tensor:
            pixels = self._input(views[start:stop], self.device)
            found = self._model.get_image_features(pixel_values=pixels).pooler_output
            return F.normalize(found.float(), dim=-1).cpu()

        with torch.inference_mode(), self._scope():
            parts = in_chunks(self.device, len(views), _VIEWS[self.device.type], "views", run)
        of_views = torch.cat(parts).view(2, len(both[0]), -1)
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
        features = self.features(images, masks)
        scale = float(self._model.logit_scale.exp())
        logits = scale * features @ self._texts.cpu().numpy().T
        ends = np.cumsum([len(own) for own in masks])
        parts = np.split(logits, ends[:-1]) if len(ends) else []
        return [softmax(part, self._n_classes) for part in parts]


def _digest(folder: Path) -> str:
    files = sorted(
        path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".json")
    )
    return sha256("".join(file_digest(path) for path in files).encode()).hexdigest()
