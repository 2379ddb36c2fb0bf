"""Accepted boxes on videos against predicted ones: how well identities were kept, and how much was
left to do.

Boxes are compared in every frame, as Label Studio draws them between key frames. Overlaps are of
boxes in percent of the picture, which is the same as in pixels.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from backend.errors import ConfigError, InputError, Stopped, counted
from backend.evaluation.chosen import chosen_annotations, chosen_predictions, task_name
from backend.evaluation.chosen import version as version_of
from backend.evaluation.identity import IdentityCounts, Overlaps, count_identities, overlaps_in
from backend.evaluation.pairs import Selection
from backend.files.text import open_utf8
from backend.formats.json_stream import read_tasks
from backend.formats.tracks.video_rectangle import KeyFrame, between, frame_count, from_region

_PERCENT = (100, 100)  # the size of a picture whose pixels are percent
_KIND = "videorectangle"
_MOVED = 0.5  # percent of the picture's sides, up to which a key frame counts as left alone
_SAME = 0.5  # mean overlap from which on two tracks are of the same object
_PEEK = 20  # tasks that are looked at to tell a project of videos


@dataclass(frozen=True, eq=False)
class _Boxes:
    """One region."""

    id: str
    label: str
    told: list[KeyFrame]
    boxes: dict[int, NDArray[np.float64]]


@dataclass
class Effort:
    """What a person did to predicted tracks.

    Attributes:
        tracks: predicted ones, by what became of them: kept, changed, removed; and added ones.
        key_frames: likewise: kept, moved, added, removed.
        labels: tracks that got another label.
    """

    tracks: Counter[str] = field(default_factory=Counter)
    key_frames: Counter[str] = field(default_factory=Counter)
    labels: int = 0


@dataclass
class _Version:
    counts: IdentityCounts | None = None
    by_label: dict[str, IdentityCounts] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)
    n_annotations: int = 0
    n_frames: int = 0


def shows_videos(path: Path, encoding: str | None = None) -> bool:
    """Whether the first tasks of an export with regions have boxes on videos."""
    try:
        with open_utf8(path, encoding) as stream:
            for number, task in enumerate(read_tasks(stream, path)):
                kinds = {region.get("type") for region in _all_regions(task)}
                if kinds:
                    return _KIND in kinds
                if number >= _PEEK:
                    return False
    except (InputError, OSError):
        return False  # the reader of pictures tells what is wrong
    return False


def _all_regions(task: Any) -> Iterable[Mapping[str, Any]]:
    for side in ("annotations", "predictions"):
        for holder in _dicts(task.get(side) if isinstance(task, dict) else None):
            yield from _dicts(holder.get("result"))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def score_video_tasks(
    path: Path,
    selection: Selection,
    encoding: str | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Score an export.

    Args:
        path: of the export, with full predictions.
        selection: which annotations and predictions count.
        encoding: of a file that is not in UTF-8.
        stop: set it to end early.

    Returns:
        A document for ``--json``: figures of each model version under ``video``.

    Raises:
        ConfigError: nothing can be scored.
        Stopped: the user ended it.
    """
    versions: dict[str, _Version] = {}
    faults: list[str] = []
    n_without = 0
    with open_utf8(path, encoding) as stream:
        for number, task in enumerate(read_tasks(stream, path)):
            if stop is not None and stop.is_set():
                raise Stopped("interrupted")
            if not isinstance(task, dict) or "id" not in task:
                faults.append(f"[{number}]: is no task of an export")
                continue
            try:
                annotations = [one for _, one in chosen_annotations(task, selection)]
                if not annotations:
                    continue
                predictions = [one for _, one in chosen_predictions(task, selection, None)]
            except InputError as error:
                faults.append(str(error))
                continue
            n_without += not predictions
            for annotation in annotations:
                for prediction in predictions:
                    try:
                        _add(versions, annotation, prediction, task_name(task))
                    except InputError as error:
                        faults.append(str(error))
    if not versions:
        told = faults[0] if faults else "no annotated task has a full prediction beside it"
        raise ConfigError(f"{path}: nothing could be scored: {told}")
    return {
        "video": {name: _document(one) for name, one in versions.items()},
        "annotated_without_prediction": n_without,
        "failed": faults,
    }


def _add(
    versions: dict[str, _Version],
    annotation: Mapping[str, Any],
    prediction: Mapping[str, Any],
    where: str,
) -> None:
    accepted, n_accepted = _boxes(annotation, f"{where}: annotation")
    predicted, n_predicted = _boxes(prediction, f"{where}: prediction")
    n_frames = max(n_accepted, n_predicted)
    version = versions.setdefault(version_of(prediction), _Version())
    counts = count_identities(_overlaps(accepted, predicted, n_frames))
    version.counts = counts if version.counts is None else version.counts + counts
    for label in {one.label for one in (*accepted, *predicted)}:
        own = count_identities(
            _overlaps(
                [one for one in accepted if one.label == label],
                [one for one in predicted if one.label == label],
                n_frames,
            )
        )
        before = version.by_label.get(label)
        version.by_label[label] = own if before is None else before + own
    _compare(version.effort, accepted, predicted)
    version.n_annotations += 1
    version.n_frames += n_frames


def _boxes(holder: Mapping[str, Any], where: str) -> tuple[list[_Boxes], int]:
    """The regions of an annotation or prediction, and how many frames the video has."""
    found = []
    n_frames = 0
    for k, region in enumerate(_dicts(holder.get("result"))):
        if region.get("type") != _KIND:
            continue
        at = f"{where}.result[{k}]"
        told = from_region(region, _PERCENT, at)
        value = region["value"]
        own = max(frame_count(value.get("framesCount")), 1 + max(one.frame for one in told))
        n_frames = max(n_frames, own)
        labels = value.get("labels")
        label = str(labels[0]) if isinstance(labels, list) and labels else ""
        found.append(_Boxes(str(region.get("id") or k), label, told, between(told, own)))
    return found, n_frames


def _overlaps(
    accepted: Sequence[_Boxes], predicted: Sequence[_Boxes], n_frames: int
) -> list[Overlaps]:
    frames = []
    for frame in range(n_frames):
        sides = [
            [(k, one.boxes[frame]) for k, one in enumerate(side) if frame in one.boxes]
            for side in (accepted, predicted)
        ]
        frames.append(overlaps_in(sides[0], sides[1], _iou))
    return frames


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(a[2:], b[2:])
    both = float(np.prod(np.clip(high - low, 0, None)))
    either = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)
    return both / either if either > 0 else 0.0


def _compare(effort: Effort, accepted: Sequence[_Boxes], predicted: Sequence[_Boxes]) -> None:
    """What became of each predicted track: by its id, else by its boxes."""
    by_id = {one.id: one for one in accepted}
    pairs = [(one, by_id[one.id]) for one in predicted if one.id in by_id]
    taken = {id(one) for pair in pairs for one in pair}
    left = [one for one in predicted if id(one) not in taken]
    new = [one for one in accepted if id(one) not in taken]
    if left and new:
        overlap = np.array([[_mean_overlap(a, b) for b in new] for a in left])
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        pairs += [
            (left[r], new[c]) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= _SAME
        ]
    taken = {id(one) for pair in pairs for one in pair}
    effort.tracks["removed"] += sum(id(one) not in taken for one in predicted)
    effort.tracks["added"] += sum(id(one) not in taken for one in accepted)
    for one in predicted:
        if id(one) not in taken:
            effort.key_frames["removed"] += len(one.told)
    for one in accepted:
        if id(one) not in taken:
            effort.key_frames["added"] += len(one.told)
    for before, after in pairs:
        changes = _key_frames(before, after)
        effort.key_frames += changes
        effort.labels += before.label != after.label
        is_kept = before.label == after.label and set(changes) <= {"kept"}
        effort.tracks["kept" if is_kept else "changed"] += 1


def _mean_overlap(a: _Boxes, b: _Boxes) -> float:
    frames = a.boxes.keys() | b.boxes.keys()
    both = a.boxes.keys() & b.boxes.keys()
    return sum(_iou(a.boxes[k], b.boxes[k]) for k in both) / max(1, len(frames))


def _key_frames(before: _Boxes, after: _Boxes) -> Counter[str]:
    old = {one.frame: one for one in before.told}
    new = {one.frame: one for one in after.told}
    found: Counter[str] = Counter()
    for frame in old.keys() | new.keys():
        if frame not in new:
            found["removed"] += 1
        elif frame not in old:
            found["added"] += 1
        else:
            off = float(np.abs(old[frame].xyxy - new[frame].xyxy).max())
            same = off <= _MOVED and old[frame].enabled == new[frame].enabled
            found["kept" if same else "moved"] += 1
    return found


def _document(version: _Version) -> dict[str, Any]:
    by_label: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for label, counts in sorted(version.by_label.items()):
        by_label[label] = _figures(counts)
    effort = version.effort
    return {
        "annotations": version.n_annotations,
        "frames": version.n_frames,
        **({} if version.counts is None else _figures(version.counts)),
        "classes": dict(by_label),
        "tracks": {key: effort.tracks[key] for key in ("kept", "changed", "removed", "added")},
        "other_labels": effort.labels,
        "key_frames": {
            key: effort.key_frames[key] for key in ("kept", "moved", "removed", "added")
        },
    }


def _figures(counts: IdentityCounts) -> dict[str, Any]:
    figures = counts.figures
    return {
        "hota": round(figures.hota, 4),
        "det_a": round(figures.det_a, 4),
        "ass_a": round(figures.ass_a, 4),
        "loc_a": round(figures.loc_a, 4),
        "idf1": round(figures.idf1, 4),
        "switches": figures.switches,
    }


def video_texts(document: Mapping[str, Any]) -> list[str]:
    """A document of ``score_video_tasks`` for people."""
    texts = []
    for name, one in document["video"].items():
        lines = [
            f"{name or 'no model version'}: {counted(one['annotations'], 'annotation')} of"
            f" {counted(one['frames'], 'frame')}",
            "",
            f"{'':20}{'HOTA':>8}{'DetA':>8}{'AssA':>8}{'LocA':>8}{'IDF1':>8}{'switches':>10}",
        ]
        for label, row in [("all", one), *one["classes"].items()]:
            cells = "".join(
                f"{row[key]:8.3f}" for key in ("hota", "det_a", "ass_a", "loc_a", "idf1")
            )
            lines.append(f"{label[:20]:20}{cells}{row['switches']:10}")
        for what in ("tracks", "key_frames"):
            told = ", ".join(f"{n} {key}" for key, n in one[what].items())
            lines.append(f"{what.replace('_', ' ')}: {told}")
        if one["other_labels"]:
            lines.append(f"{counted(one['other_labels'], 'track')} got another label")
        texts.append("\n".join(lines))
    if document["annotated_without_prediction"]:
        n = document["annotated_without_prediction"]
        texts.append(f"{counted(n, 'annotated task')} without a prediction that counts")
    if document["failed"]:
        texts.append("\n".join([f"failed {len(document['failed'])}:", *document["failed"][:20]]))
    return texts
