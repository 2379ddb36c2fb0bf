"""Label Studio exports as a stream of tasks, and tasks as pairs of an annotation and a prediction.

A snapshot export holds full predictions; a plain JSON export holds their ids only, and they are asked for one task at a time. The file is never
loaded whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from backend.errors import AuthError, InputError, LabelingError
from backend.formats.regions import StoredRegion, read_regions, region_mask
from backend.geometry import mask_xyxy
from backend.scoring.pairs import IGNORE_LABEL, ClassIndex, Fault, Pair, Picture, Region, Selection, renamed
from backend.types import Instance, Mask

Task = Mapping[str, Any]
FetchPredictions = Callable[[int], Sequence[Any]]


def read_tasks(stream: BinaryIO, path: Path) -> Iterator[Any]:
    """The items of the list in an export, one after the other.

    Args:
        stream: of the file, at its start; can seek.
        path: for messages.

    Raises:
        InputError: not JSON, not a list, or cut off; the items before that have been given by then.
    """
    import ijson

    start, at = stream.read(1), 0
    while start and start in b" \t\r\n\xef\xbb\xbf":  # blanks, and the mark some editors put before everything
        start, at = stream.read(1), at + 1
    if not start:
        raise InputError(f"{path}: is empty")
    if start != b"[":
        raise InputError(f"{path}: expected a list of tasks, as Label Studio exports it; it begins with {start!r}")
    stream.seek(at)
    n_items = 0
    try:
        for item in ijson.items(stream, "item", use_float=True):
            yield item
            n_items += 1
    except ijson.JSONError as error:
        reason = str(error).splitlines()[0].strip() if str(error) else "incomplete"
        raise InputError(f"{path}: is cut off or not JSON after {n_items} tasks ({reason})") from None


def person(annotation: Mapping[str, Any]) -> str:
    """Who made an annotation: the e-mail address where the export has it, else the user's number."""
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return "unknown" if who is None else str(who)


def _people(annotation: Mapping[str, Any]) -> set[str]:
    """All names an annotator may be chosen by."""
    who = annotation.get("completed_by")
    known = who.values() if isinstance(who, dict) else [who]
    return {person(annotation), *(str(one) for one in known)}


def _name(task: Task) -> str:
    return f"task {task['id']}"


def _chosen(task: Task, selection: Selection) -> list[tuple[int, Mapping[str, Any]]]:
    """The annotations that count, with their place in the list.

    Raises:
        InputError: not a list of annotations.
    """
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list):
        raise InputError(f"{_name(task)}: annotations: expected a list, got {type(annotations).__name__}; export as JSON, not as JSON_MIN or another format")
    kept: list[tuple[int, Mapping[str, Any]]] = []
    for k, one in enumerate(annotations):
        if not isinstance(one, dict):
            raise InputError(f"{_name(task)}: annotations[{k}]: expected an object, got {type(one).__name__}")
        if one.get("was_cancelled") and not selection.cancelled:
            continue
        if selection.ground_truth and not one.get("ground_truth"):
            continue
        if selection.annotators and selection.annotators.isdisjoint(_people(one)):
            continue
        kept.append((k, one))
    if selection.latest and kept:
        kept = [max(kept, key=lambda pair: (str(pair[1].get("created_at") or ""), pair[0]))]
    return kept


def _predictions(task: Task, selection: Selection, fetch: FetchPredictions | None) -> list[tuple[str, Mapping[str, Any]]]:
    """The predictions that count, with how to call them.

    Raises:
        InputError: none there, or only their ids.
    """
    name, found = _name(task), task.get("predictions")
    if fetch is not None and (found is None or not isinstance(found, list) or any(not isinstance(one, dict) for one in found)):
        found = fetch(int(task["id"]))
    if found is None:
        raise InputError(f"{name}: predictions: not in the export; make a snapshot with full predictions, or give --url, --api-key and --project")
    if not isinstance(found, list):
        raise InputError(f"{name}: predictions: expected a list, got {type(found).__name__}")
    if any(isinstance(one, int) for one in found):
        raise InputError(
            f"{name}: predictions: holds only their ids; give --url, --api-key and --project to fetch them, or export a snapshot with full predictions"
        )
    if any(not isinstance(one, dict) for one in found):
        raise InputError(f"{name}: predictions: expected objects")
    kept: list[tuple[str, Mapping[str, Any]]] = [(f"predictions[{k}]", one) for k, one in enumerate(found)]
    if selection.model_versions:
        kept = [(where, one) for where, one in kept if version(one) in selection.model_versions]
    return _newest(kept)


def version(prediction: Mapping[str, Any]) -> str:
    """The model version of a prediction."""
    return str(prediction.get("model_version") or "unknown")


def _newest(predictions: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """One prediction of each model version, the newest, as some importers leave several."""
    by_version: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for where, one in predictions:
        known = by_version.get(version(one))
        if known is None or _number(one.get("id")) >= _number(known[1].get("id")):
            by_version[version(one)] = (where, one)
    return list(by_version.values())


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


class TaskReader:
    """Turns tasks into pairs.

    Args:
        classes: of all tasks; grows.
        selection: which annotations and predictions count.
        rename: label to the name it is scored under.
        fetch: the predictions of a task, where the export does not hold them.
    """

    def __init__(self, classes: ClassIndex, selection: Selection, rename: Mapping[str, str] | None = None, fetch: FetchPredictions | None = None) -> None:
        self._classes, self._selection, self._rename, self._fetch = classes, selection, rename or {}, fetch
        self.n_unannotated = 0  # tasks without an annotation that counts
        self.n_left_out = 0  # regions of kinds and tags that do not count

    def pairs(self, task: Any, number: int) -> Iterator[Pair | Fault]:
        """The pairs of a task.

        Args:
            task: an item of an export.
            number: its place in the list, to call it by where it has no id.

        Yields:
            A pair for every annotation and model version, or what is wrong.
        """
        if not isinstance(task, dict) or isinstance(task.get("id"), bool) or not isinstance(task.get("id"), int):
            yield Fault(f"item {number}", f"item {number}: expected a task with an id, got {_shown(task)}")
            return
        name = _name(task)
        try:
            annotations = _chosen(task, self._selection)
            if not annotations:
                self.n_unannotated += 1
                return
            predictions = _predictions(task, self._selection, self._fetch)
            if not predictions:
                if not self._selection.missing:
                    wanted = f" of {', '.join(sorted(self._selection.model_versions))}" if self._selection.model_versions else ""
                    raise InputError(f"{name}: predictions: there is none{wanted}; --missing counts it as one that found nothing")
                predictions = [("predictions", {"result": [], "model_version": "missing"})]
        except AuthError:
            raise
        except LabelingError as error:
            yield Fault(name, str(error) if name in str(error) else f"{name}: {error}")
            return
        for k, annotation in annotations:
            for where, prediction in predictions:
                try:
                    yield from self._pairs(task, f"annotations[{k}]", annotation, where, prediction)
                except InputError as error:
                    yield Fault(name, f"{name}: {error}")

    def _pairs(self, task: Task, at_annotation: str, annotation: Mapping[str, Any], at_prediction: str, prediction: Mapping[str, Any]) -> list[Pair]:
        """A pair for every picture of the task that has a region."""
        accepted, n_accepted = read_regions(annotation.get("result"), f"{at_annotation}.result")
        predicted, n_predicted = read_regions(prediction.get("result"), f"{at_prediction}.result")
        accepted, predicted, left_out = _of_tags(accepted, predicted, self._selection.tags)
        self.n_left_out += n_accepted + n_predicted + left_out
        images = list(dict.fromkeys(region.to_name for region in (*accepted, *predicted))) or [""]
        parent = annotation.get("parent_prediction")
        made = []
        for image in images:
            sides = [[region for region in side if region.to_name == image] for side in (accepted, predicted)]
            sizes = {region.size_hw for side in sides for region in side}
            if len(sizes) > 1:
                shown = " and ".join(f"{w}x{h}" for h, w in sorted(sizes))
                raise InputError(f"{at_annotation} and {at_prediction}: regions of several image sizes: {shown}")
            cache: dict[str, tuple[Any, Mask | None]] = {}
            theirs, also_ignored = self._regions(sides[1], cache)
            ours, ignored = self._regions(sides[0], cache)
            pair = Pair(
                unit=str(task["id"]),
                name=_name(task) if len(images) == 1 else f"{_name(task)}, {image}",
                size_hw=next(iter(sizes), None),
                accepted=tuple(ours),
                predicted=tuple(theirs),
                void=(*ignored, *also_ignored),
                annotator=person(annotation),
                model_version=version(prediction),
                started_here=parent is None or parent == prediction.get("id"),
                picture=Picture(uri=_address(task.get("data"), image), task_id=task["id"]),
            )
            made.append(pair)
        return made

    def _regions(self, stored: Sequence[StoredRegion], cache: dict[str, tuple[Any, Mask | None]]) -> tuple[list[Region], list[Mask]]:
        """Regions with masks, empty ones left out, and those that are to be ignored."""
        regions, void = [], []
        for one in stored:
            body = {key: value for key, value in one.value.items() if key in _GEOMETRY}
            known = cache.get(one.id or "")
            # An accepted region is mostly what was predicted; it is the same mask then, decoded once.
            mask = known[1] if known is not None and known[0] == (one.size_hw, body) else region_mask(one)
            if one.id:
                cache[one.id] = ((one.size_hw, body), mask)
            if mask is None:
                continue
            label = renamed(one.label, self._rename)
            if label == IGNORE_LABEL:
                void.append(mask)
                continue
            try:
                class_id = self._classes.index(label)
            except InputError as error:
                raise InputError(f"{one.where}: {error}") from None
            instance = Instance(label, class_id, 1.0 if one.score is None else one.score, mask_xyxy(mask), mask)
            regions.append(Region(one.id, instance, one.score is not None))
        return regions, void


_GEOMETRY = ("rle", "imageDataURL", "points", "x", "y", "width", "height", "rotation", "radiusX", "radiusY")
_MASKS = ("brush", "bitmask", "polygon", "ellipse")


def _of_tags(accepted: Sequence[StoredRegion], predicted: Sequence[StoredRegion], tags: frozenset[str]) -> tuple[list[StoredRegion], list[StoredRegion], int]:
    """The regions of the chosen tags; without a choice, all but boxes whose label masks of the same task carry too, as they show the same objects again."""
    if tags:
        kept = [[region for region in side if region.from_name in tags] for side in (accepted, predicted)]
    else:
        outlined = {region.label for region in (*accepted, *predicted) if region.kind in _MASKS}
        kept = [[region for region in side if region.kind in _MASKS or region.label not in outlined] for side in (accepted, predicted)]
    return kept[0], kept[1], len(accepted) + len(predicted) - len(kept[0]) - len(kept[1])


def _address(data: Any, image: str) -> str | None:
    """The address of the picture: what goes by the tag's name, ``image``, or the first text that looks like one."""
    if not isinstance(data, dict):
        return None
    texts = [data.get(image), data.get("image"), *data.values()]
    return next((text for text in texts if isinstance(text, str) and (text.startswith(("/", "data:")) or "://" in text)), None)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(sorted(map(str, value))[:6]) or 'nothing in it'}"
    return json.dumps(value, default=str)[:60] if not isinstance(value, np.generic) else str(value)[:60]
