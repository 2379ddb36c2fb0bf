"""From options to a finished evaluation of a VOC dataset."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.config.models import Settings
from backend.core.naming import Words
from backend.errors import ConfigError
from backend.evaluation.pictures import pictures
from backend.evaluation.results import Outputs, finish
from backend.files.images import ImageLimits
from backend.formats.voc.dataset import VocDataset, is_voc, open_voc
from backend.models.registry import conf_of

if TYPE_CHECKING:
    from backend.core.protocols import Labeler
    from backend.evaluation.scoring import Scoring
    from backend.evaluation.truth import EvaluateOptions
    from backend.formats.prompt_file import PromptFile

CASCADE = "cascade"
AUTOMATIC = "automatic"


def run_evaluate(
    root: Path,
    settings: Settings,
    predictions: Path | None,
    overlap: str,
    rename: Mapping[str, str],
    outputs: Outputs,
    stop: threading.Event,
    tracks: bool = False,
    mode: str = CASCADE,
    flat: Callable[[Labeler], Labeler] | None = None,
) -> dict[str, Any]:
    """Evaluate a VOC dataset.

    Without ``--names``, automatic masks get the dataset's classes. ``flat`` takes the overlaps from
    a labeler. With ``tracks``, object values are tracks of videos, with figures of their own.

    Raises:
        ConfigError: the dataset, the models or their classes cannot work.
    """
    from backend.evaluation.evaluate_cascade import evaluate
    from backend.evaluation.evaluate_maps import evaluate_maps

    if tracks and predictions is None:
        raise ConfigError("--tracks: compares label maps; name their folder with --predictions")
    dataset, names = _dataset(root, settings)
    outputs.check()
    judge_everything = mode == AUTOMATIC and predictions is None
    options = _options(settings, outputs, overlap, rename, judge_everything)
    if predictions is not None:
        version, run = "label maps", evaluate_maps(dataset, predictions, names, options, stop)
    else:
        labeler, prompts = _labeler(dataset, names, settings, mode, flat)
        run = evaluate(dataset, labeler, names, replace(options, prompts=prompts), stop)
        version = labeler.model_version
    told = {
        "dataset": str(root),
        "split": settings.split,
        "mode": mode if mode != CASCADE else None,
        "model_version": version,
        "predictions": _text(predictions),
        "prompts": _text(settings.prompts),
        "conf": conf_of(settings) if predictions is None else None,
        "rename": dict(rename),
        "listed_images": len(dataset.image_ids),
        "stopped": "interrupted" if stop.is_set() else None,
        "remarks": _remarks(dataset, names, options, predictions, run),
    }
    if tracks and predictions is not None:
        run.tracks = _judged(dataset, names, predictions, outputs.progress, stop)
    return finish(
        run,
        outputs,
        told,
        title="Masks against ground truth",
        captions=("prediction", "truth"),
        load=pictures(outputs.images, options.limits, None),
    )


def _options(
    settings: Settings,
    outputs: Outputs,
    overlap: str,
    rename: Mapping[str, str],
    judge_everything: bool,
) -> EvaluateOptions:
    """How to run, as the settings say."""
    from backend.evaluation.truth import EvaluateOptions
    from backend.models.devices import whole_batch

    return EvaluateOptions(
        overlap=overlap,
        batch=whole_batch(settings.batch, settings.device),
        workers=settings.workers,
        limits=ImageLimits(max_pixels=settings.max_pixels),
        rename=tuple(rename.items()),
        gallery=outputs.report is not None,
        judge_everything=judge_everything,
        name_margin=settings.name_margin,
        progress=outputs.progress,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _remarks(
    dataset: VocDataset,
    names: tuple[str, ...],
    options: EvaluateOptions,
    predictions: Path | None,
    run: Scoring,
) -> list[str]:
    """What to know about the figures as a whole."""
    remarks = []
    if options.judge_everything and run.named_masks.n_images < len(dataset.image_ids):
        remarks.append(
            f"recall and names of masks of everything are of {run.named_masks.n_images} images:"
            " objects to compare with are in SegmentationObject, and pictures must be readable"
        )
    if predictions is not None:
        remarks.append(
            "label maps hold neither scores nor overlaps: there is no AP, and figures of instances"
            " can differ from the models' own"
        )
    if dataset.reading.only_255:
        remarks.append(
            f"255 is the only foreground value of the truth: it is taken for the class {names[0]}"
        )
    return remarks


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


def _labeler(
    dataset: VocDataset,
    names: tuple[str, ...],
    settings: Settings,
    mode: str,
    flat: Callable[[Labeler], Labeler] | None,
) -> tuple[Labeler, PromptFile | None]:
    """What is evaluated, and the boxes that it is given."""
    from backend.labeling.load import load_labeler
    from backend.models.namers import chooses_words

    if mode != CASCADE and settings.names is None and chooses_words(settings):
        settings = replace(settings, names=tuple(Words(name) for name in names))
    if dataset.class_names is None and settings.prompts is None:
        # They name the dataset's values; what the detector finds is matched by name.
        settings = replace(settings, classes=None)
    loaded = load_labeler(settings, mode, dataset.class_names)
    return loaded.labeler if flat is None else flat(loaded.labeler), loaded.prompts
