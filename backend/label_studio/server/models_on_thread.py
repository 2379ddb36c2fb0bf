"""Models as a long piece of work sees them: each call is a job of its own on the inference thread,
so that clicks of others come in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from backend.core.protocols import Frames, InteractiveLabeler, PointSegmenter, VideoSegmenter
from backend.core.protocols import VideoSession as Session
from backend.core.types import Detections, FrameMasks, Image, Mask, Masks, Prediction, Prompts
from backend.errors import InputError

T = TypeVar("T")
Run = Callable[[Callable[[], T]], T]  # does something on the inference thread


class LabelerOnThread:
    """A labeler whose ``infer`` runs on the inference thread.

    Args:
        labeler: the models.
        run: see ``Run``.
    """

    def __init__(self, labeler: InteractiveLabeler, run: Run[Any]) -> None:
        self._labeler = labeler
        self._run = run

    @property
    def names(self) -> Mapping[int, str]:
        return self._labeler.names

    @property
    def model_version(self) -> str:
        return self._labeler.model_version

    @property
    def point_segmenter(self) -> PointSegmenter | None:
        return self._labeler.point_segmenter

    @property
    def video_segmenter(self) -> VideoSegmenter | None:
        return self._labeler.video_segmenter

    def infer(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None] | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> Sequence[Any]:
        found: Sequence[Any] = self._run(lambda: self._labeler.infer(images, given, thresholds))
        return found

    def finish(self, raw: Any) -> Prediction:
        return self._labeler.finish(raw)

    def outline(self, masks: Masks) -> list[Mask | None]:
        return self._labeler.outline(masks)


class SegmenterOnThread:
    """A video segmenter whose sessions run on the inference thread.

    Args:
        labeler: whose segmenter it is.
        run: see ``Run``.

    Raises:
        InputError: it cannot follow objects.
    """

    def __init__(self, labeler: InteractiveLabeler, run: Run[Any]) -> None:
        segmenter = labeler.video_segmenter
        if segmenter is None:
            raise InputError("this backend's segmenter cannot follow objects through videos")
        self._segmenter = segmenter
        self._run = run

    @property
    def version(self) -> str:
        return self._segmenter.version

    def start(self, frames: Frames, saved: bytes | None = None) -> Session:
        session: Session = self._run(lambda: self._segmenter.start(frames, saved))
        return _SessionOnThread(session, self._run)


class _SessionOnThread:
    def __init__(self, session: Session, run: Run[Any]) -> None:
        self._session = session
        self._run = run

    def prompt(self, frame: int, object_id: int, prompts: Prompts) -> FrameMasks:
        found: FrameMasks = self._run(lambda: self._session.prompt(frame, object_id, prompts))
        return found

    def prompt_mask(self, frame: int, object_id: int, mask: Mask) -> FrameMasks:
        found: FrameMasks = self._run(lambda: self._session.prompt_mask(frame, object_id, mask))
        return found

    def step(self, *, backward: bool = False) -> FrameMasks | None:
        found: FrameMasks | None = self._run(lambda: self._session.step(backward=backward))
        return found

    def drop(self, object_id: int) -> None:
        self._session.drop(object_id)

    def forget(self, before: int) -> None:
        self._session.forget(before)

    def saved(self) -> bytes:
        found: bytes = self._run(self._session.saved)
        return found
