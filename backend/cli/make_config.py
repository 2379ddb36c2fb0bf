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
from backend.errors import ConfigError
from backend.formats.label_studio.label_config import CASCADE, MODES


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
    about = "for videos: boxes that follow objects; the file's rate with --frame-rate"
    parser.add_argument("--video", action="store_true", help=about)
    about = "frames a second of the videos (default: 25)"
    parser.add_argument("--frame-rate", type=float, default=25.0, metavar="N", help=about)
    about = (
        "what fills the masks: cascade, the detector's boxes; automatic, masks of everything with"
        " the labels as names; both, one after the other (default: cascade)"
    )
    parser.add_argument("--mode", choices=MODES, default=CASCADE, help=about)
    add_detector_options(parser.add_argument_group("the detector"))


def run(args: argparse.Namespace) -> int:
    """Print the labeling config."""
    from backend.formats.label_studio.make_config import make_config, make_video_config
    from backend.labeling.load import load_detector_of

    if not 0 < args.frame_rate < float("inf"):
        raise ConfigError(f"--frame-rate: expected more than 0, got {args.frame_rate:g}")
    settings = model_settings(args)
    names: Sequence[str] | None = settings.classes
    if names is None:
        names = list(load_detector_of(settings).names.values())
    if args.video and args.mode != CASCADE:
        raise ConfigError(
            f"--video: boxes on videos come from a detector; leave --mode {args.mode} out"
        )
    made = (
        make_video_config(names, args.frame_rate) if args.video else make_config(names, args.mode)
    )
    print_result(made.rstrip())
    return 0
