"""Dividing a dataset into what is trained on and what is held out, so that no picture lies on one
side whose near duplicate lies on the other: else a model looks better than it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from backend.datasets.similar import Similar
from backend.errors import ConfigError

_TRIES = 64
_LEAST_OF_SHARE = 0.5  # a part may be smaller or larger than was asked for by so much
_MOST_OF_SHARE = 1.6
SEQUENCES = "whole videos and bursts are held out, by their names and looks"
LOOKS = "pictures are held out with all that look like them"
BLOCKS = (
    "no whole video could be held out; the last part of each is, and pictures between are left out"
)


@dataclass(frozen=True, eq=False)
class Holdout:
    """A dataset in two parts, by the places of its pictures.

    Attributes:
        train: to be trained on.
        held_out: to be judged by, and never trained on.
        left_out: in neither part, as they look like held-out ones.
        how: what was kept together, in a sentence.
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    left_out: tuple[int, ...]
    how: str


def leak(train: Collection[int], held_out: Collection[int], similar: Similar) -> float:
    """The share of held-out pictures that have a near duplicate among those trained on, 0..1."""
    touched = similar.pairs[np.isin(similar.pairs, list(train)).any(1)]
    return len(np.intersect1d(touched, list(held_out))) / max(1, len(held_out))


def hold_out(
    similar: Similar,
    classes: Sequence[Collection[str]],
    share: float,
    seed: int,
    before: Collection[int] = (),
    trained: Collection[int] = (),
) -> Holdout:
    """Choose what is held out.

    Args:
        similar: which pictures look alike.
        classes: of each picture's objects; a picture without any may be on either side.
        share: to hold out, 0..1.
        seed: chooses among what fits equally well.
        before: places that were held out in an earlier run, and stay so.
        trained: places that were trained on in an earlier run, and are never held out.

    Raises:
        ConfigError: fewer than two pictures, or all of them look alike.
    """
    count = len(classes)
    if count < 2:
        raise ConfigError("one picture cannot be trained on and held out; at least two are needed")
    rng = np.random.default_rng(seed)
    wanted = share * count
    moving = [
        one for one, is_moving in zip(similar.sequences, similar.moving, strict=True) if is_moving
    ]
    for together, how in ((similar.sequences, SEQUENCES), (moving, LOOKS)):
        groups = _groups(count, together, similar.pairs)
        chosen = _choice(groups, classes, wanted, set(before), set(trained), rng)
        if chosen is not None:
            return _divided(count, chosen, similar, how, _beside(groups, set(before), set(trained)))
    blocks = set(before) if before else set(_blocks(similar, share)) - set(trained)
    return _divided(count, sorted(blocks), similar, BLOCKS, ())


def _beside(groups: Sequence[Sequence[int]], before: set[int], trained: set[int]) -> list[int]:
    """Pictures that are new, and of a group of which some were held out before."""
    return [
        place
        for group in groups
        if before & set(group)
        for place in group
        if place not in before and place not in trained
    ]


def _groups(
    count: int, together: Iterable[Sequence[int]], pairs: NDArray[np.intp]
) -> list[list[int]]:
    """Pictures that must stay together, directly or through others."""
    chains = [pair for one in together for pair in pairwise(one)]
    edges = np.concatenate([np.array(chains, np.intp).reshape(-1, 2), pairs])
    joined = coo_array((np.ones(len(edges), np.bool_), edges.T), shape=(count, count))
    _, labels = connected_components(joined, directed=False)
    found: dict[int, list[int]] = {}
    for place, label in enumerate(labels.tolist()):
        found.setdefault(label, []).append(place)
    return list(found.values())


def _choice(
    groups: Sequence[Sequence[int]],
    classes: Sequence[Collection[str]],
    wanted: float,
    before: set[int],
    trained: set[int],
    rng: np.random.Generator,
) -> list[int] | None:
    """Groups that come closest to the share with all classes on both sides, beside what was held
    out before; None if none fits.
    """
    fixed = sorted(before)
    free = [group for group in groups if not (before | trained) & set(group)]
    if len(fixed) >= wanted * _LEAST_OF_SHARE and not free:
        return fixed
    every = {name for one in classes for name in one}
    best: tuple[float, list[int]] | None = None
    for _ in range(_TRIES):
        chosen = list(fixed)
        for k in rng.permutation(len(free)):
            if len(chosen) + len(free[k]) <= wanted * _MOST_OF_SHARE and len(chosen) < wanted:
                chosen += free[k]
        if not max(1, wanted * _LEAST_OF_SHARE) <= len(chosen) < len(classes):
            continue
        names = {name for place in chosen for name in classes[place]}
        rest = set(range(len(classes))) - set(chosen)
        learned = {name for place in rest for name in classes[place]}
        missing = len(every - names) + 2 * len(every - learned)
        cost = missing + abs(len(chosen) - wanted) / max(1.0, wanted)
        if best is None or cost < best[0]:
            best = cost, chosen
    return None if best is None else best[1]


def _blocks(similar: Similar, share: float) -> list[int]:
    """The last part of each sequence."""
    chosen: set[int] = set()
    for one in similar.sequences:
        chosen.update(one[len(one) - round(share * len(one)) :])
    if not chosen:
        longest = max(similar.sequences, key=len)
        chosen.add(longest[-1])
    return sorted(chosen)


def _divided(
    count: int, chosen: Sequence[int], similar: Similar, how: str, beside: Collection[int]
) -> Holdout:
    held_out = set(chosen)
    near = similar.near(count)
    others = np.concatenate([near[place] for place in held_out] or [np.zeros(0, np.intp)])
    left_out = (set(np.unique(others).tolist()) | set(beside)) - held_out
    if not held_out:
        raise ConfigError("all pictures were trained on before; new ones are needed to judge by")
    train = [k for k in range(count) if k not in held_out and k not in left_out]
    if not train:
        raise ConfigError(
            "all pictures look alike, so that none can be held out from training; add others"
        )
    return Holdout(tuple(train), tuple(sorted(held_out)), tuple(sorted(left_out)), how)
