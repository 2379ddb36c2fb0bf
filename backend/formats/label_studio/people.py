"""Who made an annotation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def person(annotation: Mapping[str, Any], people: Mapping[int, str] | None = None) -> str:
    """Who made an annotation: the e-mail address if it is known, else the user's number.

    Args:
        annotation: of an export.
        people: addresses by number, for exports that hold only the numbers.

    >>> person({"completed_by": 1}, {1: "anna@example.com"})
    'anna@example.com'
    """
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    if isinstance(who, int) and people:
        who = people.get(who, who)
    return "unknown" if who is None else str(who)


def all_names(annotation: Mapping[str, Any], people: Mapping[int, str] | None = None) -> set[str]:
    """All names an annotator may be chosen by."""
    who = annotation.get("completed_by")
    known = who.values() if isinstance(who, dict) else [who]
    return {person(annotation, people), *(str(one) for one in known)}
