"""``yolosam2 bench``: our code against its peers, or the models on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.common import (
    Commands,
    add_command,
    add_settings,
    model_settings,
    print_json,
    print_result,
    print_status,
)
from backend.config.models import Settings

_EPILOG = """examples:
  yolosam2 bench                   our code against its peers; exit 1 if a goal is missed
  yolosam2 bench --models          the models that are here, on the bundled pictures
  yolosam2 bench --models --detector my-yolo.pt --segmenter sam2.1_hiera_small --images photos/"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "bench",
        help="measure codecs and pipeline against their peers, or the models here",
        about=(
            "Ratios by CPU time in one process, interleaved, against label-studio-sdk and"
            " upstream's way; exit 1 if a goal is missed. With --models: seconds, clicks and memory"
            " of the models on this machine."
        ),
        run=run,
        epilog=_EPILOG,
    )
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="default: 7")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    models = parser.add_argument_group("the models on this machine")
    about = "measure the models whose weights are here, or those named"
    models.add_argument("--models", action="store_true", help=about)
    about = "pictures to measure with (default: the bundled samples)"
    models.add_argument("--images", type=Path, metavar="DIR", help=about)
    add_settings(
        models, Settings, ("detector", "segmenter", "segmenter_config", "model_root", "device")
    )


def run(args: argparse.Namespace) -> int:
    """Measure everything."""
    if args.models:
        return _models(args)
    from backend.benchmarks.run import run_bench

    rows = run_bench(args.repeats)
    if args.json:
        print_json([row.as_dict() for row in rows])
    else:
        print_result("\n".join(row.as_text() for row in rows))
    return 0 if all(row.met for row in rows) else 1


def _models(args: argparse.Namespace) -> int:
    from backend.benchmarks.models import as_text, measure_all
    from backend.demo.run import SAMPLES

    settings = model_settings(args)
    folder = args.images or SAMPLES / "JPEGImages"
    speeds, failed = measure_all(
        settings, folder, args.repeats, lambda name: print_status(f"measuring {name}")
    )
    if args.json:
        print_json({"models": [one.as_dict() for one in speeds], "failed": failed})
    else:
        print_result(as_text(speeds, failed, settings.device))
    return 1 if failed or not speeds else 0
