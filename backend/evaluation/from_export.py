"""Tasks of a Label Studio export as pairs of an annotation and a prediction.

A snapshot export holds full predictions; a plain JSON export holds their ids only, and they are
asked for one task at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.core.classes import ClassIndex
from backend.core.holdout import is_held_out
from backend.core.types import Mask
from backend.errors import AuthError, InputError, as_sentence, told
from backend.evaluation.chosen import (
    ExportedTask,
    FetchPredictions,
    chosen_annotations,
    chosen_predictions,
    stands_for,
    task_name,
    version,
)
from backend.evaluation.lead_times import LeadTimes
from backend.evaluation.pairs import (
    Pair,
    Picture,
    Region,
    Selection,
)
from backend.evaluation.regions import RegionMaker, check_memory, mask_once
from backend.evaluation.repeats import repeats
from backend.evaluation.versions import VersionNames
from backend.formats.label_studio.people import person
from backend.formats.label_studio.reader import instance_of, of_one_size
from backend.formats.label_studio.regions import StoredRegion, read_regions
from backend.formats.label_studio.tasks import address_of
from backend.formats.sample import OTHER_REGIONS, Fault, check_something_left


class TaskReader:
    """Turns tasks into pairs.

    Args:
        classes: of all tasks; grows.
        selection: which annotations and predictions count.
        rename: label to the name it is scored under.
        fetch: the predictions of a task, where the export does not hold them.
        people: the addresses of annotators by number, where the export does not hold them.
    """

    def __init__(
        self,
        classes: ClassIndex,
        selection: Selection,
        rename: Mapping[str, str] | None = None,
        fetch: FetchPredictions | None = None,
        people: Mapping[int, str] | None = None,
    ) -> None:
        self._classes = classes
        self._selection = selection
        self._maker = RegionMaker(classes, rename)
        self._fetch = fetch
        self._known = people
        self._seen: set[int] = set()
        self._told: set[tuple[str, str]] = set()
        self._faults: list[Fault] = []  # regions that cannot be read, not given yet
        self.n_tasks = 0
        self.n_unannotated = 0  # tasks without an annotation that counts
        # Annotated tasks without a prediction of a version that was asked for.
        self.n_without_version = 0
        self.people: set[str] = set()  # all annotators there are
        self.names = VersionNames(selection.names)
        self.lead_times = LeadTimes()
        self.n_spoiled = 0  # annotated tasks of the control group that have one all the same
        self.n_held_out = 0  # annotated tasks of the control group, which have no prediction
        self.tags: set[str] = set()  # all control tags with regions
        self.left_out: Counter[str] = Counter()  # regions that do not count: what, and how many
        self.left_out_in: dict[str, None] = {}  # the first tasks with what no mask can be made of
        self.other_versions: set[str] = set()  # where a chosen one was missing

    @property
    def renamed(self) -> set[str]:
        """Labels that went by another name."""
        return self._maker.renamed

    def pairs(self, task: Any, number: int) -> Iterator[Pair | Fault]:
        """The pairs of a task.

        Args:
            task: an item of an export.
            number: its place in the list, to call it by where it has no id.

        Yields:
            A pair for every annotation and model version, or what is wrong.
        """
        if not _is_task(task):
            yield _no_task(task, number)
            return
        if task["id"] in self._seen:
            yield Fault(
                task_name(task),
                f"{task_name(task)}: is in the export twice; only the first is scored",
            )
            return
        self._seen.add(task["id"])
        self.n_tasks += 1
        name = task_name(task)
        try:
            self._look(task)
            annotations = chosen_annotations(task, self._selection, self._known)
            if not annotations:
                self.n_unannotated += 1
                return
            if is_held_out(task["id"], self._selection.holdout):
                if not task.get("predictions"):
                    self.n_held_out += 1
                    self.lead_times.add([one for _, one in annotations], False)
                    return
                self.n_spoiled += 1
            predictions = chosen_predictions(task, self._selection, self._fetch)
            if predictions or not task.get("predictions"):
                self.lead_times.add([one for _, one in annotations], bool(predictions))
            if not predictions and self._selection.missing:
                predictions = [("predictions", {"result": [], "model_version": "missing"})]
            elif not predictions and self._selection.model_versions:
                self.n_without_version += 1
                found = task.get("predictions") or ()
                self.other_versions |= {version(one) for one in found if isinstance(one, dict)}
                return
            elif not predictions:
                raise InputError(
                    f"{name}: predictions: there is none; --holdout SHARE names the control group"
                    " of prelabel, and --missing counts it as one that found nothing"
                )
        except AuthError:
            raise
        except Exception as error:
            sentence = as_sentence(error)
            yield Fault(name, sentence if name in sentence else f"{name}: {sentence}")
            return
        for k, annotation in annotations:
            stands = stands_for(annotation, [one for _, one in predictions])
            for where, prediction in predictions:
                n_classes = len(self._classes)
                try:
                    for pair in self._pairs(
                        task, f"annotations[{k}]", annotation, where, prediction
                    ):
                        yield replace(pair, first=prediction is stands)
                except Exception as error:  # whatever a task holds, it costs only itself
                    self._classes.keep(n_classes)
                    yield Fault(name, f"{name}: {as_sentence(error)}")
        yield from self._faults
        self._faults.clear()

    def _tell(self, name: str, sentences: Sequence[str]) -> None:
        """Take note of regions that cannot be read; a task is told once, however many pairs it
        makes.
        """
        for sentence in sentences:
            if (name, sentence) not in self._told:
                self._told.add((name, sentence))
                self._faults.append(Fault(name, f"{name}: {sentence}"))

    def _look(self, task: ExportedTask) -> None:
        """Remember who annotated, to tell those who chose somebody else."""
        annotations = task.get("annotations")
        self.people |= (
            {person(one, self._known) for one in annotations if isinstance(one, dict)}
            if isinstance(annotations, list)
            else set()
        )

    def _pairs(
        self,
        task: ExportedTask,
        at_annotation: str,
        annotation: Mapping[str, Any],
        at_prediction: str,
        prediction: Mapping[str, Any],
    ) -> list[Pair]:
        """A pair for every picture of the task that has a region."""
        accepted, predicted = self._sides(
            task, (annotation, at_annotation), (prediction, at_prediction)
        )
        images = list(dict.fromkeys(region.to_name for region in (*accepted, *predicted))) or [""]
        parent = annotation.get("parent_prediction")
        common = not {region.id for region in accepted if region.id}.isdisjoint(
            {region.id for region in predicted if region.id}
        )
        made = []
        for image in images:
            of_image = [region for region in (*accepted, *predicted) if region.to_name == image]
            at = f"{at_annotation} and {at_prediction}"
            odd: list[str] = []
            kept_regions, size_hw = of_one_size(of_image, None, at, odd)
            wheres = {region.where for region in accepted}
            ours_stored = [region for region in kept_regions if region.where in wheres]
            theirs_stored = [region for region in kept_regions if region.where not in wheres]
            cache: dict[str, tuple[Any, Mask | None]] = {}
            theirs, repeated, _ = self._regions(theirs_stored, cache, {}, odd)
            ours, _, ignored = self._regions(ours_stored, cache, repeated, odd)
            self._tell(task_name(task), odd)
            pair = Pair(
                unit=str(task["id"]),
                name=task_name(task) if len(images) == 1 else f"{task_name(task)}, {image}",
                size_hw=size_hw,
                accepted=tuple(ours),
                predicted=tuple(theirs),
                void=tuple(ignored),  # a model cannot excuse itself
                annotator=person(annotation, self._known),
                model_version=self.names(version(prediction)),
                # Label Studio keeps the ids of regions, so that an annotation without a parent
                # tells by them what it began from.
                started_here=parent == prediction.get("id") if parent is not None else common,
                picture=Picture(uri=address_of(task.get("data"), image), task_id=task["id"]),
            )
            made.append(pair)
        return made

    def _sides(
        self, task: ExportedTask, *holders: tuple[Mapping[str, Any], str]
    ) -> list[list[StoredRegion]]:
        """The regions of an annotation and a prediction that count."""
        faults: list[str] = []
        sides = []
        for holder, at in holders:
            read = read_regions(holder.get("result"), f"{at}.result")
            check_something_left(read.regions, read.faults)
            sides.append(list(read.regions))
            self.left_out[OTHER_REGIONS] += read.n_others
            if read.n_others and len(self.left_out_in) < _MOST_NAMED:
                self.left_out_in[task_name(task)] = None
            faults += read.faults
        self._tell(task_name(task), faults)
        self.tags |= {region.from_name for side in sides for region in side}
        if not self._selection.tags:
            return sides
        kept = [
            [region for region in side if region.from_name in self._selection.tags]
            for side in sides
        ]
        self.left_out["regions of other tags"] += sum(map(len, sides)) - sum(map(len, kept))
        return kept

    def _regions(
        self,
        stored: Sequence[StoredRegion],
        cache: dict[str, tuple[Any, Mask | None]],
        known_repeats: Mapping[str, str],
        faults: list[str],
    ) -> tuple[list[Region], dict[str, str], list[Mask]]:
        """Regions with masks, without empty ones and repeats.

        Which box repeated which mask, by their ids; and what is to be ignored.
        """
        masks = []
        own: list[str] = []
        taken = 0
        for one in stored:
            try:
                mask = mask_once(one, cache)
            except InputError as error:
                own.append(str(error))
                continue
            taken += 0 if mask is None else mask.crop.size
            check_memory(taken, one.where)
            masks.append((one, mask))
        made = [
            (one.where, instance_of(one, mask, order))
            for order, (one, mask) in enumerate(masks)
            if mask is not None
        ]
        regions, void = self._maker.regions(made, own)
        check_something_left([*regions, *void], own)
        faults += own
        if self._selection.tags:
            return regions, {}, void
        there = {region.id for region in stored}
        before = {
            k
            for k, region in enumerate(regions)
            if known_repeats.get(region.key or "") in there and region.key in known_repeats
        }
        found = {**dict.fromkeys(before, ""), **repeats(regions, before)}
        self.left_out["boxes that repeat a mask"] += len(found)
        kept = [region for k, region in enumerate(regions) if k not in found]
        repeated = {
            regions[k].key or "": mask for k, mask in found.items() if regions[k].key and mask
        }
        return kept, repeated, void


_MOST_NAMED = 5  # tasks with leftover points


def _is_task(task: Any) -> bool:
    number = task.get("id") if isinstance(task, dict) else None
    return isinstance(number, int) and not isinstance(number, bool)


def _no_task(task: Any, number: int) -> Fault:
    known = (
        "; it is a file for import: export the project once it is annotated"
        if isinstance(task, dict) and "predictions" in task
        else ""
    )
    where = f"item {number}"
    return Fault(where, f"{where}: expected a task with an id, got {_shown(task)}{known}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(sorted(map(str, value))[:6]) or 'nothing in it'}"
    return told(value)
