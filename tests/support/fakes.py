"""Stub models, for tests and for the programs that tests start; they need no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backend.core.types import Detections, Embedding, Image, Masks, Prompts


class FakeDetector:
    """Finds what it was told to find; the k-th call's images get the k-th answers."""

    version = "fake-1"

    def __init__(self, boxes: Sequence[Sequence[float]] = ((2, 3, 20, 30),)) -> None:
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.calls = 0
        self.names = {0: "cat", 1: "dog"}

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.calls += 1
        n = len(self.boxes)
        return [
            Detections(self.boxes, np.arange(n) % 2, np.linspace(0.9, 0.5, n).astype(np.float32))
            for _ in images
        ]


class FakeSegmenter:
    """Fills each box on a 64x64 grid."""

    version = "boxfill-1"

    def segment(self, images: Sequence[Image], boxes: Sequence[np.ndarray]) -> list[Masks]:
        answers = []
        for image, of_image in zip(images, boxes, strict=True):
            height, width = image.shape[:2]
            y = (np.arange(64) + 0.5) * height / 64
            x = (np.arange(64) + 0.5) * width / 64
            grids = [
                np.minimum(
                    np.minimum(x - b[0], b[2] - x)[None], np.minimum(y - b[1], b[3] - y)[:, None]
                )
                for b in of_image
            ]
            logits = np.array(grids, np.float32).reshape(-1, 64, 64)
            answers.append(Masks(logits, np.full(len(logits), 0.9, np.float32), (height, width)))
        return answers

    def embed(self, image: Image) -> Embedding:
        return Embedding(None, (image.shape[0], image.shape[1]), 0)

    def refine(self, embedding: Embedding, prompts: Sequence[Prompts]) -> Masks:
        raise NotImplementedError
