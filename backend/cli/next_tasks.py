"""``yolosam2 next``: which tasks to look at next, and why."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.cli.common import (
    Commands,
    add_command,
    add_label_studio_options,
    print_json,
    print_result,
    service_settings,
)
from backend.config.service import studio_of
from backend.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backend.evaluation.review_order import Hash, ReviewOrder

_SHOWN = 30
_EPILOG = """Tasks that nobody annotated come in the order of the corrections that they are expected
to need: of each object, the chance that its label, its box or its mask is wrong. What looks like an
accepted picture, or like one that is higher up, comes last, as little is learned from it.

examples:
  yolosam2 next export.json --images photos/
  yolosam2 next --url http://localhost:8080 --project 3
  yolosam2 next --url http://localhost:8080 --project 3 --json > order.json

In Label Studio the same order, but for pictures that look alike, is that of the column Prediction
score, the lowest first."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "next",
        help="which tasks to look at next, and why",
        about="Put tasks that nobody annotated into the order in which they are worth looking at.",
        run=run,
        epilog=_EPILOG,
    )
    about = (
        "a snapshot export of Label Studio with full predictions; without it, --url and --project"
        " say what to ask"
    )
    parser.add_argument("source", type=Path, nargs="?", metavar="EXPORT", help=about)
    about = "where the pictures of EXPORT are, if not beside it"
    parser.add_argument("--images", type=Path, metavar="DIR", help=about)
    about = "do not look at pictures, so that those that look alike are not put last"
    parser.add_argument("--no-pictures", action="store_true", help=about)
    about = "only predictions of it count; a beginning or end will do (default: the newest)"
    parser.add_argument("--model-version", metavar="V", help=about)
    about = f"so many tasks are printed (default: {_SHOWN}; 0 for all)"
    parser.add_argument("--most", type=int, default=_SHOWN, metavar="N", help=about)
    group = parser.add_argument_group("Label Studio, in the place of EXPORT")
    add_label_studio_options(group)
    parser.add_argument("--json", action="store_true", help="print all tasks as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the order."""
    from backend.evaluation.review_order import review_order

    if (args.source is None) == (args.project is None):
        raise ConfigError("name EXPORT, or --project with --url; not both, and not neither")
    if args.most < 0:
        raise ConfigError(f"--most: expected 0 or more, got {args.most}")
    opened = _of_export(args) if args.project is None else _of_project(args)
    with opened as (tasks, hash_of):
        found = review_order(tasks, None if args.no_pictures else hash_of, args.model_version)
    if args.json:
        rows = [one.as_dict() for one in found.tasks]
        print_json(
            {
                "tasks": rows,
                "accepted": found.n_accepted,
                "calibrated_by": found.n_learned,
                "failed": list(found.faults),
            }
        )
    else:
        print_result(_text(found, args.most))
    return 1 if found.faults else 0


@contextmanager
def _of_export(args: argparse.Namespace) -> Iterator[tuple[Iterator[Mapping[str, Any]], Hash]]:
    """The tasks of a file, and pictures on disk."""
    from backend.datasets.similar import picture_hash
    from backend.files.addresses import name_in, path_of
    from backend.files.images import read_image
    from backend.files.pictures import Pictures
    from backend.formats.json_stream import read_tasks

    if not args.source.is_file():
        raise ConfigError(f"{args.source}: no such file")
    pictures = Pictures([args.source.parent], args.images)

    def hash_of(task: Mapping[str, Any], address: str) -> NDArray[np.uint64] | None:
        beside = pictures.beside(args.source.parent, name_in(address))
        path = pictures.find(beside, path_of(address))
        return None if path is None else picture_hash(read_image(path))

    with args.source.open("rb") as stream:
        yield read_tasks(stream, args.source), hash_of


@contextmanager
def _of_project(args: argparse.Namespace) -> Iterator[tuple[Iterator[Mapping[str, Any]], Hash]]:
    """The tasks of a project, and pictures through Label Studio."""
    from backend.datasets.similar import picture_hash
    from backend.errors import LabelingError
    from backend.files.images import decode_image
    from backend.label_studio.api.client import Client
    from backend.label_studio.api.fetch import Fetcher
    from backend.label_studio.api.stored import StoredProject

    service = service_settings(args)
    url = studio_of(service)
    stored = StoredProject(Fetcher(service), args.project)

    def hash_of(task: Mapping[str, Any], address: str) -> NDArray[np.uint64] | None:
        try:
            return picture_hash(decode_image(stored.image(address, int(task["id"]))))
        except LabelingError as error:
            raise InputError(str(error)) from None

    with closing(Client(url, service.label_studio_api_key)) as client:
        client.project(args.project)
        yield (
            (
                {
                    "id": row.id,
                    "data": row.data,
                    "annotations": row.annotations,
                    "predictions": row.predictions,
                }
                for row in client.tasks(args.project, full=True)
            ),
            hash_of,
        )


def _text(found: ReviewOrder, most: int) -> str:
    shown = found.tasks[: most or None]
    lines = [f"{len(found.tasks)} tasks to look at, {found.n_accepted} accepted"]
    if found.n_learned:
        lines.append(
            f"{found.n_learned} accepted ones show how often such predictions have to be corrected"
        )
    if shown:
        wide = max(len("task"), *(len(str(one.task)) for one in shown))
        lines += ["", f"{'task':>{wide}}  corrections  why"]
    for one in shown:
        effort = "-" if one.effort is None else f"{one.effort:.1f}"
        lines.append(f"{one.task:>{wide}}  {effort:>11}  {one.picture}: {one.why}")
    if len(shown) < len(found.tasks):
        lines.append(f"and {len(found.tasks) - len(shown)} more; --most 0 prints all")
    lines += [f"failed: {sentence}" for sentence in found.faults]
    return "\n".join(lines)
