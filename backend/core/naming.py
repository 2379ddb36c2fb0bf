"""Names for masks: the words that stand for a class, and when a name is sure enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.core.types import ClassProbabilities

UNNAMED = "object"  # the label of masks that nobody names
UNSURE = "unsure"  # the label of a mask that no name fits surely
NO_CLASS = -1  # in ``decided``: the mask shows none of the classes
NOT_SURE = -2

# How a caption may speak of a thing; the features of all are averaged.
TEMPLATES = (
    "{}",
    "a photo of a {}",
    "a picture of the {}",
    "a close-up of a {}",
    "a {} among other things",
    "a {} cut out of its picture",
    "a small {}",
    "a drawing of a {}",
)
# What masks show that show none of the classes.
BACKGROUND = ("background", "surface", "something else", "texture", "part of something")


@dataclass(frozen=True)
class Words:
    """A class and what else it is called.

    Attributes:
        name: of the class.
        synonyms: that mean the same.
        phrases: to look for instead of name and synonyms; none for those.
        also: names that somebody may write for it and that are not looked for.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """What to look for, the name first unless there are phrases."""
        return self.phrases or (self.name, *self.synonyms)

    @property
    def called(self) -> tuple[str, ...]:
        """All that labels of it may be."""
        return (self.name, *self.synonyms, *self.also)


def words_of(text: str) -> Words:
    """A class from its words, divided by ``|``.

    Args:
        text: the first word is the label.

    Raises:
        ValueError: no word, or an empty one.

    >>> words_of("car | automobile").all
    ('car', 'automobile')
    """
    words = tuple(word.strip() for word in text.split("|"))
    if not all(words):
        raise ValueError(f"expected a name, or names divided by |, got {text!r}")
    return Words(words[0], words[1:])


def phrases_besides(classes: Sequence[Words], phrases: Sequence[str] = BACKGROUND) -> list[str]:
    """The phrases for what shows no class, without those that are a class here.

    >>> phrases_besides([Words("Surface")], ("background", "surface"))
    ['background']
    """
    taken = {word.casefold() for one in classes for word in one.all}
    return [phrase for phrase in phrases if phrase.casefold() not in taken]


def softmax(logits: NDArray[np.floating], n_classes: int) -> ClassProbabilities:
    """Probabilities of classes, and of all columns after them together.

    Args:
        logits: (N, K + B), of K classes and B phrases for what shows none.
        n_classes: K.

    >>> found = softmax(np.zeros((1, 4)), 2)
    >>> found.probabilities.tolist(), found.background.tolist()
    ([[0.25, 0.25]], [0.5])
    """
    powers = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
    shares = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return ClassProbabilities(shares[:, :n_classes], shares[:, n_classes:].sum(1))


def split_by_image(
    found: ClassProbabilities, masks: Sequence[Sequence[object]]
) -> list[ClassProbabilities]:
    """What was found of all masks, image by image.

    Args:
        found: of all masks in order.
        masks: of each image.

    >>> every = ClassProbabilities(np.ones((3, 1), np.float32), np.zeros(3, np.float32))
    >>> [len(one.background) for one in split_by_image(every, [["a"], [], ["b", "c"]])]
    [1, 0, 2]
    """
    ends = np.cumsum([len(own) for own in masks], dtype=np.intp)
    return [
        ClassProbabilities(
            found.probabilities[end - len(own) : end], found.background[end - len(own) : end]
        )
        for own, end in zip(masks, ends.tolist(), strict=True)
    ]


def decided(
    found: ClassProbabilities, least: float, least_margin: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The class of each mask.

    Args:
        found: of N masks.
        least: a class is sure from this probability on, 0..1.
        least_margin: and from this far above the next class, or above showing none, 0..1.

    Returns:
        (N,) class, ``NO_CLASS`` where that is likelier than any, or ``NOT_SURE``; and (N,)
        probability of the likeliest class.

    >>> found = ClassProbabilities(
    ...     np.array([[0.9, 0.1], [0.5, 0.45], [0.1, 0.1]], np.float32),
    ...     np.array([0.0, 0.05, 0.8], np.float32),
    ... )
    >>> decided(found, least=0.5, least_margin=0.1)[0].tolist()
    [0, -2, -1]
    """
    every = np.column_stack([found.probabilities, found.background])
    order = np.argsort(-every, axis=1, kind="stable")
    rows = np.arange(len(every))
    best = order[:, 0]
    top = every[rows, best]
    second = every[rows, order[:, 1]] if every.shape[1] > 1 else np.zeros_like(top)
    n_classes = found.probabilities.shape[1]
    classes = np.where((top >= least) & (top - second >= least_margin), best, NOT_SURE)
    classes = np.where(best == n_classes, NO_CLASS, classes)
    likeliest = (
        found.probabilities.max(1) if n_classes else np.zeros(len(every), np.float32)
    ).astype(np.float32)
    return classes.astype(np.int64), likeliest
