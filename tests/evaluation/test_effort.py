"""Edit effort: what became of each predicted region, by hand and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Mask
from backend.evaluation.columns import EFFORT
from backend.evaluation.effort import edits, join
from backend.evaluation.pairs import Region


def region(
    key: str | None, class_id: int, x: int, y: int, w: int = 10, h: int = 10, score: float = 0.9
) -> Region:
    mask = Mask(x, y, np.ones((h, w), bool))
    return Region(
        key=key, instance=Instance("abcd"[class_id], class_id, score, mask_xyxy(mask), mask)
    )


def counted(predicted: list[Region], accepted: list[Region]) -> dict[str, float]:
    found = edits(predicted, accepted, 4)
    assert found.counts.shape == (4, len(EFFORT))
    return dict(zip(EFFORT, found.counts.sum(0).tolist(), strict=True))


def test_every_kind_of_edit_by_hand() -> None:
    predicted = [region(str(k), 0, 20 * k, 0) for k in range(6)]
    accepted = [
        region("0", 0, 0, 0),  # untouched
        region("1", 1, 20, 0),  # relabelled
        region("2", 0, 40, 0, 10, 5),  # cut in half: 50 of 100 pixels differ
        region("3", 1, 60, 0, 10, 20),  # relabelled and twice as large: 100 of 200 differ
        region("new", 2, 0, 50),  # added
    ]
    found = edits(predicted, accepted, 4)
    assert counted(predicted, accepted) == {
        "untouched": 1,
        "relabelled": 1,
        "reshaped": 1,
        "relabelled_and_reshaped": 1,
        "deleted": 2,
        "added": 1,
        "barely_touched": 0,
        "changed_pixels": 150,
        "edited_pixels": 300,
    }
    assert found.relabelled == ((0, 1), (0, 1))
    assert found.counts[0, EFFORT.index("deleted")] == 2
    assert found.counts[2, EFFORT.index("added")] == 1


def test_a_mask_of_which_an_edge_was_moved_is_barely_touched() -> None:
    predicted = [region("a", 0, 0, 0, 100, 100), region("b", 0, 200, 0, 100, 100)]
    accepted = [region("a", 0, 0, 0, 100, 98), region("b", 0, 200, 0, 100, 96)]
    found = counted(predicted, accepted)
    assert (found["reshaped"], found["barely_touched"]) == (2, 1)  # 2 % and 4 % of the pixels


def test_a_key_joins_whatever_was_done_to_the_region() -> None:
    moved_far = [region("a", 3, 80, 80, 2, 2)]
    assert join([region("a", 0, 0, 0)], moved_far).tolist() == [0]
    assert counted([region("a", 0, 0, 0)], moved_far)["relabelled_and_reshaped"] == 1


def test_without_keys_overlap_joins_the_same_label_first() -> None:
    predicted = [region(None, 0, 0, 0), region(None, 1, 1, 0)]
    accepted = [region(None, 1, 0, 0), region(None, 0, 1, 0)]
    assert join(predicted, accepted).tolist() == [1, 0]
    assert counted(predicted, accepted)["reshaped"] == 2
    assert join([region(None, 0, 0, 0)], [region(None, 1, 0, 0)]).tolist() == [
        0
    ]  # another label, if nothing better is there
    assert join([region(None, 0, 0, 0)], [region(None, 0, 8, 0)]).tolist() == [
        -1
    ]  # too little in common


def test_how_much_overlap_joins() -> None:
    one = [region(None, 0, 0, 0, 10, 10)]
    assert join(one, [region(None, 0, 0, 0, 10, 5)]).tolist() == [0]  # half
    assert join(one, [region(None, 0, 0, 0, 7, 7)]).tolist() == [-1]  # 49 of 100
    rivals = [region(None, 0, 2, 0), region(None, 0, 0, 0)]
    assert join(rivals, one).tolist() == [-1, 0]  # the better of two gets it


def test_keys_come_before_overlap() -> None:
    predicted = [region("a", 0, 0, 0), region(None, 0, 40, 40)]
    accepted = [region(None, 0, 40, 40), region("a", 0, 3, 0)]
    assert join(predicted, accepted).tolist() == [1, 0]


def test_nothing_on_either_side() -> None:
    assert counted([], []) == dict.fromkeys(EFFORT, 0)
    assert counted([region("a", 0, 0, 0)], [])["deleted"] == 1
    assert counted([], [region("a", 0, 0, 0)])["added"] == 1


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 7), st.integers(0, 7), st.booleans())
def test_every_region_is_counted_once(
    seed: int, n_predicted: int, n_accepted: int, keys: bool
) -> None:
    rng = np.random.default_rng(seed)

    def some(n: int) -> list[Region]:
        return [
            region(
                str(rng.integers(0, 9)) if keys else None,
                int(rng.integers(4)),
                int(rng.integers(20)),
                int(rng.integers(20)),
            )
            for _ in range(n)
        ]

    predicted = some(n_predicted)
    accepted = some(n_accepted)
    if keys:  # within one result, ids are unique
        predicted, accepted = (
            list({one.key: one for one in side}.values()) for side in (predicted, accepted)
        )
    found = counted(predicted, accepted)
    kept = sum(
        found[name] for name in ("untouched", "relabelled", "reshaped", "relabelled_and_reshaped")
    )
    assert kept + found["deleted"] == len(predicted)
    assert kept + found["added"] == len(accepted)
    assert 0 <= found["changed_pixels"] <= found["edited_pixels"]
    same = counted(predicted, predicted)
    assert same["untouched"] == len(predicted)
    assert same == pytest.approx({**dict.fromkeys(EFFORT, 0), "untouched": len(predicted)})
