"""``yolosam2 bench``: codecs, pipeline and scoring measured against their peers."""

from __future__ import annotations

import argparse

from backend.cli.common import Commands, add_command, print_json, print_result


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "bench",
        help="measure codecs and pipeline against their peers",
        about=(
            "Ratios by CPU time in one process, interleaved, against label-studio-sdk and"
            " upstream's way; exit 1 if a goal is missed."
        ),
        run=run,
    )
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="default: 7")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure everything."""
    from backend.benchmarks.run import run_bench

    rows = run_bench(args.repeats)
    if args.json:
        print_json([row.as_dict() for row in rows])
    else:
        print_result("\n".join(row.as_text() for row in rows))
    return 0 if all(row.met for row in rows) else 1
