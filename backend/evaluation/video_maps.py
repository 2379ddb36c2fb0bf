"""Tracks in label maps, compared with the truth of a VOC dataset of videos."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from backend.core.classes import IGNORE
from backend.errors import ConfigError, InputError
from backend.evaluation.identity import IdentityCounts, count_identities, overlaps_of_maps
from backend.evaluation.video import contour_accuracy, region_similarity, similarity
from backend.files.find import is_there
from backend.formats.voc.dataset import VocDataset
from backend.formats.voc.label_maps import MapReading, read_label_maps

_OBJECTS = "SegmentationObject"


def judge_tracks(
    dataset: VocDataset,
    folder: Path,
    reading: MapReading,
    *,
    ends_count: bool = False,
    progress: bool = True,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """J and F of every object of every video, and how identities were kept; see
    ``evaluation.video`` and ``evaluation.identity``.

    The values of ``SegmentationObject`` are the tracks, on both sides: an object is compared with
    what has its number. What has the number of no true object does not count, as in the benchmark
    for methods that are given the objects. Identities are judged whatever the numbers are.

    Args:
        dataset: of videos, opened by its list of folders.
        folder: holds ``SegmentationClass`` and ``SegmentationObject`` as they were predicted.
        reading: of the predicted maps.
        ends_count: whether the first and last frame of a video count.
        progress: whether to show a bar.
        stop: set it to end after the video in hand.

    Returns:
        Figures of each object, their means over objects, and figures of identity; ready for JSON.

    Raises:
        ConfigError: one side has no object maps, or the dataset has no videos.
    """
    for root in (dataset.root, folder):
        if not (root / _OBJECTS).is_dir():
            raise ConfigError(f"--tracks: {root}: has no {_OBJECTS}, whose values are the tracks")
    videos: defaultdict[str, list[str]] = defaultdict(list)
    for image_id in dataset.image_ids:
        videos[PurePosixPath(image_id).parent.as_posix()].append(image_id)
    if "." in videos:
        raise ConfigError(
            f"--tracks: {dataset.root}: lists pictures, and not videos; <split>_videos.txt names"
            " folders of frames"
        )
    objects: list[dict[str, Any]] = []
    failed: list[str] = []
    identities: list[IdentityCounts] = []
    with tqdm(
        total=len(dataset.image_ids),
        unit="frame",
        disable=not progress,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for video, frames in videos.items():
            if stop is not None and stop.is_set():
                break
            rows, counts = _video(dataset, folder, reading, video, frames, ends_count, failed)
            objects += rows
            identities.append(counts)
            bar.update(len(frames))
    return {
        "objects": objects,
        "mean": {
            name: _mean([one[name] for one in objects])
            for name in ("j", "j_recall", "j_decay", "f", "f_recall", "f_decay", "j_and_f")
        },
        "identity": _identity(identities),
        "ends_count": ends_count,
        "failed": failed,
    }


def _identity(counts: Sequence[IdentityCounts]) -> dict[str, Any] | None:
    if not counts:
        return None
    figures = asdict(reduce(add, counts).figures)
    return {name: round(value, 6) for name, value in figures.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return round(float(np.mean(there)), 6) if there else None


def _video(
    dataset: VocDataset,
    folder: Path,
    reading: MapReading,
    video: str,
    frames: Sequence[str],
    ends_count: bool,
    failed: list[str],
) -> tuple[list[dict[str, Any]], IdentityCounts]:
    numbers: set[int] = set()
    for image_id in frames:
        numbers |= set(np.unique(_true(dataset, image_id)).tolist())
    numbers -= {0, IGNORE}
    j: defaultdict[int, list[float]] = defaultdict(list)
    f: defaultdict[int, list[float]] = defaultdict(list)
    overlaps = []
    for image_id in frames:
        truth = _true(dataset, image_id)
        found = np.zeros_like(truth)
        path = folder / "SegmentationClass" / f"{image_id}.png"
        try:
            if not is_there(path):
                raise InputError(f"{path}: is missing")
            found = _objects(*read_label_maps(path, folder / _OBJECTS / f"{image_id}.png", reading))
            if found.shape != truth.shape:
                raise InputError(f"{path}: is not of the size of its truth")
        except InputError as error:  # a frame without a prediction found nothing
            failed.append(str(error))
            found = np.zeros_like(truth)
        overlaps.append(overlaps_of_maps(*_without_ignored(truth, found)))
        for number in numbers:
            pair = (truth == number, found == number)
            j[number].append(region_similarity(*pair))
            f[number].append(contour_accuracy(*pair))
    rows = [_row(video, number, j[number], f[number], ends_count) for number in sorted(numbers)]
    return rows, count_identities(overlaps)


def _without_ignored(truth: NDArray[Any], found: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both maps without the pixels that the truth says are to be ignored."""
    counts = truth != IGNORE
    return np.where(counts, truth, 0), np.where(counts & (found != IGNORE), found, 0)


def _true(dataset: VocDataset, image_id: str) -> NDArray[Any]:
    return _objects(*dataset.maps(image_id))


def _objects(classes: NDArray[Any], objects: NDArray[Any] | None) -> NDArray[Any]:
    return np.zeros_like(classes) if objects is None else objects


def _row(
    video: str, number: int, j: Sequence[float], f: Sequence[float], ends_count: bool
) -> dict[str, Any]:
    counted = slice(None) if ends_count else slice(1, -1)
    ours = similarity(j[counted])
    outline = similarity(f[counted])

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else round(value, 6)

    return {
        "video": video,
        "object": number,
        "frames": len(j),
        "j": plain(ours.mean),
        "j_recall": plain(ours.recall),
        "j_decay": plain(ours.decay),
        "f": plain(outline.mean),
        "f_recall": plain(outline.recall),
        "f_decay": plain(outline.decay),
        "j_and_f": plain((ours.mean + outline.mean) / 2),
        "frames_j": [round(value, 4) for value in j],
    }
