"""What the commands share that can outline everything: options, and what they are about."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from backend.cli.common import add_settings
from backend.config.automatic import AutomaticOptions
from backend.config.fields import settings_of
from backend.config.models import Settings
from backend.config.naming import NamingOptions
from backend.errors import ConfigError

if TYPE_CHECKING:
    from backend.core.protocols import Labeler

# Where commands that work on Label Studio outline everything.
TAGS = 'tags with model_mode="automatic" or "both"; names are the labels'
FLAT_ORDERS = ("predicted-iou", "stability", "smallest")  # those of core.stacking


def add_automatic_options(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that can outline everything, and make flat maps of it."""
    add_everything_settings(parser, "--mode automatic, both")
    group = parser.add_argument_group("a map without overlaps, in any mode with masks")
    about = "no overlaps: each pixel belongs to one mask; overlays get a legend"
    group.add_argument("--flat", action="store_true", help=about)
    about = (
        "with --flat: a pixel belongs to the mask with the highest predicted IoU (default), to the"
        " most stable or to the smallest one"
    )
    group.add_argument("--flat-order", choices=FLAT_ORDERS, help=about)
    about = "with --flat: a class for what no mask covers (default: none)"
    group.add_argument("--rest", dest="rest_class", metavar="NAME", help=about)


def add_everything_settings(parser: argparse.ArgumentParser, where: str) -> None:
    """What decides automatic masks and their names.

    Args:
        parser: of the command.
        where: what asks for such masks there.
    """
    group = parser.add_argument_group(f"names for automatic masks ({where})")
    add_settings(group, Settings, list(settings_of(NamingOptions)))
    group = parser.add_argument_group(f"automatic masks ({where})")
    add_settings(group, Settings, list(settings_of(AutomaticOptions)))


def check_automatic(args: argparse.Namespace, settings: Settings) -> None:
    """Refuse options that are about automatic masks or flat maps where none are asked for.

    Args:
        args: of the command.
        settings: of the models.

    Raises:
        ConfigError: naming the option.
    """
    check_names(args, settings)
    if not args.flat:
        for name, value in (("--rest", args.rest_class), ("--flat-order", args.flat_order)):
            if value is not None:
                raise ConfigError(f"{name}: is about a map without overlaps; add --flat")
    elif args.mode == "boxes":
        raise ConfigError("--flat: boxes have no masks; choose another --mode")
    elif args.mode == "cascade" and args.flat_order == "stability":
        raise ConfigError("--flat-order stability: only automatic masks tell their stability")


def check_names(args: argparse.Namespace, settings: Settings) -> None:
    """Refuse options that are about names where nothing is looked for by them.

    Args:
        args: of the command.
        settings: of the models.

    Raises:
        ConfigError: naming the option.
    """
    from backend.models.registry import takes_names

    for name in ("names", "namer", "examples"):
        if getattr(args, name) is None or args.mode in ("automatic", "both"):
            continue
        if name != "names" or not takes_names(settings):
            raise ConfigError(
                f"--{name}: is about automatic masks; add --mode automatic or --mode both"
                + (", or take a --detector that looks for words" if name == "names" else "")
            )
    for name in ("examples_images", "examples_split"):
        if getattr(args, name) is not None and settings.examples is None:
            raise ConfigError(
                f"--{name.replace('_', '-')}: belongs to --examples, which is missing"
            )


def labeler_of(args: argparse.Namespace, settings: Settings, labeler: Labeler) -> Labeler:
    """A labeler, or it without overlaps where ``--flat`` asks for that.

    Raises:
        ConfigError: ``--rest`` names a class that is there already.
    """
    from backend.labeling.flat import FlatLabeler

    if not args.flat:
        return labeler
    order = args.flat_order or FLAT_ORDERS[0]
    return FlatLabeler(labeler, order, args.rest_class, settings.least_area)
