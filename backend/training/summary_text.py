"""What came of a run of fine-tuning, as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.evaluation.comparison_text import comparison_text
from backend.training.compare import differences_text
from backend.training.request import FinetuneSummary


def summary_text(summary: FinetuneSummary, out: Path) -> str:
    """What came of a run; ``out`` is its folder."""
    lines = [
        f"learned from {summary.train} pictures, chose by {summary.validation},"
        f" judged by {summary.held_out} held-out ones"
    ]
    one, detector = summary.segmenter, summary.detector
    if one is not None:
        lines += [
            "",
            f"segmenter, {one.epochs} epochs; mean IoU from true boxes on held-out pictures:",
            differences_text(one.every, one.classes),
            *_margin(one.margin),
        ]
    if detector is not None:
        lines += ["", f"detector, {detector.epochs} epochs; validation mAP {detector.best:.3f}"]
    if summary.together is not None:
        document = summary.together.document
        lines += ["both together on held-out pictures:", _together(document), _sizes(document)]
    lines += [""] + [f"failed: {sentence}" for sentence in summary.faults]
    if summary.stopped is not None:
        lines.append(f"stopped: {summary.stopped}")
    for kind, found in (("detector", detector), ("segmenter", one)):
        if found is not None:
            judged = kind == "segmenter" or summary.together is not None
            offered = kind in summary.offered
            lines.append(_offer(kind, found.path, out, offered=offered, judged=judged))
    if summary.together is not None:
        lines.append(f"the worst pictures: {out / 'report.html'}")
        lines.append(f"what changed most: {out / 'changes.jpg'}")
    return "\n".join(lines)


def _margin(margin: float | None) -> list[str]:
    """How outlines are cut, where they are."""
    if margin is None:
        return []
    return [f"outlines fit best when they are cut to their boxes, grown by {margin:.0%}"]


def _together(document: Mapping[str, Any]) -> str:
    return comparison_text(document["comparison"])


def _sizes(document: Mapping[str, Any]) -> str:
    """How many objects of each size were found before, and are found now."""
    before, after = document["recall_by_size"].values()
    parts = [
        f"{name} {before[name]['found']} -> {after[name]['found']} of {counts['objects']}"
        for name, counts in after.items()
        if counts["objects"]
    ]
    return f"found (IoU 0.5) by size: {', '.join(parts) or 'no objects'}"


def _offer(kind: str, path: Path, out: Path, *, offered: bool, judged: bool) -> str:
    if offered:
        return f"wrote {path}; use it with --{kind} {out}"
    if not judged:
        return f"wrote {path}, which is not judged yet; the same command goes on"
    return (
        f"wrote {path}, which is not shown to be better than what it began as or what {out}"
        f" offers, so --{kind} {out} does not take it; a run with --accept does"
    )
