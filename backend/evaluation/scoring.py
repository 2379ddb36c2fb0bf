"""One scoring run: pairs in, figures out, with what could not be scored beside them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from backend.config.process import threads_of
from backend.core.classes import ClassIndex
from backend.core.types import LabelMap
from backend.errors import as_sentence
from backend.evaluation.accumulate import Cell, Tally
from backend.evaluation.gallery import Gallery
from backend.evaluation.image_counts import Measured, maps_of, measure_pair
from backend.evaluation.intervals import LEVEL, RESAMPLES
from backend.evaluation.lead_times import LeadTimes
from backend.evaluation.named_masks import NamedMasks
from backend.evaluation.paired import compare_versions
from backend.evaluation.pairs import Pair, Picture
from backend.evaluation.summary import cells_to_show, views
from backend.formats.sample import Fault

_Counted: TypeAlias = tuple[tuple[LabelMap, LabelMap], Measured]  # label maps and counts of a pair
_RECENT = 20
FORMAT = 1  # of the JSON; raised when a field changes its meaning


@dataclass(eq=False)
class Scoring:
    """What has been scored so far.

    Args:
        classes: of all images.
        overlap: of ``core.stacking.OVERLAPS``.
        with_gallery: whether to keep images for a report.
        with_effort: whether accepted regions are edits of the predicted ones.
        with_instances: whether instances are known.
    """

    classes: ClassIndex
    overlap: str
    with_gallery: bool = False
    with_effort: bool = True
    with_instances: bool = True
    tally: Tally = field(default_factory=Tally)
    gallery: Gallery = field(default_factory=Gallery)
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # on the whole
    lead_times: LeadTimes | None = None
    curves: list[dict[str, Any]] = field(default_factory=list)  # see ``training.logs``
    tracks: dict[str, Any] | None = None  # of videos; see ``video_maps.judge_tracks``
    named_masks: NamedMasks = field(default_factory=NamedMasks)  # of everything in images
    compare: tuple[str, str] | None = None  # model versions to put side by side
    hourly: float | None = None  # what an hour of an annotator costs

    def take(self, item: Pair | Fault, counted: Callable[[], _Counted] | None = None) -> None:
        """Score a pair, or note why there is none.

        Args:
            item: the pair or the fault.
            counted: gives the counts of the pair; None to count here.
        """
        if isinstance(item, Fault):
            if (
                item not in self.faults[-_RECENT:]
            ):  # a bad annotation is met once for every prediction it is compared with
                self.faults.append(item)
            return
        try:
            maps, measured = counted() if counted else self._count(item, len(self.classes))
        except Exception as error:  # whatever an image holds, it costs only itself
            self.faults.append(Fault(item.name, f"{item.name}: {as_sentence(error)}"))
            return
        cell = (item.annotator, item.model_version)
        scored = all(region.scored for region in item.predicted)
        self.tally.add(
            item.unit, cell, measured, edited=item.started_here, scored=scored, first=item.first
        )
        if self.with_gallery and item.size_hw is not None:
            self.gallery.offer(item.name, cell, measured, maps, item.picture)

    def _count(self, pair: Pair, n_classes: int) -> _Counted:
        maps = maps_of(pair, self.overlap)
        return maps, measure_pair(pair, maps, n_classes)

    def counting(self, item: Pair | Fault, pool: Executor) -> Callable[[], _Counted] | None:
        """Begin to count on another thread; ``take`` takes what is returned."""
        if isinstance(item, Fault):
            return None
        # Reading goes on meanwhile, and may find more classes.
        return pool.submit(self._count, item, len(self.classes)).result

    def add(
        self,
        unit: str,
        cell: Cell,
        measured: Measured,
        maps: tuple[LabelMap, LabelMap],
        picture: Picture,
        scored: bool,
    ) -> None:
        """Add an image that was measured elsewhere."""
        self.tally.add(unit, cell, measured, scored=scored)
        if self.with_gallery:
            self.gallery.offer(unit, cell, measured, maps, picture)

    def document(self, settings: Mapping[str, Any], resamples: int = RESAMPLES) -> dict[str, Any]:
        """Everything as one JSON document.

        Args:
            settings: what the run was told, kept beside its results.
            resamples: of the bootstrap; 0 for no intervals.
        """
        names = self.classes.names
        remarks = [*settings.get("remarks", ()), *self.remarks]
        _, n_left_out = cells_to_show(self.tally)
        if n_left_out:
            remarks.append(
                f"so many annotators and model versions that {n_left_out} of them and their pairs"
                " have no figures of their own"
            )
        return {
            "format": FORMAT,
            "settings": {
                **settings,
                "overlap": self.overlap,
                "interval_level": LEVEL,
                "resamples": resamples,
                "remarks": remarks,
            },
            "time": None
            if self.lead_times is None
            else self.lead_times.document(self.hourly, resamples),
            "comparison": None
            if self.compare is None
            else compare_versions(self.tally, names, self.compare, resamples),
            "curves": self.curves,
            "tracks": self.tracks,
            "named_masks": self.named_masks.document() if self.named_masks.n_images else None,
            "classes": [names[k] for k in self.classes.order],
            "annotators": self.tally.annotators,
            "model_versions": self.tally.model_versions,
            "views": views(
                self.tally,
                names,
                self.classes.order,
                with_instances=self.with_instances,
                with_effort=self.with_effort,
                resamples=resamples,
            ),
            "failed": [{"where": fault.where, "reason": fault.sentence} for fault in self.faults],
        }


def score(items: Iterable[Pair | Fault], run: Scoring, workers: int | None = None) -> Scoring:
    """Score everything that comes.

    Args:
        items: pairs, and why there is none, in order.
        run: gets the figures.
        workers: threads that count; None for one a core.
    """
    n_threads = threads_of(workers, most=16)
    ahead: deque[tuple[Pair | Fault, Callable[[], _Counted] | None]] = deque()
    pool = ThreadPoolExecutor(n_threads, "score")
    try:
        for item in items:
            ahead.append((item, run.counting(item, pool)))
            if len(ahead) > n_threads + 1:
                run.take(*ahead.popleft())
        for item, counted in ahead:
            run.take(item, counted)
        ahead.clear()
        return run
    finally:
        pool.shutdown(cancel_futures=True)  # what nobody waits for any more
