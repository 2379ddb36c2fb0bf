"""Naming masks as upstream and most tutorials do it: a call of the processor and of the whole model
for every mask, with all words again. A yardstick of the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from backend.core.masks import mask_xyxy
from backend.core.types import Image, Mask
from backend.models.clip import Preprocessing
from backend.models.pretrained import load_part, load_pretrained


def naming_loop(folder: Path, words: Sequence[str]) -> Callable[[Image, Sequence[Mask]], list[int]]:
    """An image and masks to the number of the word of each.

    Args:
        folder: of a CLIP.
        words: to choose from.
    """
    from transformers import CLIPImageProcessor, CLIPProcessor

    read = Preprocessing.of(folder)
    processor = CLIPProcessor(
        CLIPImageProcessor(
            size={"shortest_edge": read.side},
            crop_size={"height": read.side, "width": read.side},
            image_mean=list(read.mean),
            image_std=list(read.deviation),
        ),
        load_part("AutoTokenizer", folder, "--namer"),
    )
    model = load_pretrained("AutoModel", folder, "--namer")
    texts = [f"a photo of a {word}" for word in words]

    def name(image: Image, masks: Sequence[Mask]) -> list[int]:
        found = []
        for mask in masks:
            x0, y0, x1, y1 = mask_xyxy(mask).astype(int)
            given = processor(
                text=texts, images=image[y0:y1, x0:x1], return_tensors="pt", padding=True
            )
            with torch.inference_mode():
                answer = model(**given).logits_per_image.softmax(1)
            found.append(int(answer.argmax()))
        return found

    return name
