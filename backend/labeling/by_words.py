"""Automatic masks for words that a person types while looking at an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from cachetools import LRUCache

from backend.config.models import Settings
from backend.core.naming import UNNAMED, Words
from backend.core.protocols import InteractiveLabeler, Labeler, Namer, Proposer
from backend.core.types import Image, Proposals
from backend.errors import ConfigError
from backend.labeling.cascade import Cascade
from backend.labeling.load import (
    AUTOMATIC,
    BOTH,
    build_automatic,
    build_cascade,
    check_no_detector,
    load,
    load_labeler,
)
from backend.labeling.namers import NamersWithExamples, namer_of
from backend.models.devices import one_device
from backend.models.namers import chooses_words
from backend.models.registry import load_proposer

_IMAGES = 4  # whose proposals are remembered
_WORDS = 8  # lists of words whose text features are remembered
LabelerOfWords: TypeAlias = Callable[[Sequence[Words]], Labeler]


class RememberedProposals:
    """A proposer that knows what it said of the last images: other words need no new masks.

    Args:
        proposer: asked about images that are new.
    """

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self._known: LRUCache[bytes, Proposals] = LRUCache(_IMAGES)

    @property
    def version(self) -> str:
        """That of the proposer."""
        return self._proposer.version

    def propose(self, images: Sequence[Image]) -> list[Proposals]:
        """See ``Proposer``."""
        return [self._of(image) for image in images]

    def _of(self, image: Image) -> Proposals:
        pixels = np.ascontiguousarray(image).data
        key = blake2b(pixels, digest_size=16).digest() + str(image.shape).encode()
        known = self._known.get(key)
        if known is None:
            (known,) = self._proposer.propose([image])
            self._known[key] = known
        return known


class LabelersByWords:
    """Labelers of everything that look for the words they are asked for.

    Args:
        settings: all of them.
        outlines: a cascade, whose segmenter they share.
        detect: whether its detections come first.

    Raises:
        ConfigError: a segmenter that cannot outline everything.
    """

    def __init__(self, settings: Settings, outlines: Cascade, *, detect: bool) -> None:
        if outlines.segmenter is None:
            raise ConfigError("automatic masks need a segmenter")
        self._settings = settings
        self._outlines = outlines
        self._detect = detect
        self._proposer = RememberedProposals(load_proposer(settings, outlines.segmenter))
        self._namers = NamersWithExamples(settings, one_device(settings.device))
        self._known: LRUCache[tuple[Words, ...], Labeler] = LRUCache(_WORDS)

    def first(self) -> tuple[Words, ...]:
        """Load all that the settings name, before anybody waits for it: the words that were given,
        else those that examples or a classifier bring, which are found from now on.

        Raises:
            ConfigError: settings that do not fit, or a model that cannot be loaded.
        """
        settings = self._settings
        words = tuple(settings.names or ())
        namer: Namer | None = None
        if not words and settings.examples is not None:
            namer = self._namers.of(None)
        elif not words and settings.namer is not None:
            if chooses_words(settings):
                self._namers.of((Words(UNNAMED),))  # words come later, the model is there then
            else:
                namer = namer_of(settings)
        if namer is not None:
            words = tuple(Words(namer.names[k]) for k in sorted(namer.names))
        self(words)
        return words

    def __call__(self, words: Sequence[Words]) -> Labeler:
        """One that names masks so; without words masks have no names.

        Raises:
            ConfigError: a namer that cannot be loaded, or does not know the words.
        """
        key = tuple(words)
        known = self._known.get(key)
        if known is None:
            namer = self._namers.of(words) if words else None
            known = build_automatic(
                self._settings, self._outlines, namer, detect=self._detect, proposer=self._proposer
            )
            self._known[key] = known
        return known


@dataclass(frozen=True, eq=False)
class WindowModels:
    """What a program with a window asks.

    Attributes:
        labeler: answers clicks and boxes, and finds the classes that it knows.
        names: of the classes that it was told to keep; None for all.
        words: that were given before anybody types.
        labeler_of: gives a labeler that looks for any words; None where only classes are known.
    """

    labeler: InteractiveLabeler
    names: tuple[str, ...] | None = None
    words: tuple[Words, ...] = ()
    labeler_of: LabelerOfWords | None = None


def load_for_window(settings: Settings, mode: str) -> WindowModels:
    """Load what a window asks.

    Args:
        settings: all of them.
        mode: ``cascade``, ``automatic`` for masks of everything and no detector, or ``both``.

    Raises:
        ConfigError: anything that cannot work.
    """
    if mode not in (AUTOMATIC, BOTH):
        return WindowModels(load_labeler(settings, mode).labeler, settings.classes)
    if mode == AUTOMATIC:
        check_no_detector(settings)
        outlines = build_cascade(settings, names=(), given_version=AUTOMATIC)
    else:
        outlines = load(settings).cascade
    labelers = LabelersByWords(settings, outlines, detect=mode == BOTH)
    return WindowModels(outlines, settings.classes, labelers.first(), labelers)
