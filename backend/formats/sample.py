"""One image of a dataset, whatever the format: what readers give and writers take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from backend.core.classes import BACKGROUND_LABEL, NOT_CLASSES, ClassNames
from backend.core.masks import (
    PackedMask,
    check_mask,
    common_pixels,
    join_masks,
    pack_mask,
    subtract_masks,
    unpack_mask,
)
from backend.core.stacking import painting_order
from backend.core.types import Instance, Mask, Prediction
from backend.errors import InputError, as_sentence
from backend.files.names import listable

_LARGE = 1 << 21  # pixels of a crop that is held packed: a whole picture of 1080p is not
NO_AREA = "points and other shapes without an area"
OTHER_REGIONS = "key points, lines and other regions without an area"
LISTS = "images whose place in a list (train, val) is not kept"
NO_MASK = "boxes without a mask"
UNWANTED = "instances of classes that --classes leaves out"
BLANKS = "labels with blanks around them, which are taken without"
EXTRA = "labelme"  # key under which other formats keep what labelme has and they do not know


class Part:
    """One drawn piece of an instance.

    A large mask is held packed and unpacked whenever it is asked for, because an image may have
    hundreds of them.

    Args:
        mask: its pixels.
        order: among all pieces of the image; later ones are seen on top.
        ring: the polygon of labelme that it was drawn as, in pixels.
        notes: of labelme, where a part has others than its instance; "score" among them.
    """

    def __init__(
        self,
        mask: Mask,
        order: int,
        ring: tuple[tuple[float, float], ...] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.is_large = mask.crop.size > _LARGE
        self._held: Mask | PackedMask = pack_mask(mask) if self.is_large else mask
        self.order = order
        self.ring = ring
        self.notes = notes

    @property
    def mask(self) -> Mask:
        """Its pixels."""
        return self._held if isinstance(self._held, Mask) else unpack_mask(self._held)

    def at(self, order: int) -> Part:
        """The same at another place among the pieces of the image."""
        moved = copy(self)
        moved.order = order
        return moved

    def noted(
        self, ring: tuple[tuple[float, float], ...] | None, notes: Mapping[str, Any] | None
    ) -> Part:
        """The same with the polygon it was drawn as, and with notes."""
        made = copy(self)
        made.ring = ring
        made.notes = notes
        return made

    def without(self, others: Sequence[Mask]) -> Part | None:
        """The part without the pixels of other masks; None where nothing is left."""
        mask = self.mask
        if not any(common_pixels(mask, other) for other in others):
            return self
        left = subtract_masks(mask, others)
        return None if left is None else Part(left, self.order, None, self.notes)


@dataclass(frozen=True, eq=False)
class DatasetInstance:
    """One instance, whoever made it."""

    label: str
    parts: tuple[Part, ...]  # in drawing order; none where only a box is known
    score: float | None = None  # 0..1; None where nothing told
    crowd: bool = False  # pixels of the class, not one object
    number: int | None = None  # its value in a SegmentationObject that it was read from, 0..65535
    notes: Mapping[str, Any] = field(
        default_factory=dict
    )  # group_id, flags, description, and keys nobody here knows, as labelme has them

    xyxy: tuple[float, float, float, float] | None = None  # of a box without a mask, in pixels
    key: str | None = None  # the same for a predicted region and what became of it
    is_box: bool = False  # drawn as a rectangle
    order: int = 0  # of a box without a mask, among all pieces of the image

    @property
    def mask(self) -> Mask:
        """All parts together.

        Raises:
            ValueError: there is only a box.
        """
        if any(part.is_large for part in self.parts):
            return join_masks([part.mask for part in self.parts])
        return self._small_mask

    @cached_property
    def _small_mask(self) -> Mask:
        return join_masks([part.mask for part in self.parts])


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One image of a dataset with everything that is known about it."""

    name: PurePosixPath  # of the picture below its dataset, with suffix; relative, without ".."
    where: str  # the file or task it was read from, for messages
    size_hw: tuple[int, int] | None  # upright; None where nothing tells
    instances: tuple[DatasetInstance, ...]
    picture: Path | bytes | None = (
        None  # its file, or its bytes where a file holds them; None where it is not at hand
    )
    url: str | None = None  # as a Label Studio task has it
    model_version: str | None = (
        None  # of the model that made all this, unchanged; None for a person's work
    )
    first_model_version: str | None = None  # as that, also where a person changed it since
    split: str | None = None  # train, val ..., where the source tells
    notes: Mapping[str, Any] = field(
        default_factory=dict
    )  # image flags and keys nobody here knows, as labelme has them
    left_out: Mapping[str, int] = field(
        default_factory=dict
    )  # what of the source had no place here: what, and how many
    faults: tuple[str, ...] = ()  # a sentence for each region that could not be read
    named: Path | None = None  # where a labelme file says its picture is; nobody looked
    prediction: Prediction | None = None  # what this was made of, where models did it just now

    def known_size(self) -> tuple[int, int]:
        """Height and width, upright.

        Raises:
            InputError: nothing tells.
        """
        if self.size_hw is None:
            raise InputError(
                f"{self.where}: how large the picture is nobody says; name the folder of the"
                " pictures with --images"
            )
        return self.size_hw


@dataclass(frozen=True)
class Fault:
    """One image that cannot be read."""

    where: str
    sentence: str

    @classmethod
    def of(cls, where: str, error: Exception, named: str | None = None) -> Fault:
        """What went wrong at a place, in a sentence that names it, or a part of ``named``."""
        sentence = as_sentence(error)
        return cls(where, sentence if (named or where) in sentence else f"{where}: {sentence}")


def with_holes(instances: Sequence[DatasetInstance]) -> tuple[DatasetInstance, ...]:
    """Instances with the holes that regions of the background cut into what was drawn before them,
    as labelme's own exports paint them; those regions themselves are gone then.

    A region of the background that was read from a label map keeps its place, as it has a value of
    its own there.

    >>> import numpy as np
    >>> row = [Mask(0, 0, np.ones((1, 3), np.bool_)), Mask(1, 0, np.ones((1, 1), np.bool_))]
    >>> cat = DatasetInstance("cat", (Part(row[0], 0),))
    >>> [one] = with_holes([cat, DatasetInstance("_background_", (Part(row[1], 1),))])
    >>> one.mask.crop.astype(int).tolist()
    [[1, 0, 1]]
    """
    return tuple(one for one in cut_holes(instances) if one is not None)


def cut_holes(instances: Sequence[DatasetInstance]) -> list[DatasetInstance | None]:
    """As ``with_holes``, but None in the place of each instance that is gone."""
    holes = [
        part
        for one in instances
        if one.label == BACKGROUND_LABEL and one.number is None
        for part in one.parts
    ]
    if not holes:
        return list(instances)
    kept: list[DatasetInstance | None] = []
    for one in instances:
        cut = [
            part.without([hole.mask for hole in holes if hole.order > part.order])
            for part in one.parts
        ]
        parts = tuple(part for part in cut if part is not None)
        gone = (one.label == BACKGROUND_LABEL and one.number is None) or (one.parts and not parts)
        kept.append(None if gone else replace(one, parts=parts))
    return kept


def check_something_left(instances: Sequence[Any], faults: Sequence[str]) -> None:
    """Refuse a picture of whose regions none could be read: with nothing in it, it would be taken
    for one that shows nothing.

    Raises:
        InputError: with the first fault.
    """
    if faults and not instances:
        more = f" ({len(faults)} regions, and none can be read)" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{more}")


def object_value(value: object) -> int | None:
    """A value of a SegmentationObject as a file keeps it; None for anything else."""
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 16
        else None
    )


def extras_of(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an image, annotation, region or task holds under ``EXTRA``."""
    found = holder.get(EXTRA)
    return found if isinstance(found, dict) else {}


def count_notes(sample: Sample, instances: Sequence[DatasetInstance]) -> Counter[str]:
    """What is lost in a format that cannot hold scores and notes on the image and its instances.

    A group is not lost, because it is one instance.
    """
    n_scores = sum(one.score is not None for one in instances)
    n_notes = bool(sample.notes) + sum(
        not set(one.notes) <= {"group_id"} and not _is_score(one) for one in instances
    )
    n_notes += sum(part.notes is not None for one in instances for part in one.parts)
    return Counter(
        {
            text: n
            for text, n in (("scores", n_scores), ("descriptions, flags and other notes", n_notes))
            if n
        }
    )


def with_masks(
    instances: Sequence[DatasetInstance],
) -> tuple[tuple[DatasetInstance, ...], Counter[str]]:
    """The instances that a format of masks alone can hold, and how many are only a box."""
    held = tuple(one for one in instances if one.parts)
    n_boxes = len(instances) - len(held)
    return held, Counter({NO_MASK: n_boxes} if n_boxes else {})


def _is_score(instance: DatasetInstance) -> bool:
    """True where all that is noted repeats the score."""
    described = instance.notes.get("description")
    return (
        instance.score is not None
        and set(instance.notes) <= {"group_id", "description"}
        and (described is None or repeats_score(described))
    )


def repeats_score(description: object) -> bool:
    """True for a description that only tells the score, as labelme's AI tools and ours write it: a
    JSON object with a ``score``.
    """
    try:
        found = json.loads(description) if isinstance(description, str) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(found) <= {"score", "text"} and "score" in found


def with_wanted_instances(sample: Sample, names: ClassNames, listed: bool) -> Sample:
    """A sample with only the instances whose class is wanted; the others are counted.

    Blanks around a label are no part of it. A label that cannot stand in a list costs only its
    instance.

    Args:
        sample: as read.
        names: of the classes; grows by new labels.
        listed: whether labels have to stand in a list.

    Raises:
        InputError: no instance is left of those there were, because of their labels.
    """
    kept: list[DatasetInstance] = []
    faults: list[str] = []
    counts: Counter[str] = Counter()
    for one in sample.instances:
        label = one.label.strip()
        if listed:
            try:
                listable(label, sample.where)
            except InputError as error:
                faults.append(str(error))
                continue
        if label not in NOT_CLASSES and names.index(label) is None:
            counts[UNWANTED] += 1
            continue
        if label != one.label:
            counts[BLANKS] += 1
        kept.append(one if label == one.label else replace(one, label=label))
    check_something_left([*kept, *[UNWANTED] * counts[UNWANTED]], faults)
    if not counts and not faults:
        return sample
    return replace(
        sample,
        instances=tuple(kept),
        left_out=Counter(sample.left_out) + counts,
        faults=(*sample.faults, *faults),
    )


def sample_of(
    prediction: Prediction,
    *,
    name: PurePosixPath,
    picture: Path | None = None,
    url: str | None = None,
    drawing_order: Callable[[Sequence[Instance]], Sequence[int]] = painting_order,
) -> Sample:
    """A prediction as a sample.

    Args:
        prediction: of one image.
        name: of the picture below its folder.
        picture: its file.
        url: its address in Label Studio.
        drawing_order: see ``Format``.

    Raises:
        InputError: a mask that is empty or reaches beyond the image.
    """
    places = {k: place for place, k in enumerate(drawing_order(prediction.instances))}
    instances = []
    for k, one in enumerate(prediction.instances):
        if one.mask is not None:
            check_mask(one.mask, prediction.size_hw)
        x0, y0, x1, y1 = (float(value) for value in one.xyxy)
        instances.append(
            DatasetInstance(
                label=one.label,
                parts=() if one.mask is None else (Part(one.mask, places.get(k, 0)),),
                score=round(float(one.score), 4),
                xyxy=(x0, y0, x1, y1),
                order=places.get(k, 0),
                notes={} if one.track is None else {"group_id": one.track},
            )
        )
    return Sample(
        name=name,
        where=str(name if picture is None else picture),
        size_hw=prediction.size_hw,
        instances=tuple(instances),
        picture=picture,
        url=url,
        model_version=prediction.model_version,
        prediction=prediction,
    )
