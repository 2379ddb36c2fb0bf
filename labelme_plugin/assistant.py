"""What the models answer to a labelme user: names to labelled masks, points and boxes to one mask.
Knows nothing of labelme's window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from backend.core.masks import mask_xyxy
from backend.core.naming import UNNAMED, UNSURE, Words, words_of
from backend.core.protocols import InteractiveLabeler, Labeler, PointSegmenter
from backend.core.types import Embedding, Image, Mask, Prompts
from backend.errors import InputError

_REMEMBERED = 3  # encoded images
# SAM's labels of points
BACKGROUND_POINT = 0
POINT = 1
FIRST_CORNER = 2
LAST_CORNER = 3


@dataclass(frozen=True, eq=False)
class AssistedMask:
    """One mask for labelme."""

    mask: Mask
    score: float  # 0..1
    text: str | None = None  # the class name as it was typed; None for points and boxes

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First and last pixel: x, y, x, y, inclusive as labelme has it."""
        x0, y0, x1, y1 = (int(v) for v in mask_xyxy(self.mask))
        return x0, y0, x1 - 1, y1 - 1


class Assistant:
    """Answers prompts about images; what was encoded last is remembered.

    Args:
        cascade: loaded models.
        names: of the classes it was told to keep; None for all.
        words: to look for, known before anybody types.
        labeler_of: gives a labeler that looks for any words; None where only the classes of the
            cascade can be found.
    """

    def __init__(
        self,
        cascade: InteractiveLabeler,
        names: Sequence[str] | None = None,
        *,
        words: Sequence[Words] = (),
        labeler_of: Callable[[Sequence[Words]], Labeler] | None = None,
    ) -> None:
        self._cascade = cascade
        self._names = names
        self._given = words
        self._typed = {one.name.casefold(): one for one in words}
        self._labeler_of = labeler_of
        self.n_found = 0  # by the last text
        self._embeddings: LRUCache[bytes, Embedding] = LRUCache(_REMEMBERED)

    @property
    def names(self) -> list[str]:
        """The classes that can be found, and the words that were given."""
        known = self._classes()
        seen = {name.casefold() for name in known}
        return [*known, *(one.name for one in self._given if one.name.casefold() not in seen)]

    @property
    def takes_words(self) -> bool:
        """Whether anything may be typed, and not only the names of classes."""
        return self._labeler_of is not None

    def spelled(self, texts: Sequence[str]) -> list[str]:
        """Texts as the classes are spelled, each once.

        What is none of them, without blanks around it. Where any words can be looked for, of those
        divided by ``|`` the first stays, and the others are remembered for it. No text at all is
        all names that were given, else everything there is.

        Raises:
            InputError: words without a name.
        """
        if self._labeler_of is not None:
            texts = [text for text in texts if text.strip()] or self._everything()
            texts = [self._remembered(text) for text in texts]
        names = {name.casefold(): name for name in self.names}
        return list(
            dict.fromkeys(names.get(text.strip().casefold(), text.strip()) for text in texts)
        )

    def _classes(self) -> list[str]:
        """Those that the cascade finds by itself."""
        return list(self._cascade.names.values()) if self._names is None else list(self._names)

    def _everything(self) -> list[str]:
        names = [name for name in self.names if "," not in name]  # labelme parts texts there
        return names if self._given else [*names, UNNAMED]

    def _remembered(self, text: str) -> str:
        """The name of what was typed, whose words are known from now on."""
        if text.strip().casefold() in {name.casefold() for name in self._classes()}:
            return text.strip()
        try:
            words = words_of(text)
        except ValueError as error:
            raise InputError(str(error)) from None
        if words.synonyms or words.name.casefold() not in self._typed:
            self._typed[words.name.casefold()] = words
        return words.name

    def by_text(self, image: Image, texts: Sequence[str]) -> tuple[list[AssistedMask], list[str]]:
        """The objects of the classes that were typed.

        Args:
            image: (H, W, 3) RGB.
            texts: as ``spelled`` gives them: names of classes in any case, blanks around them
                ignored; empty ones are no question. Where any words can be looked for, also
                ``unsure`` for what fits none of them surely, or ``object`` for masks without names.

        Returns:
            Answers, the surest first, and the texts that are none of the classes.

        Raises:
            InputError: ``object`` beside words, or ``unsure`` where nothing is looked for.
        """
        wanted: dict[str, str] = {}
        for text in texts:
            if text.strip():
                wanted.setdefault(text.strip().casefold(), text)
        labeler, unknown = self._labeler(wanted)
        if len(unknown) == len(wanted):
            return [], unknown
        (raw,) = labeler.infer([image], None)
        prediction = labeler.finish(raw)
        answers = [
            AssistedMask(instance.mask, float(instance.score), wanted[instance.label.casefold()])
            for instance in prediction.instances
            if instance.mask is not None and instance.label.casefold() in wanted
        ]
        self.n_found = len(answers)
        return sorted(answers, key=lambda answer: -answer.score), unknown

    def _labeler(self, wanted: Mapping[str, str]) -> tuple[Labeler, list[str]]:
        """What finds the texts, by their case-folded ones, and those that it cannot find."""
        if self._labeler_of is None:
            known = {name.casefold() for name in self.names}
            return self._cascade, [text for folded, text in wanted.items() if folded not in known]
        classes = {name.casefold() for name in self._classes()}
        words = [
            self._typed.get(folded, Words(text.strip()))
            for folded, text in wanted.items()
            if folded not in (UNSURE, UNNAMED)
        ]
        if UNNAMED in wanted:
            if UNSURE in wanted or any(one.name.casefold() not in classes for one in words):
                raise InputError(f"{UNNAMED} stands for masks without names; type it alone")
            return self._labeler_of([]), []
        words = words or list(self._given)
        if not words:
            raise InputError(f"{UNSURE} is what fits none of your words; type some beside it")
        return self._labeler_of(words), []

    def by_points(
        self, image: Image, points_xy: NDArray[np.floating], labels: Sequence[int]
    ) -> list[AssistedMask]:
        """The object that points, or a box, show.

        Args:
            image: (H, W, 3) RGB.
            points_xy: (P, 2) in pixels.
            labels: of each point: 1 on the object, 0 beside it, 2 and 3 opposite corners of a box.

        Returns:
            One answer, or none where the mask is empty.

        Raises:
            InputError: there is no segmenter, or nothing to go by.
        """
        segmenter = self._cascade.point_segmenter
        if segmenter is None:
            raise InputError("no segmenter is loaded")
        kinds = np.asarray(labels)
        corners = points_xy[np.isin(kinds, (FIRST_CORNER, LAST_CORNER))].astype(np.float32)
        box = np.concatenate([corners.min(0), corners.max(0)]) if len(corners) >= 2 else None
        signed = np.isin(kinds, (BACKGROUND_POINT, POINT))
        prompt = Prompts(box, points_xy[signed].astype(np.float32), kinds[signed] == POINT)
        masks = segmenter.refine(self._embedding(segmenter, image), [prompt])
        (mask,) = self._cascade.outline(masks)
        return [] if mask is None else [AssistedMask(mask, float(masks.quality[0]))]

    def _embedding(self, segmenter: PointSegmenter, image: Image) -> Embedding:
        key = (
            blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
            + str(image.shape).encode()
        )
        embedding = self._embeddings.get(key)
        if embedding is None:
            embedding = segmenter.embed(image)
            self._embeddings[key] = embedding
        return embedding
