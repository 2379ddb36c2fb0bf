"""What a check finds, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

OK = "ok"
NOTE = "note"
FAULT = "fault"
REFUSED = "refused"


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, how it is, and what to do about it."""

    status: str  # ok, note (works, but), fault, or refused (by Label Studio)
    about: str
    found: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def _word(status: str) -> str:
    return "ok" if status == OK else status.upper()


def as_text(checks: Sequence[Check]) -> str:
    """For people: a line a check, and below it what to do."""
    lines = []
    for check in checks:
        lines.append(f"{_word(check.status):<8}{check.about:<16}{check.found}")
        lines += [f"{'':<8}{'':<16}-> {line}" for line in check.fix.splitlines()]
    faults = sum(check.status in (FAULT, REFUSED) for check in checks)
    lines.append("")
    lines.append(
        "everything that was checked works"
        if not faults
        else f"{faults} fault{'s' if faults > 1 else ''}; what mends each is after its arrow"
    )
    return "\n".join(lines)


def exit_code(checks: Sequence[Check]) -> int:
    """0, 1 for faults, 3 where Label Studio refused the token."""
    statuses = {check.status for check in checks}
    return 3 if REFUSED in statuses else 1 if FAULT in statuses else 0
