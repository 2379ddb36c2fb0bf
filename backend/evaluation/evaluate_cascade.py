"""A labeler, such as a cascade or a prompt file and a segmenter, compared with the truth of a VOC
dataset.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from tqdm import tqdm

from backend.core.boxes import no_detections
from backend.core.classes import IGNORE, class_mapping, map_instances
from backend.core.protocols import Labeler
from backend.core.types import Detections, Image, Prediction
from backend.errors import ConfigError, InputError, LabelingError, as_sentence
from backend.evaluation.named_masks import judge_masks
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
from backend.files.images import read_image
from backend.formats.sample import Fault
from backend.formats.voc.dataset import VocDataset
from backend.labeling import pipeline


@dataclass(frozen=True, eq=False)
class _Loaded:
    truth: Truth
    image: Image | None
    given: Detections | None
    fault: str | None


def _with_everything(
    compared: Compared,
    truth: Truth,
    prediction: Prediction | None,
    mapping: Mapping[int, int],
    options: EvaluateOptions,
) -> Compared:
    """The comparison with that of masks of everything, where there are some and objects."""
    everything = None if prediction is None else prediction.everything
    if not options.judge_everything or everything is None or truth.instances is None:
        return compared
    judged = judge_masks(
        everything,
        truth.instances,
        mapping,
        void=truth.classes == IGNORE,
        margin=options.name_margin,
    )
    return replace(compared, everything=judged)


def _stages(
    dataset: VocDataset,
    labeler: Labeler,
    names: Sequence[str],
    options: EvaluateOptions,
    run: Scoring,
    lock: threading.Lock,
) -> pipeline.Stages[str, _Loaded, Any, Compared]:
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

    def finish(image_id: str, loaded: _Loaded, raw: Any) -> Compared:
        prediction = None if raw is None else labeler.finish(raw)
        instances = () if prediction is None else prediction.instances
        compared = compare_instances(
            loaded.truth,
            map_instances(instances, mapping, names),
            len(names),
            options.overlap,
            loaded.fault,
        )
        return _with_everything(compared, loaded.truth, prediction, mapping, options)

    def write(image_id: str, finished: Compared) -> None:
        with lock:
            add_compared(run, dataset, image_id, labeler.model_version, finished, scored=True)

    return pipeline.Stages(load, infer, finish, write)


def evaluate(
    dataset: VocDataset,
    labeler: Labeler,
    names: Sequence[str],
    options: EvaluateOptions,
    stop: threading.Event | None = None,
) -> Scoring:
    """Run a labeler over a dataset and compare with its truth.

    Args:
        dataset: from ``formats.voc.dataset.open_voc``.
        labeler: a cascade, or another that labels images.
        names: of the dataset's classes, in order.
        options: see ``EvaluateOptions``.
        stop: set it to end early.

    Returns:
        The run; images that could not be compared as they should are among its faults.

    Raises:
        ConfigError: classes do not fit, or the prompt file is for other images.
    """
    run = new_scoring(dataset, names, options)
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
        finished = compare_instances(
            read_truth(dataset, image_id, names), (), len(names), options.overlap, text
        )
    except Exception as again:
        run.faults.append(
            Fault(image_id, f"{text}; then {as_sentence(again)} (not counted: no truth)")
        )
        return
    add_compared(run, dataset, image_id, version, finished, scored=True)
