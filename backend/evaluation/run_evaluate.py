"""From options to a finished evaluation of a VOC dataset."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.config.models import Settings
from backend.errors import ConfigError
from backend.evaluation.pictures import pictures
from backend.evaluation.results import Outputs, finish
from backend.evaluation.scoring import Scoring
from backend.files.images import ImageLimits
from backend.formats.voc.dataset import VocDataset, is_voc, open_voc

if TYPE_CHECKING:
    from backend.evaluation.truth import EvaluateOptions


def run_evaluate(
    root: Path,
    settings: Settings,
    predictions: Path | None,
    overlap: str,
    rename: Mapping[str, str],
    outputs: Outputs,
    stop: threading.Event,
    tracks: bool = False,
) -> dict[str, Any]:
    """Evaluate a VOC dataset.

    With ``tracks``, object values are the tracks of videos, which get figures of their own.

    Raises:
        ConfigError: the dataset, the models or their classes cannot work.
    """
    from backend.evaluation.truth import EvaluateOptions

    if tracks and predictions is None:
        raise ConfigError("--tracks: compares label maps; name their folder with --predictions")
    dataset, names = _dataset(root, settings)
    outputs.check()
    limits = ImageLimits(max_pixels=settings.max_pixels)
    options = EvaluateOptions(
        overlap=overlap,
        batch=settings.batch,
        workers=settings.workers,
        limits=limits,
        rename=tuple(rename.items()),
        gallery=outputs.report is not None,
        progress=outputs.progress,
    )
    run, version = _scored(dataset, names, settings, predictions, options, stop)
    remarks = []
    if predictions is not None:
        remarks.append(
            "label maps hold neither scores nor overlaps: there is no AP, and figures of instances"
            " can differ from the models' own"
        )
    if dataset.reading.only_255:
        remarks.append(
            f"255 is the only foreground value of the truth: it is taken for the class {names[0]}"
        )
    told = {
        "dataset": str(root),
        "split": settings.split,
        "model_version": version,
        "predictions": str(predictions or "") or None,
        "prompts": str(settings.prompts or "") or None,
        "conf": settings.conf if predictions is None else None,
        "rename": dict(rename),
        "listed_images": len(dataset.image_ids),
        "stopped": "interrupted" if stop.is_set() else None,
        "remarks": remarks,
    }
    if tracks and predictions is not None:
        run.tracks = _judged(dataset, names, predictions, outputs.progress, stop)
    return finish(
        run,
        outputs,
        told,
        title="Masks against ground truth",
        captions=("prediction", "truth"),
        load=pictures(outputs.images, limits, None),
    )


def _judged(
    dataset: VocDataset,
    names: tuple[str, ...],
    predictions: Path,
    progress: bool,
    stop: threading.Event,
) -> dict[str, Any]:
    """The tracks of predicted label maps."""
    from backend.evaluation.evaluate_maps import reading_of
    from backend.evaluation.video_maps import judge_tracks

    reading = reading_of(dataset, predictions, predictions / "SegmentationClass", names)
    return judge_tracks(dataset, predictions, reading, progress=progress, stop=stop)


def _dataset(root: Path, settings: Settings) -> tuple[VocDataset, tuple[str, ...]]:
    """The images of the list, and the names of its classes.

    Raises:
        ConfigError: there is no such dataset, or nobody names its classes.
    """
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder")
    if not is_voc(root):
        raise ConfigError(
            f"{root}: is no VOC dataset; expected JPEGImages, SegmentationClass and"
            " ImageSets/Segmentation/<split>.txt in it"
        )
    dataset = open_voc(root, settings.split)
    names = dataset.class_names or settings.classes
    if names is None:  # a model's own names would be taken for values they have nothing to do with
        raise ConfigError(
            f"{root}: has no class_names.txt or labels.txt; name the classes with --classes, in the"
            " order of their values"
        )
    dataset.reading.check(names)
    return dataset, names


def _scored(
    dataset: VocDataset,
    names: tuple[str, ...],
    settings: Settings,
    predictions: Path | None,
    options: EvaluateOptions,
    stop: threading.Event,
) -> tuple[Scoring, str]:
    """The dataset against label maps or models, and the version of these."""
    from backend.evaluation.evaluate_cascade import evaluate
    from backend.evaluation.evaluate_maps import evaluate_maps
    from backend.labeling.load import load

    if predictions is not None:
        return evaluate_maps(dataset, predictions, names, options, stop), "label maps"
    if dataset.class_names is None and settings.prompts is None:
        # They name the dataset's values; what the detector finds is matched by name.
        settings = replace(settings, classes=None)
    loaded = load(settings, "cascade", dataset.class_names)
    options = replace(options, prompts=loaded.prompts)
    run = evaluate(dataset, loaded.cascade, names, options, stop)
    return run, loaded.cascade.model_version
