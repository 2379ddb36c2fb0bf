"""``yolosam2 create-project``: a Label Studio project with everything in it."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backend.cli.common import (
    Commands,
    add_command,
    add_detector_options,
    add_label_studio_options,
    add_progress_option,
    model_settings,
    print_json,
    print_result,
    service_settings,
)
from backend.config.models import Settings
from backend.config.service import studio_of
from backend.errors import ConfigError, counted

if TYPE_CHECKING:
    from backend.label_studio.api.new_project import MadeProject

_MANY = 20  # labels, from which on --classes is worth a word
_EPILOG = """examples:
  yolosam2 create-project --url http://localhost:8080 --title Cats --images photos/ \\
    --classes cat,dog              uploads the pictures
  yolosam2 create-project --title Cats --storage /data/photos --detector my-yolo.pt
                                   a folder that Label Studio's machine has and serves
                                   (LOCAL_FILES_SERVING_ENABLED=true)

then, with the number that it prints:
  yolosam2 prelabel --project 7 --detector my-yolo.pt"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "create-project",
        help="a Label Studio project with pictures, config and instructions",
        about=(
            "Make a Label Studio project for a detector's classes, or for --classes a,b alone: its"
            " labeling config, pictures, instructions for annotators, and a tab with the hardest"
            " tasks first."
        ),
        run=run,
        epilog=_EPILOG,
    )
    add_label_studio_options(parser, project=False)
    parser.add_argument("--title", required=True, metavar="TEXT", help="of the project")
    about = "pictures to upload, searched recursively"
    parser.add_argument("--images", type=Path, metavar="DIR", help=about)
    about = "a folder of Label Studio's own machine instead, which it serves"
    parser.add_argument("--storage", metavar="PATH", help=about)
    about = "address of yolosam2 serve as Label Studio reaches it, to connect it"
    parser.add_argument("--backend-url", metavar="URL", help=about)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    add_progress_option(parser)
    add_detector_options(parser.add_argument_group("the detector"))


def run(args: argparse.Namespace) -> int:
    """Make the project."""
    from tqdm import tqdm

    from backend.formats.label_studio.make_config import make_config
    from backend.label_studio.api.client import Client
    from backend.label_studio.api.new_project import NewProject, create_project
    from backend.label_studio.api.presentation import data_manager
    from backend.labeling.sources import collect

    service = service_settings(args)
    url = studio_of(service, with_token=True)
    if args.images is None and args.storage is None:
        raise ConfigError("create-project: give --images DIR, or --storage PATH")
    pictures = []
    if args.images is not None:
        pictures = [item.path for item in collect([args.images], "val").items]
    settings = model_settings(args)
    names = _class_names(settings)
    auth = None
    if service.basic_auth_user:
        auth = (service.basic_auth_user, service.basic_auth_pass.reveal())
    wanted = NewProject(
        title=args.title,
        label_config=make_config(names),
        pictures=pictures,
        storage=args.storage,
        backend_url=args.backend_url,
        backend_auth=auth,
    )
    bar = tqdm(total=len(pictures), unit="img", disable=args.no_progress, file=sys.stderr)
    with bar, closing(Client(url, service.label_studio_api_key)) as client:
        made = create_project(client, wanted, bar.update)
    address = data_manager(url, made.id, made.tab)
    if args.json:
        found = {"project": made.id, "tasks": made.n_tasks, "address": address}
        print_json({**found, "classes": list(names), "failed": list(made.failed)})
    else:
        print_result(_as_text(args, made, address, url, len(names)))
    return 1 if made.failed else 0


def _class_names(settings: Settings) -> tuple[str, ...]:
    """The labels of the project.

    Raises:
        ConfigError: a class that the detector does not know, where one was named.
    """
    from backend.labeling.load import load_detector_of

    if settings.classes is not None and settings.detector is None:
        return settings.classes
    # All that the detector knows, whatever is chosen of it.
    known = tuple(load_detector_of(replace(settings, classes=None)).names.values())
    folded = {name.casefold() for name in known}
    unknown = [name for name in settings.classes or () if name.casefold() not in folded]
    if unknown:
        raise ConfigError(
            f"--classes: the detector knows no {', '.join(unknown)}; it knows {', '.join(known)}."
            " For a project without pre-labels of them, leave --detector out"
        )
    return settings.classes or known


def _as_text(
    args: argparse.Namespace, made: MadeProject, address: str, url: str, n_classes: int
) -> str:
    lines = [
        f"project {made.id} with {counted(made.n_tasks, 'task')}, {counted(n_classes, 'class')}",
        f"open {address}",
    ]
    if n_classes > _MANY:
        lines.append(
            f"{n_classes} labels are many to choose from: --classes a,b names those you need"
        )
    lines += [f"failed: {one}" for one in made.failed]
    models = "".join(
        f" --{name} {shlex.quote(str(value))}"
        for name in ("detector", "config")
        if (value := getattr(args, name)) is not None
    )
    lines.append(
        f"next: yolosam2 prelabel --url {url} --project {made.id}{models} --segmenter ..., with"
        " the segmenter of your choice (yolosam2 models lists them)"
    )
    return "\n".join(lines)
