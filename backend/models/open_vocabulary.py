"""Detectors that look for words behind the ``Detector`` protocol, through ``transformers``:
Grounding DINO and OWL-ViT, each in both of its kinds.

Grounding DINO reads all words as one sentence, OWL-ViT each word by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.config.models import DEFAULT_CONF, Settings
from backend.core.naming import Words
from backend.core.types import Detections, Image
from backend.errors import ConfigError
from backend.models.chunks import in_chunks
from backend.models.pretrained import (
    folder_digest,
    load_part,
    load_pretrained,
    need_transformers,
    read_model_config,
)

_OPTION = "--detector"
_SENTENCE = ("grounding-dino", "mm-grounding-dino")  # of a configuration's model_type
_SINGLE = ("owlv2", "owlvit")
_STOP = "."  # what divides the words of a sentence
_ENDS = 2  # tokens before and after a sentence
_NARROWEST = 50  # sides of an image, the long one over the short one
_LONGEST_SENTENCE = 256  # tokens; of Grounding DINO's text encoder


class OpenVocabularyDetector:
    """A detector for words.

    Args:
        folder: of the model, as ``save_pretrained`` writes it.
        classes: what to look for; an object is of the class with the likeliest word.
        device: torch device; the models run in float32.
        conf: detections below are dropped, 0..1.
        iou: boxes that overlap more are one object, 0..1.
        max_det: most detections per image.
        agnostic_nms: whether detections of different classes suppress each other.

    Raises:
        ConfigError: the folder does not load, or holds another kind of model.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[Words],
        *,
        device: str,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        agnostic_nms: bool = True,
    ) -> None:
        self._kind = str(read_model_config(folder, _OPTION).get("model_type"))
        if self._kind not in (*_SENTENCE, *_SINGLE):
            raise ConfigError(
                f"{_OPTION}: {folder} is a {self._kind}; expected a Grounding DINO or an OWL-ViT"
            )
        self._device = torch.device(device)
        self._tokenizer = load_part("AutoTokenizer", folder, _OPTION)
        self._images = load_part("AutoImageProcessor", folder, _OPTION)
        model = load_pretrained("AutoModelForZeroShotObjectDetection", folder, _OPTION)
        self._model: Any = model.to(self._device)
        self._conf, self._iou, self._max_det = conf, iou, max_det
        self._agnostic = agnostic_nms
        self.names: Mapping[int, str] = {k: one.name for k, one in enumerate(classes)}
        words = [(k, word) for k, one in enumerate(classes) for word in one.all]
        if self._kind in _SENTENCE:
            self._asked = list(self._sentences(words))
        else:
            self._asked = [self._each(words)]
        chosen = [conf, iou, max_det, agnostic_nms, words, list(self.names.values())]
        recipe = json.dumps([folder_digest(folder), chosen])
        self.version = f"{folder.name}-{sha256(recipe.encode()).hexdigest()[:8]}"

    def _each(self, words: Sequence[tuple[int, str]]) -> tuple[dict[str, Tensor], Tensor]:
        """The model's text arguments, and a class for each of its columns, (C,)."""
        longest = self._model.config.text_config.max_position_embeddings
        texts = [word for _, word in words]
        given = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        )
        asked = {name: given[name].to(self._device) for name in ("input_ids", "attention_mask")}
        return asked, torch.tensor([k for k, _ in words])

    def _sentences(
        self, words: Sequence[tuple[int, str]]
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """As many sentences as the words need; columns are tokens, with -1 for those of no word."""
        most = min(int(getattr(self._model.config, "max_text_len", 256)), _LONGEST_SENTENCE)
        parts: list[list[tuple[int, str]]] = [[]]
        used = _ENDS
        for k, word in words:
            said = " ".join(word.lower().replace(_STOP, " ").replace("?", " ").split())
            count = len(self._tokenizer(said, add_special_tokens=False)["input_ids"]) + 1
            if not said or count + _ENDS > most:
                raise ConfigError(f"--names: {_OPTION} cannot look for {word!r}")
            if used + count > most:
                parts.append([])
                used = _ENDS
            parts[-1].append((k, said))
            used += count
        for part in parts:
            yield self._sentence(part)

    def _sentence(self, words: Sequence[tuple[int, str]]) -> tuple[dict[str, Tensor], Tensor]:
        text = "".join(f"{word} {_STOP} " for _, word in words).strip()
        given = self._tokenizer(text, return_tensors="pt", return_token_type_ids=True)
        asked = {name: one.to(self._device) for name, one in given.items()}
        stop = self._tokenizer.convert_tokens_to_ids(_STOP)
        columns = []
        at = 0
        special = set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}
        for token in given["input_ids"][0].tolist():
            if token == stop:
                at += 1
            inside = token != stop and token not in special and at < len(words)
            columns.append(words[at][0] if inside else -1)
        return asked, torch.tensor(columns)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Find objects; see ``YoloDetector.detect``.

        Images of one shape go through the model together.

        Raises:
            Unavailable: out of memory even with a single image.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for k, image in enumerate(images):
            groups.setdefault(image.shape, []).append(k)
        found: dict[int, Detections] = {}
        for members in groups.values():

            def run(start: int, stop: int, members: list[int] = members) -> list[Detections]:
                return self._of_shape([images[k] for k in members[start:stop]])

            parts = in_chunks(self._device, len(members), len(members), "pictures", run)
            found.update(zip(members, (one for part in parts for one in part), strict=True))
        return [found[k] for k in range(len(images))]

    def _of_shape(self, images: Sequence[Image]) -> list[Detections]:
        size_hw = images[0].shape[0], images[0].shape[1]
        images = [_padded(image) for image in images]
        given = self._images(
            images=list(images), input_data_format="channels_last", return_tensors="pt"
        )
        pixels = {name: one.to(self._device) for name, one in given.items()}
        boxes: list[Tensor] = []
        scores: list[Tensor] = []
        with torch.inference_mode():
            for asked, columns in self._asked:
                text = {
                    # OWL-ViT wants the words of each image, Grounding DINO one sentence for each
                    name: one.repeat(len(images), 1)
                    for name, one in asked.items()
                }
                answer = self._model(**text, **pixels)
                boxes.append(answer.pred_boxes.float().cpu())
                scores.append(self._of_classes(answer.logits.float().sigmoid().cpu(), columns))
        every, sure = torch.cat(boxes, 1), torch.cat(scores, 1)
        seen_hw = images[0].shape[0], images[0].shape[1]
        return [self._chosen(*one, seen_hw, size_hw) for one in zip(every, sure, strict=True)]

    def _of_classes(self, shares: Tensor, columns: Tensor) -> Tensor:
        """(B, Q, classes) the likeliest column of each class, from (B, Q, columns)."""
        found = shares.new_zeros(*shares.shape[:2], len(self.names))
        for column, k in enumerate(columns.tolist()):
            if k >= 0:
                found[..., k] = torch.maximum(found[..., k], shares[..., column])
        return found

    def _chosen(
        self, boxes: Tensor, shares: Tensor, seen_hw: tuple[int, int], size_hw: tuple[int, int]
    ) -> Detections:
        from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image, nms

        height, width = seen_hw
        # OWL-ViT's second kind sees the picture in a square, with a margin below or on the right.
        sides = [max(seen_hw)] * 2 if self._kind == "owlv2" else [width, height]
        scores, classes = shares.max(1)
        keep = scores >= self._conf
        corners = box_convert(boxes[keep], "cxcywh", "xyxy") * torch.tensor(sides * 2)
        corners = clip_boxes_to_image(corners, size_hw)
        scores, classes = scores[keep], classes[keep]
        if self._agnostic:
            rows = nms(corners, scores, self._iou)
        else:
            rows = batched_nms(corners, scores, classes, self._iou)
        rows = rows[: self._max_det]
        return Detections(
            corners[rows].numpy().astype(np.float32).reshape(-1, 4),
            classes[rows].numpy().astype(np.int64),
            scores[rows].numpy().astype(np.float32),
        )


def _padded(image: Image) -> Image:
    """An image that is not so narrow that resizing would leave it no pixel."""
    least = -(-max(image.shape[:2]) // _NARROWEST)
    below, beside = (max(0, least - side) for side in image.shape[:2])
    return np.pad(image, ((0, below), (0, beside), (0, 0)), constant_values=127)


def load(path: Path, config: str | None, settings: Settings, device: str) -> OpenVocabularyDetector:
    """The detector in a folder; see ``OpenVocabularyDetector``.

    Args:
        path: the folder.
        config: not used; the folder holds its own.
        settings: words and thresholds.
        device: torch device.

    Raises:
        ConfigError: no words.
    """
    need_transformers(_OPTION)
    if settings.names is None:
        raise ConfigError(
            f"{_OPTION} {path.name}: looks for words; give some with --names a,b,c or"
            " AUTOMATIC_NAMES"
        )
    if settings.classes is not None:
        raise ConfigError(
            f"--classes: chooses among the classes of a detector; {path.name} looks for --names"
        )
    return OpenVocabularyDetector(
        path,
        settings.names,
        device=device,
        conf=DEFAULT_CONF if settings.conf is None else settings.conf,
        iou=settings.iou,
        max_det=settings.max_det,
        agnostic_nms=settings.agnostic_nms,
    )
