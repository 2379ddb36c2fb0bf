"""Accepted boxes on videos against predicted ones: how well identities were kept, and how much was
left to do.

Boxes are compared in every frame, as Label Studio draws them between key frames. Overlaps are of
boxes in percent of the picture, which is the same as in pixels.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from backend.core.boxes import box_iou
from backend.errors import ConfigError, InputError, Stopped
from backend.evaluation.chosen import chosen_annotations, chosen_predictions, task_name
from backend.evaluation.chosen import version as version_of
from backend.evaluation.identity import IdentityCounts, Overlaps, count_identities, overlaps_in
from backend.evaluation.pairs import Selection
from backend.evaluation.video_effort import BoxTrack, Effort, count_effort, pair_tracks
from backend.evaluation.video_timeline import Timeline, timeline
from backend.files.text import open_utf8
from backend.formats.json_stream import read_tasks
from backend.formats.tracks.rectangle_tasks import video_paths
from backend.formats.tracks.video_rectangle import between, frame_count, from_region

_PERCENT = (100, 100)  # the size of a picture whose pixels are percent
_KIND = "videorectangle"
_MOST_TIMELINES = 24  # of a version
_PEEK = 20  # tasks that are looked at to tell a project of videos


@dataclass
class _Version:
    counts: IdentityCounts | None = None
    by_label: dict[str, IdentityCounts] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)
    n_annotations: int = 0
    n_frames: int = 0
    timelines: list[Timeline] = field(default_factory=list)

    def keep(self, one: Timeline) -> None:
        """Keep it, if it is among the worst and shows anything."""
        if not one.rows:
            return
        self.timelines.append(one)
        self.timelines.sort(key=lambda kept: (kept.hota, -kept.n_frames))
        del self.timelines[_MOST_TIMELINES:]


@dataclass(frozen=True)
class VideoScores:
    """What came of scoring videos.

    Attributes:
        document: for ``--json``: figures of each model version under ``video``.
        timelines: the worst videos of each version, the worst first.
    """

    document: dict[str, Any]
    timelines: Mapping[str, Sequence[Timeline]]


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
) -> VideoScores:
    """Score an export.

    Args:
        path: of the export, with full predictions.
        selection: which annotations and predictions count.
        encoding: of a file that is not in UTF-8.
        stop: set it to end early.

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
                        _add(versions, annotation, prediction, task)
                    except InputError as error:
                        faults.append(str(error))
    if not versions:
        told = faults[0] if faults else "no annotated task has a full prediction beside it"
        raise ConfigError(f"{path}: nothing could be scored: {told}")
    document = {
        "video": {name: _document(one) for name, one in versions.items()},
        "annotated_without_prediction": n_without,
        "failed": faults,
    }
    return VideoScores(document, {name: one.timelines for name, one in versions.items()})


def _add(
    versions: dict[str, _Version],
    annotation: Mapping[str, Any],
    prediction: Mapping[str, Any],
    task: Mapping[str, Any],
) -> None:
    where = task_name(task)
    task_id = task["id"] if isinstance(task["id"], int) else None
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
    pairs = pair_tracks(accepted, predicted)
    count_effort(version.effort, pairs)
    version.keep(timeline(_shown(task), task_id, n_frames, counts.figures.hota, pairs))
    version.n_annotations += 1
    version.n_frames += n_frames


def _shown(task: Mapping[str, Any]) -> str:
    """The task with the name of its video."""
    paths = video_paths(task.get("data"))
    return ", ".join([task_name(task), *(PurePosixPath(path).name for path in paths[:1])])


def _boxes(holder: Mapping[str, Any], where: str) -> tuple[list[BoxTrack], int]:
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
        found.append(BoxTrack(str(region.get("id") or at), label, told, between(told, own)))
    return found, n_frames


def _overlaps(
    accepted: Sequence[BoxTrack], predicted: Sequence[BoxTrack], n_frames: int
) -> list[Overlaps]:
    frames = []
    for frame in range(n_frames):
        sides = [
            [(k, one.boxes[frame]) for k, one in enumerate(side) if frame in one.boxes]
            for side in (accepted, predicted)
        ]
        frames.append(overlaps_in(sides[0], sides[1], box_iou))
    return frames


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
