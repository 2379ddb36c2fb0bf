"""The commands that work on annotation files."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from backend.commands import INTERRUPTED, say, settings_of, stop_on_interrupt
from backend.config.models import load_settings
from backend.errors import ConfigError


def convert(args: argparse.Namespace) -> int:
    """From one annotation format to another, or a check of labelme files."""
    if args.check is not None:
        return _check(args)
    missing = [name for name, value in (("SRC", args.source), ("OUT", args.out), ("--to", args.to)) if value is None]
    if missing:
        raise ConfigError(f"convert: {', '.join(missing)} missing; yolosam2 convert SRC OUT --to FORMAT, or yolosam2 convert --check DIR")
    if args.simplify is not None and not 0 <= args.simplify < math.inf:
        raise ConfigError(f"--simplify: expected 0 or more pixels, got {args.simplify}")
    if args.images is not None and not args.images.is_dir():
        raise ConfigError(f"--images: {args.images}: no such folder")
    from backend.datasets.convert import Options, convert
    from backend.datasets.splits import parse_split
    from backend.formats.label_studio.reader import parse_what
    from backend.formats.registry import ReadOptions, WriteOptions

    classes = _classes(args.classes)
    _check_effect(args)
    what = None if args.what is None else parse_what(args.what)
    split, division = parse_split(args.split)
    options = Options(
        read=ReadOptions(split, what, args.image_url_prefix),
        write=WriteOptions(args.shape or "mask", args.simplify, split or "train", args.copy, args.image_url_prefix, what),
        images=args.images,
        classes=classes,
        division=division,
        strict=args.strict,
        overwrite=args.overwrite,
        progress=not args.no_progress,
    )
    summary = convert(args.source, args.out, args.to, options, args.from_format, stop_on_interrupt())
    say(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False) if args.json else summary.as_text())
    if summary.stopped == "interrupted":
        return INTERRUPTED
    nothing_chosen = bool(summary.unwanted) and not summary.per_class
    return 1 if summary.failed or summary.kept or not summary.images or nothing_chosen else 0


def _classes(text: str | None) -> tuple[str, ...] | None:
    """The classes of ``--classes``.

    Raises:
        ConfigError: a file that is not there, or no list.
    """
    if text is not None and (text.endswith(".txt") or "/" in text) and not Path(text).is_file():
        raise ConfigError(f"--classes: {text}: no such file")
    if text is not None and Path(text).exists() and (Path(text).is_dir() or text.endswith((".json", ".yaml", ".yml"))):
        raise ConfigError(f"--classes: {text}: expected names, or a text file with a name a line")
    return None if text is None else load_settings({"classes": text}, {}).classes


def _check_effect(args: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: naming the option.
    """
    if args.shape is not None and args.to != "labelme":
        raise ConfigError(f"--shape: is for --to labelme; {args.to} has masks, or its own outlines")
    if args.simplify is not None and not (args.to == "yolo" or (args.to == "labelme" and args.shape == "polygon")):
        raise ConfigError("--simplify: is for outlines: --to labelme --shape polygon, or --to yolo")
    if args.split is not None and "=" in args.split and args.to in ("labelme", "label-studio"):
        raise ConfigError(f"--split: {args.to} knows no lists to divide images into")


def labelme(args: argparse.Namespace) -> int:
    """labelme's window with the cascade in it."""
    from labelme_plugin.launcher import check_version, installed_version, launch

    check_version(installed_version())  # before models are loaded
    from backend.labeling.load import load
    from labelme_plugin.assistant import Assistant

    settings = settings_of(args)
    if settings.prompts is not None:
        raise ConfigError("labelme: a prompt file cannot be used here; the detector finds the objects of the picture that is open")
    loaded = load(settings)
    return launch(Assistant(loaded.cascade, settings.classes), [*args.arguments, *args.rest], settings.iou)


def _check(args: argparse.Namespace) -> int:
    from labelme_plugin.check_folder import check

    if args.source is not None or args.to is not None:
        raise ConfigError("--check: only looks; give it alone")
    summary = check(args.check, args.images, not args.no_progress)
    say(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False) if args.json else summary.as_text())
    return 1 if summary.n_faulty else 0
