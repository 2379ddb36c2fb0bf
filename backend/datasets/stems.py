"""Names for the outputs of a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from backend.files.images import SUFFIXES
from backend.formats.sample import Sample


class Stems:
    """A name for the outputs of every image, such that no two collide on any file system: later
    ones get their suffix, then a number.

    Args:
        per_split: whether the same name may come again in another split.
        left_out: names of folders that the outputs must not have.
    """

    def __init__(self, per_split: bool, left_out: Sequence[str] = ()) -> None:
        self._per_split = per_split
        self._left_out = left_out
        self._taken: set[tuple[str | None, str]] = set()
        self._names: set[PurePosixPath] = set()
        self.repeated: list[PurePosixPath] = []  # pictures that came more than once

    @property
    def taken(self) -> frozenset[str]:
        """All stems that were given, case folded."""
        return frozenset(stem for _, stem in self._taken)

    def stem_of(self, sample: Sample) -> str:
        if sample.name in self._names:
            self.repeated.append(sample.name)
        self._names.add(sample.name)
        split = sample.split if self._per_split else None
        name = PurePosixPath(
            *(part for part in sample.name.parent.parts if part not in self._left_out),
            sample.name.stem,
        )
        if (
            name.suffix.lower() in SUFFIXES
        ):  # a.jpg.png: lists of images would take the rest for the suffix
            name = name.with_name(f"{name.stem}_{name.suffix[1:]}")
        base = stem = name.as_posix()
        if (split, stem.casefold()) in self._taken:
            base = stem = f"{stem}_{sample.name.suffix.lstrip('.').lower()}"
        number = 2
        while (split, stem.casefold()) in self._taken:
            stem = f"{base}_{number}"
            number = number + 1
        self._taken.add((split, stem.casefold()))
        return stem
