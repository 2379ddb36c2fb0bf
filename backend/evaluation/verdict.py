"""What a scoring says in words before any table: what pre-labels saved, what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.errors import counted


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def _range(interval: list[float] | None) -> str:
    if interval is None:
        return ""
    return f" (95 % interval {interval[0]:.1f} to {interval[1]:.1f})"


def _times(time: Mapping[str, Any]) -> list[str]:
    ours = time["with_prelabels"]
    theirs = time["without_prelabels"]
    if not ours["annotations"]:
        return []
    said = (
        f"an annotation took {_seconds(ours['median_seconds'])}{_range(ours['interval'])} with"
        f" pre-labels, the median of {ours['annotations']}"
    )
    if not theirs["annotations"]:
        return [f"{said}; nobody annotated without any, so there is nothing to compare with"]
    took = f"{_seconds(theirs['median_seconds'])}{_range(theirs['interval'])}"
    said += f", and {took} without, the median of {theirs['annotations']}"
    saved = time["saved"]
    if saved is None:
        return [said, "too few to say what was saved; five of each are needed"]
    low_high = saved["interval"]
    if low_high is not None and low_high[0] <= 0 <= low_high[1]:
        return [said, "that could be chance: whether pre-labels save time cannot be told yet"]
    hours = abs(saved["hours"])
    spent = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    lead = "pre-labels saved" if saved["hours"] > 0 else "pre-labels cost"
    cost = "" if saved["cost"] is None else f", worth {abs(saved['cost']):.2f}"
    return [
        said,
        f"{lead} {spent}{cost}, which is {_seconds(abs(saved['seconds_a_task']))}"
        f"{_range(low_high)} a task",
    ]


def _regions(effort: Mapping[str, Any] | None) -> list[str]:
    if not effort or not effort["annotations"] or not effort["predicted"]:
        return []
    changed = effort["reshaped"] + effort["relabelled_and_reshaped"]
    n_barely = effort.get("barely_touched", 0)
    n_both = effort["relabelled_and_reshaped"]
    more = [f"{n_barely} of them barely"] * bool(n_barely)
    more += [f"{n_both} of them renamed too"] * bool(n_both)
    barely = f" ({', '.join(more)})" if more else ""
    parts = [
        f"{effort['untouched']} were accepted as they were",
        f"{changed} reshaped{barely}",
        f"{effort['relabelled']} renamed",
        f"{effort['deleted']} deleted",
    ]
    were = "was" if effort["added"] == 1 else "were"
    missed = f", and {counted(effort['added'], 'object')} {were} missed"
    return [f"of {counted(effort['predicted'], 'pre-label')} {', '.join(parts)}{missed}"]


def verdict(document: Mapping[str, Any]) -> list[str]:
    """Sentences without a full stop, the most important first.

    Args:
        document: of a scoring.

    >>> effort = dict(annotations=2, predicted=5, untouched=3, relabelled=0, reshaped=1)
    >>> effort |= dict(relabelled_and_reshaped=0, deleted=1, added=2)
    >>> verdict({"views": [{"effort": effort}]})[0]
    'of 5 pre-labels 3 were accepted as they were, 1 reshaped, 0 renamed, 1 deleted, and 2 objects \
were missed'
    """
    effort = document["views"][0]["effort"]
    time = document.get("time")
    said = [*(_times(time) if time else ()), *_regions(effort)]
    if effort and effort["annotations"] and effort["untouched"]:
        said.append(
            "masks that were accepted as they were count as perfect, which favours the model that"
            " drew them; masks drawn without pre-labels tell how exact it is"
        )
    return said
