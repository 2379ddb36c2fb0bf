"""Filters of the Data Manager: which tasks of a project are meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MODEL_VERSIONS = "filter:tasks:predictions_model_versions"


def _number(column: str, operator: str, value: Any) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": "Number",
        "value": value,
    }


def with_version(model_version: str) -> dict[str, Any]:
    """A filter for tasks that have a prediction of this version."""
    return {
        "filter": _MODEL_VERSIONS,
        "operator": "contains",
        "type": "List",
        "value": [model_version],
    }


def without_version(model_version: str) -> dict[str, Any]:
    """A filter for tasks that have none."""
    return {
        "filter": _MODEL_VERSIONS,
        "operator": "not_contains",
        "type": "List",
        "value": [model_version],
    }


def among(ids: Sequence[int]) -> dict[str, Any]:
    """A filter for tasks by their numbers."""
    return _number("id", "in_list", list(ids))


def unlabelled() -> dict[str, Any]:
    """A filter for tasks that nobody annotated."""
    return _number("total_annotations", "equal", 0)


def annotated() -> dict[str, Any]:
    """A filter for tasks that somebody annotated."""
    return _number("total_annotations", "greater", 0)


def after(task: int) -> dict[str, Any]:
    """A filter for tasks with larger numbers."""
    return _number("id", "greater", task)
