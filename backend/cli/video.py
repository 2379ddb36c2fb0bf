"""``yolosam2 video``: objects followed through videos."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.common import (
    IMAGE_URL_PREFIX,
    Commands,
    add_command,
    add_model_options,
    add_progress_option,
    add_settings,
    model_settings,
    parse_names,
    print_summary,
    stop_on_interrupt,
)
from backend.cli.frames import add_choice_options, choice_of
from backend.cli.video_sources import add_source_options, sources_of
from backend.config.models import Settings
from backend.errors import ConfigError

_FORMATS = (
    "labelme",
    "voc",
    "label-studio-frames",
    "davis",
    "mp4",
    "page",
    "mots",
    "youtube-vis",
    "coco",
    "cvat",
    "label-studio",
)
_EPILOG = """examples:
  yolosam2 video street.mp4 --out labels/
  yolosam2 video street.mp4 --out labels/ --detector demo --segmenter demo
  yolosam2 video clips/*.mp4 --out labels/ --format mots,davis,mp4 --detect-every 6
  yolosam2 video street.mp4 --out labels/ --prompts boxes.json --classes car,person
  yolosam2 video street.mp4 --out labels/ --masks first/ --classes car
                                    follow what first/street/00000.png outlines
  yolosam2 video street.mp4 --out labels/ --between-accepted
                                    after some labelme files were corrected

What is found is kept in tracks/VIDEO.json (YouTube-VIS); the other files are made of it, so that
one more --format takes no model. A video that is done is not followed again. In a prompt file
image_id is VIDEO/FRAME, such as street/00012."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "video",
        help="follow objects through videos",
        about=(
            "Find objects in videos, follow their masks through all frames, and write them with"
            " the number of their track."
        ),
        run=run,
        epilog=_EPILOG,
    )
    add_source_options(parser)
    about = f"of {', '.join(_FORMATS)} (default: labelme,mp4,page)"
    parser.add_argument("--format", default="labelme,mp4,page", metavar="A,B,..", help=about)
    about = "put before a video's name to make its address in Label Studio tasks"
    parser.add_argument("--image-url-prefix", default=IMAGE_URL_PREFIX, metavar="URL", help=about)
    add_choice_options(parser)
    group = parser.add_argument_group("objects")
    about = "the detector looks at each N-th frame, and where the scene changes (default: 12)"
    group.add_argument("--detect-every", type=int, default=12, metavar="N", help=about)
    about = "frames that an object may be out of sight before it ends (default: 45)"
    group.add_argument("--keep-alive", type=int, default=45, metavar="N", help=about)
    about = "looks of the detector that must find a new object before it is shown (default: 2)"
    group.add_argument("--confirm", type=int, default=2, metavar="N", help=about)
    about = "objects that are followed at once (default: 64)"
    group.add_argument("--max-objects", type=int, default=64, metavar="N", help=about)
    about = (
        "follow only the gaps between frames whose labelme files somebody corrected; all else stays"
    )
    parser.add_argument("--between-accepted", action="store_true", help=about)
    about = (
        "frames after which the work on a video is kept, so that a run that is killed goes on there"
        " (default: 250)"
    )
    parser.add_argument("--checkpoint", type=int, default=250, metavar="N", help=about)
    about = (
        "objects that are outlined already, in the place of a detector: DIR/VIDEO/00000.png,"
        " indexed pictures as DAVIS has them; --classes gives their name (default: object)"
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help=about)
    about = "do again what is done"
    parser.add_argument("--overwrite", action="store_true", help=about)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_progress_option(parser)
    add_settings(add_model_options(parser), Settings, ("prompts", "prompt_boxes"))


def run(args: argparse.Namespace) -> int:
    """Follow the objects."""
    from backend.files.images import ImageLimits
    from backend.labeling.follow import FollowOptions
    from backend.labeling.identities import IdentityOptions
    from backend.labeling.load import load, load_for_masks, video_segmenter_of
    from backend.labeling.video import VideoRun, VideoRunOptions

    formats = parse_names(args.format, _FORMATS, "--format")
    choice = choice_of(args)
    sources = sources_of(args)
    for name in ("detect_every", "keep_alive", "confirm", "max_objects", "checkpoint"):
        if getattr(args, name) < 1:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: expected 1 or more, got {getattr(args, name)}")
    settings = model_settings(args)

    # Boxes that a person gave need no second look.
    confirm = 1 if settings.prompts is not None or args.masks is not None else args.confirm
    follow = FollowOptions(
        every=args.detect_every,
        keep_alive=args.keep_alive,
        identities=IdentityOptions(
            confirmations=confirm, rounds=max(3, confirm + 1), most=args.max_objects
        ),
    )
    if args.between_accepted and args.overwrite:
        raise ConfigError("--between-accepted keeps what was corrected; leave --overwrite out")
    if args.masks is not None and settings.prompts is not None:
        raise ConfigError("--masks and --prompts: give one of them")
    loaded = load(settings) if args.masks is None else load_for_masks(settings)
    options = VideoRunOptions(
        formats=tuple(formats),
        choice=choice,
        follow=follow,
        limits=ImageLimits(max_pixels=settings.max_pixels),
        prompts=loaded.prompts,
        masks=args.masks,
        url_prefix=args.image_url_prefix,
        between_accepted=args.between_accepted,
        checkpoint=args.checkpoint,
        overwrite=args.overwrite,
        progress=not args.no_progress,
    )
    segmenter = video_segmenter_of(loaded.cascade)
    work = VideoRun(loaded.cascade, segmenter, args.out, options, stop_on_interrupt())
    summary = work.run(sources)
    return print_summary(args, summary, failed=bool(summary.failed))
