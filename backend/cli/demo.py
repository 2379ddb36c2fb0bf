"""``yolosam2 demo``: the embedded models over the bundled samples, or the bundled video."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.common import Commands, add_command, add_progress_option, print_result
from backend.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "demo",
        help="the embedded models over the bundled samples",
        about="Label the bundled samples with the embedded models and compare with their truth.",
        run=run,
    )
    out = Path("demo-out")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help=f"default: {out}")
    about = (
        "cascade: a detector's boxes; automatic: masks of everything, named by words (default:"
        " cascade)"
    )
    modes = ("cascade", "automatic")
    parser.add_argument("--mode", choices=modes, help=about)
    about = "follow the objects of the bundled video instead"
    parser.add_argument("--video", action="store_true", help=about)
    add_progress_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    from backend.demo.moving import run_video_demo
    from backend.demo.run import run_demo

    progress = not args.no_progress
    if args.video:
        if args.mode is not None:
            raise ConfigError("--mode: is for the demo of images; leave it out with --video")
        print_result(run_video_demo(args.out, progress=progress))
    else:
        print_result(run_demo(args.out, progress=progress, mode=args.mode or "cascade"))
    return 0
