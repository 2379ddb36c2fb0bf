"""Masks of everything against objects, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.errors import counted
from backend.evaluation.tables import as_number, table


def named_masks_text(found: Mapping[str, Any]) -> str:
    """Masks of everything: objects found, by size, and their names."""
    whole = {one["least_iou"]: one["sizes"] for one in found["found"]}
    first, *others = whole
    columns = [f"{what} at {least}" for least in whole for what in ("recall", "precision")]
    rows = [
        [
            row["size"],
            str(row["objects"]),
            str(row["masks"]),
            *(
                as_number(whole[least][k][what], 3)
                for least in (first, *others)
                for what in ("recall", "precision")
            ),
        ]
        for k, row in enumerate(whole[first])
    ]
    names = found["names"]
    lines = [
        table(
            [
                f"masks of everything, {counted(found['images'], 'image')}",
                "objects",
                "masks",
                *columns,
            ],
            rows,
        ),
        f"names of the {names['masks_on_objects']} masks on objects:"
        f" {as_number(names['accuracy'], 3)} right, {as_number(names['accuracy_at_coverage'], 3)}"
        f" of the surest {100 * names['coverage_told']:.0f} %",
    ]
    best = names["best"]
    lines.append(
        "no --name-min gives more right names than wrong ones"
        if best is None
        else f"--name-min {best['name_min']:.4g} would have been best: {best['right']} right,"
        f" {best['wrong']} wrong"
    )
    return "\n".join(lines)
