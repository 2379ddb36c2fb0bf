"""``yolosam2 evaluate``: masks against the ground truth of a VOC dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.common import (
    INTERRUPTED,
    Commands,
    add_command,
    add_file_options,
    add_result_options,
    model_settings,
    parse_rename,
    stop_on_interrupt,
)
from backend.cli.everything import add_automatic_options, check_automatic, labeler_of
from backend.cli.score import outputs_of, print_document
from backend.errors import ConfigError

_EPILOG = """prints Pixel_Accuracy, Mean_IOU and Class_IOU as upstream YOLO-SAM2 does, then a table
by class name.

examples:
  yolosam2 evaluate VOC/ --detector my-yolo.pt --segmenter sam2.1_hiera_large --report report.html
  yolosam2 evaluate VOC/ --prompts prediction.json --segmenter sam2.1_hiera_large
                                       boxes from any detector
  yolosam2 evaluate VOC/ --detector yolov8m --rename airplane=aeroplane,couch=sofa
                                       where names differ
  yolosam2 evaluate VOC/ --mode automatic --segmenter sam2.1_hiera_large
                                       masks of everything, named by CLIP
  yolosam2 annotate VOC/ --out out/ --format voc && yolosam2 evaluate VOC/ --predictions out/
                                       in two steps that can be resumed, without AP, as label maps
                                       hold no scores

Every listed image counts; one without a prediction counts as all background. A class that occurs
in neither truth nor prediction is n/a, not 0."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        help="mIoU, AP and PQ on a VOC dataset",
        about="Compare masks with the ground truth of a dataset in PASCAL VOC layout.",
        run=run,
        epilog=_EPILOG,
    )
    about = (
        "JPEGImages, SegmentationClass, ImageSets/Segmentation/<split>.txt or <split>_videos.txt"
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help=about)
    about = "label maps made before; no model is loaded"
    parser.add_argument("--predictions", type=Path, metavar="DIR", help=about)
    about = (
        "of a list of videos: the values of SegmentationObject are tracks on both sides, and get"
        " the figures of DAVIS, J and F"
    )
    parser.add_argument("--tracks", action="store_true", help=about)
    about = (
        "cascade: boxes and masks; automatic: masks of everything, named with --names or else the"
        " dataset's classes, with recall, precision and how right their names are; both: the"
        " detector's masks, then automatic ones"
    )
    parser.add_argument(
        "--mode", choices=("cascade", "automatic", "both"), default="cascade", help=about
    )
    add_result_options(parser)
    add_file_options(parser)
    add_automatic_options(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate the dataset."""
    from backend.evaluation.named_masks_text import named_masks_text
    from backend.evaluation.run_evaluate import run_evaluate
    from backend.evaluation.text import (
        classes_text,
        figures_text,
        tracks_text,
        upstream_lines,
    )

    models = ("detector", "segmenter", "prompts")
    given = [f"--{name}" for name in models if getattr(args, name) is not None]
    if args.predictions is not None and given:
        raise ConfigError(
            "--predictions: label maps made before are compared, no model is loaded; leave out"
            f" {', '.join(given)}"
        )
    if args.predictions is not None and (args.mode != "cascade" or args.flat):
        raise ConfigError(
            "--predictions: label maps made before are as they are; leave --mode and --flat out"
        )
    settings = model_settings(args)
    check_automatic(args, settings)
    outputs = outputs_of(args)
    stop = stop_on_interrupt()
    document = run_evaluate(
        args.dataset,
        settings,
        predictions=args.predictions,
        overlap=args.overlap,
        rename=parse_rename(args.rename),
        outputs=outputs,
        stop=stop,
        tracks=args.tracks,
        mode=args.mode,
        flat=lambda labeler: labeler_of(args, settings, labeler),
    )
    view = document["views"][0]
    texts = [upstream_lines(view), classes_text(view), figures_text(view)]
    if document["tracks"] is not None:
        texts.append(tracks_text(document["tracks"]))
    if document["named_masks"] is not None:
        texts.append(named_masks_text(document["named_masks"]))
    code = print_document(args, document, texts)
    return INTERRUPTED if stop.is_set() else code
