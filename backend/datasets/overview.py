"""What a dataset holds, as it is: counts by class and list, sizes, and what deserves a look."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from backend.core.classes import NOT_CLASSES
from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Prediction
from backend.formats.sample import DatasetInstance, Fault, Sample

TINY = 0.0002  # share of the picture, below which an object deserves a look
HUGE = 0.9
_RARE = 2  # objects of a class, up to which it may be a slip of the keyboard
_MOST_LISTED = 50  # names of one kind of suspect
_NOT_AT_HAND = "not at hand"


@dataclass
class ClassCounts:
    """One class of a dataset."""

    objects: int = 0
    images: int = 0
    without_mask: int = 0
    shares: list[float] = field(default_factory=list)  # of the picture, of each object


@dataclass(frozen=True)
class Suspect:
    """A picture that deserves a look, and why."""

    name: str
    kind: str  # the same for all alike
    why: str


class Overview:
    """Counts samples as they come."""

    def __init__(self) -> None:
        self.n_images = 0
        self.n_objects = 0
        self.n_ignored = 0  # regions that count neither for nor against
        self.classes: dict[str, ClassCounts] = defaultdict(ClassCounts)
        self.splits: Counter[str] = Counter()
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.pictures: Counter[str] = Counter()  # by suffix, or not at hand
        self.left_out: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.suspects: list[Suspect] = []
        self._digests: dict[bytes, str] = {}
        self._first_of: dict[str, list[str]] = defaultdict(list)  # class to its first images

    def add(self, found: Sample | Fault) -> list[Suspect]:
        """Count an image, or note why it cannot be read.

        Returns:
            Why it deserves a look.
        """
        if isinstance(found, Fault):
            self.faults.append(found)
            return []
        name = str(found.name)
        self.n_images += 1
        self.n_objects += sum(one.label not in NOT_CLASSES for one in found.instances)
        self.n_ignored += sum(one.label in NOT_CLASSES for one in found.instances)
        self.splits[found.split or ""] += 1
        self.left_out.update(found.left_out)
        self.faults += [Fault(found.where, sentence) for sentence in found.faults]
        if found.size_hw is not None:
            self.sizes[found.size_hw[1], found.size_hw[0]] += 1
        self.pictures[found.name.suffix.lower() if found.picture else _NOT_AT_HAND] += 1
        suspects = [*self._objects(found, name), *self._picture(found, name)]
        self.suspects += suspects
        return suspects

    def _objects(self, sample: Sample, name: str) -> Iterator[Suspect]:
        if not sample.instances:
            yield Suspect(name, "nothing in it", "nothing in it")
        seen: set[str] = set()
        tiny = huge = 0
        for one in sample.instances:
            if one.label in NOT_CLASSES:
                continue
            counts = self.classes[one.label]
            counts.objects += 1
            counts.images += one.label not in seen
            counts.without_mask += not one.parts
            seen.add(one.label)
            if len(self._first_of[one.label]) <= _RARE:
                self._first_of[one.label].append(name)
            share = _share(one, sample.size_hw)
            if share is not None:
                counts.shares.append(share)
                tiny += share < TINY
                huge += share > HUGE
        if tiny:
            kind = f"tiny objects (under {100 * TINY:g} % of the picture)"
            yield Suspect(name, kind, f"{tiny} {kind}")
        if huge:
            kind = f"objects over {100 * HUGE:g} % of the picture"
            yield Suspect(name, kind, f"{huge} {kind}")

    def _picture(self, sample: Sample, name: str) -> Iterator[Suspect]:
        content = sample.picture
        if content is None:
            return
        try:
            data = content.read_bytes() if isinstance(content, Path) else content
        except OSError:
            yield Suspect(name, "pictures that cannot be read", "its picture cannot be read")
            return
        first = self._digests.setdefault(blake2b(data, digest_size=16).digest(), name)
        if first != name:
            yield Suspect(name, "the same picture twice", f"the same picture as {first}")

    def rare_classes(self) -> list[tuple[str, int, list[str]]]:
        """Classes with very few objects, which may be slips of the keyboard: name, objects, and
        where.
        """
        rare = [
            (name, counts.objects, self._first_of[name])
            for name, counts in sorted(self.classes.items())
            if counts.objects <= _RARE
        ]
        # In a small dataset most classes are rare, and that says nothing.
        return rare if 2 * len(rare) <= len(self.classes) else []

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "images": self.n_images,
            "objects": self.n_objects,
            "ignored_regions": self.n_ignored,
            "lists": dict(self.splits),
            "pictures": dict(self.pictures.most_common()),
            "sizes": [
                {"width": w, "height": h, "images": n} for (w, h), n in self.sizes.most_common(20)
            ],
            "classes": [_row(name, one) for name, one in self._by_count()],
            "left_out": dict(self.left_out),
            "rare_classes": [
                {"class": name, "objects": n, "images": where}
                for name, n, where in self.rare_classes()
            ],
            "suspects": [
                {"image": one.name, "kind": one.kind, "why": one.why} for one in self.suspects
            ],
            "failed": [{"where": one.where, "reason": one.sentence} for one in self.faults],
        }

    def _by_count(self) -> list[tuple[str, ClassCounts]]:
        return sorted(self.classes.items(), key=lambda pair: (-pair[1].objects, pair[0]))


def _row(name: str, counts: ClassCounts) -> dict[str, Any]:
    shares = np.array(counts.shares) if counts.shares else None
    return {
        "class": name,
        "objects": counts.objects,
        "images": counts.images,
        "without_mask": counts.without_mask,
        "median_share": None if shares is None else round(float(np.median(shares)), 6),
        "smallest_share": None if shares is None else round(float(shares.min()), 6),
        "largest_share": None if shares is None else round(float(shares.max()), 6),
    }


def _share(one: DatasetInstance, size_hw: tuple[int, int] | None) -> float | None:
    if size_hw is None or not one.parts:
        return None
    return float(one.mask.area) / (size_hw[0] * size_hw[1])


def as_prediction(sample: Sample) -> Prediction:
    """The objects of a sample as something to draw.

    Raises:
        InputError: how large the picture is nobody says.
    """
    labels: dict[str, int] = {}
    instances = []
    for one in sample.instances:
        mask = one.mask if one.parts else None
        if mask is None and one.xyxy is None:
            continue
        xyxy = np.array(one.xyxy, np.float32) if mask is None else mask_xyxy(mask)
        number = labels.setdefault(one.label, len(labels))
        score = float("nan") if one.score is None else one.score
        instances.append(Instance(one.label, number, score, xyxy, mask))
    return Prediction(tuple(instances), sample.known_size(), sample.model_version or "")


def first_suspects(overview: Overview) -> list[Suspect]:
    """The first of each kind, so that a frequent kind does not hide the others."""
    per_kind: Counter[str] = Counter()
    kept = []
    for one in overview.suspects:
        per_kind[one.kind] += 1
        if per_kind[one.kind] <= _MOST_LISTED:
            kept.append(one)
    return kept
