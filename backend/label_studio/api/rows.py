"""What Label Studio tells of projects, tasks and predictions, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskRow:
    """One task of a project."""

    id: int
    data: Mapping[str, Any]
    annotations: Sequence[Any] = ()  # where they were asked for
    predictions: Sequence[Any] = ()


@dataclass(frozen=True)
class ProjectInfo:
    """What a run needs to know about a project."""

    id: int
    title: str
    label_config: str


@dataclass(frozen=True)
class StoredPrediction:
    """One prediction that Label Studio has."""

    id: int
    task: int
    model_version: str
