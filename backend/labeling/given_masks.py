"""Objects of a video that somebody outlined in some frames: indexed pictures as DAVIS has them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from backend.core.classes import IGNORE
from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.types import Instance
from backend.errors import ConfigError, InputError
from backend.files.videos import FrameChoice, natural
from backend.formats.voc.label_maps import read_label_map


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


def given_masks(folder: Path, choice: FrameChoice, label: str) -> dict[int, Sequence[Instance]]:
    """The objects by the place of their frame among those that are chosen.

    Args:
        folder: of indexed PNGs that are called by the numbers of their frames; each value but 0
            and 255 is an object.
        choice: which frames are wanted.
        label: of all objects.

    Raises:
        InputError: one cannot be read, or is not called by a number.
    """
    found: dict[int, Sequence[Instance]] = {}
    for path in sorted(folder.glob("*.png"), key=natural):
        if not path.stem.isdecimal():
            raise InputError(f"{path}: expected the number of a frame as its name, such as 00000")
        place, rest = divmod(int(path.stem), choice.every)
        if rest:
            continue
        objects = read_label_map(path)
        instances = []
        for value in np.unique(objects):
            mask = mask_from_full(objects == value)
            if value in (0, IGNORE) or mask is None:
                continue
            instances.append(Instance(label, 0, 1.0, mask_xyxy(mask).astype(np.float32), mask))
        found[place] = instances
    return found


def digest_of(folder: Path) -> str:
    """Identifies the masks of a folder."""
    digest = sha256()
    for path in sorted(folder.glob("*.png"), key=natural):
        digest.update(path.name.encode("utf-8", "surrogateescape"))
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
