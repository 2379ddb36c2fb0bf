"""Instances of samples as regions to be scored, whatever the format they were read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from backend.core.classes import BACKGROUND_LABEL, IGNORE_LABEL, ClassIndex, renamed
from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Mask
from backend.errors import InputError
from backend.evaluation.pairs import Region
from backend.formats.sample import DatasetInstance


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
        self, instances: Iterable[tuple[str, DatasetInstance]]
    ) -> tuple[list[Region], list[Mask]]:
        """Regions of one side of one image; those of the background are left out.

        Args:
            instances: each with how to call it in a message.

        Returns:
            The regions, and the masks of what counts neither for nor against.

        Raises:
            InputError: a label that is none of the classes, or one class too many.
        """
        regions: list[Region] = []
        void: list[Mask] = []
        for where, one in instances:
            label = renamed(one.label, self._rename)
            if one.label in self._rename:
                self.renamed.add(one.label)
            if label == BACKGROUND_LABEL:
                continue
            if label == IGNORE_LABEL:
                void.append(one.mask)
                continue
            try:
                class_id = self._classes.index(label)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            score = 1.0 if one.score is None else one.score
            instance = Instance(label, class_id, score, mask_xyxy(one.mask), one.mask)
            regions.append(
                Region(
                    key=one.key,
                    instance=instance,
                    scored=one.score is not None,
                    is_box=one.is_box,
                )
            )
        return regions, void
