"""``yolosam2 labelme``: labelme's window with the models in it."""

from __future__ import annotations

import argparse
from typing import Any

from backend.cli.common import Commands, add_command, add_model_options, model_settings
from backend.cli.everything import add_everything_settings, check_names
from backend.errors import ConfigError

_EPILOG = """experimental: labelme 6.3 has no interface for this, other versions are refused
(pip install 'yolo-sam2-labeling[labelme]').

In the window the model "YOLO -> SAM 2" and masks are chosen already.
  AI-Points       click on an object; Shift and a click says what does not belong to it;
                  Ctrl and a click, or a double click, ends it
  AI-Box          two corners of a rough box
  AI Text-to-Annotation
                  names of the detector's classes with commas, then Run, whatever tool is chosen:
                  labelled masks of all of them, and their scores. With --mode automatic or both,
                  any words: "ball, red box|carton"; "object" alone gives everything

examples:
  yolosam2 labelme photos/ --detector my-yolo.pt --segmenter sam2.1_hiera_small
  yolosam2 labelme photos/ --mode automatic --names "ball, box|carton, cup"
  yolosam2 labelme photos/ --detector demo --segmenter demo -- --labels labels.txt --no-auto-save
                  what follows -- goes to labelme"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "labelme",
        help="labelme with these models in it (experimental)",
        about=(
            "Start labelme with YOLO and SAM 2 among its AI models: class names, points and boxes"
            " become masks in the window."
        ),
        run=run,
        epilog=_EPILOG,
    )
    about = "what labelme opens: a folder, picture or JSON file; after -- its own options"
    parser.add_argument("arguments", nargs="*", metavar="PATH", help=about)
    add_model_options(parser)
    about = (
        "what names in the text field find: classes of the detector, masks of everything that fit"
        " any words, or both (default: cascade)"
    )
    parser.add_argument(
        "--mode", choices=("cascade", "automatic", "both"), default="cascade", help=about
    )
    add_everything_settings(parser, "--mode automatic, both")


def run(args: argparse.Namespace) -> int:
    """Open the window."""
    from backend.formats.registry import format_of

    open_window = format_of("labelme").open_window
    if open_window is None:
        raise ConfigError("labelme: its format cannot open a window")
    settings = model_settings(args)
    check_names(args, settings)
    if settings.prompts is not None:
        raise ConfigError(
            "labelme: a prompt file cannot be used here; the detector finds the objects of the "
            "picture that is open"
        )

    def load_models() -> Any:
        from backend.labeling.by_words import load_for_window

        return load_for_window(settings, args.mode)

    arguments = [*args.arguments, *args.rest]
    return open_window(load_models, arguments, settings.iou)
