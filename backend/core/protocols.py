"""What a model must be able to do, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from backend.core.types import Boxes, Detections, Embedding, Image, Masks, Prediction, Prompts


class Detector(Protocol):
    """Finds and names objects. ``version`` identifies weights and result-changing settings."""

    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def version(self) -> str: ...
    def detect(self, images: Sequence[Image]) -> list[Detections]: ...


class Segmenter(Protocol):
    """Outlines objects that prompts point at. One mask per box, in the same order."""

    @property
    def version(self) -> str: ...
    def segment(self, images: Sequence[Image], boxes: Sequence[Boxes]) -> list[Masks]: ...
    def embed(self, image: Image) -> Embedding: ...
    def refine(self, embedding: Embedding, prompts: Sequence[Prompts]) -> Masks: ...


class Labeler(Protocol):
    """What a run over images needs of a cascade.

    ``backend.labeling.cascade.Cascade`` is one, and so is a backend that is asked over HTTP.
    """

    @property
    def names(self) -> Mapping[int, str]: ...
    def infer(
        self, images: Sequence[Image], given: Sequence[Detections | None] | None = None
    ) -> Sequence[Any]: ...
    def finish(self, raw: Any) -> Prediction: ...
