"""Which pictures of a dataset show nearly the same: frames of a video, slices of a stack, bursts.

A picture is told by the perceptual hash of the library ImageHash, 256 bits. Pictures that have
nothing to do with one another differ in about 126 of them; neighbouring frames of real videos in
18 to 100, neighbouring slices of a microscope in 74 (medians, measured).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from backend.core.types import Image

_SIDE = 16  # bits a side
_SMALL = 512  # pixels a side that are enough for it
_SAME = 64  # bits: so close are no two pictures by chance, whatever they are called
_SAME_IN_SEQUENCE = 96  # of pictures that follow one another by name
_IS_SEQUENCE = 104  # median of neighbours by name: less is no chance
_NEAR = 2  # places in a sequence
_ROWS = 512  # whose distances to all others are looked at in one go
_NUMBER = re.compile(r"\d+(?!.*\d)")
_EXPORTED = re.compile(r"_(jpe?g|png|bmp|webp)\.rf\.[0-9a-f]+$")  # what Roboflow adds to names


def picture_hash(image: Image) -> NDArray[np.uint64]:
    """The perceptual hash of a picture.

    Args:
        image: (H, W, 3) RGB uint8.

    Returns:
        (4,) uint64, 256 bits.
    """
    from imagehash import phash

    height, width = image.shape[:2]
    factor = _SMALL / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    bits = phash(PIL.Image.fromarray(image), hash_size=_SIDE).hash
    return np.packbits(bits).view(np.uint64)


def distances(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.integer]:
    """How many bits differ: (N, 4) and (M, 4) to (N, M).

    >>> distances(np.array([[0, 0, 0, 3]], np.uint64), np.zeros((1, 4), np.uint64)).tolist()
    [[2]]
    """
    differing = np.bitwise_count(hashes[:, None] ^ others[None])
    return np.asarray(differing.sum(2, dtype=np.int16))


def sequences(names: Sequence[PurePosixPath]) -> list[list[int]]:
    """Pictures that are called alike but for a number: their places, in the order of the numbers.

    >>> sequences([PurePosixPath(name) for name in ("b/f10.jpg", "b/f2.jpg", "a.jpg")])
    [[1, 0], [2]]
    """
    found: defaultdict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for place, name in enumerate(names):
        stem = _EXPORTED.sub("", name.stem)
        match = _NUMBER.search(stem)
        if match is None:
            found[(str(name.parent), stem, "")].append((0, place))
            continue
        around = stem[: match.start()], stem[match.end() :]
        found[(str(name.parent), *around)].append((int(match[0]), place))
    return [[place for _, place in sorted(one)] for one in found.values()]


@dataclass(frozen=True, eq=False)
class Similar:
    """What of a dataset looks alike.

    Attributes:
        pairs: (P, 2) int, places of pictures that show nearly the same, each pair once, the lower
            one first. Thousands of equal pictures make millions of pairs.
        sequences: places of pictures that follow one another by name, in order; each picture is in
            one of them.
        moving: whether the pictures of each sequence also look as if they followed one another, as
            those of a video or a stack do.
    """

    pairs: NDArray[np.intp]
    sequences: tuple[tuple[int, ...], ...]
    moving: tuple[bool, ...]

    def near(self, count: int) -> list[NDArray[np.intp]]:
        """For each of ``count`` pictures those that show nearly the same."""
        both = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        order = np.argsort(both[:, 0], kind="stable")
        ends = np.cumsum(np.bincount(both[:, 0], minlength=count))
        return np.split(both[order, 1], ends[:-1]) if count else []

    def among(self, places: Sequence[int]) -> Similar:
        """The same of some of the pictures, which are numbered anew in their order."""
        new = {place: k for k, place in enumerate(places)}
        lookup = np.full(1 + max([*places, self.pairs.max(initial=0)], default=0), -1, np.intp)
        lookup[list(places)] = np.arange(len(places))
        pairs = lookup[self.pairs]
        pairs = np.sort(pairs[(pairs >= 0).all(1)], axis=1)
        kept = [
            (tuple(new[place] for place in one if place in new), is_moving)
            for one, is_moving in zip(self.sequences, self.moving, strict=True)
        ]
        kept = [(one, is_moving) for one, is_moving in kept if one]
        return Similar(
            pairs,
            tuple(one for one, _ in kept),
            tuple(is_moving for _, is_moving in kept),
        )


def find_similar(names: Sequence[PurePosixPath], hashes: NDArray[np.uint64]) -> Similar:
    """Compare all pictures of a dataset.

    Args:
        names: of the pictures, below the dataset.
        hashes: (N, 4) as ``picture_hash`` gives them.
    """
    known = sequences(names)
    moving = tuple(_is_moving(hashes, one) for one in known)
    steps: list[tuple[int, int]] = []
    for one, is_moving in zip(known, moving, strict=True):
        for step in range(1, _NEAR + 1):
            for left, right in zip(one, one[step:], strict=False):
                apart = int(distances(hashes[[left]], hashes[[right]])[0, 0])
                if is_moving or apart <= _SAME_IN_SEQUENCE:
                    steps.append((min(left, right), max(left, right)))
    parts = [*_alike(hashes), np.array(steps, np.intp).reshape(-1, 2)]
    count = max(1, len(names))
    keys = np.unique(np.concatenate([part[:, 0] * count + part[:, 1] for part in parts]))
    pairs = np.stack([keys // count, keys % count], 1)
    return Similar(pairs, tuple(map(tuple, known)), moving)


def _is_moving(hashes: NDArray[np.uint64], sequence: Sequence[int]) -> bool:
    if len(sequence) < 3:
        return False
    steps = [distances(hashes[[a]], hashes[[b]])[0, 0] for a, b in pairwise(sequence)]
    return bool(np.median(steps) < _IS_SEQUENCE)


def _alike(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.intp]]:
    """Pairs, (P, 2), the lower place first."""
    for start in range(0, len(hashes), _ROWS):
        apart = distances(hashes[start : start + _ROWS], hashes)
        found = np.argwhere(np.triu(apart <= _SAME, start + 1))
        found[:, 0] += start
        yield found
