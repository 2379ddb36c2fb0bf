"""Which accepted pictures are trained on, which choose the best weights, and which only judge: what
was once held out in a folder stays so, by the digest of its file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.datasets.holdout import hold_out, leak
from backend.datasets.similar import Similar, find_similar, picture_hash
from backend.errors import ConfigError, InputError
from backend.files.atomic import write_atomic
from backend.files.images import ImageLimits
from backend.training.accepted import AcceptedPicture

_FILE = "pictures.json"  # what each picture was for, by its digest
_TRAIN = "train"
_HELD_OUT = "held out"
_TEST, _VAL = "test", "val"  # lists of a dataset that is divided already
_WARN = 0.02  # leak


@dataclass(frozen=True, eq=False)
class Parts:
    """Accepted pictures in three parts.

    Attributes:
        train: to learn from.
        validation: choose the best weights.
        held_out: judge what came of it, and are never learned from.
        remarks: how they were divided, for people.
        leak: share of held-out pictures with a near duplicate in one of the other parts, 0..1.
    """

    train: tuple[AcceptedPicture, ...]
    validation: tuple[AcceptedPicture, ...]
    held_out: tuple[AcceptedPicture, ...]
    remarks: tuple[str, ...]
    leak: float


def with_hashes(
    pictures: Sequence[AcceptedPicture], limits: ImageLimits, faults: list[str]
) -> tuple[list[AcceptedPicture], np.ndarray]:
    """The pictures that can be read, and their perceptual hashes, (N, 4) uint64.

    Args:
        pictures: at least one.
        limits: of pictures.
        faults: takes a sentence for each that cannot be read.

    Raises:
        ConfigError: none can be read.
    """
    found: list[AcceptedPicture] = []
    hashes: list[np.ndarray] = []
    for one in pictures:
        try:
            hashes.append(picture_hash(one.image(limits)))
        except InputError as error:
            faults.append(str(error))
            continue
        found.append(one)
    if not found:
        raise ConfigError(f"no picture can be read: {faults[0]}")
    return found, np.stack(hashes)


def divide(
    pictures: Sequence[AcceptedPicture],
    hashes: np.ndarray,
    out: Path,
    *,
    share: float,
    seed: int,
    held_out_list: str | None = None,
    trained: Collection[str] = (),
    outlines: bool = True,
) -> Parts:
    """Divide accepted pictures. What an earlier run into the folder was for, a picture stays for.

    Args:
        pictures: at least three.
        hashes: of ``with_hashes``.
        out: folder of the run.
        share: to hold out where no list says which, 0..1.
        seed: of chance.
        held_out_list: the list of the source that is held out; None for test or val where there is
            one beside others, else the share.
        trained: digests of pictures that the base learned from, which judge nothing.

        outlines: whether pictures that choose must show an outlined object; else a box will do.

    Raises:
        ConfigError: too few pictures, an unknown list, or pictures that all look alike.
    """
    similar = find_similar([one.name for one in pictures], hashes)
    known = _read(out)
    learned = {k for k, one in enumerate(pictures) if known.get(one.digest) == _TRAIN}
    learned |= {k for k, one in enumerate(pictures) if one.digest in trained}
    before = {k for k, one in enumerate(pictures) if known.get(one.digest) == _HELD_OUT} - learned
    remarks: list[str] = []
    listed = _listed(pictures, held_out_list)
    if listed is not None:
        held = sorted((set(listed.held_out) | before) - learned)
        rest = [k for k in listed.train if k not in set(held)]
        validation = [k for k in listed.validation if k not in set(held)]
        lost = leak([*rest, *validation], held, similar)
        remarks += listed.remarks
        if moved := len(set(listed.held_out) & learned):
            remarks.append(f"{moved} pictures of that list were learned from before, and judge not")
        if lost > _WARN:
            remarks.append(
                f"{lost:.0%} of the held-out pictures look like one that is trained on, so the"
                " figures flatter; without lists, pictures that look alike are kept together"
            )
    else:
        classes = [set(one.every_label) for one in pictures]
        division = hold_out(similar, classes, share, seed, before, learned)
        held, rest, validation, lost = list(division.held_out), list(division.train), [], 0.0
        remarks.append(division.how)
        if division.left_out:
            remarks.append(f"{len(division.left_out)} pictures are left out, as they look alike")
    if not held:
        raise ConfigError("nothing is left to judge by; all pictures were learned from before")
    if not rest:
        raise ConfigError("nothing is left to train on; all pictures are held out")
    shown = {k for k, one in enumerate(pictures) if (one.objects if outlines else one.every_label)}
    if shown.isdisjoint(validation):
        rest, validation = _validation(pictures, rest, similar, seed, shown)
    if rest == validation:
        remarks.append(
            "too few pictures to choose the best weights by some of their own; all that are trained"
            " on choose"
        )

    def chosen(places: Sequence[int]) -> tuple[AcceptedPicture, ...]:
        return tuple(pictures[k] for k in places)

    return Parts(chosen(rest), chosen(validation), chosen(held), tuple(remarks), lost)


@dataclass(frozen=True, eq=False)
class _Lists:
    """The places of a source that is divided already."""

    train: list[int]
    validation: list[int]
    held_out: list[int]
    remarks: list[str]


def _listed(pictures: Sequence[AcceptedPicture], wanted: str | None) -> _Lists | None:
    """The parts that lists make; None where no list decides."""
    lists = {one.split for one in pictures}
    if wanted is None:
        wanted = next((name for name in (_TEST, _VAL) if name in lists and len(lists) > 1), None)
        if wanted is None:
            return None
    if wanted not in lists:
        known = ", ".join(sorted(str(name) for name in lists if name)) or "none"
        raise ConfigError(f"--held-out: there is no list {wanted!r}; lists are {known}")

    def of(*names: str | None) -> list[int]:
        return [k for k, one in enumerate(pictures) if one.split in names]

    others = [name for name in lists if name not in (wanted, _TEST, _VAL)]
    if not others:
        remarks = [f"the list {wanted} is held out, and all others are learned from"]
        return _Lists(of(*(lists - {wanted})), [], of(wanted), remarks)
    validation = of(_VAL) if wanted != _VAL else []
    remarks = [f"the list {wanted} is held out"]
    if wanted != _VAL and validation:
        remarks.append(f"the list {_VAL} chooses the best weights")
    if wanted != _TEST and _TEST in lists:
        remarks.append(f"the list {_TEST} is left out")
    return _Lists(of(*others), validation, of(wanted), remarks)


def _validation(
    pictures: Sequence[AcceptedPicture],
    rest: Sequence[int],
    similar: Similar,
    seed: int,
    wanted: Collection[int],
) -> tuple[list[int], list[int]]:
    """A part of what is trained on, to choose the best weights by; all of it where it is too
    little or too much alike to be divided. Pictures without objects choose nothing.
    """
    shown = [k for k in rest if k in wanted]
    try:
        found = hold_out(
            similar.among(shown), [set(pictures[k].every_label) for k in shown], 0.15, seed
        )
    except ConfigError:
        return list(rest), list(rest)
    left = {shown[k] for k in (*found.held_out, *found.left_out)}
    return [k for k in rest if k not in left], [shown[k] for k in found.held_out]


def key_of(parts: Parts) -> list[Any]:
    """All that is learned from, for JSON: another list where a picture, an object or a part is
    another.
    """
    return [
        [
            [
                one.digest,
                [(label, m.x, m.y, m.shape, zlib.crc32(m.data)) for label, m in one.objects],
                one.boxes,
            ]
            for one in members
        ]
        for members in (parts.train, parts.validation)
    ]


def _read(out: Path) -> dict[str, str]:
    try:
        found = json.loads((out / _FILE).read_text(encoding="utf-8"))
        return {str(digest): str(part) for digest, part in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{out / _FILE}: does not tell which pictures were held out: {error}; choose another"
            " --out"
        ) from None


def record(out: Path, parts: Parts) -> None:
    """Write down what each picture is for, so that it stays so in later runs.

    Raises:
        Unavailable: the disk refuses.
    """
    every = _read(out)
    every |= {one.digest: _TRAIN for one in (*parts.train, *parts.validation)}
    every |= {one.digest: _HELD_OUT for one in parts.held_out}
    write_atomic(out / _FILE, json.dumps(every, indent=1).encode())
