"""``yolosam2 make-config``: a labeling config for a detector's classes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from backend.cli.common import (
    Commands,
    add_command,
    add_detector_options,
    model_settings,
    print_result,
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "make-config",
        help="a labeling config for a detector's classes",
        about=(
            "Print a labeling config for a detector's classes, or for --classes a,b alone; paste it"
            " under Settings, Labeling Interface, Code."
        ),
        run=run,
    )
    add_detector_options(parser.add_argument_group("the detector"))


def run(args: argparse.Namespace) -> int:
    """Print the labeling config."""
    from backend.formats.label_studio.make_config import make_config
    from backend.labeling.load import load_detector_of

    settings = model_settings(args)
    names: Sequence[str] | None = settings.classes
    if names is None:
        names = list(load_detector_of(settings).names.values())
    print_result(make_config(names).rstrip())
    return 0
