"""Words, probabilities and when a name is sure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax as reference

from backend.config.models import load_settings
from backend.core.naming import NO_CLASS, NOT_SURE, Words, decided, phrases_besides, softmax
from backend.core.types import ClassProbabilities
from backend.errors import ConfigError


def test_probabilities_are_those_of_scipy() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (50, 7))
    found = softmax(logits, 4)
    expected = reference(logits, axis=1)
    assert np.allclose(found.probabilities, expected[:, :4], atol=1e-6)
    assert np.allclose(found.background, expected[:, 4:].sum(1), atol=1e-6)


def test_nothing_has_no_probabilities() -> None:
    found = softmax(np.zeros((0, 3)), 2)
    classes, likeliest = decided(found, 0.5, 0.1)
    assert found.probabilities.shape == (0, 2)
    assert len(classes) == len(likeliest) == 0


@pytest.mark.parametrize(
    ("row", "background", "expected"),
    [
        ([0.6, 0.2], 0.2, 0),
        ([0.2, 0.6], 0.2, 1),
        ([0.49, 0.2], 0.31, NOT_SURE),  # less than the least
        ([0.5, 0.45], 0.05, NOT_SURE),  # too near to the next class
        ([0.5, 0.05], 0.45, NOT_SURE),  # too near to showing none
        ([0.3, 0.3], 0.4, NO_CLASS),
    ],
)
def test_a_name_is_sure_by_its_probability_and_its_margin(
    row: list[float], background: float, expected: int
) -> None:
    found = ClassProbabilities(np.array([row], np.float32), np.array([background], np.float32))
    classes, likeliest = decided(found, 0.5, 0.1)
    assert classes.tolist() == [expected]
    assert likeliest[0] == np.float32(max(row))


def test_names_come_with_synonyms() -> None:
    settings = load_settings({"names": "car|automobile, red bus"}, {})
    assert settings.names == (Words("car", ("automobile",)), Words("red bus"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("car,Car", "--names: named twice: car"),
        ("car|bus,bus", "--names: named twice: bus"),
        ("car,,bus", "none of them empty"),
        ("car|", "expected a name"),
        ("", "none of them empty"),
    ],
)
def test_names_that_mean_nothing_are_told(names: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("|", r"\|")):
        load_settings({"names": names}, {})


def test_names_are_read_from_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "names.txt"
    path.write_text("car|automobile\n\nbus\n", encoding="utf-8")
    settings = load_settings({"names": str(path)}, {})
    assert settings.names == (Words("car", ("automobile",)), Words("bus"))


def test_phrases_that_are_classes_are_left_out() -> None:
    classes = [Words("wall", ("Surface",))]
    assert phrases_besides(classes, ("surface", "background")) == ["background"]
