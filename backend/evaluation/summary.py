"""Figures from sums: one summary of everything, and one for every annotator and model version.

They are plain values, ready for JSON, text and page.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.evaluation.accumulate import Tally, Totals
from backend.evaluation.calibration import BINS, calibration, suggest
from backend.evaluation.columns import EFFORT, Table, areas, edges, effort, instances, total_effort
from backend.evaluation.instances import THRESHOLDS
from backend.evaluation.intervals import RESAMPLES, intervals
from backend.evaluation.semantic import Confusion, mean_of, ratio

BACKGROUND = "background"
MOST_VIEWS = 100  # pairs of annotator and model version that get a summary of their own


def headline(table: Table) -> dict[str, NDArray[np.float64]]:
    """The figures over all classes, each of the shape of the table's leading axes.

    >>> from backend.evaluation.columns import COLUMNS
    >>> table = np.zeros((2, len(COLUMNS)))
    >>> table[:, :3] = [[1, 2, 1], [2, 2, 3]]  # pixels hit, true, predicted
    >>> figures = headline(table)
    >>> float(figures["pixel_accuracy"]), round(float(figures["mean_iou"]), 3)
    (0.75, 0.583)
    """
    pixels = areas(table)
    found = instances(table)
    done = total_effort(table)
    return {
        "pixel_accuracy": pixels.pixel_accuracy,
        "mean_iou": pixels.mean_iou,
        "mean_iou_without_background": pixels.mean_iou_of_classes,
        "frequency_weighted_iou": pixels.frequency_weighted_iou,
        "mean_accuracy": pixels.mean_accuracy,
        "mean_dice": pixels.mean_dice,
        "boundary_f": mean_of(edges(table).f_score),
        **{
            f"{name}_{round(100 * t)}": value
            for t in THRESHOLDS
            for name, value in _over_instances(found, t).items()
        },
        "panoptic_quality": found.mean_panoptic_quality,
        "segmentation_quality": mean_of(found.segmentation_quality),
        "recognition_quality": mean_of(found.recognition_quality),
        "untouched_share": done.untouched_share,
    }


def _over_instances(found: Any, threshold: float) -> dict[str, NDArray[np.float64]]:
    hits = (found.hit50 if threshold == THRESHOLDS[0] else found.hit75).sum(-1)
    return {
        "precision": ratio(hits, found.predicted.sum(-1)),
        "recall": ratio(hits, found.truth.sum(-1)),
        "f1": found.total_f1(threshold),
    }


def per_value(table: Table) -> dict[str, NDArray[np.float64]]:
    """The figures of each label map value, (..., C); background has no instances and no edits.

    >>> from backend.evaluation.columns import COLUMNS
    >>> table = np.zeros((2, len(COLUMNS)))
    >>> table[:, :3] = [[1, 2, 1], [2, 2, 3]]  # pixels hit, true, predicted
    >>> per_value(table)["iou"].round(3).tolist()
    [0.5, 0.667]
    """

    def shifted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([np.full((*values.shape[:-1], 1), np.nan), values], -1)

    pixels = areas(table)
    found = instances(table)
    done = effort(table)
    return {
        "iou": pixels.iou,
        "dice": pixels.dice,
        "accuracy": pixels.accuracy,
        "boundary_f": edges(table).f_score,
        **{
            f"{name}_{round(100 * t)}": shifted(getattr(found, name)(t))
            for t in THRESHOLDS
            for name in ("precision", "recall", "f1")
        },
        "panoptic_quality": shifted(found.panoptic_quality),
        "segmentation_quality": shifted(found.segmentation_quality),
        "recognition_quality": shifted(found.recognition_quality),
        "untouched_share": shifted(done.untouched_share),
    }


def _plain(value: Any) -> Any:
    """For JSON: nan becomes None, numpy becomes Python."""
    number = float(value)
    return None if math.isnan(number) else round(number, 6)


def _bounds(
    found: Mapping[str, NDArray[np.float64]], name: str, at: int | None = None
) -> list[float] | None:
    bounds = found.get(name)
    if bounds is None:
        return None
    low, high = (bounds[0], bounds[1]) if at is None else (bounds[0][at], bounds[1][at])
    return None if math.isnan(float(low)) else [_plain(low), _plain(high)]


def _classes(
    table: Table,
    names: Sequence[str],
    ap: Sequence[float],
    found: Mapping[str, NDArray[np.float64]],
) -> list[dict[str, Any]]:
    figures = per_value(table)
    pixels = areas(table)
    counted = instances(table)
    done = effort(table)
    rows = []
    for value, name in enumerate(
        [f"({BACKGROUND})" if BACKGROUND in names else BACKGROUND, *names]
    ):
        row: dict[str, Any] = {
            "value": value,
            "name": name,
            **{key: _plain(figure[value]) for key, figure in figures.items()},
        }
        row["iou_interval"] = _bounds(found, "iou", value)
        row["pixels"] = {
            "true": int(pixels.truth[value]),
            "predicted": int(pixels.predicted[value]),
        }
        if value:
            row["ap"] = _plain(ap[value - 1])
            row["f1_50_interval"] = _bounds(found, "f1_50", value)
            row["instances"] = {
                "true": int(counted.truth[value - 1]),
                "predicted": int(counted.predicted[value - 1]),
                "hit_50": int(counted.hit50[value - 1]),
            }
            row["effort"] = {key: int(getattr(done, key)[value - 1]) for key in EFFORT}
        rows.append(row)
    return rows


def _effort(table: Table, group: Totals, names: Sequence[str]) -> dict[str, Any]:
    total = total_effort(table)
    return {
        "annotations": group.n_edited,
        "predicted": int(total.predicted),
        **{key: int(getattr(total, key)) for key in EFFORT[:7]},
        "would_have_been": dict(group.unshown) or None,
        "untouched_share": _plain(total.untouched_share),
        "changed_share_of_reshaped": _plain(total.changed_share),
        "relabellings": [
            {"from": names[a], "to": names[b], "count": n}
            for (a, b), n in sorted(group.relabelled.items(), key=lambda one: -one[1])
        ],
    }


def _scores(group: Totals, names: Sequence[str]) -> dict[str, Any]:
    scores = np.array(group.scores, np.float64)
    classes = np.array(group.score_classes, np.intp)
    hits = np.array(group.score_hits, np.bool_)
    table = {}
    for k, name in enumerate([None, *names]):
        own = np.ones(len(scores), np.bool_) if name is None else classes == k - 1
        found = calibration(scores[own], hits[own])
        table[name or ""] = {
            "hits": found.hits.tolist(),
            "misses": found.misses.tolist(),
            "mean_scores": [_plain(v) for v in found.mean_scores],
            "expected_calibration_error": _plain(found.error),
        }
    wanted = [
        suggest(name, scores[classes == k], hits[classes == k], group.classes_true[k])
        for k, name in enumerate(names)
    ]
    suggestions = [{**vars(one), "tag": one.as_tag()} for one in wanted if one is not None]
    return {
        "bins": BINS,
        "by_class": table,
        "instances_without_score": group.n_unscored,
        "lowest": _plain(scores.min()) if len(scores) else None,
        "suggested": suggestions,
    }


def in_order(group: Totals, order: Sequence[int]) -> Totals:
    """The same sums with the classes in another order.

    Args:
        group: sums.
        order: for each new class, the index it had.
    """
    new = np.argsort(order)  # old index to new
    values = np.concatenate([[0], new + 1])
    n = len(order) + 1
    wide = np.zeros((n, n), np.int64)
    wide[: len(group.confusion.counts), : len(group.confusion.counts)] = group.confusion.counts
    old = np.concatenate([[0], np.array(order, np.intp) + 1])
    return replace(
        group,
        confusion=Confusion(wide[np.ix_(old, old)]),
        precision=group.precision.in_order(new),
        relabelled=Counter(
            {(int(new[a]), int(new[b])): count for (a, b), count in group.relabelled.items()}
        ),
        row_values=array("B", values[np.array(group.row_values, np.intp)].tolist()),
        score_classes=array("B", new[np.array(group.score_classes, np.intp)].tolist()),
        classes_true=Counter({int(new[c]): count for c, count in group.classes_true.items()}),
    )


def summarize(
    group: Totals,
    names: Sequence[str],
    *,
    with_instances: bool,
    with_effort: bool,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Everything about one group.

    Args:
        group: sums.
        names: of the classes.
        with_instances: whether instances are known.
        with_effort: whether edits are known.
        resamples: of the bootstrap; 0 for no intervals.

    Returns:
        Values for JSON; None is not defined.
    """
    table = group.table(len(names))
    wide = np.zeros((len(names) + 1,) * 2, np.int64)
    wide[: len(group.confusion.counts), : len(group.confusion.counts)] = group.confusion.counts

    def both(sums: Table) -> dict[str, NDArray[np.float64]]:
        own = per_value(sums)
        return {
            **{f"all {name}": value for name, value in headline(sums).items()},
            "iou": own["iou"],
            "f1_50": own["f1_50"],
        }

    units = np.array(group.units, np.int64)
    found = (
        intervals(group.rows(), units, len(names) + 1, both, resamples)
        if resamples and len(units)
        else {}
    )
    figures = {
        name: {"value": _plain(value), "interval": _bounds(found, f"all {name}")}
        for name, value in headline(table).items()
    }
    ap, ap_of_class = group.precision.figures(len(names))
    if group.unscored:  # without all scores there is no order for a curve of precision and recall
        ap = dict.fromkeys(ap, math.nan)
        ap_of_class = [math.nan] * len(names)
    figures.update({name: {"value": _plain(value), "interval": None} for name, value in ap.items()})
    kept = {k: v for k, v in figures.items() if with_instances or k in _SEMANTIC}
    if not with_effort:
        kept.pop("untouched_share", None)
    return {
        "images": len(np.unique(units)),
        "compared": group.n_images,
        "figures": kept,
        "classes": _classes(table, names, ap_of_class, found),
        "confusion": wide.tolist(),
        "effort": _effort(table, group, names) if with_effort else None,
        "scores": _scores(group, names) if with_instances else None,
    }


_SEMANTIC = (
    "pixel_accuracy",
    "mean_iou",
    "mean_iou_without_background",
    "frequency_weighted_iou",
    "mean_accuracy",
    "mean_dice",
    "boundary_f",
)


def cells_to_show(tally: Tally) -> tuple[list[tuple[str | None, str | None]], int]:
    """Annotators and model versions that get figures of their own (None stands for all), and how
    many pairs of them are too many for that.
    """
    annotators: list[str | None] = [None, *(tally.annotators if len(tally.annotators) > 1 else ())]
    versions: list[str | None] = [
        None,
        *(tally.model_versions if len(tally.model_versions) > 1 else ()),
    ]
    pairs = [(a, v) for a in annotators for v in versions]
    shown = (
        pairs
        if len(pairs) <= MOST_VIEWS
        else [(a, v) for a, v in pairs if a is None or v is None][:MOST_VIEWS]
    )
    return shown, len(pairs) - len(shown)


def views(
    tally: Tally,
    names: Sequence[str],
    order: Sequence[int],
    *,
    with_instances: bool,
    with_effort: bool,
    resamples: int = RESAMPLES,
) -> list[dict[str, Any]]:
    """A summary of everything (classes in ``order``), of each annotator, each model version, and
    each pair of them where there are several of both.

    Returns:
        Summaries with ``annotator`` and ``model_version``; None stands for all.
    """
    pairs, _ = cells_to_show(tally)
    made = []
    for annotator, version in pairs:
        group = tally.group(annotator, version)
        if group.n_images:
            one = summarize(
                in_order(group, order),
                [names[k] for k in order],
                with_instances=with_instances,
                with_effort=with_effort,
                resamples=resamples,
            )
            made.append({"annotator": annotator, "model_version": version, **one})
    return made
