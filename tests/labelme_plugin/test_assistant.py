"""What is typed into labelme's text field, where any words may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from backend.core.naming import Words
from backend.core.types import Image, Instance, Mask, Prediction, Proposals
from backend.errors import InputError
from backend.labeling.by_words import RememberedProposals
from backend.labeling.cascade import Cascade
from labelme_plugin.assistant import Assistant

IMAGE = np.zeros((4, 6, 3), np.uint8)
MASK = Mask(1, 1, np.ones((2, 2), np.bool_))


class Finder:
    """Finds one mask for each of its names."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names: Mapping[int, str] = dict(enumerate(names))

    def infer(self, images: Sequence[Image], given: Any = None) -> list[Prediction]:
        found = [
            Instance(name, k, 0.9 - k / 10, np.array([1, 1, 3, 3], np.float32), MASK)
            for k, name in self.names.items()
        ]
        return [Prediction(tuple(found), (4, 6), "") for _ in images]

    def finish(self, raw: Prediction) -> Prediction:
        return raw


@pytest.fixture
def asked() -> list[list[Words]]:
    return []


@pytest.fixture
def assistant(fake: Cascade, asked: list[list[Words]]) -> Assistant:
    """Looks for anything; a car is known before, by two words."""

    def labeler_of(words: Sequence[Words]) -> Any:
        asked.append(list(words))
        return Finder([one.name for one in words] + ["unsure"] if words else ["object"])

    words = [Words("car", ("automobile",))]
    return Assistant(fake, words=words, labeler_of=labeler_of)


def found(assistant: Assistant, typed: str) -> list[str | None]:
    """The texts of the answers, asked as labelme asks."""
    texts = ",".join(assistant.spelled(typed.split(","))).split(",")
    answers, unknown = assistant.by_text(IMAGE, texts)
    assert unknown == []
    return [one.text for one in answers]


def test_any_words_are_looked_for(assistant: Assistant, asked: list[list[Words]]) -> None:
    assert found(assistant, " Car , red bus|coach") == ["car", "red bus"]
    assert asked == [[Words("car", ("automobile",)), Words("red bus", ("coach",))]]
    assert found(assistant, "red bus") == ["red bus"]
    assert asked[-1] == [Words("red bus", ("coach",))], "remembered"
    assert found(assistant, "tree, UNSURE") == ["tree", "UNSURE"]
    assert asked[-1] == [Words("tree")]


def test_nothing_typed_is_all_that_was_given(
    assistant: Assistant, asked: list[list[Words]]
) -> None:
    assert assistant.spelled([""]) == ["cat", "dog", "car"]
    assert found(assistant, "") == ["cat", "dog", "car"]
    assert asked == [[Words("cat"), Words("dog"), Words("car", ("automobile",))]]


def test_nothing_given_and_nothing_typed_is_everything(fake: Cascade) -> None:
    """With the classes of the detector, which are found as such; no words are looked for."""
    asked: list[list[Words]] = []

    def labeler_of(words: Sequence[Words]) -> Any:
        asked.append(list(words))
        return Finder(["object"])

    assistant = Assistant(fake, labeler_of=labeler_of)
    assert assistant.spelled([""]) == ["cat", "dog", "object"]
    assert found(assistant, "") == ["object"]
    assert found(assistant, "object, dog") == ["object"]
    assert asked == [[], []]


def test_object_and_unsure_say_what_they_need(assistant: Assistant, fake: Cascade) -> None:
    assert found(assistant, "unsure") == ["unsure"]
    with pytest.raises(InputError, match="object stands for masks without names; type it alone"):
        assistant.by_text(IMAGE, ["tree", "object"])
    bare = Assistant(fake, labeler_of=lambda words: Finder([]))
    with pytest.raises(InputError, match="unsure is what fits none of your words"):
        bare.by_text(IMAGE, ["unsure"])


def test_names_of_classes_are_never_torn_apart() -> None:
    cascade = Cascade(None, None, names={0: "a||b", 1: "car|van", 2: "x,y"})
    assistant = Assistant(cascade, labeler_of=lambda words: Finder(["car|van"]))
    assert assistant.spelled([""]) == ["a||b", "car|van", "object"]
    assert assistant.spelled(["Car|Van", "bus|coach"]) == ["car|van", "bus"]


def test_names_are_offered_once(assistant: Assistant) -> None:
    assert assistant.names == ["cat", "dog", "car"]
    assert assistant.takes_words


def test_words_without_a_name_are_told(assistant: Assistant) -> None:
    with pytest.raises(InputError, match=r"expected a name, or names divided by \|, got 'a\|\|b'"):
        assistant.spelled(["a||b"])


def test_proposals_of_an_image_are_made_once() -> None:
    made: list[int] = []

    class Proposer:
        version = "p"

        def propose(self, images: Sequence[Image]) -> list[Proposals]:
            made.append(len(images))
            empty = np.zeros(0, np.float32)
            return [Proposals((), empty, empty, image.shape[:2]) for image in images]

    remembered = RememberedProposals(Proposer())
    assert remembered.version == "p"
    other = np.ones_like(IMAGE)
    for image in (IMAGE, other, IMAGE.copy()):
        (one,) = remembered.propose([image])
        assert one.size_hw == (4, 6)
    assert made == [1, 1]
    remembered.propose([IMAGE.reshape(6, 4, 3)])
    assert len(made) == 3, "the same bytes in another shape are another image"
