"""``yolosam2 frames``: the frames of a video as numbered pictures."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from backend.cli.common import (
    Commands,
    add_command,
    add_progress_option,
    print_summary,
    stop_on_interrupt,
)
from backend.cli.video_sources import add_source_options, sources_of
from backend.errors import ConfigError

if TYPE_CHECKING:
    from backend.files.videos import FrameChoice

_EPILOG = """examples:
  yolosam2 frames street.mp4 --out street/
  yolosam2 frames street.mp4 --out street/ --every 12 --start 0:30 --end 1:00
  yolosam2 frames *.mp4 --out frames/ --max-side 1280
                                   a folder for each video

Each picture is called by the number of its frame in the video, from 00000.jpg on; frames.json tells
their times. What is there already is kept, so that the same command goes on."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "frames",
        help="the frames of a video as numbered pictures",
        about="Write the frames of videos, or of folders of pictures, as numbered JPEGs.",
        run=run,
        epilog=_EPILOG,
    )
    add_source_options(parser)
    add_choice_options(parser)
    about = "write frames anew that are there"
    parser.add_argument("--overwrite", action="store_true", help=about)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_progress_option(parser)


def add_choice_options(parser: argparse.ArgumentParser) -> None:
    """Which frames of a video."""
    about = "only each N-th frame (default: 1)"
    parser.add_argument("--every", type=int, default=1, metavar="N", help=about)
    about = "from this time on, in seconds or as h:mm:ss"
    parser.add_argument("--start", metavar="TIME", help=about)
    about = "up to before this time"
    parser.add_argument("--end", metavar="TIME", help=about)
    about = "scale longer sides down to this"
    parser.add_argument("--max-side", type=int, metavar="PIXELS", help=about)


def choice_of(args: argparse.Namespace) -> FrameChoice:
    """The frames that the options choose.

    Raises:
        ConfigError: an option that cannot be.
    """
    from backend.files.videos import FrameChoice

    return FrameChoice(
        every=args.every,
        start_s=_seconds(args.start, "--start") or 0.0,
        end_s=_seconds(args.end, "--end"),
        max_side=args.max_side,
    )


def _seconds(text: str | None, option: str) -> float | None:
    """``1:02.5`` as 62.5.

    Raises:
        ConfigError: not a time.
    """
    if text is None:
        return None
    try:
        parts = [float(part) for part in text.split(":")]
        if len(parts) > 3 or not all(0 <= part < float("inf") for part in parts):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{option}: expected seconds or h:mm:ss, such as 90 or 1:30, got {text[:40]!r}"
        ) from None
    total = 0.0
    for part in parts:
        total = 60 * total + part
    return total


def run(args: argparse.Namespace) -> int:
    """Write the frames."""
    from backend.config.models import load_settings
    from backend.datasets.frames import write_frames
    from backend.files.images import ImageLimits

    choice = choice_of(args)
    sources = sources_of(args)
    stop = stop_on_interrupt()
    summary = write_frames(
        sources,
        args.out,
        choice,
        limits=ImageLimits(max_pixels=load_settings({}, os.environ).max_pixels),
        overwrite=args.overwrite,
        progress=not args.no_progress,
        stop=stop,
    )
    return print_summary(args, summary, failed=bool(summary.failed) or not summary.videos)
