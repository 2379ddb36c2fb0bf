"""What a labelling run did, picture by picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.errors import how_it_ended
from backend.labeling.picture_work import Done, Looked
from backend.labeling.sources import ImageItem

_MOST_NAMED = 10_000  # pictures that are remembered by name


@dataclass
class RunSummary:
    """What a run did. ``failed`` holds (path, sentence)."""

    labelled: int = 0
    empty: int = 0
    done: int = 0
    outdated: int = 0  # of those, pictures that changed since
    otherwise: int = 0  # of those, pictures that other models or settings labelled
    hand_made: int = 0
    behind: int = 0  # pictures that a person corrected in one format, and not in another
    per_class: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)  # masks, by why
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: str | None = None  # why the run ended early
    outputs: list[Path] = field(default_factory=list)
    done_now: list[ImageItem] = field(default_factory=list)  # what was labelled, the first of it

    def note_looked(self, looked: Looked) -> None:
        """Count what was found of a picture's files before it was its turn."""
        self.hand_made += looked.n_hand_made
        self.behind += looked.is_behind
        self.done += looked.is_done
        self.outdated += looked.is_outdated
        self.otherwise += looked.is_otherwise

    def note_done(self, item: ImageItem, done: Done) -> None:
        """Count what was written of a picture."""
        self.hand_made += done.written.count(False)
        if not any(done.written):
            return
        self.labelled += 1
        if len(self.done_now) < _MOST_NAMED:
            self.done_now.append(item)
        self.empty += not done.per_class
        self.per_class.update(done.per_class)
        self.left_out.update(done.left_out)

    def note_failed(self, item: ImageItem, error: BaseException) -> None:
        """Keep why a picture failed, in a sentence that names it."""
        text = str(error)
        name = str(item.path)
        self.failed.append((name, text if name in text else f"{name}: {text}"))

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "images": self.labelled,
            "without_instances": self.empty,
            "instances": dict(self.per_class.most_common()),
            "left_out": dict(self.left_out.most_common()),
            "skipped": {"done": self.done, "hand_made": self.hand_made, "outdated": self.outdated},
            "behind": self.behind,
            "done_by_other_models_or_settings": self.otherwise,
            "failed": [{"file": f, "reason": r} for f, r in self.failed],
            "stopped": self.stopped,
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        lines = [f"labelled {self.labelled} images with {sum(self.per_class.values())} instances"]
        lines += [f"  {name}: {count}" for name, count in self.per_class.most_common()]
        if self.left_out:
            told = ", ".join(f"{count} {why}" for why, count in self.left_out.most_common())
            lines.append(f"left out {self.left_out.total()} masks: {told}")
        if self.empty:
            lines.append(f"{self.empty} of them without any instance")
        if self.done:
            changed = f"; the pictures of {self.outdated} changed since" if self.outdated else ""
            if self.otherwise:
                changed += f"; {self.otherwise} of them by other models or settings than now"
            lines.append(
                f"skipped {self.done} that were done before (--overwrite does them again){changed}"
            )
        if self.hand_made:
            lines.append(
                f"kept {self.hand_made} files that a person made or changed (--overwrite replaces"
                " them, with a .bak copy)"
            )
        if self.behind:
            lines.append(
                f"{self.behind} of those are corrected in one format, and other files of theirs"
                " still show what the models found; yolosam2 convert makes those of the corrected"
                " ones"
            )
        lines += [f"wrote {path}" for path in self.outputs]
        return "\n".join([*lines, *how_it_ended(self.failed, self.stopped)])
