"""What a pre-labelling run did, for people and programs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from backend.errors import LabelingError, counted

_MOST_LABELS = 30  # in a list for people
_FEW = 10  # tasks of a control group, which may not all be annotated


@dataclass
class PrelabelSummary:
    """What a run did."""

    n_done: int = 0
    n_bytes: int = 0
    n_held_out: int = 0  # tasks of the control group
    n_skipped: int = 0  # failed in an earlier run
    n_deleted: int = 0
    per_class: Counter[str] = field(default_factory=Counter)  # objects that were found, by label
    n_empty: int = 0  # pictures in which none was found
    failed: dict[int, str] = field(default_factory=dict)  # never work as they are
    later: dict[int, str] = field(default_factory=dict)  # may work in another run
    stopped: str | None = None
    error: LabelingError | None = None
    address: str | None = None  # of the project in Label Studio
    connected: bool = False  # whether the project has a backend
    halted: bool = False  # by the error, and not by a person

    def reasons(self) -> Counter[str]:
        """Failures by what went wrong, without what differs from task to task."""
        return Counter(general(text) for text in (*self.failed.values(), *self.later.values()))

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "predicted": self.n_done,
            "objects": dict(self.per_class.most_common()),
            "without_objects": self.n_empty,
            "uploaded_bytes": self.n_bytes,
            "held_out": self.n_held_out,
            "skipped_failed_earlier": self.n_skipped,
            "deleted_older": self.n_deleted,
            "failed": [
                {"task": task, "reason": reason} for task, reason in sorted(self.failed.items())
            ],
            "later": [
                {"task": task, "reason": reason} for task, reason in sorted(self.later.items())
            ],
            "reasons": dict(self.reasons().most_common()),
            "stopped": self.stopped,
        }

    def as_text(self) -> str:
        """For people: a line a fact, then a table by reason, then the tasks."""
        lines = [f"predicted {counted(self.n_done, 'task')}, {self.n_bytes / 1e6:.1f} MB uploaded"]
        lines += [f"  {n:>6}  {label}" for label, n in self.per_class.most_common(_MOST_LABELS)]
        if len(self.per_class) > _MOST_LABELS:
            lines.append(f"  and {len(self.per_class) - _MOST_LABELS} more labels")
        if self.n_empty:
            lines.append(f"  {self.n_empty:>6}  tasks in which nothing was found")
        if self.n_deleted:
            lines.append(f"deleted {self.n_deleted} older predictions of this program")
        if self.n_held_out:
            group = counted(self.n_held_out, "task")
            lines.append(
                f"left {group} without pre-labels as a control group; give the same"
                " --holdout next time, and to yolosam2 score"
            )
            if self.n_held_out < _FEW:
                lines.append(
                    "  few for a control group: score needs five annotations without pre-labels to"
                    " tell what they save"
                )
            if self.connected:
                lines.append(
                    "  a backend is connected, and Label Studio asks it when a task is opened:"
                    " start yolosam2 serve with the same --holdout, or the group gets masks"
                )
        if self.n_skipped:
            lines.append(
                f"skipped {self.n_skipped} that failed in an earlier run (--retry-failed tries them"
                " again)"
            )
        for title, table in (
            ("failed", self.failed),
            ("not now, the next run tries again", self.later),
        ):
            if table:
                lines.append(f"{title}: {len(table)}")
                lines += [
                    f"  {count:>6}  {reason}"
                    for reason, count in Counter(general(t) for t in table.values()).most_common()
                ]
                lines += [f"  task {task}: {reason}" for task, reason in sorted(table.items())[:20]]
                lines += (
                    [f"  and {len(table) - 20} more; --json FILE lists them all"]
                    if len(table) > 20
                    else []
                )
        if self.address is not None:
            lines.append(f"open {self.address}")
        if self.stopped:
            lines.append(f"stopped early: {self.stopped}; run the same command again to go on")
        return "\n".join(lines)


def general(reason: str) -> str:
    """A reason without numbers, names and addresses, so that equal faults count together."""
    return re.sub(
        r"\S*/\S+|(?<!answered )\b\d+|'[^']*'|\"[^\"]*\"", "*", re.sub(r"^task \d+: ", "", reason)
    )[:100]
