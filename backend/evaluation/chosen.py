"""Which annotations and predictions of an exported task count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backend.errors import InputError, json_kind
from backend.evaluation.pairs import Selection
from backend.evaluation.versions import is_meant
from backend.formats.label_studio.people import all_names

ExportedTask = Mapping[str, Any]
FetchPredictions = Callable[[int], Sequence[Any]]


def task_name(task: ExportedTask) -> str:
    """How a task is called in messages."""
    return f"task {task['id']}"


def chosen_annotations(
    task: ExportedTask, selection: Selection, people: Mapping[int, str] | None = None
) -> list[tuple[int, Mapping[str, Any]]]:
    """The annotations that count, with their place in the list.

    Raises:
        InputError: not a list of annotations.
    """
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list):
        raise InputError(
            f"{task_name(task)}: annotations: expected a list, got {json_kind(annotations)};"
            " export as JSON, not as JSON_MIN or another format"
        )
    kept: list[tuple[int, Mapping[str, Any]]] = []
    for k, one in enumerate(annotations):
        if not isinstance(one, dict):
            raise InputError(
                f"{task_name(task)}: annotations[{k}]: expected an object, got {json_kind(one)}"
            )
        if one.get("was_cancelled") and not selection.cancelled:
            continue
        if selection.ground_truth and not one.get("ground_truth"):
            continue
        if selection.annotators and selection.annotators.isdisjoint(all_names(one, people)):
            continue
        kept.append((k, one))
    if selection.latest and kept:
        kept = [max(kept, key=lambda pair: (str(pair[1].get("created_at") or ""), pair[0]))]
    return kept


def chosen_predictions(
    task: ExportedTask, selection: Selection, fetch: FetchPredictions | None
) -> list[tuple[str, Mapping[str, Any]]]:
    """The predictions that count, with how to call them.

    Raises:
        InputError: none there, or only their ids.
    """
    name = task_name(task)
    found = task.get("predictions")
    if fetch is not None and (
        found is None
        or not isinstance(found, list)
        or any(not isinstance(one, dict) for one in found)
    ):
        found = fetch(int(task["id"]))
    if found is None:
        raise InputError(
            f"{name}: predictions: not in the export; make a snapshot with full predictions, or"
            " give --url, --api-key and --project"
        )
    if not isinstance(found, list):
        raise InputError(f"{name}: predictions: expected a list, got {json_kind(found)}")
    if any(isinstance(one, int) for one in found):
        raise InputError(
            f"{name}: predictions: holds only their ids; give --url, --api-key and --project to"
            " fetch them, or export a snapshot with full predictions"
        )
    if any(not isinstance(one, dict) for one in found):
        raise InputError(f"{name}: predictions: expected objects")
    kept: list[tuple[str, Mapping[str, Any]]] = [
        (f"predictions[{k}]", one) for k, one in enumerate(found)
    ]
    if selection.model_versions:
        wanted = selection.model_versions
        kept = [
            (where, one)
            for where, one in kept
            if version(one) in wanted or any(is_meant(name, version(one)) for name in wanted)
        ]
    return _newest(kept)


def stands_for(
    annotation: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The prediction that an annotation is compared with where every annotation counts once: the
    one it began from, else the newest.
    """
    parent = annotation.get("parent_prediction")
    ours = _region_ids(annotation)

    def rank(one: Mapping[str, Any]) -> tuple[bool, bool, int]:
        begun = parent is not None and one.get("id") == parent
        return begun, not ours.isdisjoint(_region_ids(one)), _number(one.get("id"))

    return max(predictions, key=rank)


def _region_ids(holder: Mapping[str, Any]) -> set[str]:
    found = holder.get("result")
    items = found if isinstance(found, list) else []
    return {str(one["id"]) for one in items if isinstance(one, dict) and one.get("id")}


def version(prediction: Mapping[str, Any]) -> str:
    """The model version of a prediction."""
    return str(prediction.get("model_version") or "unknown")


def _newest(
    predictions: Sequence[tuple[str, Mapping[str, Any]]],
) -> list[tuple[str, Mapping[str, Any]]]:
    """One prediction of each model version, the newest, as some importers leave several."""
    by_version: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for where, one in predictions:
        known = by_version.get(version(one))
        if known is None or _number(one.get("id")) >= _number(known[1].get("id")):
            by_version[version(one)] = (where, one)
    return list(by_version.values())


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
