"""A person's own image classifier behind the ``Namer`` protocol: one of Ultralytics or of
``transformers``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.core.naming import Words, split_by_image
from backend.core.types import ClassProbabilities, Image, Mask
from backend.errors import ConfigError
from backend.files.atomic import file_digest
from backend.models.chunks import in_chunks
from backend.models.clip import Preprocessing, Views
from backend.models.pretrained import folder_digest, load_pretrained
from backend.models.yolo import load_ultralytics

_VIEWS = 32  # of one model call


class _Chosen:
    """Which columns of a classifier make up which class."""

    def __init__(
        self, known: Mapping[int, str], classes: Sequence[Words] | None, name: str
    ) -> None:
        columns: dict[str, list[int]] = {}
        for k, text in sorted(known.items()):
            columns.setdefault(text.casefold(), []).append(k)
        own = {text.casefold(): text for _, text in sorted(known.items(), reverse=True)}
        wanted = classes if classes is not None else [Words(own[text]) for text in columns]
        self.names: Mapping[int, str] = {k: one.name for k, one in enumerate(wanted)}
        self.rows: list[list[int]] = []
        for one in wanted:
            found = sorted(k for word in one.all for k in columns.get(word.casefold(), ()))
            if not found:
                told = ", ".join(list(known.values())[:12]) + (" ..." if len(known) > 12 else "")
                raise ConfigError(f"--namer {name}: does not know {one.name!r}; it knows {told}")
            self.rows.append(found)

    def of(self, shares: NDArray[np.float32]) -> ClassProbabilities:
        """The classes' shares of (N, C); what the other columns have is the background's."""
        found = np.stack([shares[:, columns].sum(1) for columns in self.rows], 1)
        rest = np.clip(1 - found.sum(1), 0, 1)
        return ClassProbabilities(found.astype(np.float32), rest.astype(np.float32))

    def split(
        self, shares: NDArray[np.float32], masks: Sequence[Sequence[Mask]]
    ) -> list[ClassProbabilities]:
        """The classes' shares of the masks of each image."""
        return split_by_image(self.of(shares), masks)

    def version(self, stem: str, weights: str) -> str:
        """A version that tells weights and classes."""
        recipe = json.dumps([weights, sorted(self.names.items()), self.rows])
        return f"{stem}-{sha256(recipe.encode()).hexdigest()[:8]}"


class TransformersNamer:
    """An image classifier of ``transformers``.

    Args:
        folder: of the model, as ``save_pretrained`` writes it.
        classes: what masks may show, by the classifier's own names or a synonym; None for all.
        device: torch device.

    Raises:
        ConfigError: it does not load, or does not know a class.
    """

    def __init__(self, folder: Path, classes: Sequence[Words] | None, *, device: str) -> None:
        self._device = torch.device(device)
        self._input = Preprocessing.of(folder)
        model = load_pretrained("AutoModelForImageClassification", folder, "--namer")
        self._model: Any = model.to(self._device)
        known = {int(k): str(v) for k, v in self._model.config.id2label.items()}
        self._chosen = _Chosen(known, classes, str(folder))
        self.names = self._chosen.names
        self.version = self._chosen.version(folder.name, folder_digest(folder))

    def name(
        self, images: Sequence[Image], masks: Sequence[Sequence[Mask]]
    ) -> list[ClassProbabilities]:
        """How likely each mask shows each class; see ``ClipNamer.name``."""
        views = Views(images, masks, self._input.side)

        def run(start: int, stop: int) -> Tensor:
            pixels = self._input(views[start:stop], self._device)
            logits: Tensor = self._model(pixel_values=pixels).logits
            return logits.float().softmax(1).cpu()

        with torch.inference_mode():
            parts = in_chunks(self._device, len(views), _VIEWS, "views", run)
        columns = self._model.config.num_labels
        every = torch.cat([torch.zeros(0, columns), *parts])
        shares = every.view(2, len(views) // 2, columns).mean(0).numpy()
        return self._chosen.split(shares, masks)


class UltralyticsNamer:
    """A classification model of Ultralytics.

    Args:
        path: of its weights.
        classes: see ``TransformersNamer``.
        device: torch device.

    Raises:
        ConfigError: it does not load, classifies nothing, or does not know a class.
    """

    def __init__(self, path: Path, classes: Sequence[Words] | None, *, device: str) -> None:
        self._model = load_ultralytics(path, ("classify",))
        self._options = {"device": device, "verbose": False}
        self._chosen = _Chosen(self._model.names, classes, str(path))
        self.names = self._chosen.names
        self.version = self._chosen.version(path.stem, file_digest(path))
        self._side = int(self._model.overrides.get("imgsz", 224))

    def name(
        self, images: Sequence[Image], masks: Sequence[Sequence[Mask]]
    ) -> list[ClassProbabilities]:
        """How likely each mask shows each class; see ``ClipNamer.name``."""
        views = Views(images, masks, self._side)
        shares = np.zeros((len(views), len(self._model.names)), np.float32)
        for start in range(0, len(views), _VIEWS):
            part = views[start : start + _VIEWS]
            bgr = [np.ascontiguousarray(view[..., ::-1]) for view in part]
            for k, one in enumerate(self._model.predict(bgr, **self._options)):
                shares[start + k] = one.probs.data.float().cpu().numpy()
        mean = shares.reshape(2, len(views) // 2, shares.shape[1]).mean(0)
        return self._chosen.split(mean, masks)
