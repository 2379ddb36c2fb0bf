"""Objects of a video that somebody outlined in some frames: indexed pictures as DAVIS has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np

from backend.core.classes import IGNORE
from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance
from backend.errors import ConfigError, InputError
from backend.files.videos import natural
from backend.formats.voc.label_maps import read_label_map

V = TypeVar("V")


def masks_folder(root: Path, name: str) -> Path:
    """Where the masks of a video lie: in a folder of its name, or in the folder itself.

    Raises:
        ConfigError: there are none.
    """
    for folder in (root / name, root):
        if folder.is_dir() and any(folder.glob("*.png")):
            return folder
    raise ConfigError(
        f"--masks {root}: holds no PNG for {name}, neither in {root / name} nor itself"
    )


class AtPlaces(Mapping[int, V]):
    """What is given for frames by their numbers, as a run asks for it by their places: which number
    is at a place shows only when the frame is read.

    Args:
        given: by the number of the frame in the whole video.
        numbers: of the frames that were read so far.

    >>> numbers = [10, 15]
    >>> given = AtPlaces({15: "boxes"}, numbers)
    >>> 0 in given, given[1]
    (False, 'boxes')
    """

    def __init__(self, given: Mapping[int, V], numbers: Sequence[int]) -> None:
        self._given = given
        self._numbers = numbers

    def __getitem__(self, place: int) -> V:
        if not 0 <= place < len(self._numbers):
            raise KeyError(place)
        return self._given[self._numbers[place]]

    def __iter__(self) -> Iterator[int]:
        return (k for k, number in enumerate(self._numbers) if number in self._given)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def given_masks(folder: Path, label: str) -> dict[int, Sequence[Instance]]:
    """The objects by the number of their frame.

    Args:
        folder: of indexed PNGs that are called by the numbers of their frames; each value but 0
            and 255 is an object.
        label: of all objects.

    Raises:
        InputError: one cannot be read, or is not called by a number.
    """
    found: dict[int, Sequence[Instance]] = {}
    for path in sorted(folder.glob("*.png"), key=natural):
        if not path.stem.isdecimal():
            raise InputError(f"{path}: expected the number of a frame as its name, such as 00000")
        objects = read_label_map(path)
        instances = []
        for value in np.unique(objects):
            mask = mask_from_full(objects == value)
            if value in (0, IGNORE) or mask is None:
                continue
            instances.append(Instance(label, 0, 1.0, mask_xyxy(mask).astype(np.float32), mask))
        found[int(path.stem)] = instances
    return found


def digest_of(folder: Path) -> str:
    """Identifies the masks of a folder."""
    digest = sha256()
    for path in sorted(folder.glob("*.png"), key=natural):
        digest.update(path.name.encode("utf-8", "surrogateescape"))
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
