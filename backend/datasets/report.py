"""What a conversion did, for people and programs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.formats.base import EMBEDDED, NOT_AT_HAND, TURNED, Encoded
from backend.formats.sample import Sample

_EXAMPLES = 3  # images named with each loss
_SHOWN = 50  # lines of failures in the text
_ALIKE = 3  # failures with the same reason that get a line each


@dataclass
class ConvertSummary:
    """What a conversion did."""

    source_format: str
    target_format: str
    images: int = 0
    empty: int = 0
    per_class: Counter[str] = field(default_factory=Counter)
    per_split: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)  # files of others that were not replaced
    unchanged: int = 0  # files that were there already, the same
    failed: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)  # labels that --classes leaves out
    stopped: str | None = None

    def count(self, sample: Sample, encoded: Encoded) -> None:
        """Take one converted image into account."""
        self.images += 1
        self.empty += not encoded.labels
        self.per_class.update(encoded.labels)
        for found, total in ((encoded.losses, self.losses), (sample.left_out, self.left_out)):
            total.update(found)
            for text in found:
                shown = self.examples.setdefault(text, [])
                if len(shown) < _EXAMPLES:
                    shown.append(str(sample.name))

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "from": self.source_format,
            "to": self.target_format,
            "images": self.images,
            "without_instances": self.empty,
            "instances": dict(self.per_class.most_common()),
            "classes": self.classes,
            "splits": dict(self.per_split),
            "not_held_by_target": dict(self.losses),
            "left_out_of_source": dict(self.left_out),
            "examples": self.examples,
            "kept": self.kept,
            "unchanged_files": self.unchanged,
            "failed": [{"file": where, "reason": reason} for where, reason in self.failed],
            "remarks": self.remarks,
            "stopped": self.stopped,
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        splits = (
            f" ({', '.join(f'{name} {n}' for name, n in self.per_split.items())})"
            if len(self.per_split) > 1
            else ""
        )
        lines = [
            f"converted {self.images} images{splits} with {sum(self.per_class.values())} instances"
            f" from {self.source_format} to {self.target_format}"
        ]
        lines += [
            f"  {name.encode(errors='backslashreplace').decode()}: {count}"
            for name, count in self.per_class.most_common()
        ]
        lines += [f"{self.empty} of them without any instance"] if self.empty else []
        missing = Counter(
            {text: n for text, n in self.losses.items() if text in (NOT_AT_HAND, EMBEDDED)}
        )
        done = Counter({text: n for text, n in self.losses.items() if text == TURNED})
        titles = (
            f"{self.target_format} cannot hold:",
            "not taken over from the source:",
            "to be looked after:",
            "changed:",
        )
        for title, counts in zip(
            titles, (self.losses - missing - done, self.left_out, missing, done), strict=True
        ):
            lines += [title] * bool(counts)
            lines += [
                f"  {n} {text} (such as {', '.join(self.examples[text])})"
                for text, n in counts.most_common()
            ]
        lines += self.remarks
        if self.kept:
            lines.append(
                f"kept {len(self.kept)} files that somebody else wrote, or changed since"
                " (--overwrite replaces them, with a .bak copy):"
            )
            lines += [f"  {path}" for path in self.kept[:_SHOWN]]
        lines += [f"wrote {path}" for path in self.outputs]
        if self.failed:
            lines.append(f"failed {len(self.failed)}:")
            lines += [f"  {text}" for text in _grouped(self.failed)]
        if self.stopped:
            lines.append(
                f"stopped early: {self.stopped}; run the same command again, which then writes what"
                " all images share as well"
            )
        return "\n".join(lines)


def _grouped(failed: Sequence[tuple[str, str]]) -> list[str]:
    """Failures, each a line; those with the same reason share one when there are many."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for where, sentence in failed:
        reasons[sentence.removeprefix(f"{where}: ")].append(where)
    lines: list[str] = []
    for reason, places in reasons.items():
        if len(places) > _ALIKE:
            lines.append(f"{len(places)} times: {reason} (such as {', '.join(places[:_EXAMPLES])})")
        else:
            lines += [reason if place in reason else f"{place}: {reason}" for place in places]
    return [
        *lines[:_SHOWN],
        *(
            [f"... and {len(lines) - _SHOWN} more lines; --json lists all"]
            if len(lines) > _SHOWN
            else []
        ),
    ]
