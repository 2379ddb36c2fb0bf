"""A detector and a segmenter before and after they learned, together on held-out pictures: with the
figures, the verdicts and the page of ``yolosam2 evaluate``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.config.models import Settings
from backend.core.calibrator import fit_calibrator
from backend.core.classes import ClassIndex
from backend.core.effort import chance_of_right
from backend.core.types import Image
from backend.errors import InputError
from backend.evaluation.effort import looked_at
from backend.evaluation.paired import compare_versions
from backend.evaluation.pairs import Pair, Picture
from backend.evaluation.results import Outputs, finish
from backend.evaluation.scoring import Scoring
from backend.files.images import ImageLimits
from backend.formats.sample import Fault
from backend.labeling.load import BOXES, CASCADE, build_cascade
from backend.models.registry import conf_of
from backend.training.accepted import AcceptedPicture
from backend.training.changes import Changes
from backend.training.compare import BETTER, NOT_SHOWN, WORSE, widened
from backend.training.sides import Sides, are_boxes, found_in, sides_of

BEFORE, AFTER = "before", "after"
CHANGES = "changes.jpg"
ALONE = "before, with the outlines of after"  # what the detector alone is compared with
OFFERED = "offered until now"
_UNSURE = 0.05  # of scores, the lowest that something is learned of
_CONFS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)  # thresholds to choose from
_NEARLY = 0.95  # of the best F1
_OF_MASKS, _OF_BOXES = "mean_iou_without_background", "f1_50"  # figures that decide


@dataclass(frozen=True, eq=False)
class Together:
    """What came of a comparison.

    Attributes:
        document: of a scoring; its ``comparison`` is of ``BEFORE`` and ``AFTER``.
        deciding: the comparison of the old detector and the new one, with the same outlines.
        of_boxes: whether boxes are compared, because few held-out objects have an outline.
    """

    document: dict[str, Any]
    deciding: dict[str, Any]
    of_boxes: bool

    @property
    def figure(self) -> str:
        """The name of the figure that decides."""
        return _OF_BOXES if self.of_boxes else _OF_MASKS

    def value(self, version: str) -> float:
        """That figure of a version that was compared; 0 where it found nothing."""
        [view] = [
            one
            for one in self.document["views"]
            if one["model_version"] == version and one["annotator"] is None
        ]
        return float(view["figures"][self.figure]["value"] or 0.0)

    @property
    def verdict(self) -> str:
        """Whether the new detector is better, with the certainty that so many pictures give."""
        rows = {row["name"]: row for row in self.deciding["figures"]}
        row = rows[self.figure]
        if row["interval"] is None:
            return NOT_SHOWN
        low, high = widened(row["interval"], row["difference"], self.deciding["images"])
        if low <= 0 <= high:
            return NOT_SHOWN
        return BETTER if low > 0 else WORSE


def compare_cascades(
    versions: Mapping[str, Settings],
    pictures: Sequence[AcceptedPicture],
    names: Collection[str],
    limits: ImageLimits,
    report: Path | None,
    stop: threading.Event,
    tell: Callable[[float], None] = lambda done: None,
    curves: Sequence[dict[str, Any]] = (),
) -> Together:
    """Label held-out pictures with several pairs of models, and compare with what was accepted.

    Args:
        versions: ``BEFORE``, ``AFTER``, and perhaps ``ALONE`` and ``OFFERED``, and the models of
            each.
        pictures: held out; regions with a box alone, and those to ignore, count neither for nor
            against. Where most objects have a box alone, boxes are compared.
        names: of all classes.
        limits: of pictures.
        report: takes a page with pictures of the worst; None for none. Beside it goes a picture
            of what changed most, ``CHANGES``.
        stop: ends early.
        tell: hears how much is done, 0..1.
        curves: of their training, for the page.

    Raises:
        ConfigError: the models do not load, or nothing could be compared.
        Unavailable: it was stopped, so that there is no fair comparison.
    """
    names = sorted({*names, *(label for one in pictures for label in one.every_label)})
    numbers = {name: k for k, name in enumerate(names)}
    of_boxes = are_boxes(pictures)
    run = Scoring(ClassIndex(names), "score", with_gallery=report is not None)
    run.compare = (BEFORE, AFTER)
    changes = Changes(BEFORE, AFTER)
    done = 0
    for version, settings in versions.items():
        cascade = build_cascade(settings, mode=BOXES if of_boxes else CASCADE)
        for one, found in found_in(cascade, pictures, limits, stop):
            if isinstance(found, InputError):
                run.take(Fault(str(one.name), str(found)))
                continue
            sides = sides_of(one, found, numbers, of_boxes=of_boxes)
            changes.take(version, one.digest, found.size_hw, sides.truth, sides.made)
            run.take(_pair(one, version, found.size_hw, sides))
            done += 1
            tell(done / (len(versions) * len(pictures)))
    by_digest = {one.digest: one for one in pictures}

    def load(picture: Picture) -> Image:
        return by_digest[str(picture.uri)].image(limits)

    run.curves = list(curves)
    document = finish(
        run,
        Outputs(report=report, progress=False),
        {},
        title="Held-out pictures before and after learning",
        captions=("prediction", "accepted"),
        load=load,
    )
    document["recall_by_size"] = changes.recall_by_size()
    if report is not None:
        sheet = report.with_name(CHANGES)
        changes.write_sheet(sheet, lambda digest: by_digest[digest].image(limits))
    deciding = (ALONE if ALONE in versions else BEFORE, AFTER)
    return Together(document, compare_versions(run.tally, names, deciding), of_boxes)


def _pair(one: AcceptedPicture, version: str, size_hw: tuple[int, int], sides: Sides) -> Pair:
    return Pair(
        unit=one.digest,
        name=str(one.name),
        size_hw=size_hw,
        accepted=tuple(sides.truth),
        predicted=tuple(sides.made),
        void=tuple(sides.void),
        model_version=version,
        started_here=False,
        first=version == AFTER,
        picture=Picture(uri=one.digest),
    )


@dataclass(frozen=True, eq=False)
class Trust:
    """How far what models find can be trusted.

    Attributes:
        conf: lowest score of what is worth keeping; None where nothing tells.
        calibration: what ``calibrator_of`` reads; None where too little was found to tell.
    """

    conf: float | None
    calibration: dict[str, Any] | None


def trust_in(
    settings: Settings,
    pictures: Sequence[AcceptedPicture],
    limits: ImageLimits,
    stop: threading.Event,
) -> Trust:
    """How often what models find is right, by how sure they are of it, and from which score on it
    is worth keeping.

    Args:
        settings: of the models.
        pictures: that they did not learn from.
        limits: of pictures.
        stop: ends early.

    Raises:
        Unavailable: it was stopped.
    """
    of_boxes = are_boxes(pictures)
    # Labels may have lower thresholds than the settings, and few pictures show more so.
    settings = replace(settings, conf=min(conf_of(settings), _UNSURE))
    cascade = build_cascade(settings, mode=BOXES if of_boxes else CASCADE)
    names = {*cascade.names.values(), *(label for one in pictures for label in one.every_label)}
    numbers = {name: k for k, name in enumerate(sorted(names))}
    known: list[tuple[str, float, bool]] = []
    scored: list[tuple[float, bool]] = []
    n_true = 0
    for one, found in found_in(cascade, pictures, limits, stop):
        if isinstance(found, InputError):
            continue  # told where it was to be learned from
        sides = sides_of(one, found, numbers, of_boxes=of_boxes)
        n_true += len(sides.truth)
        for each in looked_at(sides.made, sides.truth, sides.void):
            instance = each.region.instance
            known.append((instance.label, chance_of_right(instance), each.is_right))
            scored.append((instance.score, each.is_found))
    fitted = fit_calibrator(known)
    segmenter = None if cascade.segmenter is None else cascade.segmenter.version
    calibration = None if fitted is None else {**fitted.as_dict(), "segmenter": segmenter}
    return Trust(best_conf(scored, n_true), calibration)


def best_conf(scored: Sequence[tuple[float, bool]], n_true: int) -> float | None:
    """The lowest threshold of scores whose F1 is nearly the best: what is too much is easier to
    delete than what is missing is to draw.

    Args:
        scored: of each object that was found its score, 0..1, and whether it is one.
        n_true: objects that there are.

    Returns:
        None where nothing was found that is an object.

    >>> best_conf([(0.9, True), (0.1, True), (0.05, False), (0.05, False)], n_true=2)
    0.08
    """
    if not any(is_found for _, is_found in scored):
        return None
    found = {}
    for conf in _CONFS:
        kept = [is_found for score, is_found in scored if score >= conf]
        found[conf] = 2 * sum(kept) / (len(kept) + n_true)
    best = max(found.values())
    return min(conf for conf, f1 in found.items() if f1 >= _NEARLY * best)
