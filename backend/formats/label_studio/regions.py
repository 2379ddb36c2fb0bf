"""The regions of a Label Studio result, put together from their entries.

What a region is follows from what its ``value`` holds, not from its ``type``, because generic tags
(``Labels`` with ``Brush``) store geometry and label as two entries with one id, and per-region
choices share that id too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend.errors import InputError, json_kind
from backend.files.images import declared_size, side_or_none

# What tells a kind of geometry: the key of ``value`` that only it has, in the order to look.
_KINDS = {
    "rle": "brush",
    "imageDataURL": "bitmask",
    "points": "polygon",
    "radiusX": "ellipse",
    "height": "rectangle",
}
GEOMETRY = (
    "rle",
    "imageDataURL",
    "points",
    "x",
    "y",
    "width",
    "height",
    "rotation",
    "radiusX",
    "radiusY",
)
_NOT_LABELS = ("choices", "taxonomy", "text", "rating", "number", "datetime", "pairwise")


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredRegion:
    """One region before its mask is made."""

    where: str  # for messages, such as result[3]
    id: str | None
    kind: str
    from_name: str
    to_name: str  # of the image; with ``#k`` behind it for the k-th of several pictures in one tag
    label: str
    score: float | None  # 0..1
    value: Mapping[str, Any]
    meta: Mapping[str, Any]  # what people and programs noted on it
    declared_hw: tuple[int, int] | None = None  # of the image; None where the region does not tell
    odd_score: bool = False  # whether it had a score that is none

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image.

        Raises:
            InputError: the region does not tell.
        """
        if self.declared_hw is None:
            raise InputError(
                f"{self.where}: original_height and original_width are missing, and neither another"
                " region nor a picture tells them"
            )
        return self.declared_hw


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredRegions:
    """What a ``result`` list holds."""

    regions: tuple[StoredRegion, ...]  # that cover an area, in order
    n_others: int = 0  # key points, lines, vectors
    faults: tuple[str, ...] = ()  # a sentence for each that cannot be read


def _labels(entry: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    """The labels of an entry: the list that goes by its type, or any list that ends in labels."""
    names = [str(entry.get("type")), *(key for key in value if str(key).endswith("labels"))]
    for name in names:
        found = value.get(name)
        if (
            name not in _NOT_LABELS
            and isinstance(found, list)
            and found
            and all(isinstance(one, str) and one.strip() for one in found)
        ):
            return found
    return []


def _score(entry: Mapping[str, Any]) -> float | None:
    """A score from 0 to 1, also where a program wrote it as text; None for anything else."""
    score = entry.get("score")
    try:
        number = float(score) if isinstance(score, str) else score
    except ValueError:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return float(number) if 0 <= number <= 1 else None


class _Reading:
    """The regions of one list, put together from entries that share an id."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.labels: dict[str, list[str]] = {}
        self.bodies: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self.seen: dict[str, tuple[int, Mapping[str, Any]]] = {}
        self.others = 0
        self.faults: list[str] = []

    def take(self, place: int, entry: Any) -> None:
        """Take an entry of the list.

        Raises:
            InputError: naming it and the field.
        """
        where = f"{self.where}[{place}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: expected a region, got {json_kind(entry)}")
        value = entry.get("value")
        if not isinstance(value, dict):
            if str(entry.get("type")).removesuffix("labels") in _KINDS.values():
                raise InputError(f"{where}.value: expected an object, got {json_kind(value)}")
            return
        key = f"{_image(entry)} {entry.get('id') or f'#{place}'}"
        found = _labels(entry, value)
        if found and self.labels.setdefault(key, found) != found:
            raise InputError(
                f"{where}: is labelled {found[0][:40]!r}, and under the same id"
                f" {self.labels[key][0][:40]!r}"
            )
        kind = next((name for mark, name in _KINDS.items() if mark in value), None)
        named = str(entry.get("type")).removesuffix("labels")
        if kind and key in self.seen:
            first, geometry = self.seen[key]
            if {name: value.get(name) for name in GEOMETRY} != geometry:
                raise InputError(
                    f"{where}.id: {str(entry.get('id'))[:40]!r} is the id of {self.where}[{first}]"
                    " too, which is another region"
                )
        elif kind:
            self.seen[key] = (place, {name: value.get(name) for name in GEOMETRY})
            self.bodies.append((where, kind, key, entry))
        elif named in _KINDS.values():
            raise InputError(f"{where}.value: holds no {named}")
        elif "x" in value or "vertices" in value or "sequence" in value:
            self.others += 1


def read_regions(result: Any, where: str) -> StoredRegions:
    """The regions of a ``result`` list; one that cannot be read costs only itself.

    Args:
        result: parsed JSON.
        where: how to call it in messages, such as ``annotations[0].result``.

    Returns:
        Regions that cover an area, in order; how many others there are, which are key points,
        lines and vectors; and what is wrong with those that cannot be read. Choices, texts and
        relations are no regions.

    Raises:
        InputError: it is no list.

    >>> value = {"x": 50, "y": 0, "width": 50, "height": 100, "rectanglelabels": ["cat"]}
    >>> box = {"original_width": 4, "original_height": 2, "type": "rectanglelabels", "value": value}
    >>> found = read_regions([box, {"type": "rectangle", "value": {"x": 1, "height": 2}}], "result")
    >>> [(one.kind, one.label, one.size_hw) for one in found.regions]
    [('rectangle', 'cat', (2, 4))]
    >>> found.faults
    ('result[1]: the region has no label',)
    """
    if not isinstance(result, list):
        raise InputError(f"{where}: expected a list of regions, got {json_kind(result)}")
    reading = _Reading(where)
    faults: list[str] = []
    for place, entry in enumerate(result):
        try:
            reading.take(place, entry)
        except InputError as error:
            faults.append(str(error))
    regions = []
    for place_of, kind, key, entry in reading.bodies:
        try:
            regions.append(_stored(place_of, kind, entry, reading.labels.get(key)))
        except InputError as error:
            faults.append(str(error))
    return StoredRegions(
        regions=tuple(_with_sizes(regions)), n_others=reading.others, faults=tuple(faults)
    )


def _with_sizes(regions: Sequence[StoredRegion]) -> list[StoredRegion]:
    """Regions without a size get that of another region of the same image."""
    known: dict[str, tuple[int, int]] = {}
    for one in regions:
        if one.declared_hw is not None:
            known.setdefault(one.to_name, one.declared_hw)
    return [
        one if one.declared_hw is not None else replace(one, declared_hw=known.get(one.to_name))
        for one in regions
    ]


def _image(entry: Mapping[str, Any]) -> str:
    return str(entry.get("to_name") or "") + (
        f"#{entry['item_index']}" if entry.get("item_index") else ""
    )


def _stored(
    where: str, kind: str, entry: Mapping[str, Any], labels: Sequence[str] | None
) -> StoredRegion:
    if not labels:
        raise InputError(f"{where}: the region has no label")
    if len(labels) > 1:
        raise InputError(
            f"{where}: the region has several labels, {', '.join(labels)[:80]}; only one can be"
            " compared"
        )
    name = entry.get("id") if isinstance(entry.get("id"), str) else None
    meta = entry["meta"] if isinstance(entry.get("meta"), dict) else {}
    sides = entry.get("original_height"), entry.get("original_width")
    names = ("original_height", "original_width")
    declared = None if side_or_none(*sides) is None else declared_size(*sides, f"{where}.", names)
    score = _score(entry)
    return StoredRegion(
        where=where,
        id=name,
        kind=kind,
        from_name=str(entry.get("from_name") or ""),
        to_name=_image(entry),
        label=labels[0].strip(),
        score=score,
        value=entry["value"],
        meta=meta,
        declared_hw=declared,
        odd_score=score is None and entry.get("score") is not None,
    )
