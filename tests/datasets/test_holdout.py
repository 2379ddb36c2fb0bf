"""Dividing a dataset without near duplicates on both sides."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.types import Image
from backend.datasets.holdout import BLOCKS, LOOKS, SEQUENCES, Holdout, hold_out, leak
from backend.datasets.similar import Similar, distances, find_similar, picture_hash, sequences
from backend.demo.scenes.compose import Scene
from backend.errors import ConfigError
from backend.files.images import read_image

CAT = frozenset({"cat"})


def moved(image: Image, step: int) -> Image:
    """The picture as a camera that turns sees it a little later."""
    return np.ascontiguousarray(np.roll(image, 6 * step, 1))


def of(names: list[str], images: list[Image]) -> Similar:
    return find_similar(
        [PurePosixPath(name) for name in names], np.stack([picture_hash(one) for one in images])
    )


def made(pairs: list[tuple[int, int]], *known: tuple[int, ...], moving: bool = False) -> Similar:
    return Similar(np.array(pairs, np.intp).reshape(-1, 2), known, (moving,) * len(known))


def check(found: Holdout, count: int, similar: Similar) -> None:
    parts = [*found.train, *found.held_out, *found.left_out]
    assert sorted(parts) == list(range(count)), "each picture is in one part"
    assert found.train
    assert found.held_out
    assert leak(found.train, found.held_out, similar) == 0


def test_numbers_make_a_sequence_and_folders_part_them() -> None:
    names = ["a/f10.jpg", "a/f2.jpg", "b/f1.jpg", "x.jpg", "a/g1_of_3.png", "a/g2_of_3.png"]
    found = sequences([PurePosixPath(name) for name in names])
    assert found == [[1, 0], [2], [3], [4], [5]]


def test_a_video_is_told_by_its_looks(scenes: list[Scene], rng: np.random.Generator) -> None:
    """Frames look alike; drawn scenes with numbers for names do not."""
    image = scenes[0].image
    frames = [moved(image, k) for k in range(8)]
    assert of([f"v_{k}.jpg" for k in range(8)], frames).moving == (True,)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(8)]
    album = of([f"IMG_{k}.jpg" for k in range(8)], noise)
    assert album.moving == (False,)
    assert len(album.pairs) == 0


def test_the_same_picture_is_found_under_any_name(scenes: list[Scene]) -> None:
    images = [scene.image for scene in scenes]
    brighter = np.clip(images[0].astype(int) + 20, 0, 255).astype(np.uint8)
    smaller = np.ascontiguousarray(images[1][::2, ::2])
    found = of(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "z.jpg", "y.png"], [*images, brighter, smaller])
    assert {(0, 4), (1, 5)} <= {tuple(pair) for pair in found.pairs.tolist()}


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (40, 3)])
def test_small_pictures_have_hashes(shape: tuple[int, int]) -> None:
    found = picture_hash(np.full((*shape, 3), 200, np.uint8))
    assert (found.shape, found.dtype) == ((4,), np.uint64)


def test_distances_count_bits(rng: np.random.Generator) -> None:
    hashes = rng.integers(0, 1 << 63, (5, 4), np.uint64)
    wanted = [
        [
            sum((int(a) ^ int(b)).bit_count() for a, b in zip(one, other, strict=True))
            for other in hashes
        ]
        for one in hashes
    ]
    assert distances(hashes, hashes).tolist() == wanted


def test_whole_videos_are_held_out() -> None:
    known = [tuple(range(k, k + 10)) for k in range(0, 50, 10)]
    pairs = [(k, k + 1) for k in range(50) if k % 10 != 9]
    similar = made(pairs, *known, moving=True)
    found = hold_out(similar, [CAT] * 50, 0.2, seed=0)
    check(found, 50, similar)
    assert found.how == SEQUENCES
    assert set(found.held_out) in [set(one) for one in known]
    assert found.left_out == ()
    shuffled = np.random.default_rng(0).permutation(50).tolist()
    assert leak(shuffled[10:], shuffled[:10], similar) >= 0.9


def test_one_video_is_cut_with_a_gap() -> None:
    pairs = [(k, k + step) for k in range(20) for step in (1, 2) if k + step < 20]
    similar = made(pairs, tuple(range(20)), moving=True)
    found = hold_out(similar, [CAT] * 20, 0.2, seed=0)
    check(found, 20, similar)
    assert (found.how, found.held_out, found.left_out) == (BLOCKS, (16, 17, 18, 19), (14, 15))


def test_an_album_is_divided_by_pictures() -> None:
    similar = made([(3, 17), (17, 9)], tuple(range(20)))
    found = hold_out(similar, [CAT] * 20, 0.25, seed=1)
    check(found, 20, similar)
    assert found.how == LOOKS
    assert len(found.held_out) == 5
    assert found.left_out == ()
    assert len({3, 9, 17} & set(found.held_out)) in (0, 3)


def test_every_class_is_on_both_sides_where_that_can_be() -> None:
    classes = [CAT] * 30 + [frozenset({"dog"})] * 2
    for seed in range(5):
        found = hold_out(made([], *[(k,) for k in range(32)]), classes, 0.2, seed)
        for part in (found.train, found.held_out):
            assert {name for place in part for name in classes[place]} == {"cat", "dog"}


def test_what_was_held_out_stays_so() -> None:
    similar = made([(0, 1)], *[(k,) for k in range(20)])
    for seed in range(5):
        found = hold_out(similar, [CAT] * 20, 0.2, seed, before=(7, 1))
        check(found, 20, similar)
        assert {1, 7} <= set(found.held_out)
        assert 0 in found.left_out, "it looks like one that is held out"
        assert len(found.held_out) == 4


def test_what_was_trained_on_is_never_held_out() -> None:
    """Also not where a grown dataset is divided in another way than it was."""
    album = made([], tuple(range(100)), tuple(range(100, 130)))
    first = hold_out(made([], tuple(range(100))), [CAT] * 100, 0.2, 0)
    again = hold_out(album, [CAT] * 130, 0.2, 0, before=first.held_out, trained=first.train)
    assert set(first.held_out) <= set(again.held_out)
    assert not set(first.train) & set(again.held_out)
    assert set(first.train) <= set(again.train)
    with pytest.raises(ConfigError, match="new ones are needed to judge by"):
        hold_out(made([], tuple(range(20)), moving=True), [CAT] * 20, 0.2, 0, trained=range(20))


def test_names_of_exports_are_sequences_too() -> None:
    names = [f"frame_{k:03}_jpg.rf.{k * 7919:032x}.jpg" for k in (2, 0, 1)]
    assert sequences([PurePosixPath(name) for name in names]) == [[1, 2, 0]]


def test_what_cannot_be_divided_is_told() -> None:
    with pytest.raises(ConfigError, match="at least two are needed"):
        hold_out(made([], (0,)), [CAT], 0.2, 0)
    with pytest.raises(ConfigError, match="all pictures look alike"):
        hold_out(made([(0, 1), (0, 2), (1, 2)], (0, 1, 2), moving=True), [CAT] * 3, 0.3, 0)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 40),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_no_division_leaks(count: int, share: float, seed: int, data: st.DataObject) -> None:
    place = st.integers(0, count - 1)
    drawn = data.draw(st.lists(st.tuples(place, place), max_size=count))
    pairs = sorted({(min(pair), max(pair)) for pair in drawn if pair[0] != pair[1]})
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=6)))
    edges = [0, *cuts, count]
    known = [tuple(range(a, b)) for a, b in pairwise(edges)]
    similar = made(pairs, *known, moving=data.draw(st.booleans()))
    before = data.draw(st.sets(place, max_size=3))
    try:
        found = hold_out(similar, [CAT] * count, share, seed, before)
    except ConfigError:  # all that is not held out looks like it; told by another test
        return
    check(found, count, similar)
    assert before <= set(found.held_out)


def test_real_stacks_and_videos(shared_data: Path) -> None:
    """A random division of slices and frames leaks nearly everywhere, ours nowhere."""
    for folder, pattern in (("membrane-voc", "*.*"), ("davis-voc", "[bc]*/*.jpg")):
        base = shared_data / folder / "JPEGImages"
        paths = sorted(base.glob(pattern))
        hashes = np.stack([picture_hash(read_image(path)) for path in paths])
        similar = find_similar(
            [PurePosixPath(path.relative_to(base).as_posix()) for path in paths], hashes
        )
        shuffled = np.random.default_rng(0).permutation(len(paths)).tolist()
        fifth = len(paths) // 5
        assert leak(shuffled[fifth:], shuffled[:fifth], similar) >= 0.9
        check(hold_out(similar, [CAT] * len(paths), 0.3, 0), len(paths), similar)


def test_thousands_of_equal_pictures_take_little() -> None:
    """They are all of one group; each of them looks like each other."""
    count = 3000
    hashes = np.zeros((count, 4), np.uint64)
    hashes[-2:] = np.random.default_rng(0).integers(0, 2**63, (2, 4), dtype=np.uint64)
    tracemalloc.start()
    similar = find_similar([PurePosixPath(f"{k:x}/{k}.jpg") for k in range(count)], hashes)
    near = similar.near(count)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(similar.pairs) == (count - 2) * (count - 3) // 2
    assert near[0].tolist() == list(range(1, count - 2))
    assert [len(one) for one in near[-2:]] == [0, 0]
    assert peak < 600e6  # as tuples in a set they took more than a gigabyte
    divided = hold_out(similar, [{"a"}] * count, 0.001, 0)
    assert set(divided.held_out) <= {count - 2, count - 1}
    assert leak(divided.train, divided.held_out, similar) == 0
