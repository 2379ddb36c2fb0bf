"""Two results of ``score --json`` or ``evaluate --json`` side by side.

They need not be of the same images. The interval of a difference follows from the intervals of
both figures, taken as independent (Zou and Donner, "Construction of confidence limits about effect
measures", Statistics in Medicine 27, 2008).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.errors import ConfigError, system_reason
from backend.evaluation.paired import FIGURES, fair, judged
from backend.evaluation.scoring import FORMAT


def _result(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {system_reason(error)}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.get("views"):
        raise ConfigError(f"{path}: is no result; --json of score and evaluate writes one")
    if found.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: is a result of format {found.get('format')}, and this program writes"
            f" {FORMAT}; score again with --json"
        )
    return found


def difference_interval(
    first: float, ours: list[float], second: float, theirs: list[float]
) -> list[float]:
    """The interval of ``second - first`` from the intervals of both.

    >>> [round(edge, 2) for edge in difference_interval(0.5, [0.4, 0.6], 0.9, [0.9, 0.9])]
    [0.3, 0.5]
    """
    low = math.hypot(second - theirs[0], ours[1] - first)
    high = math.hypot(theirs[1] - second, first - ours[0])
    return [second - first - low, second - first + high]


def _row(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    values = (first["value"], second["value"])
    interval = None
    if None not in values and first["interval"] and second["interval"]:
        interval = difference_interval(
            first["value"], first["interval"], second["value"], second["interval"]
        )
    nan = [math.nan if value is None else float(value) for value in values]
    return judged(name, nan[0], nan[1], interval)


def _called(path: Path, document: Mapping[str, Any]) -> str:
    versions = document["model_versions"]
    return f"{path.name}: {', '.join(versions)}" if versions else path.name


def compare_results(old: Path, new: Path) -> dict[str, Any]:
    """What differs between two results, of the same shape as ``paired.compare_versions``.

    Raises:
        ConfigError: a file is no result.
    """
    documents = [_result(path) for path in (old, new)]
    views = [document["views"][0] for document in documents]
    shared = [name for name in FIGURES if all(name in view["figures"] for view in views)]
    empty = {"value": None, "interval": None}
    by_class = [
        {
            row["name"]: {"value": row["iou"], "interval": row["iou_interval"]}
            for row in view["classes"]
        }
        for view in views
    ]
    names = list(dict.fromkeys([*by_class[0], *by_class[1]]))
    rows = [
        _row(name, by_class[0].get(name, empty), by_class[1].get(name, empty)) for name in names
    ]
    begun = [(view["effort"] or {}).get("annotations", 0) for view in views]
    lead = begun[1] * views[0]["images"] - begun[0] * views[1]["images"]  # sign of the shares
    return {
        "began_from": begun,
        "versions": [
            _called(path, document) for path, document in zip((old, new), documents, strict=True)
        ],
        "images": [view["images"] for view in views],
        "left_out": [0, 0],
        "figures": [
            fair(_row(name, views[0]["figures"][name], views[1]["figures"][name]), lead)
            for name in shared
        ],
        "iou_by_class": [
            fair(row, lead) for row in rows if row["first"] is not None or row["second"] is not None
        ],
    }
