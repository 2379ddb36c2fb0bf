"""``yolosam2 view``: what a dataset holds, as one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.common import (
    INTERRUPTED,
    Commands,
    add_command,
    add_progress_option,
    print_json,
    print_result,
    stop_on_interrupt,
)
from backend.errors import ConfigError

_EPILOG = """SRC is a folder or file in any format that convert reads: labelme, Label Studio, COCO,
YOLO or VOC. Nothing is changed, and no model is loaded.

examples:
  yolosam2 view coco/ --out page.html          counts, what deserves a look, and pictures
  yolosam2 view export.json --images photos/ --out page.html
  yolosam2 view labels/ --json                 the counts alone"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "view",
        help="look at a dataset: counts, suspects and pictures on one page",
        about="Look at a dataset of any format, as it is.",
        run=run,
        epilog=_EPILOG,
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a folder or file")
    about = "the page to write; one file, no network"
    parser.add_argument("--out", type=Path, metavar="HTML", help=about)
    about = "format of SRC (default: found by looking)"
    parser.add_argument("--from", dest="from_format", metavar="FORMAT", help=about)
    about = "where the pictures lie, if not in SRC"
    parser.add_argument("--images", type=Path, metavar="DIR", help=about)
    about = "of Label Studio: annotations (default), predictions, model_version=V, or best"
    parser.add_argument("--what", metavar="WHAT", help=about)
    about = "only this list of the source"
    parser.add_argument("--split", metavar="NAME", help=about)
    about = "of text files, such as gbk or latin-1"
    parser.add_argument("--encoding", metavar="NAME", help=about)
    about = "pictures on the page (default: 60)"
    parser.add_argument("--limit", type=int, default=60, metavar="N", help=about)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    add_progress_option(parser)


def run(args: argparse.Namespace) -> int:
    """Look."""
    from backend.datasets.view import ViewOptions, view
    from backend.files.text import check_encoding
    from backend.formats.options import ReadOptions, parse_what
    from backend.formats.registry import format_names

    if args.from_format is not None and args.from_format not in format_names():
        known = ", ".join(format_names())
        raise ConfigError(f"--from: unknown format {args.from_format!r}; known are {known}")
    if args.out is not None and args.out.is_dir():
        raise ConfigError(f"--out: {args.out}: is a folder; name the page, such as page.html")
    if args.limit < 0:
        raise ConfigError(f"--limit: expected 0 or more, got {args.limit}")
    if args.images is not None and not args.images.is_dir():
        raise ConfigError(f"--images: {args.images}: no such folder")
    options = ViewOptions(
        read=ReadOptions(
            split=args.split,
            what=None if args.what is None else parse_what(args.what),
            encoding=check_encoding(args.encoding),
        ),
        images=args.images,
        limit=args.limit,
        progress=not args.no_progress,
    )
    stop = stop_on_interrupt()
    report = view(args.source, args.out, options, args.from_format, stop)
    if args.json:
        print_json(report)
    else:
        from backend.datasets.view_text import as_text

        print_result(as_text(report, args.out))
    if report["stopped"]:
        return INTERRUPTED
    return 1 if report["failed"] else 0
