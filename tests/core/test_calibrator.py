"""What models are sure of, and how often they are right."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backend.core.calibrator import LEAST, fit_calibrator, read_calibrator
from backend.core.effort import expected_effort
from backend.core.types import Instance

OBJECTS = st.lists(
    st.tuples(st.sampled_from(["cat", "dog"]), st.floats(0, 1), st.booleans()),
    min_size=LEAST,
    max_size=200,
)


@given(OBJECTS)
def test_a_higher_chance_never_becomes_a_lower_one(objects: list[tuple[str, float, bool]]) -> None:
    found = fit_calibrator(objects)
    assert found is not None
    for label in ("cat", "dog", "cow"):
        chances = [found.chance(label, said) for said in np.linspace(0, 1, 101).tolist()]
        assert np.all(np.diff(chances) >= 0)
        assert 0 <= chances[0] <= chances[-1] <= 1
    assert read_calibrator(json.loads(json.dumps(found.as_dict()))) == found


def test_chances_that_are_too_high_are_corrected() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1, 4000)
    known = [("cat", float(one**0.3), bool(rng.random() < one)) for one in truth]
    found = fit_calibrator(known)
    assert found is not None
    for one in (0.2, 0.5, 0.8):
        assert abs(found.chance("cat", one**0.3) - one) < 0.08


def test_nothing_is_certain() -> None:
    right = fit_calibrator([("cat", k / 50, True) for k in range(50)])
    wrong = fit_calibrator([("cat", k / 50, False) for k in range(50)])
    assert right is not None
    assert wrong is not None
    assert 0.9 < right.chance("cat", 1.0) < 1
    assert 0 < wrong.chance("cat", 0.0) < 0.1


def test_few_objects_tell_nothing() -> None:
    assert fit_calibrator([("cat", 0.5, True)] * (LEAST - 1)) is None
    found = fit_calibrator([("cat", 0.5, True)] * LEAST + [("dog", 0.5, False)] * (LEAST - 1))
    assert found is not None
    assert list(found.by_label) == ["cat"]


def test_what_is_known_of_an_object_counts() -> None:
    box = np.array([0, 0, 4, 4], np.float32)
    assert expected_effort([Instance("cat", 0, 0.9, box, chance=0.25)]) == 0.75


def test_a_damaged_file_has_no_calibration() -> None:
    good = [[0.0, 1.0], [0.1, 0.9]]
    for bad in (
        None,
        [],
        {"every": good},
        {"every": [[], []], "by_label": {}},
        {"every": [[0, 1], [0.9, 0.1]], "by_label": {}},
        {"every": good, "by_label": {"cat": [[0, 1], [0.5]]}},
        {"every": [[0, 1], [float("nan"), 1]], "by_label": {}},
        {"every": [[0, 10**400], [0, 1]], "by_label": {}},
        {"every": ["01", "01"], "by_label": {}},
    ):
        assert read_calibrator(bad) is None
    assert read_calibrator({"every": good, "by_label": {}}) is not None
