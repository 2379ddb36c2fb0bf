"""What a pre-labelling run would do, and what it would take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from backend.config.service import ServiceSettings
from backend.core.holdout import is_held_out
from backend.errors import LabelingError, counted
from backend.files.images import ImageLimits
from backend.formats.label_studio.binding import Output, VideoOutput
from backend.label_studio.api.client import Client
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.filters import without_version
from backend.label_studio.api.tasks import Task
from backend.label_studio.prelabel.prepare import PrelabelOptions, Prepared
from backend.label_studio.prelabel.replacing import older_versions
from backend.label_studio.prelabel.run import filters_of
from backend.label_studio.prelabel.stages import Labeller, Loader, TaskWork

_SAMPLE = 3  # tasks that a dry run predicts to know what one costs


def dry_run(
    client: Client,
    ready: Prepared,
    options: PrelabelOptions,
    service: ServiceSettings,
    limits: ImageLimits,
    n_left: int,
) -> dict[str, Any]:
    """What a run would do, and what it would take, from a few tasks that are predicted and not
    uploaded.
    """
    loader = Loader(ready.binding, Fetcher(service).fetch, limits)
    labeller = Labeller(ready.binding, ready.labeler, ready.model_version)
    seconds = []
    sizes = []
    faults = []
    parts = filters_of(
        client, options.project, options.choice, without_version(ready.model_version)
    )
    rows = client.tasks(options.project, parts[0], full=ready.given is not None)
    # A video may take an hour.
    for row in itertools.islice(rows, 0 if ready.binding.videos else _SAMPLE):
        start = time.monotonic()
        try:
            loaded = loader(
                TaskWork(Task(row.id, row.data), None if ready.given is None else ready.given(row))
            )
            sizes.append(len(labeller.finish(row.id, labeller.infer([loaded])[0])))
            seconds.append(time.monotonic() - start)
        except LabelingError as error:
            faults.append(str(error))
    held_out = _held_out(client, options, parts)
    n = n_left - held_out
    n = n if options.choice.limit is None else min(n, options.choice.limit)
    cost = (
        {
            "estimated_seconds": round(min(seconds) * n, 1),
            "estimated_bytes": int(sum(sizes) / len(sizes) * n),
        }
        if seconds
        else {}
    )
    return {
        "dry_run": True,
        "tasks_to_predict": n,
        "held_out": held_out,
        "other_versions": _older(client, options, ready.model_version),
        "labels": _labels(ready),
        "notes": list(ready.binding.notes),
        "sampled": len(seconds),
        "faults": faults,
        **cost,
    }


def _labels(ready: Prepared) -> list[dict[str, Any]]:
    """Which class becomes which label."""
    outputs: list[Output | VideoOutput] = list(ready.binding.videos)
    outputs += [output for group in ready.binding.groups for output in group.outputs]
    return [
        {
            "tag": output.from_name,
            "class": ready.labeler.names[k],
            "label": label,
            "threshold": output.thresholds[k],
        }
        for output in outputs
        for k, label in output.labels.items()
    ]


def _held_out(
    client: Client, options: PrelabelOptions, parts: Sequence[Sequence[Mapping[str, Any]]]
) -> int:
    """Tasks of the control group."""
    share = options.choice.holdout
    return sum(
        is_held_out(row.id, share)
        for part in (parts if share else ())
        for row in client.tasks(options.project, part)
    )


def _older(client: Client, options: PrelabelOptions, version: str) -> dict[str, int]:
    """How many predictions ``--replace`` may delete, by their versions."""
    if not options.replace and not options.replace_annotated:
        return {}
    there = client.versions(options.project)
    return {name: there[name] for name in older_versions(client, options.project, version)}


def dry_run_text(report: Mapping[str, Any]) -> str:
    """A dry run for people."""
    lines = [
        f"project {report['project']}, {report['title']!r}:"
        f" {counted(report['tasks_to_predict'], 'task')} to predict as {report['model_version']}"
    ]
    if report.get("held_out"):
        lines.append(
            f"  {counted(report['held_out'], 'task')} left without pre-labels as a control group"
        )
    if report.get("other_versions"):
        there = ", ".join(f"{n} of {name}" for name, n in report["other_versions"].items())
        lines.append(
            f"  --replace then deletes older predictions of this program; there are {there}"
        )
    lines += [
        f"  {one['tag']}: {one['class']} becomes {one['label']} from {one['threshold']:g}"
        for one in report["labels"]
    ]
    lines += [f"  {note}" for note in report["notes"]]
    if "estimated_seconds" in report:
        seconds = report["estimated_seconds"]
        span = (
            f"{seconds:.0f} seconds"
            if seconds < 120
            else f"{seconds / 60:.0f} minutes"
            if seconds < 7200
            else f"{seconds / 3600:.1f} hours"
        )
        lines.append(
            f"about {span} and {report['estimated_bytes'] / 1e6:.1f} MB, going by"
            f" {report['sampled']} of them"
        )
    lines += [f"  {fault}" for fault in report["faults"]]
    return "\n".join([*lines, "nothing was uploaded"])
