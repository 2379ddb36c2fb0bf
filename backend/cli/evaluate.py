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
    add_result_options(parser)
    add_file_options(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate the dataset."""
    from backend.evaluation.run_evaluate import run_evaluate
    from backend.evaluation.text import classes_text, figures_text, tracks_text, upstream_lines

    models = ("detector", "segmenter", "prompts")
    given = [f"--{name}" for name in models if getattr(args, name) is not None]
    if args.predictions is not None and given:
        raise ConfigError(
            "--predictions: label maps made before are compared, no model is loaded; leave out"
            f" {', '.join(given)}"
        )
    settings = model_settings(args)
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
    )
    view = document["views"][0]
    texts = [upstream_lines(view), classes_text(view), figures_text(view)]
    if document["tracks"] is not None:
        texts.append(tracks_text(document["tracks"]))
    code = print_document(args, document, texts)
    return INTERRUPTED if stop.is_set() else code
