"""From options to a finished evaluation of a VOC dataset."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.config.models import Settings
from backend.errors import ConfigError
from backend.evaluation.pictures import pictures
from backend.evaluation.results import Outputs, finish
from backend.files.images import ImageLimits


def run_evaluate(
    root: Path,
    settings: Settings,
    predictions: Path | None,
    overlap: str,
    rename: Mapping[str, str],
    outputs: Outputs,
    stop: threading.Event,
) -> dict[str, Any]:
    """Evaluate a VOC dataset.

    Raises:
        ConfigError: the dataset, the models or their classes cannot work.
    """
    from backend.evaluation.against_truth import EvaluateOptions, evaluate, evaluate_maps
    from backend.formats.voc.dataset import is_voc, open_voc
    from backend.labeling.load import load

    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder")
    if not is_voc(root):
        raise ConfigError(
            f"{root}: is no VOC dataset; expected JPEGImages, SegmentationClass and"
            " ImageSets/Segmentation/<split>.txt in it"
        )
    outputs.check()
    remarks: list[str] = []
    dataset = open_voc(root, settings.split)
    names = dataset.class_names or settings.classes
    limits = ImageLimits(max_pixels=settings.max_pixels)
    options = EvaluateOptions(
        overlap=overlap,
        batch=settings.batch,
        workers=settings.workers,
        limits=limits,
        prompts=None,
        rename=tuple(rename.items()),
        gallery=outputs.report is not None,
        progress=outputs.progress,
    )
    if names is None:  # a model's own names would be taken for values they have nothing to do with
        raise ConfigError(
            f"{root}: has no class_names.txt or labels.txt; name the classes with --classes, in the"
            " order of their values"
        )
    if predictions is not None:
        run = evaluate_maps(dataset, predictions, names, options, stop)
        version = "label maps"
        remarks.append(
            "label maps hold neither scores nor overlaps: there is no AP, and figures of instances"
            " can differ from the models' own"
        )
    else:
        if dataset.class_names is None and settings.prompts is None:
            settings = replace(
                settings, classes=None
            )  # they name the dataset's values; what the detector finds is matched by name
        loaded = load(settings, "cascade", dataset.class_names)
        run = evaluate(
            dataset, loaded.cascade, names, replace(options, prompts=loaded.prompts), stop
        )
        version = loaded.cascade.model_version
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
    return finish(
        run,
        outputs,
        told,
        "Masks against ground truth",
        ("prediction", "truth"),
        pictures(outputs.images, limits, None),
    )
