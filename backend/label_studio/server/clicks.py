"""A click or a rough box to a mask: the image is encoded once, then every further prompt costs a
decoder call.

Everything remembered is found by what the image is and what was prompted, never by who asked, so
two people on two images cannot get each other's mask, and a second person on the same image finds
it encoded.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from backend.core.masks import mask_xyxy
from backend.core.types import Embedding, Image, Instance, Mask, Masks, Prediction
from backend.errors import InputError, Unavailable
from backend.formats.json_text import RawJson, json_text
from backend.formats.label_studio.binding import Output
from backend.formats.label_studio.context import PromptedObject, read_context, to_prompts
from backend.formats.label_studio.label_config import DEFAULT_MODELS, ControlTag
from backend.formats.label_studio.pages import Place, placed
from backend.formats.label_studio.prompt_targets import prompt_target
from backend.formats.label_studio.results import Result, prediction_object, result_of
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.cache import ByteLru
from backend.label_studio.server.decoding import Decoder
from backend.label_studio.server.monitor import Monitor
from backend.label_studio.server.prefetch import Decode, Fetch
from backend.label_studio.server.projects import Predictors, Project
from backend.label_studio.server.worker import CLICK, InferenceThread

_SAME_URL_S = 30.0  # an address is taken to hold the same image while someone clicks in it
_LOGITS_BYTES = 64 << 20


@dataclass(frozen=True)
class _Wanted:
    """An object that was pointed at, and where its mask goes."""

    target: PromptedObject
    tag: ControlTag
    label: str
    page: int | None  # number of the picture, where the tag shows several

    @property
    def outputs(self) -> Sequence[Output]:
        """The tag, which takes whatever was outlined."""
        output = Output(
            kind=self.tag.kind,
            from_name=self.tag.name,
            to_name=self.tag.to_name,
            labels={0: self.label},
            thresholds={0: 0.0},
            labels_from=self.tag.labels_from,
        )
        return placed([output], self.tag.pages, Place(self.page))

    def address(self, task: Task) -> str:
        """Of the picture that it is on.

        Raises:
            InputError: the task has none of that number.
        """
        if self.tag.pages is None:
            return task.image(self.tag.data_key)
        addresses = task.images(self.tag.data_key, self.tag.pages)
        page = self.page or 0
        if page >= len(addresses):
            raise InputError(
                f"task {task.id}: data.{self.tag.data_key}: has {len(addresses)} pictures, and"
                f" none of number {page}"
            )
        return addresses[page]


class InteractivePredictor:
    """Answers prompts.

    Args:
        inference: the thread that models run on; prompts go to a project's default segmenter.
        fetch: address, task id and deadline to image bytes.
        monitor: counts.
        cache_bytes: for encoded images.
        decode: data, name and deadline to an image.
    """

    def __init__(
        self,
        inference: InferenceThread,
        fetch: Fetch,
        monitor: Monitor,
        *,
        cache_bytes: int = 1024 << 20,
        decode: Decode | None = None,
    ) -> None:
        self._inference = inference
        self._fetch = fetch
        self._monitor = monitor
        self._embeddings: ByteLru[Embedding] = ByteLru(cache_bytes)
        monitor.cache_bytes.labels("clicks").set_function(lambda: self._embeddings.used_bytes)
        self._logits: ByteLru[np.ndarray] = ByteLru(_LOGITS_BYTES)
        self._recent: dict[tuple[int | None, str], tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._decode = decode or Decoder()

    def predict(
        self, task: Task, context: Mapping[str, Any], project: Project, deadline: float
    ) -> RawJson:
        """The answer for one task as JSON text.

        Args:
            task: the one that is open in the editor.
            context: what was drawn.
            project: its label config.
            deadline: of ``time.monotonic``.

        Raises:
            InputError: what was drawn cannot be used, or the image never works.
            Unavailable: later.
        """
        wanted = []
        for target in read_context(context):
            tag, label, number = prompt_target(project.config, target.from_name, target.label)
            page = number if number is not None else target.page
            if page is None and tag.pages is not None:
                page = 0
            wanted.append(_Wanted(target, tag, label, page))
        by_image: dict[str, list[_Wanted]] = {}
        for one in wanted:
            by_image.setdefault(one.address(task), []).append(one)
        results: list[Result] = []
        for uri, on_image in by_image.items():
            masks = self._masks(task, uri, on_image, project, deadline)
            found = project.models.default().outline(masks)
            for one, mask, quality in zip(on_image, found, masks.quality, strict=True):
                if mask is not None:
                    prediction = _prediction(mask, float(quality), one.label, masks.size_hw)
                    results.append(result_of(prediction, one.outputs))
        self._monitor.prompts.inc(len(wanted))
        return RawJson(json_text(prediction_object(results, project.model_version)))

    def _masks(
        self, task: Task, uri: str, wanted: Sequence[_Wanted], project: Project, deadline: float
    ) -> Masks:
        version = project.models.default().model_version
        digest = self._known(task.id, uri, version)
        image = None
        if digest is None:
            digest, image = self._load(task, uri, deadline)
        masks = self._refine(digest, image, wanted, project.models, deadline)
        if masks is None:  # forgotten in the meantime
            digest, image = self._load(task, uri, deadline)
            masks = self._refine(digest, image, wanted, project.models, deadline)
        if masks is None:
            raise Unavailable("the image was encoded, but forgotten at once; raise EMBED_CACHE_MB")
        return masks

    def _known(self, task_id: int | None, uri: str, version: str) -> str | None:
        """Digest of the image if this address was fetched a short while ago and the image is still
        encoded by the models of a version.
        """
        with self._lock:
            digest, until = self._recent.get(_address(task_id, uri), ("", 0.0))
        return (
            digest
            if until > time.monotonic() and self._embeddings.get((version, digest)) is not None
            else None
        )

    def _load(self, task: Task, uri: str, deadline: float) -> tuple[str, Image]:
        data = self._fetch(uri, task.id, deadline)
        digest = sha256(data).hexdigest()
        now = time.monotonic()
        with self._lock:
            self._recent = (
                {k: v for k, v in self._recent.items() if v[1] > now}
                if len(self._recent) > 1000
                else self._recent
            )
            self._recent[_address(task.id, uri)] = (digest, now + _SAME_URL_S)
        return digest, self._decode(data, shown(uri), deadline)

    def _refine(
        self,
        digest: str,
        image: Image | None,
        wanted: Sequence[_Wanted],
        models: Predictors,
        deadline: float,
    ) -> Masks | None:
        """Masks of what is wanted; None if the image has to be fetched again."""
        encoded = (models.default().model_version, digest)

        def work() -> Masks | None:
            segmenter = models.get(DEFAULT_MODELS).point_segmenter
            if segmenter is None:
                raise InputError(
                    "this backend has no segmenter, so clicks and boxes cannot become masks"
                )
            embedding = self._embeddings.get(encoded)
            if embedding is None:
                if image is None:
                    return None
                embedding = segmenter.embed(image)
                self._embeddings.put(encoded, embedding, embedding.n_bytes)
            before = [
                self._logits.get((*encoded, one.target.key(without_last=True))) for one in wanted
            ]
            prompts = [
                to_prompts(one.target, embedding.size_hw, old)
                for one, old in zip(wanted, before, strict=True)
            ]
            return segmenter.refine(embedding, prompts)

        masks = self._inference.run(work, deadline, CLICK)
        if masks is not None:
            for one, logits in zip(wanted, masks.logits, strict=True):
                self._logits.put(
                    (*encoded, one.target.key()), logits.astype(np.float32), 4 * logits.size
                )
        return masks


def _address(task_id: int | None, uri: str) -> tuple[int | None, str]:
    """What an image is asked for by.

    Inline images by their digest, as they may be megabytes long.
    """
    return task_id, (
        uri if len(uri) < 4096 else sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()
    )


def _prediction(mask: Mask, quality: float, label: str, size_hw: tuple[int, int]) -> Prediction:
    """One instance.

    Its version is random so that its region id is new, as the editor may hold an accepted region
    from the same click.
    """
    instance = Instance(label, 0, max(0.0, min(1.0, quality)), mask_xyxy(mask), mask)
    return Prediction((instance,), size_hw, uuid.uuid4().hex)
