"""``yolosam2 convert``: from one annotation format to another, or a check of labelme files."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from backend.cli.common import (
    FORMATS,
    IMAGE_URL_PREFIX,
    Commands,
    add_command,
    add_progress_option,
    class_names,
    print_json,
    print_result,
    print_summary,
    stop_on_interrupt,
)
from backend.errors import ConfigError

if TYPE_CHECKING:
    from backend.datasets.convert import ConvertOptions

_NOT_OF_TRACKS = (
    *("--what", "--split", "--classes-of", "--encoding"),
    *("--shape", "--simplify", "--copy", "--strict", "--card"),
)
_TRACKS = ("youtube-vis", "coco-tracks", "cvat", "mots", "davis", "video-rectangle")
_EPILOG = """formats, each read and written:
  labelme        a folder of JSON files; masks, polygons, rectangles, circles and lines are read,
                 masks or polygons written
  label-studio   an export or snapshot as JSON, or tasks for import; written as import.json with
                 brush masks, and label_config.xml
  coco           annotations/instances_<split>.json; run lengths and polygons are read, run lengths
                 written
  yolo           images/, labels/ and data.yaml for segmentation, as Ultralytics trains on it
  voc            JPEGImages/, SegmentationClass/, SegmentationObject/, class_names.txt, as
                 labelme2voc lays them out
tracks of videos, each read and written:
  youtube-vis    tracks/VIDEO.json of yolosam2 video, and YouTube-VIS files
  coco-tracks    COCO with track_id, video_id and frame_id
  cvat           CVAT for video 1.1, masks or boxes
  mots           MOTS text, with classes.txt beside
  davis          a folder of indexed PNGs for each video, without classes
  video-rectangle
                 exports of Label Studio with boxes on videos, which --images DIR holds; written as
                 tasks with predictions

examples:
  yolosam2 convert labels/ tasks/ --to label-studio --images photos/
                                       import tasks/import.json; pictures through local storage, or
                                       --image-url-prefix https://host/photos/
  yolosam2 convert export.json back/ --to labelme --images photos/
  yolosam2 convert export.json yolo/ --to yolo --images photos/ --split train=0.8,val=0.2
  yolosam2 convert VOC/ coco/ --to coco
                                       its train and val lists become a file each
  yolosam2 convert labels/ polygons/ --to labelme --shape polygon --simplify 1.5
  yolosam2 convert export.json yolo/ --to yolo --classes-of my-yolo.pt --card card.html
                                       to train my-yolo.pt further, with a page about it
  yolosam2 convert export.json best/ --to labelme --what best
                                       annotations, and predictions where there are none
  yolosam2 convert out/tracks/ cvat/ --to cvat
                                       the tracks of yolosam2 video, for CVAT
  yolosam2 convert export.json cvat/ --from video-rectangle --to cvat --images videos/
                                       boxes on videos out of Label Studio
  yolosam2 convert --check labels/     every fault of labelme files, by file and field

What a format cannot hold is counted and listed at the end. Files that this program did not write
are kept. Nothing outside of the folders given is read or written, whatever paths the files name."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "convert",
        help="labelme, Label Studio, COCO, YOLO, VOC",
        about=(
            "Convert annotations between labelme, Label Studio, COCO, YOLO and VOC; or check"
            " labelme files."
        ),
        run=run,
        epilog=_EPILOG,
    )
    about = "a folder or JSON file in any of the formats"
    parser.add_argument("source", nargs="?", type=Path, metavar="SRC", help=about)
    about = "output folder; made if missing"
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT", help=about)
    parser.add_argument("--to", metavar="FORMAT", help=", ".join(FORMATS))
    about = "of SRC (default: look)"
    parser.add_argument("--from", dest="from_format", metavar="FORMAT", help=about)
    about = "only check labelme files: faults by file and field, exit code 1 if there are any"
    parser.add_argument("--check", type=Path, metavar="DIR", help=about)
    _add_reading(parser.add_argument_group("what is read"))
    _add_writing(parser.add_argument_group("what is written"))
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_progress_option(parser)


def _add_reading(reading: argparse._ArgumentGroup) -> None:
    about = "where the pictures, or videos, lie, if not in SRC"
    reading.add_argument("--images", type=Path, metavar="DIR", help=about)
    about = "a,b,c or a file: the classes in their order; others are left out"
    reading.add_argument("--classes", metavar="NAMES", help=about)
    about = (
        "of Label Studio: annotations (default), predictions, model_version=V, or best: "
        "annotations, else predictions; to Label Studio: what tasks get (default: a model's "
        "unchanged work becomes predictions, a person's annotations)"
    )
    reading.add_argument("--what", metavar="WHAT", help=about)
    about = (
        "only this list of the source, or how to call the only one (default: all, train);"
        " train=0.8,val=0.2 divides by name"
    )
    reading.add_argument("--split", metavar="NAME", help=about)
    about = (
        "a detector, such as my-yolo.pt: its classes come first, in its order, so that it can be"
        " trained further on the result"
    )
    reading.add_argument("--classes-of", metavar="DETECTOR", help=about)
    about = "of text files, such as gbk or latin-1 (default: utf-8, or what a file begins with)"
    reading.add_argument("--encoding", metavar="NAME", help=about)


def _add_writing(writing: argparse._ArgumentGroup) -> None:
    about = "labelme shapes (default: mask; polygons of labelme files stay as they are)"
    writing.add_argument("--shape", choices=("mask", "polygon"), help=about)
    about = "how far polygons may leave the edge (default: 0.75 in labelme, 0 in YOLO)"
    writing.add_argument("--simplify", type=float, metavar="PIXELS", help=about)
    about = "pictures go into OUT as copies or links (default: copy to yolo and voc, else none)"
    writing.add_argument("--copy", choices=("copy", "link", "none"), help=about)
    about = "before each picture's path in Label Studio tasks, written and read"
    writing.add_argument("--image-url-prefix", default=IMAGE_URL_PREFIX, metavar="URL", help=about)
    about = "an image that the target cannot hold without loss is not written, but listed"
    writing.add_argument("--strict", action="store_true", help=about)
    about = "also a page about the result, as view writes it"
    writing.add_argument("--card", type=Path, metavar="HTML", help=about)
    about = "replace files that this program did not write; they are copied to .bak first"
    writing.add_argument("--overwrite", action="store_true", help=about)


def run(args: argparse.Namespace) -> int:
    """Convert, or check."""
    from backend.formats.registry import format_names

    if args.check is not None:
        return _check(args)
    if {args.to, args.from_format} & set(_TRACKS):
        return _convert_tracks(args)
    for option, name in (("--to", args.to), ("--from", args.from_format)):
        if name is not None and name not in format_names():
            known = ", ".join((*format_names(), *_TRACKS))
            raise ConfigError(f"{option}: unknown format {name!r}; known are {known}")
    places = (("SRC", args.source), ("OUT", args.out), ("--to", args.to))
    missing = [name for name, value in places if value is None]
    if missing:
        raise ConfigError(
            f"convert: {', '.join(missing)} missing; yolosam2 convert SRC OUT --to FORMAT, or"
            " yolosam2 convert --check DIR"
        )
    if args.simplify is not None and not 0 <= args.simplify < math.inf:
        raise ConfigError(f"--simplify: expected 0 or more pixels, got {args.simplify}")
    if args.images is not None and not args.images.is_dir():
        raise ConfigError(f"--images: {args.images}: no such folder")
    from backend.datasets.convert import convert

    options = _options(args)
    stop = stop_on_interrupt()
    summary = convert(args.source, args.out, args.to, options, args.from_format, stop)
    if args.card is not None and summary.stopped is None and summary.images:
        _write_card(args, options)
        summary.outputs.append(args.card)
    nothing_chosen = bool(summary.unwanted) and not summary.per_class
    failed = bool(summary.failed or summary.kept or not summary.images or nothing_chosen)
    return print_summary(args, summary, failed=failed)


def _convert_tracks(args: argparse.Namespace) -> int:
    """Tracks of videos, which no image format holds."""
    from backend.labeling.track_convert import convert_tracks

    for option, name in (("--to", args.to), ("--from", args.from_format)):
        if name not in (None, *_TRACKS):
            raise ConfigError(
                f"{option} {name}: tracks of videos become tracks; known are {', '.join(_TRACKS)}"
            )
    if args.source is None or args.out is None or args.to is None:
        raise ConfigError("convert: yolosam2 convert SRC OUT --to FORMAT")
    for option in _NOT_OF_TRACKS:
        if getattr(args, option.removeprefix("--").replace("-", "_")):
            raise ConfigError(f"{option}: has no meaning for tracks of videos; leave it out")
    if args.images is not None and not args.images.is_dir():
        raise ConfigError(f"--images: {args.images}: no such folder")
    classes = _class_names(args.classes)
    summary = convert_tracks(
        args.source,
        args.out,
        args.to,
        args.from_format,
        classes,
        images=args.images,
        url_prefix=args.image_url_prefix,
        overwrite=args.overwrite,
    )
    return print_summary(args, summary, failed=bool(summary.failed or summary.kept))


def _write_card(args: argparse.Namespace, options: ConvertOptions) -> None:
    from backend.datasets.view import ViewOptions, view
    from backend.formats.options import ReadOptions, parse_what

    folder = args.source if args.source.is_dir() else args.source.parent
    what = ViewOptions(
        read=ReadOptions(url_prefix=args.image_url_prefix, what=parse_what("best")),
        images=options.images or folder,
        progress=not args.no_progress,
    )
    view(args.out, args.card, what, args.to)


def _options(args: argparse.Namespace) -> ConvertOptions:
    """What to do, from the command line."""
    from backend.datasets.convert import ConvertOptions
    from backend.datasets.splits import parse_split
    from backend.files.text import check_encoding
    from backend.formats.options import ReadOptions, WriteOptions, parse_what

    if args.classes is not None and args.classes_of is not None:
        raise ConfigError("--classes and --classes-of: give one of them")
    if args.card is not None and args.card.is_dir():
        raise ConfigError(f"--card: {args.card}: is a folder; name the page, such as page.html")
    classes = _class_names(args.classes)
    _check_effect(args)
    what = None if args.what is None else parse_what(args.what)
    split, division = parse_split(args.split)
    return ConvertOptions(
        read=ReadOptions(
            split=split,
            what=what,
            url_prefix=args.image_url_prefix,
            encoding=check_encoding(args.encoding),
        ),
        write=WriteOptions(
            shape=args.shape or "mask",
            tolerance=args.simplify,
            split=split or "train",
            copy=args.copy,
            url_prefix=args.image_url_prefix,
            what=what,
        ),
        images=args.images,
        classes=classes,
        first_classes=_classes_of(args.classes_of),
        division=division,
        strict=args.strict,
        overwrite=args.overwrite,
        progress=not args.no_progress,
    )


def _class_names(text: str | None) -> tuple[str, ...] | None:
    """The classes of ``--classes``.

    Raises:
        ConfigError: a file that is not there, or no list.
    """
    if text is None:
        return None
    if (text.endswith(".txt") or "/" in text) and not Path(text).is_file():
        raise ConfigError(f"--classes: {text}: no such file")
    is_data = text.endswith((".json", ".yaml", ".yml"))
    if Path(text).exists() and (Path(text).is_dir() or is_data):
        raise ConfigError(f"--classes: {text}: expected names, or a text file with a name a line")
    return class_names(text)


def _classes_of(detector: str | None) -> tuple[str, ...]:
    """The classes of a detector in the order of their numbers.

    Raises:
        ConfigError: it does not load.
    """
    if detector is None:
        return ()
    from backend.config.models import load_settings
    from backend.labeling.load import load_detector_of

    names = load_detector_of(load_settings({"detector": detector}, os.environ)).names
    return tuple(names[k] for k in sorted(names))


def _check_effect(args: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: naming the option.
    """
    if args.shape is not None and args.to != "labelme":
        raise ConfigError(f"--shape: is for --to labelme; {args.to} has masks, or its own outlines")
    outlined = args.to == "yolo" or (args.to == "labelme" and args.shape == "polygon")
    if args.simplify is not None and not outlined:
        raise ConfigError("--simplify: is for outlines: --to labelme --shape polygon, or --to yolo")
    divides = args.split is not None and "=" in args.split
    if divides and args.to in ("labelme", "label-studio"):
        raise ConfigError(f"--split: {args.to} knows no lists to divide images into")


def _check(args: argparse.Namespace) -> int:
    from backend.formats.registry import format_of

    if args.source is not None or args.to is not None:
        raise ConfigError("--check: only looks; give it alone")
    check = format_of("labelme").check
    if check is None:
        raise ConfigError("--check: labelme's format has no checker")
    summary = check(args.check, args.images, not args.no_progress)
    if args.json:
        print_json(summary.as_dict())
    else:
        print_result(summary.as_text())
    return 1 if summary.n_faulty else 0
