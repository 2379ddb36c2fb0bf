"""Label maps that exist already, compared with the truth of a VOC dataset."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backend.core.classes import IGNORE
from backend.errors import ConfigError, InputError
from backend.evaluation.image_counts import measure
from backend.evaluation.scoring import Scoring
from backend.evaluation.truth import (
    Compared,
    EvaluateOptions,
    NoTruthError,
    Truth,
    add_compared,
    compare_instances,
    new_scoring,
    read_truth,
)
from backend.files.find import is_there
from backend.formats.sample import Fault
from backend.formats.voc.class_names import read_class_names
from backend.formats.voc.colours import own_colour_table
from backend.formats.voc.dataset import VocDataset
from backend.formats.voc.label_maps import (
    MapReading,
    instances_of,
    is_only_255,
    read_label_maps,
)


def evaluate_maps(
    dataset: VocDataset,
    folder: Path,
    names: Sequence[str],
    options: EvaluateOptions,
    stop: threading.Event | None = None,
) -> Scoring:
    """Compare existing label maps, such as those that ``annotate --format voc`` writes.

    Args:
        dataset: from ``formats.voc.dataset.open_voc``.
        folder: holds ``SegmentationClass`` and perhaps ``SegmentationObject``, or the class maps
            themselves.
        names: of the dataset's classes.
        options: see ``EvaluateOptions``; overlaps were decided when the maps were made.
        stop: set it to end early.

    Raises:
        ConfigError: no such folder, or it is for other classes.
    """
    classes = folder / "SegmentationClass" if (folder / "SegmentationClass").is_dir() else folder
    if not classes.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if (folder / "class_names.txt").is_file() and (
        theirs := read_class_names(folder / "class_names.txt")
    ) != tuple(names):
        raise ConfigError(
            f"{folder / 'class_names.txt'}: names {', '.join(theirs)}, the dataset"
            f" {', '.join(names)}; the values of both would mean different classes"
        )
    objects = folder / "SegmentationObject"
    run = new_scoring(dataset, names, options, with_instances=objects.is_dir())
    if not any(is_there(classes / f"{image_id}.png") for image_id in dataset.image_ids):
        raise ConfigError(
            f"{classes}: has no label map for any of these images; expected for example"
            f" {dataset.image_ids[0]}.png"
        )
    reading = reading_of(dataset, folder, classes, names)
    n_ignored = 0
    with tqdm(
        dataset.image_ids,
        unit="img",
        disable=not options.progress,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for image_id in bar:
            if stop is not None and stop.is_set():
                break
            try:
                truth = read_truth(dataset, image_id, names)
            except NoTruthError as error:
                run.faults.append(Fault(image_id, f"{error} (not counted: no truth)"))
                continue
            if not run.with_instances:
                truth = Truth(truth.classes, None)
            name = f"{image_id}.png"
            beside = None if truth.instances is None else objects / name
            found = _of_maps(truth, classes / name, beside, names, options, reading)
            n_ignored += int(np.count_nonzero(found.maps[1] == IGNORE))
            add_compared(run, dataset, image_id, "label maps", found, scored=False)
    if n_ignored:
        run.remarks.append(
            f"{n_ignored} pixels of the predicted label maps are 255, which is no class: they count"
            " as background"
        )
    return run


def reading_of(
    dataset: VocDataset, folder: Path, classes: Path, names: Sequence[str]
) -> MapReading:
    """How the predicted label maps are to be read.

    Raises:
        ConfigError: see ``MapReading.check``.
    """
    reading = MapReading(own_colour_table(folder) or dataset.reading.colours, tuple(names))
    paths = (classes / f"{image_id}.png" for image_id in dataset.image_ids)
    reading = replace(reading, only_255=is_only_255(paths, reading))
    reading.check(names)
    return reading


def _of_maps(
    truth: Truth,
    path: Path,
    objects: Path | None,
    names: Sequence[str],
    options: EvaluateOptions,
    reading: MapReading,
) -> Compared:
    try:
        found, beside = read_label_maps(path, objects, reading)
        if found.shape != truth.classes.shape:
            height, width = truth.classes.shape
            raise InputError(
                f"{path}: is {found.shape[1]}x{found.shape[0]}, its truth {width}x{height}"
            )
        predicted = () if beside is None else instances_of(found, beside, names, str(path))
        return Compared(
            measure(truth.classes, found, len(names), truth=truth.instances, predicted=predicted),
            (truth.classes, found),
            None,
        )
    except InputError as error:
        return compare_instances(truth, (), len(names), options.overlap, str(error))
