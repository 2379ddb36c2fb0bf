"""Identities on generated clips: detections that are jittered, missed and invented are joined to
objects whose masks a stand-in follows exactly.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance, Mask
from backend.demo.scenes.clips import Clip
from backend.demo.scenes.objects import CLASS_NAMES
from backend.errors import ConfigError
from backend.labeling.identities import Identities, IdentityOptions, pairs_of

SIZE = (96, 128)
EVERY = 6


def box_mask(x: int, y: int, w: int, h: int) -> Mask:
    return Mask(x, y, np.ones((h, w), np.bool_))


def instance(label: str, mask: Mask, score: float = 0.9) -> Instance:
    return Instance(label, 0, score, mask_xyxy(mask).astype(np.float32), mask)


def jittered(rng: np.random.Generator, mask: Mask) -> Mask:
    """The same object as a detector's mask shows it: moved and grown a little."""
    dx, dy = (int(v) for v in rng.integers(-2, 3, 2))
    return Mask(max(0, mask.x + dx), max(0, mask.y + dy), mask.crop)


def follow(seed: int, n_frames: int = 60) -> tuple[Identities, dict[int, dict[int, int]], Clip]:
    """Which true object (0: none) each shown identity was on, by frame."""
    rng = np.random.default_rng(seed)
    clip = Clip(seed, SIZE)
    labels = [CLASS_NAMES[class_id] for class_id in clip.class_ids]
    identities = Identities()
    on: dict[int, int | Mask] = {}  # what each identity follows: a true object, or a place
    seen: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for frame in clip.frames(n_frames):
        masks = {
            k: mask
            for k in range(1, len(labels) + 1)
            if (mask := mask_from_full(frame.objects == k)) is not None and mask.crop.sum() > 20
        }
        followed = {
            number: mask
            for number, at in on.items()
            if (mask := masks.get(at) if isinstance(at, int) else at) is not None
        }
        if frame.number % EVERY == 0:
            detected = []
            source: list[int | Mask] = []
            for k, mask in masks.items():
                if rng.random() < 0.15:
                    continue
                detected.append(instance(labels[k - 1], jittered(rng, mask), rng.uniform(0.5, 1)))
                source.append(k)
            if rng.random() < 0.3:  # about 5 % of all
                place = box_mask(*(int(v) for v in rng.integers(0, 80, 2)), 14, 14)
                detected.append(instance(CLASS_NAMES[int(rng.integers(6))], place, 0.4))
                source.append(place)
            made = identities.round(frame.number, detected, followed)
            for number in made.ended:
                on.pop(number, None)
            for number, one in made.begun.items():
                on[number] = source[next(k for k, d in enumerate(detected) if d is one)]
        for number, at in on.items():
            if isinstance(at, int) and at not in masks:
                continue
            seen[number][frame.number] = at if isinstance(at, int) else 0
    return identities, {n: at for n, at in seen.items() if identities.is_confirmed(n)}, clip


@pytest.mark.parametrize("seed", range(1_000_300, 1_000_320))
def test_every_object_keeps_one_identity(seed: int) -> None:
    identities, shown, clip = follow(seed)
    by_object: defaultdict[int, set[int]] = defaultdict(set)
    for number, frames in shown.items():
        assert len(set(frames.values())) == 1, "an identity is on one object for ever"
        by_object[next(iter(frames.values()))].add(number)
    for k, numbers in by_object.items():
        if k:
            assert len(numbers) == 1, "no object has two identities"
            (number,) = numbers
            assert identities.label(number) == CLASS_NAMES[clip.class_ids[k - 1]]
            assert identities.flips(number) == 0
    n_seen = sum(
        sum((frame.objects == k).sum() > 40 for frame in clip.frames(60)) > 30
        for k in range(1, len(clip.class_ids) + 1)
    )
    assert len([k for k in by_object if k]) >= n_seen


def test_what_was_invented_once_is_not_shown() -> None:
    identities = Identities()
    ghost = box_mask(5, 5, 10, 10)
    first = identities.round(0, [instance("ball", ghost)], {})
    assert list(first.begun) == [1]
    assert first.confirmed == []
    assert identities.round(12, [], {1: ghost}).ended == []
    assert identities.round(24, [], {1: ghost}).ended == [1]
    assert not identities.is_confirmed(1)
    again = identities.round(36, [instance("ball", ghost)], {})
    assert list(again.begun) == [2], "a number is given once"


def test_an_object_is_shown_from_its_first_frame() -> None:
    identities = Identities()
    mask = box_mask(5, 5, 10, 10)
    identities.round(7, [instance("ball", mask)], {})
    made = identities.round(19, [instance("ball", mask)], {1: mask})
    assert made.confirmed == [1]
    assert identities.first_frame(1) == 7
    assert Identities(IdentityOptions(confirmations=1)).round(
        0, [instance("ball", mask)], {}
    ).confirmed == [1]


def test_the_class_is_that_of_most_votes_and_flips_are_counted() -> None:
    identities = Identities()
    mask = box_mask(5, 5, 20, 20)
    identities.round(0, [instance("cup", mask, 0.9)], {})
    for frame, label, score in ((12, "ring", 0.5), (24, "cup", 0.6), (36, "ring", 0.4)):
        made = identities.round(frame, [instance(label, mask, score)], {1: mask})
        assert list(made.joined) == [1], "what lies on an object is it, whatever it is called"
        assert not made.begun
    assert identities.label(1) == "cup"
    assert identities.flips(1) == 3


def test_the_best_pairs_are_those_of_the_whole() -> None:
    """A greedy choice would take 0.9 and leave 0.1; the sum of the others is larger."""
    identities = Identities()
    ours = {1: box_mask(0, 0, 20, 20), 2: box_mask(10, 0, 20, 20)}
    for mask in ours.values():
        identities.round(0, [instance("ball", mask)], {})
    detected = [instance("ball", box_mask(4, 0, 20, 20)), instance("ball", box_mask(14, 0, 20, 20))]
    made = identities.round(12, detected, ours)
    assert {number: one.xyxy[0] for number, one in made.joined.items()} == {1: 4, 2: 14}
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.random((4, 3))
        allowed = rng.random((4, 3)) < 0.7
        rows = [r for r, _ in pairs_of(values, allowed)]
        columns = [c for _, c in pairs_of(values, allowed)]
        assert len(set(rows)) == len(rows)
        assert len(set(columns)) == len(columns)
        assert all(allowed[r, c] for r, c in zip(rows, columns, strict=True))


def test_two_identities_on_one_object_become_the_older() -> None:
    identities = Identities()
    mask = box_mask(5, 5, 20, 20)
    other = box_mask(60, 60, 10, 10)
    identities.round(0, [instance("cup", mask), instance("cup", other)], {})
    ours = {1: mask, 2: other}
    identities.round(12, [instance("cup", mask), instance("cup", other)], ours)
    ours[2] = box_mask(6, 5, 20, 20)  # its mask went over to the other object
    assert identities.round(24, [instance("cup", mask)], ours).merged == {}
    made = identities.round(36, [instance("cup", mask)], ours)
    assert (made.merged, made.ended) == ({2: 1}, [2])


def test_what_nothing_confirmed_yet_is_at_once_what_it_lies_on() -> None:
    identities = Identities()
    mask = box_mask(5, 5, 20, 20)
    identities.round(0, [instance("cup", mask)], {})
    far = box_mask(60, 60, 20, 20)
    begun = identities.round(12, [instance("cup", mask)], {1: far}).begun  # the first drifted away
    assert list(begun) == [2]
    made = identities.round(24, [instance("cup", mask)], {1: mask, 2: mask})  # and came back
    assert made.merged == {2: 1}
    assert identities.is_confirmed(1)


def test_detections_of_what_was_merged_count_for_the_older() -> None:
    identities = Identities()
    mask = box_mask(5, 5, 20, 20)
    identities.round(0, [instance("cup", mask)], {})
    identities.round(12, [instance("cup", mask)], {1: box_mask(60, 60, 20, 20)})
    near = box_mask(6, 5, 20, 20)
    made = identities.round(24, [instance("cup", mask)], {1: near, 2: mask})
    assert (list(made.joined), made.merged, made.ended) == ([2], {2: 1}, [2])
    assert identities.is_confirmed(1)


def test_two_that_were_detected_each_by_itself_are_not_one_at_once() -> None:
    identities = Identities()
    first, second = box_mask(0, 0, 20, 20), box_mask(40, 0, 20, 20)
    identities.round(0, [instance("cup", first)], {})
    identities.round(12, [instance("cup", first), instance("cup", second)], {1: first})
    slid = {1: first, 2: box_mask(3, 0, 20, 20)}
    found = [instance("cup", first), instance("cup", box_mask(11, 0, 20, 20))]
    made = identities.round(24, found, slid)
    assert (sorted(made.joined), made.merged) == ([1, 2], {})


def test_detections_before_are_those_of_the_object_itself() -> None:
    identities = Identities()
    mask = box_mask(5, 5, 20, 20)
    found = [instance("cup", mask)]
    identities.round(0, found, {})
    assert identities.round(12, found, {1: mask}).before == {1: 0}
    assert identities.round(24, [], {1: mask}).before == {}
    identities.round(36, [instance("cup", box_mask(60, 60, 9, 9))], {}, [1])
    identities.join(2, 1)  # it was found again
    assert identities.round(48, found, {1: mask}).before == {1: 36}


def test_a_cap_is_told() -> None:
    identities = Identities(IdentityOptions(most=3))
    detected = [instance("ball", box_mask(12 * k, 0, 10, 10)) for k in range(5)]
    made = identities.round(0, detected, {})
    assert (list(made.begun), made.n_refused, identities.n_refused) == ([1, 2, 3], 2, 2)
    with pytest.raises(ConfigError, match="confirmations"):
        IdentityOptions(confirmations=4, rounds=3)
