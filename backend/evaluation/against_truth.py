"""A VOC dataset compared with a cascade, a prompt file or existing label maps. Every listed image
counts.

An image without a usable prediction counts as all background, so that what a model misses lowers
the figures; if a fault is the reason, the image is listed as well. An image without usable truth
cannot count, and is listed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from backend.core.boxes import no_detections
from backend.core.classes import ClassIndex, class_mapping, map_instances
from backend.core.protocols import Labeler
from backend.core.types import Detections, Image, Instance, LabelMap
from backend.errors import ConfigError, InputError, LabelingError, as_sentence
from backend.evaluation.measure import Measured, measure, painted
from backend.evaluation.pairs import Picture
from backend.evaluation.score import Scoring
from backend.files.images import DEFAULT_LIMITS, ImageLimits, read_image
from backend.formats.prompt_file import PromptFile
from backend.formats.sample import Fault
from backend.formats.voc.class_names import read_class_names
from backend.formats.voc.dataset import VocDataset
from backend.formats.voc.label_maps import instances_of, read_label_maps
from backend.labeling import pipeline


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to run."""

    overlap: str = "score"
    batch: int = 8
    workers: int = 2
    limits: ImageLimits = DEFAULT_LIMITS
    prompts: PromptFile | None = None
    rename: tuple[tuple[str, str], ...] = ()
    gallery: bool = False
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
class _Loaded:
    truth: Truth
    image: Image | None
    given: Detections | None
    fault: str | None


@dataclass(frozen=True, eq=False)
class _Finished:
    measured: Measured
    maps: tuple[LabelMap, LabelMap]
    fault: str | None


def _against(
    truth: Truth, predicted: Sequence[Instance], n_classes: int, overlap: str, fault: str | None
) -> _Finished:
    found = painted(predicted, (truth.classes.shape[0], truth.classes.shape[1]), overlap)
    return _Finished(
        measure(truth.classes, found, n_classes, truth=truth.instances, predicted=predicted),
        (truth.classes, found),
        fault,
    )


def _stages(
    dataset: VocDataset,
    labeler: Labeler,
    names: Sequence[str],
    options: EvaluateOptions,
    run: Scoring,
    lock: threading.Lock,
) -> pipeline.Stages[str, _Loaded, Any, _Finished]:
    mapping = class_mapping(labeler.names, names, dict(options.rename))

    def load(image_id: str) -> _Loaded:
        truth = read_truth(dataset, image_id, names)
        try:
            path = dataset.image_path(image_id)
            image = read_image(path, options.limits)
            if image.shape[:2] != truth.classes.shape:
                height, width = truth.classes.shape
                raise InputError(
                    f"{path}: is {image.shape[1]}x{image.shape[0]}, its truth {width}x{height}"
                )
        except InputError as error:
            return _Loaded(truth, None, None, str(error))
        relative = PurePosixPath(path.relative_to(dataset.root / "JPEGImages").as_posix())
        given = (
            None if options.prompts is None else options.prompts.lookup(relative) or no_detections()
        )
        return _Loaded(truth, image, given, None)

    def infer(loaded: Sequence[_Loaded]) -> list[Any]:
        usable = [one for one in loaded if one.image is not None]
        given = None if options.prompts is None else [one.given for one in usable]
        answers = iter(
            labeler.infer([one.image for one in usable if one.image is not None], given)
            if usable
            else ()
        )
        return [None if one.image is None else next(answers) for one in loaded]

    def finish(image_id: str, loaded: _Loaded, raw: Any) -> _Finished:
        instances = () if raw is None else labeler.finish(raw).instances
        return _against(
            loaded.truth,
            map_instances(instances, mapping, names),
            len(names),
            options.overlap,
            loaded.fault,
        )

    def write(image_id: str, finished: _Finished) -> None:
        with lock:
            _keep(run, dataset, image_id, labeler.model_version, finished, scored=True)

    return pipeline.Stages(load, infer, finish, write)


def _keep(
    run: Scoring,
    dataset: VocDataset,
    image_id: str,
    version: str,
    finished: _Finished,
    scored: bool,
) -> None:
    path: Path | None = None
    if finished.fault is not None:
        run.faults.append(Fault(image_id, f"{finished.fault} (counted as all background)"))
    else:
        with suppress(InputError):  # label maps can be compared without the picture
            path = dataset.image_path(image_id) if run.with_gallery else None
    run.add(image_id, ("", version), finished.measured, finished.maps, Picture(path), scored)


def evaluate(
    dataset: VocDataset,
    labeler: Labeler,
    names: Sequence[str],
    options: EvaluateOptions,
    stop: threading.Event | None = None,
) -> Scoring:
    """Run a cascade over a dataset and compare with its truth.

    Args:
        dataset: from ``formats.voc.dataset.open_voc``.
        labeler: a cascade.
        names: of the dataset's classes, in order.
        options: see ``EvaluateOptions``.
        stop: set it to end early.

    Returns:
        The run; images that could not be compared as they should are among its faults.

    Raises:
        ConfigError: classes do not fit, or the prompt file is for other images.
    """
    run = _new_run(dataset, names, options)
    if options.prompts is not None and not any(
        options.prompts.lookup(PurePosixPath(i)) for i in dataset.image_ids
    ):
        theirs = next(iter(options.prompts.by_image), "nothing")
        raise ConfigError(
            f"{options.prompts.path}: has boxes for none of these images; it names for example"
            f" {theirs!r}, the list {dataset.image_ids[0]!r}"
        )
    lock = threading.Lock()  # the writer adds images, this thread those that failed
    stages = _stages(dataset, labeler, names, options, run, lock)
    with tqdm(
        total=len(dataset.image_ids),
        unit="img",
        disable=not options.progress,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for outcome in pipeline.run(
            dataset.image_ids, stages, batch=options.batch, workers=options.workers, stop=stop
        ):
            if outcome.error is not None:
                with lock:
                    _failed(
                        run,
                        dataset,
                        outcome.key,
                        labeler.model_version,
                        outcome.error,
                        names,
                        options,
                    )
            if run.faults:
                bar.set_postfix(failed=len(run.faults))
            bar.update()
    return run


def _failed(
    run: Scoring,
    dataset: VocDataset,
    image_id: str,
    version: str,
    error: LabelingError,
    names: Sequence[str],
    options: EvaluateOptions,
) -> None:
    """An image that did not get through: without truth it is only named, without prediction it
    counts as all background.
    """
    text = str(error) if image_id in str(error) else f"{image_id}: {error}"
    if isinstance(error, NoTruthError):
        run.faults.append(Fault(image_id, f"{text} (not counted: no truth)"))
        return
    try:
        finished = _against(
            read_truth(dataset, image_id, names), (), len(names), options.overlap, text
        )
    except Exception as again:
        run.faults.append(
            Fault(image_id, f"{text}; then {as_sentence(again)} (not counted: no truth)")
        )
        return
    _keep(run, dataset, image_id, version, finished, scored=True)


def _new_run(
    dataset: VocDataset, names: Sequence[str], options: EvaluateOptions, with_instances: bool = True
) -> Scoring:
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
    run = _new_run(dataset, names, options, with_instances=objects.is_dir())
    if not any(
        (classes / f"{image_id}.png").exists()
        for image_id in dataset.image_ids
        if "\0" not in image_id
    ):
        raise ConfigError(
            f"{classes}: has no label map for any of these images; expected for example"
            f" {dataset.image_ids[0]}.png"
        )
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
            _keep(
                run,
                dataset,
                image_id,
                "label maps",
                _of_maps(truth, classes / name, beside, names, options),
                scored=False,
            )
    return run


def _of_maps(
    truth: Truth, path: Path, objects: Path | None, names: Sequence[str], options: EvaluateOptions
) -> _Finished:
    try:
        found, beside = read_label_maps(path, objects)
        if found.shape != truth.classes.shape:
            height, width = truth.classes.shape
            raise InputError(
                f"{path}: is {found.shape[1]}x{found.shape[0]}, its truth {width}x{height}"
            )
        predicted = () if beside is None else instances_of(found, beside, names, str(path))
        return _Finished(
            measure(truth.classes, found, len(names), truth=truth.instances, predicted=predicted),
            (truth.classes, found),
            None,
        )
    except InputError as error:
        return _against(truth, (), len(names), options.overlap, str(error))
