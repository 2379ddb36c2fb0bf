"""Names learned from masks that people named: a linear probe on what a CLIP sees.

As CLIP's authors measure image features: Radford et al., "Learning transferable visual models from
natural language supervision", 2021, section 3.2.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.naming import Words, split_by_image
from backend.core.types import ClassProbabilities, Image, Mask
from backend.errors import ConfigError
from backend.models.clip import ClipNamer

NOTHING = ""  # the label of places that nobody named
_NONE = -1  # an example of something that is none of the classes
_FOLDS = 5
_STRENGTH = 0.1  # inverse of the penalty, on features of unit deviation
WORDS = "words"
EXAMPLES = "examples"
BOTH = "both"


@dataclass(frozen=True, eq=False)
class NamedFeatures:
    """N masks that people named.

    Attributes:
        features: (N, D) float32 unit features of a namer.
        labels: their names; ``NOTHING`` for places beside them.
        pictures: (N,) number of the picture that each is in.
        digest: of labels, masks and pictures; the same on every machine, as features are not.
    """

    features: NDArray[np.float32]
    labels: tuple[str, ...]
    pictures: NDArray[np.int64]
    digest: str


@dataclass(frozen=True)
class HeldOut:
    """How many names were right where the examples of a picture were held out; None where there are
    too few to do so.

    Attributes:
        masks: that were asked about.
        accuracy: by ``words``, ``examples`` and ``both``, 0..1.
        best: of the three, or ``both`` where nothing was measured.
    """

    masks: int
    accuracy: Mapping[str, float] | None
    best: str

    def sentence(self) -> str:
        """For people."""
        if self.accuracy is None:
            return "names: too few examples to hold some out, so examples and words decide together"
        told = ", ".join(f"{how} {100 * share:.1f} %" for how, share in self.accuracy.items())
        return (
            f"names: {told} right on {self.masks} held-out examples and places beside them;"
            f" {'both together' if self.best == BOTH else self.best} decide"
        )


def learn_names(
    namer: ClipNamer, classes: Sequence[Words], found: NamedFeatures
) -> tuple[LearnedNamer, HeldOut]:
    """A namer that knows examples, and how right it is on examples it did not see.

    Args:
        namer: that the features are of, with the same classes.
        classes: what masks may show; examples go by any of their words, others are of none.
        found: the examples.

    Raises:
        ConfigError: scikit-learn is missing, no class has an example, or there is nothing to tell
            the only one from.
    """
    need_scikit_learn()
    numbers = {word.casefold(): k for k, one in enumerate(classes) for word in one.called}
    truth = np.array([numbers.get(label.casefold(), _NONE) for label in found.labels], np.int64)
    kinds = np.unique(truth)
    if kinds.max(initial=_NONE) == _NONE:
        raise ConfigError(
            f"--examples: none of its labels is a name; labels: {_listed(found.labels)}; names:"
            f" {_listed([one.name for one in classes])}"
        )
    if len(kinds) < 2:
        raise ConfigError(
            "--examples: has examples of one class alone, from which no other can be told; it has"
            f" {_listed(found.labels)}"
        )
    from_words = namer.compare(found.features)
    probe = _new_probe()
    seen = _held_out(probe, found, truth)
    accuracy = None
    if seen is not None:
        shares, asked = seen
        own = ClassProbabilities(from_words.probabilities[asked], from_words.background[asked])
        right = {
            how: float((_said(_mixed(own, shares, kinds, how)) == truth[asked]).mean())
            for how in (BOTH, EXAMPLES, WORDS)  # of equals the first decides
        }
        accuracy = right
    best = BOTH if accuracy is None else max(accuracy, key=lambda how: accuracy[how])
    probe.fit(found.features, truth)
    held_out = HeldOut(0 if seen is None else int(seen[1].sum()), accuracy, best)
    digest = sha256(json.dumps([found.digest, truth.tolist()]).encode()).hexdigest()
    return LearnedNamer(namer, probe, kinds, best, digest), held_out


def need_scikit_learn() -> None:
    """Refuse where the library is not installed.

    Raises:
        ConfigError: how to get it.
    """
    if find_spec("sklearn") is None:
        raise ConfigError(
            "--examples: needs scikit-learn; pip install 'yolo-sam2-labeling[clip]' brings it"
        )


def _listed(names: Sequence[str]) -> str:
    told = sorted({name for name in names if name != NOTHING})
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else "")


def _new_probe() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(),
        LogisticRegression(C=_STRENGTH, max_iter=1000),
    )


def _held_out(
    probe: Any, found: NamedFeatures, truth: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """The probe's shares of kinds for masks of pictures that it did not learn from, and of which
    masks these are: those whose class is known from other pictures as well.
    """
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold

    kinds, counts = np.unique(truth, return_counts=True)
    n_folds = min(_FOLDS, len(np.unique(found.pictures)), int(counts.max()))
    if n_folds < 2:
        return None
    shares = np.zeros((len(truth), len(kinds)), np.float32)
    asked = np.zeros(len(truth), np.bool_)
    folds = StratifiedGroupKFold(n_splits=n_folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer examples than folds
        parts = list(folds.split(found.features, truth, found.pictures))
    for train, test in parts:
        known = np.unique(truth[train])
        if len(known) < 2:
            continue
        one = clone(probe).fit(found.features[train], truth[train])
        columns = np.searchsorted(kinds, known)
        shares[np.ix_(test, columns)] = one.predict_proba(found.features[test])
        asked[test] = np.isin(truth[test], known)
    return (shares[asked], asked) if asked.any() else None


def _mixed(
    words: ClassProbabilities,
    shares: NDArray[np.float32],
    kinds: NDArray[np.int64],
    how: str,
) -> ClassProbabilities:
    """What masks show.

    Classes without an example keep what the words give them. The rest is divided as the examples
    say, with ``both`` after what the words take for none of the classes.
    """
    if how == WORDS:
        return words
    classes = kinds[kinds != _NONE]
    unknown = np.setdiff1d(np.arange(words.probabilities.shape[1]), classes)
    rest = 1 - words.probabilities[:, unknown].sum(1)
    if how == BOTH:
        rest = rest - words.background
    probabilities = words.probabilities.copy()
    probabilities[:, classes] = rest[:, None] * shares[:, kinds != _NONE]
    background = np.clip(1 - probabilities.sum(1), 0, 1).astype(np.float32)
    return ClassProbabilities(probabilities.astype(np.float32), background)


def _said(found: ClassProbabilities) -> NDArray[np.int64]:
    """The likeliest class, or none."""
    every = np.column_stack([found.probabilities, found.background])
    best = every.argmax(1)
    return np.where(best == found.probabilities.shape[1], _NONE, best).astype(np.int64)


class LearnedNamer:
    """A namer that words and examples decide together.

    Args:
        namer: sees masks and knows the words.
        probe: with ``predict_proba`` over ``kinds``.
        kinds: (K,) class of each of its columns, -1 for none of the classes.
        how: ``words``, ``examples`` or ``both``.
        digest: of the examples.
    """

    def __init__(
        self, namer: ClipNamer, probe: Any, kinds: NDArray[np.int64], how: str, digest: str
    ) -> None:
        self._namer = namer
        self._probe = probe
        self._kinds = kinds
        self._how = how
        self.names: Mapping[int, str] = namer.names
        recipe = json.dumps([namer.version, how, digest])
        stem = namer.version.rpartition("-")[0]
        self.version = f"{stem}-examples-{sha256(recipe.encode()).hexdigest()[:8]}"

    def name(
        self, images: Sequence[Image], masks: Sequence[Sequence[Mask]]
    ) -> list[ClassProbabilities]:
        """How likely each mask shows each class; see ``ClipNamer.name``."""
        features = self._namer.features(images, masks)
        words = self._namer.compare(features)
        found = words
        if len(features) and self._how != WORDS:
            shares = self._probe.predict_proba(features).astype(np.float32)
            found = _mixed(words, shares, self._kinds, self._how)
        return split_by_image(found, masks)
