"""What a model must be able to do, whichever it is.

A new model implements one of these in a file of its own and gets a row in
``backend.models.table``. Everything works on batches and keeps nothing between calls, but for
the session of a video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from backend.core.types import (
    Boxes,
    ClassProbabilities,
    Detections,
    Embedding,
    FrameMasks,
    Image,
    Mask,
    Masks,
    Prediction,
    Prompts,
    Proposals,
)


class Detector(Protocol):
    """Finds and names objects; see ``Detections`` for what it may say.

    ``version`` identifies weights and result-changing settings. An open-vocabulary detector takes
    its names when it is loaded.
    """

    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def version(self) -> str: ...
    def detect(self, images: Sequence[Image]) -> list[Detections]: ...


class BoxSegmenter(Protocol):
    """Outlines the object in each box: one mask per box, in the same order."""

    @property
    def version(self) -> str: ...
    def segment(self, images: Sequence[Image], boxes: Sequence[Boxes]) -> list[Masks]: ...


@runtime_checkable
class PointSegmenter(Protocol):
    """Outlines what a person points at; an image is encoded once for many prompts."""

    @property
    def version(self) -> str: ...
    def embed(self, image: Image) -> Embedding: ...
    def refine(self, embedding: Embedding, prompts: Sequence[Prompts]) -> Masks: ...


class Proposer(Protocol):
    """Outlines everything in an image, without names, and no thing twice."""

    @property
    def version(self) -> str: ...
    def propose(self, images: Sequence[Image]) -> list[Proposals]: ...


class Namer(Protocol):
    """Says how likely each mask shows each class; the masks of all images share a batch."""

    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def version(self) -> str: ...
    def name(
        self, images: Sequence[Image], masks: Sequence[Sequence[Mask]]
    ) -> list[ClassProbabilities]: ...


class Frames(Protocol):
    """Frames of a video by their numbers, from 0 on; an ``IndexError`` tells that there are no
    more. A list of images is one, and so is what decodes them when they are asked for.
    """

    def __getitem__(self, number: int, /) -> Image: ...


class VideoSession(Protocol):
    """One video in work.

    Prompts and masks may be given on any frame, in any order; ``step`` gives the masks of the next
    frame towards the end or the start, and None past it. ``drop`` ends an object, and ``forget``
    lets go of frames that are no longer read. ``saved`` is all that a session of the same frames
    needs to go on from here in another process.
    """

    def prompt(self, frame: int, object_id: int, prompts: Prompts) -> FrameMasks: ...
    def prompt_mask(self, frame: int, object_id: int, mask: Mask) -> FrameMasks: ...
    def step(self, *, backward: bool = False) -> FrameMasks | None: ...
    def drop(self, object_id: int) -> None: ...
    def forget(self, before: int) -> None: ...
    def saved(self) -> bytes: ...


@runtime_checkable
class VideoSegmenter(Protocol):
    """Follows objects through the frames of a video."""

    @property
    def version(self) -> str: ...
    def start(self, frames: Frames, saved: bytes | None = None) -> VideoSession: ...


class Labeler(Protocol):
    """What labels images: models, or somebody who is asked over HTTP.

    ``infer`` runs the models on one thread, ``finish`` makes pixels of an answer on any thread;
    what travels between them is the labeler's own. ``thresholds`` are lowest scores by class index,
    and classes that are not among them are dropped; None keeps all.
    """

    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def model_version(self) -> str: ...
    def infer(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None] | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> Sequence[Any]: ...
    def finish(self, raw: Any) -> Prediction: ...


class InteractiveLabeler(Labeler, Protocol):
    """A labeler that also answers a person's prompts.

    ``point_segmenter`` is None where no model can, ``video_segmenter`` where none follows objects
    through videos; ``outline`` makes pixels of their answers as ``finish`` makes them of all
    others.
    """

    @property
    def point_segmenter(self) -> PointSegmenter | None: ...
    @property
    def video_segmenter(self) -> VideoSegmenter | None: ...
    def outline(self, masks: Masks) -> list[Mask | None]: ...
