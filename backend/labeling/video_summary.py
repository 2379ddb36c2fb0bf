"""What a run over videos did, for people and for ``--json``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.errors import counted, how_it_ended


@dataclass
class VideoSummary:
    """What was done."""

    videos: int = 0
    done: int = 0  # that were followed by an earlier run
    frames: int = 0
    per_class: Counter[str] = field(default_factory=Counter)  # tracks
    tracks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)
    stopped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "videos": self.videos,
            "followed_before": self.done,
            "frames": self.frames,
            "tracks": self.tracks,
            "notes": self.notes,
            "failed": [{"video": where, "reason": reason} for where, reason in self.failed],
            "stopped": self.stopped,
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        n_tracks = sum(self.per_class.values())
        lines = [
            f"{counted(n_tracks, 'track')} in {counted(self.videos, 'video')} of"
            f" {counted(self.frames, 'frame')}"
        ]
        lines += [f"  {name}: {count}" for name, count in self.per_class.most_common()]
        if self.done:
            lines.append(
                f"{counted(self.done, 'video')} followed before (--overwrite does it again)"
            )
        lines += self.notes
        lines += [f"wrote {path}" for path in dict.fromkeys(self.outputs)]
        return "\n".join([*lines, *how_it_ended(self.failed, self.stopped)])
