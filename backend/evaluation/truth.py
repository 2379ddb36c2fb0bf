"""The truth of a VOC dataset's images, and how an image counts against it.

An image without a usable prediction counts as all background, so that what a model misses lowers
the figures; if a fault is the reason, the image is listed as well. An image without usable truth
cannot count, and is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.core.classes import ClassIndex
from backend.core.types import Instance, LabelMap
from backend.errors import ConfigError, InputError
from backend.evaluation.image_counts import Measured, measure, painted
from backend.evaluation.named_masks import JudgedMasks
from backend.evaluation.pairs import Picture
from backend.evaluation.scoring import Scoring
from backend.files.images import DEFAULT_LIMITS, ImageLimits
from backend.formats.prompt_file import PromptFile
from backend.formats.sample import Fault
from backend.formats.voc.dataset import VocDataset
from backend.formats.voc.label_maps import instances_of


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to run."""

    overlap: str = "score"
    batch: int = 8
    workers: int | None = None
    limits: ImageLimits = DEFAULT_LIMITS
    prompts: PromptFile | None = None
    rename: tuple[tuple[str, str], ...] = ()
    gallery: bool = False
    judge_everything: bool = False  # masks of everything, where the labeler names these alone
    name_margin: float = 0.0  # of those masks' names
    progress: bool = True


class NoTruthError(InputError):
    """There is nothing to compare with, so the image cannot count."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of one image; ``instances`` is None where the dataset has no objects."""

    classes: LabelMap
    instances: tuple[Instance, ...] | None


def read_truth(dataset: VocDataset, image_id: str, names: Sequence[str]) -> Truth:
    """Read and check the truth of an image.

    Raises:
        NoTruthError: missing, damaged, or with a value beyond the classes.
    """
    path = dataset.root / "SegmentationClass" / f"{image_id}.png"
    try:
        classes, objects = dataset.maps(image_id)
        beyond = [int(v) for v in np.unique(classes) if v != 255 and v > len(names)]
        if beyond:
            raise InputError(f"{path}: value {beyond[0]} is beyond the {len(names)} classes")
        if objects is None:
            return Truth(classes, None)
        return Truth(classes, tuple(instances_of(classes, objects, names, str(path))))
    except NoTruthError:
        raise
    except InputError as error:
        raise NoTruthError(str(error)) from None


@dataclass(frozen=True, eq=False)
class Compared:
    """One image compared with its truth; ``maps`` are of truth and prediction."""

    measured: Measured
    maps: tuple[LabelMap, LabelMap]
    fault: str | None
    everything: JudgedMasks | None = None


def compare_instances(
    truth: Truth, predicted: Sequence[Instance], n_classes: int, overlap: str, fault: str | None
) -> Compared:
    """Instances compared with the truth of an image.

    Args:
        truth: of the image.
        predicted: instances; none for an image without a usable prediction.
        n_classes: of the dataset.
        overlap: which instance is seen where several are.
        fault: why there is no usable prediction, or None.
    """
    found = painted(predicted, (truth.classes.shape[0], truth.classes.shape[1]), overlap)
    return Compared(
        measure(truth.classes, found, n_classes, truth=truth.instances, predicted=predicted),
        (truth.classes, found),
        fault,
    )


def add_compared(
    run: Scoring,
    dataset: VocDataset,
    image_id: str,
    version: str,
    finished: Compared,
    scored: bool,
) -> None:
    """Add an image to the run; its fault, if it has one, is listed."""
    path: Path | None = None
    if finished.fault is not None:
        run.faults.append(Fault(image_id, f"{finished.fault} (counted as all background)"))
    else:
        if finished.everything is not None:
            run.named_masks.add(finished.everything)
        with suppress(InputError):  # label maps can be compared without the picture
            path = dataset.image_path(image_id) if run.with_gallery else None
    run.add(image_id, ("", version), finished.measured, finished.maps, Picture(path), scored)


def new_scoring(
    dataset: VocDataset, names: Sequence[str], options: EvaluateOptions, with_instances: bool = True
) -> Scoring:
    """An empty run for a dataset.

    Raises:
        ConfigError: the dataset has no truth.
    """
    if not (dataset.root / "SegmentationClass").is_dir():
        raise ConfigError(
            f"{dataset.root}: has no SegmentationClass, so there is no truth to compare with"
        )
    with_instances = with_instances and (dataset.root / "SegmentationObject").is_dir()
    return Scoring(
        ClassIndex(names),
        options.overlap,
        options.gallery,
        with_effort=False,
        with_instances=with_instances,
    )
