"""Instances of samples as regions to be scored, whatever the format they were read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backend.core.classes import BACKGROUND_LABEL, IGNORE_LABEL, ClassIndex, renamed
from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Mask
from backend.errors import InputError
from backend.evaluation.pairs import Region
from backend.formats.label_studio.region_masks import region_mask
from backend.formats.label_studio.regions import GEOMETRY, StoredRegion
from backend.formats.sample import DatasetInstance, cut_holes

MOST_BYTES = 768 << 20  # of the masks of one side of an image


def check_memory(n_bytes: int, where: str) -> None:
    """Refuse more masks of an image than can be compared.

    Raises:
        InputError: they take more than ``MOST_BYTES``.
    """
    if n_bytes > MOST_BYTES:
        raise InputError(
            f"{where}: with it, the masks of its image take more than {MOST_BYTES >> 20} MiB to"
            " compare; they are too many for an image of this size"
        )


class RegionMaker:
    """Gives instances their classes.

    Args:
        classes: of all images; grows.
        rename: label to the name it is scored under.
    """

    def __init__(self, classes: ClassIndex, rename: Mapping[str, str] | None = None) -> None:
        self._classes = classes
        self._rename = rename or {}
        self.renamed: set[str] = set()  # labels that went by another name

    def regions(
        self, instances: Iterable[tuple[str, DatasetInstance]], faults: list[str]
    ) -> tuple[list[Region], list[Mask]]:
        """Regions of one side of one image; those of the background cut holes into what was drawn
        before them.

        Args:
            instances: each with how to call it in a message.
            faults: takes a sentence for each whose label is none of the classes.

        Returns:
            The regions, and the masks of what counts neither for nor against.

        Raises:
            InputError: all masks together take too much memory, or there are too many classes.
        """
        pairs = list(instances)
        regions: list[Region] = []
        void: list[Mask] = []
        taken = 0
        for (where, _), one in zip(pairs, cut_holes([one for _, one in pairs]), strict=True):
            if one is None:
                continue
            label = renamed(one.label.strip(), self._rename)
            if label == BACKGROUND_LABEL:
                continue
            if one.label.strip() in self._rename:
                self.renamed.add(one.label.strip())
            mask = one.mask
            taken += mask.crop.size
            check_memory(taken, where)
            if label == IGNORE_LABEL:
                void.append(mask)
                continue
            try:
                class_id = self._classes.index(label)
            except InputError as error:
                if not self._classes.is_fixed:  # one class too many, and more with every picture
                    raise InputError(f"{where}: {error}") from None
                faults.append(f"{where}: {error}")
                continue
            score = 1.0 if one.score is None else one.score
            instance = Instance(label, class_id, score, mask_xyxy(mask), mask)
            regions.append(
                Region(
                    key=one.key,
                    instance=instance,
                    scored=one.score is not None,
                    is_box=one.is_box,
                )
            )
        return regions, void


def mask_once(one: StoredRegion, cache: dict[str, tuple[Any, Mask | None]]) -> Mask | None:
    """The pixels of a region.

    An accepted region is mostly what was predicted, and is the same mask then, decoded once.
    """
    body = one.size_hw, {key: value for key, value in one.value.items() if key in GEOMETRY}
    known = cache.get(one.id or "")
    mask = known[1] if known is not None and known[0] == body else region_mask(one)
    if one.id:
        cache[one.id] = (body, mask)
    return mask
