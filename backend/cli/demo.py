"""``yolosam2 demo``: the embedded models over the bundled samples, or the bundled video."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.common import Commands, add_command, add_progress_option, print_result


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
    about = "follow the objects of the bundled video instead"
    parser.add_argument("--video", action="store_true", help=about)
    add_progress_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    from backend.demo.moving import run_video_demo
    from backend.demo.run import run_demo

    made = run_video_demo if args.video else run_demo
    print_result(made(args.out, progress=not args.no_progress))
    return 0
