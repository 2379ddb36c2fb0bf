"""What is compared: the accepted regions of one image beside the predicted ones, wherever they come
from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backend.core.types import Instance, Mask


@dataclass(frozen=True, eq=False, kw_only=True)
class Region:
    """One outlined object.

    ``key`` is the same for a predicted region and what became of it, where the source keeps such
    keys.
    """

    key: str | None
    instance: Instance
    is_box: bool = False  # drawn as a rectangle
    scored: bool = True  # False where the source holds no score; ``instance.score`` is 1 then


@dataclass(frozen=True)
class Picture:
    """Where the pixels are: a file, or the address a task holds."""

    path: Path | None = None
    uri: str | None = None
    task_id: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """One annotation and one prediction of the same image.

    Attributes:
        unit: what is resampled for confidence intervals: the task or the file; pairs of one image
            share it.
        name: for people, such as ``task 12``.
        accepted: what a person accepted, or ground truth.
        predicted: what the model said.
        void: regions that count neither for nor against.
        started_here: whether the annotator began from this prediction, so that the difference is
            the edits made.
        first: whether this pair stands for the annotation where it is compared with several
            versions: with the prediction it began from, else with the newest.
    """

    unit: str
    name: str
    size_hw: tuple[int, int] | None  # None where neither side has a region
    accepted: tuple[Region, ...]
    predicted: tuple[Region, ...]
    void: tuple[Mask, ...] = ()
    annotator: str = ""
    model_version: str = ""
    started_here: bool = True
    first: bool = True
    picture: Picture = Picture()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which annotations and predictions count; empty means all."""

    annotators: frozenset[str] = frozenset()
    model_versions: frozenset[str] = frozenset()
    tags: frozenset[str] = (
        frozenset()
    )  # names of control tags; without any, boxes that repeat masks are left out
    cancelled: bool = False  # whether annotations that were skipped by the annotator count
    ground_truth: bool = False  # only annotations marked as ground truth
    latest: bool = False  # only the last annotation of a task
    names: Mapping[str, str] = field(default_factory=dict)  # of model versions
    holdout: float = 0.0  # share of tasks in the control group, 0..1
    missing: bool = False  # an annotated task without a prediction counts as one that found nothing
