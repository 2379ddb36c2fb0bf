"""A detector and a segmenter before and after they learned, together on held-out pictures: with the
figures, the verdicts and the page of ``yolosam2 evaluate``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.config.models import Settings
from backend.core.classes import ClassIndex
from backend.core.masks import mask_xyxy, unpack_mask
from backend.core.rasterize import box_mask
from backend.core.types import Image, Instance
from backend.errors import InputError
from backend.evaluation.pairs import Pair, Picture, Region
from backend.evaluation.results import Outputs, finish
from backend.evaluation.scoring import Scoring
from backend.files.images import ImageLimits
from backend.formats.sample import Fault
from backend.labeling.load import CASCADE, load_labeler
from backend.training.accepted import AcceptedPicture

BEFORE, AFTER, OFFERED = "before", "after", "offered until now"
FIGURE = "mean_iou_without_background"  # that decides


def compare_cascades(
    versions: Mapping[str, Settings],
    pictures: Sequence[AcceptedPicture],
    limits: ImageLimits,
    report: Path | None,
    stop: threading.Event,
) -> dict[str, Any]:
    """Label held-out pictures with several pairs of models, and compare with what was accepted.

    Args:
        versions: ``BEFORE``, ``AFTER``, and perhaps ``OFFERED``, and the models of each.
        pictures: held out; regions with a box alone, and those to ignore, count neither for nor
            against.
        limits: of pictures.
        report: takes a page with pictures of the worst; None for none.
        stop: ends early.

    Returns:
        The document of a scoring; its ``comparison`` is of ``BEFORE`` and ``AFTER``.

    Raises:
        ConfigError: the models do not load, or nothing could be compared.
    """
    names = sorted({label for one in pictures for label in one.labels})
    numbers = {name: k for k, name in enumerate(names)}
    run = Scoring(ClassIndex(names), "score", with_gallery=report is not None)
    run.compare = (BEFORE, AFTER)
    for version, settings in versions.items():
        labeler = load_labeler(settings, CASCADE, None).labeler
        for one in pictures:
            if stop.is_set():
                break
            try:
                image = one.image(limits)
                prediction = labeler.finish(labeler.infer([image], None)[0])
            except InputError as error:
                run.take(Fault(str(one.name), str(error)))
                continue
            run.take(_pair(one, version, prediction.instances, numbers, image))
    by_digest = {one.digest: one for one in pictures}

    def load(picture: Picture) -> Image:
        return by_digest[str(picture.uri)].image(limits)

    return finish(
        run,
        Outputs(report=report, progress=False),
        {"stopped": "interrupted" if stop.is_set() else None},
        title="Held-out pictures before and after learning",
        captions=("prediction", "accepted"),
        load=load,
    )


def _pair(
    one: AcceptedPicture,
    version: str,
    found: Sequence[Instance],
    numbers: Mapping[str, int],
    image: Image,
) -> Pair:
    """What was accepted in a picture, beside what a version found of these classes."""
    size_hw = (image.shape[0], image.shape[1])
    accepted = [
        Instance(label, numbers[label], 1.0, mask_xyxy(mask).astype(np.float32), mask)
        for label, mask in zip(one.labels, one.masks, strict=True)
    ]
    known = [
        Instance(each.label, numbers[each.label], each.score, each.xyxy, each.mask)
        for each in found
        if each.label in numbers
    ]
    void = [box_mask(*xyxy, size_hw) for _, xyxy in one.boxes]
    void += [unpack_mask(mask) for mask in one.ignored]
    return Pair(
        unit=one.digest,
        name=str(one.name),
        size_hw=size_hw,
        accepted=tuple(Region(key=None, instance=each, scored=False) for each in accepted),
        predicted=tuple(Region(key=None, instance=each) for each in known),
        void=tuple(mask for mask in void if mask is not None),
        model_version=version,
        started_here=False,
        first=version == AFTER,
        picture=Picture(uri=one.digest),
    )


def figure_of(document: Mapping[str, Any], version: str) -> float:
    """The figure that decides, of one version; 0 where there is none.

    Args:
        document: of ``compare_cascades``.
        version: one that was compared.
    """
    for view in document["views"]:
        if view["model_version"] == version and view["annotator"] is None:
            return float(view["figures"][FIGURE]["value"] or 0.0)
    return 0.0


def verdict_of(document: Mapping[str, Any]) -> str:
    """Whether what learned is better, by the figure that decides; see ``paired.judged``."""
    rows = {row["name"]: row for row in document["comparison"]["figures"]}
    return str(rows[FIGURE]["verdict"])
