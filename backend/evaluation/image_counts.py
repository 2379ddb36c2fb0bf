"""The counts of one image: truth and prediction as label maps, as instances, and as regions that a
person edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backend.core.classes import IGNORE
from backend.core.masks import full_frame
from backend.core.stacking import paint, stacking_order
from backend.core.types import Instance, LabelMap
from backend.evaluation.boundaries import boundaries
from backend.evaluation.columns import AREAS, BOUNDARIES, COLUMNS, EFFORT, INSTANCES, Table
from backend.evaluation.effort import Edits, edits
from backend.evaluation.instances import Matched, match_instances, outside_void
from backend.evaluation.pairs import Pair
from backend.evaluation.semantic import Confusion, confusion

_N_AREA = len(AREAS)
_N_EDGE = len(BOUNDARIES)
_N_INSTANCE = len(INSTANCES)


@dataclass(frozen=True, eq=False)
class Measured:
    """What one image adds to every figure."""

    confusion: Confusion
    table: Table  # (C, len(COLUMNS))
    matched: Matched | None  # None where instances are not known
    truth_classes: NDArray[np.intp]  # (T,) of the true instances
    relabelled: tuple[tuple[int, int], ...] = ()
    unshown: Edits | None = None  # what a person would have changed, who began from something else

    @property
    def worth(self) -> float:
        """Mean IoU over the classes that occur, without background; nan where none does.

        The worst images are found by it.
        """
        return float(self.confusion.areas.mean_iou_of_classes)


def measure(
    truth_map: LabelMap,
    predicted_map: LabelMap,
    n_classes: int,
    *,
    truth: Sequence[Instance] | None = None,
    predicted: Sequence[Instance] = (),
    edited: Edits | None = None,
) -> Measured:
    """Count everything about one image.

    Args:
        truth_map: (H, W), 0 background, 255 ignored.
        predicted_map: (H, W).
        n_classes: without background.
        truth: true instances with masks; None where they are not known.
        predicted: predicted instances; those without a mask do not count.
        edited: what a person changed, where that is known.

    Raises:
        InputError: the maps differ in size, or hold a value beyond the classes.

    >>> found = measure(np.array([[0, 1, 1]]), np.array([[1, 1, 1]]), n_classes=1)
    >>> found.table[1, :3].tolist(), round(found.worth, 3)  # pixels hit, true, predicted
    ([2.0, 2.0, 3.0], 0.667)
    """
    pixels = confusion(truth_map, predicted_map, n_classes + 1)
    table = np.zeros((n_classes + 1, len(COLUMNS)))
    areas = pixels.areas
    edge = boundaries(truth_map, predicted_map, n_classes + 1)
    table[:, :_N_AREA] = np.stack([areas.hit, areas.truth, areas.predicted], 1)
    table[:, _N_AREA : _N_AREA + _N_EDGE] = np.stack(
        [edge.truth, edge.truth_hit, edge.predicted, edge.predicted_hit], 1
    )
    matched = None
    true_instances = list(truth or ())
    if truth is not None:
        void = truth_map == IGNORE
        true_instances, _ = outside_void(true_instances, void)
        matched = match_instances(true_instances, predicted, n_classes, void)
        counts = matched.counts
        start = _N_AREA + _N_EDGE
        table[1:, start : start + _N_INSTANCE] = np.stack(
            [
                counts.truth,
                counts.predicted,
                counts.hit50,
                counts.hit75,
                counts.iou_sum,
                counts.hit_above50,
            ],
            1,
        )
    if edited is not None:
        table[1:, -len(EFFORT) :] = edited.counts
    classes = np.array([i.class_id for i in true_instances], np.intp)
    return Measured(pixels, table, matched, classes, edited.relabelled if edited else ())


def painted(instances: Sequence[Instance], size_hw: tuple[int, int], overlap: str) -> LabelMap:
    """A label map of instances.

    Where they overlap, ``overlap``, of ``core.stacking.OVERLAPS``, decides who is seen.

    >>> from backend.core.types import Mask
    >>> mask = Mask(0, 0, np.ones((1, 2), np.bool_))
    >>> cat = Instance("cat", 0, 0.9, np.zeros(4, np.float32), mask)
    >>> painted([cat], (1, 3), "score").tolist()
    [[1, 1, 0]]
    """
    ordered = (instances[k] for k in stacking_order(instances, overlap))
    return paint([(i.mask, i.class_id + 1) for i in ordered if i.mask is not None], size_hw)


def maps_of(pair: Pair, overlap: str) -> tuple[LabelMap, LabelMap]:
    """The accepted and the predicted label map of a pair.

    Ignored regions are 255 in the accepted one.

    >>> from backend.core.types import Mask
    >>> mask = Mask(1, 0, np.ones((1, 1), np.bool_))
    >>> pair = Pair(unit="a", name="a", size_hw=(1, 3), accepted=(), predicted=(), void=(mask,))
    >>> [one.tolist() for one in maps_of(pair, "score")]
    [[[0, 255, 0]], [[0, 0, 0]]]
    """
    size_hw = pair.size_hw or (0, 0)
    # Accepted regions lie as the predicted ones lay that they were, with their scores where they
    # have none of their own: what was left untouched must not look changed. New ones come last, and
    # with score 1 on top.
    places = {
        region.key: (k, region.instance.score)
        for k, region in enumerate(pair.predicted)
        if region.key is not None
    }
    ordered = sorted(
        pair.accepted, key=lambda region: places.get(region.key or "", (len(places), 1.0))[0]
    )
    stacked = [
        (
            region.instance
            if region.scored or region.key not in places
            else replace(region.instance, score=places[region.key][1])
        )
        for region in ordered
    ]
    truth = painted(stacked, size_hw, overlap)
    for mask in pair.void:
        truth[full_frame(mask, size_hw)] = IGNORE
    return truth, painted([region.instance for region in pair.predicted], size_hw, overlap)


def measure_pair(pair: Pair, maps: tuple[LabelMap, LabelMap], n_classes: int) -> Measured:
    """Count everything about a pair with its ``maps_of``; see ``measure``.

    >>> pair = Pair(unit="a", name="a", size_hw=(1, 3), accepted=(), predicted=())
    >>> measure_pair(pair, maps_of(pair, "score"), n_classes=1).confusion.pixel_accuracy
    1.0
    """
    truth, predicted = maps
    edited = edits(pair.predicted, pair.accepted, n_classes)
    accepted = [region.instance for region in pair.accepted]
    measured = measure(
        truth,
        predicted,
        n_classes,
        truth=accepted,
        predicted=[region.instance for region in pair.predicted],
        edited=edited if pair.started_here else None,
    )
    return measured if pair.started_here else replace(measured, unshown=edited)
