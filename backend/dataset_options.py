"""The options of the commands that read and write annotation files: what ``--help`` says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from backend.model_options import model_options

FORMATS = ("labelme", "label-studio", "coco", "yolo", "voc")  # explained in backend.formats.registry, which is not loaded for --help

_CONVERT = """formats, each read and written:
  labelme        a folder of JSON files; masks, polygons, rectangles, circles and lines are read, masks or polygons written
  label-studio   an export or snapshot as JSON, or tasks for import; written as import.json with brush masks, and label_config.xml
  coco           annotations/instances_<split>.json; run lengths and polygons are read, run lengths written
  yolo           images/, labels/ and data.yaml for segmentation, as Ultralytics trains on it
  voc            JPEGImages/, SegmentationClass/, SegmentationObject/, class_names.txt, as labelme2voc lays them out

examples:
  yolosam2 convert labels/ tasks/ --to label-studio --images photos/   import tasks/import.json; pictures through local storage, or
                                                                  --image-url-prefix https://host/photos/
  yolosam2 convert export.json back/ --to labelme --images photos/
  yolosam2 convert export.json yolo/ --to yolo --images photos/ --split train=0.8,val=0.2
  yolosam2 convert VOC/ coco/ --to coco                           its train and val lists become a file each
  yolosam2 convert labels/ polygons/ --to labelme --shape polygon --simplify 1.5
  yolosam2 convert export.json best/ --to labelme --what best     annotations, and predictions where there are none
  yolosam2 convert --check labels/                                every fault of labelme files, by file and field

What a format cannot hold is counted and listed at the end. Files that this program did not write are kept. Nothing outside of the folders given is
read or written, whatever paths the files name."""


def add_convert(commands: Any) -> None:
    """``convert``."""
    about = "Convert annotations between labelme, Label Studio, COCO, YOLO and VOC; or check labelme files."
    kind = argparse.RawDescriptionHelpFormatter
    convert = commands.add_parser("convert", help="labelme, Label Studio, COCO, YOLO, VOC", formatter_class=kind, description=about, epilog=_CONVERT)
    convert.add_argument("source", nargs="?", type=Path, metavar="SRC", help="a folder or JSON file in any of the formats")
    convert.add_argument("out", nargs="?", type=Path, metavar="OUT", help="output folder; made if missing")
    convert.add_argument("--to", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    convert.add_argument("--from", dest="from_format", choices=FORMATS, metavar="FORMAT", help="of SRC (default: look)")
    convert.add_argument("--check", type=Path, metavar="DIR", help="only check labelme files: faults by file and field, exit code 1 if there are any")
    reading = convert.add_argument_group("what is read")
    reading.add_argument("--images", type=Path, metavar="DIR", help="where the pictures lie, if not in SRC")
    reading.add_argument("--classes", metavar="NAMES", help="a,b,c or a file: the classes in their order; others are left out")
    reading.add_argument(
        "--what",
        metavar="WHAT",
        help="of Label Studio: annotations (default), predictions, model_version=V, or best: annotations, else predictions; to Label Studio: what tasks get "
        "(default: a model's unchanged work becomes predictions, a person's annotations)",
    )
    reading.add_argument(
        "--split", metavar="NAME", help="only this list of the source, or how to call the only one (default: all, train); train=0.8,val=0.2 divides by name"
    )
    writing = convert.add_argument_group("what is written")
    writing.add_argument("--shape", choices=("mask", "polygon"), help="labelme shapes (default: mask; polygons of labelme files stay as they are)")
    writing.add_argument("--simplify", type=float, metavar="PIXELS", help="how far polygons may leave the edge (default: 0.75 in labelme, 0 in YOLO)")
    writing.add_argument("--copy", choices=("copy", "link", "none"), help="pictures go into OUT as copies or links (default: copy to yolo and voc, else none)")
    writing.add_argument(
        "--image-url-prefix", default="/data/local-files/?d=", metavar="URL", help="before each picture's path in Label Studio tasks, written and read"
    )
    writing.add_argument("--strict", action="store_true", help="an image that the target cannot hold without loss is not written, but listed")
    writing.add_argument("--overwrite", action="store_true", help="replace files that this program did not write; they are copied to .bak first")
    convert.add_argument("--json", action="store_true", help="print the summary as JSON")
    convert.add_argument("--no-progress", action="store_true", help="no progress bar")


_LABELME = """experimental: labelme 6.3 has no interface for this, other versions are refused (pip install 'yolo-sam2-labeling[labelme]').

In the window: choose AI-Points or AI-Box, and the model "YOLO -> SAM 2", which is chosen already, as are masks.
  AI-Points       click on an object; Shift and a click says what does not belong to it; Ctrl and a click, or a double click, ends it
  AI-Box          two corners of a rough box
  AI Text-to-Annotation   names of the detector's classes with commas, then Run: labelled masks of all of them, and their scores

examples:
  yolosam2 labelme photos/ --detector my-yolo.pt --segmenter sam2.1_hiera_small
  yolosam2 labelme photos/ --detector demo --segmenter demo -- --labels labels.txt --no-auto-save    what follows -- goes to labelme"""


def add_labelme(commands: Any) -> None:
    """``labelme``."""
    about = "Start labelme with YOLO and SAM 2 among its AI models: class names, points and boxes become masks in the window."
    kind = argparse.RawDescriptionHelpFormatter
    labelme = commands.add_parser("labelme", help="labelme with these models in it (experimental)", formatter_class=kind, description=about, epilog=_LABELME)
    labelme.add_argument("arguments", nargs="*", metavar="PATH", help="what labelme opens: a folder, picture or JSON file; after -- its own options")
    model_options(labelme)
