"""What a run of fine-tuning writes down of every epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOGS = {"detector": "detector-log.jsonl", "segmenter": "segmenter-log.jsonl"}  # a line an epoch
FIGURES = {"detector": "mAP", "segmenter": "IoU"}  # by which they are validated


def read_curves(out: Path, kinds: Iterable[str]) -> list[dict[str, Any]]:
    """What the logs of a run tell of its last training.

    Args:
        out: folder of the run.
        kinds: of models that learned.

    Returns:
        Of each model that learned: ``what`` it is, the ``figure`` it is validated by, and lists of
        ``epoch``, ``loss`` and ``validation``.
    """
    found = []
    for what in kinds:
        rows = _rows(out / LOGS[what])
        if len(rows) > 1:
            lists = {key: [row[key] for row in rows] for key in ("epoch", "loss", "validation")}
            found.append({"what": what, "figure": FIGURES[what], **lists})
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    """The epochs of the last training; a line that a kill cut off is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return rows
    for line in lines:
        try:
            row = json.loads(line)
            row = {key: float(row[key]) for key in ("epoch", "loss", "validation")}
        except (ValueError, KeyError, TypeError):
            continue
        if not all(map(math.isfinite, row.values())):
            continue
        # A run that goes on after a kill may tell an epoch once more; a new one begins at 1.
        rows = [one for one in rows if one["epoch"] < row["epoch"]]
        rows.append(row)
    return rows
