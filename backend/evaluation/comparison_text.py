"""Two model versions side by side, as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.errors import counted
from backend.evaluation.tables import HEADLINE, as_number, table


def _compared_on(images: int | Sequence[int]) -> str:
    if isinstance(images, int):
        return f"on {counted(images, 'image')} that both have"
    first, second = (counted(count, "image") for count in images)
    return (
        f"old on {first}, new on {second}, which need not be the same; --compare of two versions in"
        " one export tells more"
    )


def fairness(comparison: Mapping[str, Any]) -> str:
    """Whether what was accepted speaks for one of two versions, and what to do about it."""
    first, second = comparison.get("began_from", (0, 0))
    if comparison.get("neutral"):
        return "their annotations began from neither version" if first or second else ""
    if not first and not second:
        return ""
    which = f"{first} began from old, {second} from new"
    if first == second:
        return f"of their annotations {which}, so that both are favoured alike"
    name = "old" if first > second else "new"
    return (
        f"of their annotations {which}: a mask that was accepted as it was counts as perfect for"
        f" {name}, so that what speaks for {name} is called favoured, and proves nothing. Compare"
        " with masks drawn without pre-labels: annotate the control group of prelabel --holdout,"
        " then predict it with both versions, or evaluate a dataset with ground truth"
    )


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """Two model versions side by side."""
    first, second = comparison["versions"]

    def line(row: Mapping[str, Any]) -> list[str]:
        interval = row["interval"]
        return [
            HEADLINE.get(row["name"], row["name"].replace("_", " ")),
            as_number(row["first"]),
            as_number(row["second"]),
            "n/a" if row["difference"] is None else f"{row['difference']:+.4f}",
            "" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]",
            row["verdict"],
        ]

    head = ["", "old", "new", "new - old", "95 % interval", ""]
    about = fairness(comparison)
    rows = [line(row) for row in comparison["figures"]]
    by_class = [line(row) for row in comparison["iou_by_class"]]
    return "\n".join(
        [
            f"old {first}",
            f"new {second}",
            _compared_on(comparison["images"]),
            *([about] if about else []),
            "",
            table(head, rows),
            "",
            table(["IoU by class", *head[1:]], by_class),
        ]
    )
