"""Which accepted pictures are trained on, which choose the best weights, and which only judge: what
was once held out in a folder stays so, by the digest of its file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.core.types import Image
from backend.datasets.holdout import hold_out, leak
from backend.datasets.similar import Similar, find_similar, picture_hash
from backend.errors import ConfigError
from backend.files.atomic import write_atomic
from backend.files.images import ImageLimits
from backend.training.accepted import AcceptedPicture

_FILE = "held_out.json"
_LISTS = ("val", "test")  # of a dataset that is divided already, in the order of preference
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


def hashes_of(pictures: Sequence[AcceptedPicture], limits: ImageLimits) -> np.ndarray:
    """The perceptual hash of every picture, (N, 4) uint64."""

    def of(one: AcceptedPicture) -> np.ndarray:
        image: Image = one.image(limits)
        return picture_hash(image)

    return np.stack([of(one) for one in pictures])


def divide(
    pictures: Sequence[AcceptedPicture],
    hashes: np.ndarray,
    out: Path,
    *,
    share: float,
    seed: int,
    held_out_list: str | None = None,
) -> Parts:
    """Divide accepted pictures, and record in the folder what is held out.

    Args:
        pictures: at least three.
        hashes: of ``hashes_of``.
        out: folder of the run.
        share: to hold out where no list says which, 0..1.
        seed: of chance.
        held_out_list: the list of the source that is held out; None for val or test where there is
            one beside others, else the share.

    Raises:
        ConfigError: too few pictures, an unknown list, or pictures that all look alike.
    """
    similar = find_similar([one.name for one in pictures], hashes)
    before = _held_before(out)
    places = {k for k, one in enumerate(pictures) if one.digest in before}
    remarks: list[str] = []
    listed = _listed(pictures, held_out_list)
    if listed is not None:
        held = sorted(set(listed) | places)
        rest = [k for k in range(len(pictures)) if k not in set(held)]
        lost = 0.0 if not rest else leak(rest, held, similar)
        if lost > _WARN:
            remarks.append(
                f"{lost:.0%} of the held-out pictures look like one that is trained on, so the"
                " figures flatter; without lists, pictures that look alike are kept together"
            )
    else:
        division = hold_out(similar, [set(one.labels) for one in pictures], share, seed, places)
        held, rest, lost = list(division.held_out), list(division.train), 0.0
        remarks.append(division.how)
        if division.left_out:
            remarks.append(f"{len(division.left_out)} pictures are left out, as they look alike")
    if not rest:
        raise ConfigError("nothing is left to train on; all pictures are held out")
    train, validation = _validation(pictures, rest, similar, seed)
    if train == validation:
        remarks.append(
            "too few pictures to choose the best weights by some of their own; all that are trained"
            " on choose"
        )
    _record(out, [pictures[k] for k in held], before)

    def chosen(places: Sequence[int]) -> tuple[AcceptedPicture, ...]:
        return tuple(pictures[k] for k in places)

    return Parts(chosen(train), chosen(validation), chosen(held), tuple(remarks), lost)


def _listed(pictures: Sequence[AcceptedPicture], wanted: str | None) -> list[int] | None:
    """The places of the list that is held out; None where no list decides."""
    lists = {one.split for one in pictures}
    if wanted is None:
        wanted = next((name for name in _LISTS if name in lists and len(lists) > 1), None)
        if wanted is None:
            return None
    if wanted not in lists:
        known = ", ".join(sorted(str(name) for name in lists if name)) or "none"
        raise ConfigError(f"--held-out: there is no list {wanted!r}; lists are {known}")
    return [k for k, one in enumerate(pictures) if one.split == wanted]


def _validation(
    pictures: Sequence[AcceptedPicture], rest: Sequence[int], similar: Similar, seed: int
) -> tuple[list[int], list[int]]:
    """A part of what is trained on, to choose the best weights by; all of it where it is too
    little or too much alike to be divided.
    """
    inner = similar.among(rest)
    try:
        found = hold_out(inner, [set(pictures[k].labels) for k in rest], 0.15, seed + 1)
    except ConfigError:
        return list(rest), list(rest)
    return [rest[k] for k in found.train], [rest[k] for k in found.held_out]


def _held_before(out: Path) -> dict[str, str]:
    try:
        found = json.loads((out / _FILE).read_text(encoding="utf-8"))
        return {str(digest): str(name) for digest, name in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{out / _FILE}: does not tell which pictures were held out: {error}; choose another"
            " --out"
        ) from None


def _record(out: Path, held: Sequence[AcceptedPicture], before: dict[str, str]) -> None:
    every = {**before, **{one.digest: str(one.name) for one in held}}
    text = json.dumps(every, indent=1, ensure_ascii=False)
    write_atomic(out / _FILE, text.encode())
