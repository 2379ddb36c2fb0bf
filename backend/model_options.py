"""The options of all commands that run models: what ``--help`` says."""

from __future__ import annotations

import argparse
from pathlib import Path


def detector_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-c", "--config", type=Path, metavar="FILE", help="settings as JSON or YAML; upstream YOLO-SAM2's keys are understood")
    group.add_argument("--detector", metavar="MODEL", help="demo, an Ultralytics name (yolov8n .. yolo26x) or a .pt file")
    group.add_argument("--model-root", metavar="DIR", help="where named weights lie and are downloaded to (default: models)")
    group.add_argument("--device", metavar="auto|cpu|cuda|mps", help="default: auto")
    group.add_argument("--classes", metavar="NAMES", help="a,b,c or a file: classes to keep, or the names behind category_id of --prompts")


def model_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("models and thresholds")
    detector_options(group)
    group.add_argument("--segmenter", metavar="MODEL", help="demo, sam2.1_hiera_tiny|small|base_plus|large, sam2_hiera_*, or a checkpoint file")
    group.add_argument("--segmenter-config", metavar="YAML", help="configuration of a checkpoint file")
    group.add_argument("--conf", "-conf", metavar="0..1", help="detections below are dropped (default: 0.25)")
    group.add_argument("--iou", metavar="0..1", help="overlap for non-maximum suppression (default: 0.7)")
    group.add_argument("--max-det", metavar="N", help="most detections per image (default: 300)")
    group.add_argument("--agnostic-nms", action="store_const", const=True, help="one box per object, whatever its class (default: one per class)")
    group.add_argument("--box-margin", metavar="SHARE", help="cut masks to their box grown by this share of its sides (default: off)")
    group.add_argument("--min-part", metavar="SHARE", help="drop parts and fill holes below this share of a mask's area (default: off)")
    group.add_argument("-b", "--batch", metavar="N", help="images per model call (default: 8)")
    group.add_argument("--sam-batch", metavar="N", help="boxes per decoder call (default: 32)")
    return group


def file_options(parser: argparse.ArgumentParser) -> None:
    """Of the commands that read files."""
    group = batch_options(parser)
    group.add_argument("--split", metavar="NAME", help="list of a VOC dataset (default: val)")


def batch_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Of the commands that work through many pictures; a server has no use for them."""
    group = model_options(parser)
    group.add_argument("-p", "--prompts", metavar="JSON", help="boxes come from this prediction.json; no detector is loaded")
    group.add_argument("--workers", metavar="N", help="threads that decode, and as many that encode (default: 2)")
    return group
