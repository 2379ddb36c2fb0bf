"""The options of the ``yolosam2`` program: what ``--help`` says."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.dataset_options import add_convert, add_labelme
from backend.model_options import batch_options, detector_options, file_options, model_options

_EPILOG = """examples:
  yolosam2 demo                                            the embedded models on the bundled samples
  yolosam2 annotate photos/ --out labels/                  labelme JSON for a folder, resumable
  yolosam2 annotate photos/ --out out/ --format labelme,label-studio,voc,overlay
  yolosam2 annotate --watch photos/                        JSON beside each picture as it lands, while labelme has the folder open
  yolosam2 annotate VOC/ --out out/ --prompts prediction.json --segmenter sam2.1_hiera_large
  yolosam2 serve                                           the Label Studio ML backend, on 127.0.0.1:9090
  yolosam2 doctor --url http://localhost:8080 --project 1  why nothing appears in Label Studio
  yolosam2 visualize photos/ --out pictures/ --detector demo --segmenter demo
  yolosam2 prelabel --url http://localhost:8080 --project 1   masks for every task of a Label Studio project
  yolosam2 evaluate VOC/ --report report.html              masks against ground truth: mIoU, AP, PQ
  yolosam2 score export.json --report report.html          accepted annotations against predictions, with edit effort
  yolosam2 convert export.json yolo/ --to yolo --images photos/   and between labelme, Label Studio, COCO, YOLO and VOC

exit codes: 0 done, 1 some items failed (each is listed), 2 usage or settings, 3 refused by Label Studio, 130 interrupted"""

_FORMATS = """formats:
  labelme        one JSON per image, masks as labelme draws them
  label-studio   importable tasks with brush masks, and a labeling config
  voc            indexed PNGs: SegmentationClass, SegmentationObject, class_names.txt
  coco, yolo     datasets to train on, in coco/ and yolo/, made of labelme files in labelme/; yolosam2 convert makes them again after corrections
  overlay        pictures with masks drawn"""

_EVALUATE = """prints Pixel_Accuracy, Mean_IOU and Class_IOU as upstream YOLO-SAM2 does, then a table by class name.

examples:
  yolosam2 evaluate VOC/ --detector my-yolo.pt --segmenter sam2.1_hiera_large --report report.html
  yolosam2 evaluate VOC/ --prompts prediction.json --segmenter sam2.1_hiera_large    boxes from any detector
  yolosam2 evaluate VOC/ --detector yolov8m --rename airplane=aeroplane,couch=sofa   where names differ
  yolosam2 annotate VOC/ --out out/ --format voc && yolosam2 evaluate VOC/ --predictions out/    in two steps that can be resumed,
                                                                                     without AP, as label maps hold no scores

Every listed image counts; one without a prediction counts as all background. A class that occurs in neither truth nor prediction is n/a, not 0."""

_SCORE = """inputs:
  EXPORT.json                            a snapshot export of Label Studio with full predictions, or a plain JSON export
                                         with --url, --api-key and --project, from where the predictions are fetched
  FOLDER --predictions FOLDER            labelme JSON as people left it, and as it was predicted

a snapshot with full predictions:
  curl -H "Authorization: Token $KEY" -H "Content-Type: application/json" $URL/api/projects/1/exports/ \\
    -d '{"serialization_options": {"predictions": {"only_id": false}}}'
  then, with the id it answers: curl -H "Authorization: Token $KEY" "$URL/api/projects/1/exports/ID/download?exportType=JSON" -o export.json

examples:
  yolosam2 score export.json --report report.html --json scores.json
  yolosam2 score export.json --annotator anna@example.com --model-version demo+demo-1a2b3c
  yolosam2 score export.json --suggest-thresholds      model_score_threshold per class, ready to paste
  yolosam2 score accepted/ --predictions labels/       two folders of labelme JSON"""

_SERVE = """example:
  LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=... yolosam2 serve --detector my-yolo.pt --segmenter sam2.1_hiera_large

environment:
  LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY   where images come from; the key is a legacy or a personal access token
  BASIC_AUTH_USER, BASIC_AUTH_PASS         asked for on every route but the health checks
  ALLOWED_HOSTS                            other hosts that images may come from: a.example.com,*.example.org,10.1.0.0/16
  The README lists the rest.

Label Studio itself must be started with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false to talk to a private address."""


OVERLAPS = ("score", "smallest", "last")  # explained in geometry, which is not loaded for --help


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", type=Path, metavar="SRC", help="image files, folders (recursive) or VOC datasets")
    parser.add_argument("--mode", choices=("cascade", "boxes"), default="cascade", help="cascade: boxes and masks; boxes: no segmenter")
    parser.add_argument("--overwrite", action="store_true", help="do again what is done; hand-made files are copied to .bak first")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def _labelling(commands: Any) -> None:
    kind = argparse.RawDescriptionHelpFormatter
    about = "Label the bundled samples with the embedded models and compare with their truth."
    demo = commands.add_parser("demo", help="the embedded models over the bundled samples", description=about)
    demo.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="default: demo-out")
    demo.add_argument("--no-progress", action="store_true", help="no progress bar")
    about = "Label images. Run the same command again to go on after an interruption: what is done is skipped."
    annotate = commands.add_parser("annotate", help="label images into files", formatter_class=kind, description=about, epilog=_FORMATS)
    annotate.add_argument("--out", type=Path, metavar="DIR", help="output folder; made if missing (with --watch: default beside the pictures)")
    annotate.add_argument("--watch", action="store_true", help="stay, and label pictures as they land in the folders, until Ctrl-C")
    annotate.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="how often --watch looks (default: 1)")
    _run_options(annotate)
    annotate.add_argument("--format", default="labelme", metavar="F[,F..]", help="labelme, label-studio, coco, yolo, voc, overlay (default: labelme)")
    prefix = "/data/local-files/?d="
    annotate.add_argument("--image-url-prefix", default=prefix, metavar="URL", help="put before each image's path in Label Studio tasks")
    file_options(annotate)
    about = "Write pictures with masks, outlines, labels and scores drawn over them; of a VOC dataset with truth, class maps: prediction, truth and errors."
    visualize = commands.add_parser("visualize", help="draw masks over images", description=about)
    visualize.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder; made if missing")
    _run_options(visualize)
    visualize.add_argument("--plain", action="store_true", help="only the prediction, also for a dataset with truth")
    visualize.add_argument("--rename", metavar="A=B,..", help="class A of the model is class B of the dataset")
    file_options(visualize)


def _label_studio(commands: Any) -> None:
    kind = argparse.RawDescriptionHelpFormatter
    about = "Serve masks to Label Studio: connect this address in a project under Settings, Model."
    serve = commands.add_parser("serve", help="the Label Studio ML backend", formatter_class=kind, description=about, epilog=_SERVE)
    serve.add_argument("--host", metavar="ADDRESS", help="where to listen; others than 127.0.0.1 need a password or --insecure (default: 127.0.0.1)")
    serve.add_argument("--port", metavar="N", help="default: 9090")
    serve.add_argument("--threads", metavar="N", help="HTTP threads; the models have one of their own (default: 16)")
    serve.add_argument("--insecure", action="store_const", const=True, help="listen on an open address without a password")
    serve.add_argument("--label-studio-url", "--url", metavar="URL", help="Label Studio, as this machine reaches it (LABEL_STUDIO_URL)")
    model_options(serve)
    about = "Check packages, device, weights, and, with an address, Label Studio, its settings, a project and one real image; print the fix for each fault."
    example = "example:\n  yolosam2 doctor --url http://localhost:8080 --project 1 --detector my-yolo.pt    (the same model options as for serve)"
    doctor = commands.add_parser("doctor", help="find out why nothing appears", description=about, epilog=example, formatter_class=kind)
    doctor.add_argument("--url", metavar="URL", help="Label Studio (default: LABEL_STUDIO_URL)")
    doctor.add_argument(
        "--api-key", metavar="TOKEN", help="legacy or personal access token (default: LABEL_STUDIO_API_KEY, which does not show in the process list)"
    )
    doctor.add_argument("--project", type=int, metavar="ID", help="the number in the project's address")
    doctor.add_argument("--backend-url", metavar="URL", help="the backend's address as Label Studio would call it")
    doctor.add_argument("--json", action="store_true", help="print as JSON")
    model_options(doctor)
    about = "Print a labeling config for a detector's classes, or for --classes a,b alone; paste it under Settings, Labeling Interface, Code."
    config = commands.add_parser("make-config", help="a labeling config for a detector's classes", description=about)
    detector_options(config.add_argument_group("the detector"))


_PRELABEL = """After a crash, a restart or Ctrl-C: run the same command again. What Label Studio has is left alone, what is missing is predicted.

examples:
  yolosam2 prelabel --url http://localhost:8080 --project 1 --detector my-yolo.pt --dry-run     what would be done, and how long it would take
  yolosam2 prelabel --url http://localhost:8080 --project 1 --detector my-yolo.pt --json report.json
  yolosam2 prelabel --url ... --project 1 --from-boxes annotations     masks for rectangles that people drew
  yolosam2 prelabel --url ... --project 1 --prompts prediction.json    boxes of any detector, by the names of the pictures
  yolosam2 prelabel --url ... --project 1 --engine ray --actors 4      on Ray, one model a GPU; --ray-address for a cluster

Annotations and drafts are never touched. The token is best given as LABEL_STUDIO_API_KEY, which does not show in the process list."""


def _prelabelling(commands: Any) -> None:
    kind = argparse.RawDescriptionHelpFormatter
    about = "Predict masks for a whole Label Studio project and upload them; every task gets one prediction of a model version, whatever happens."
    prelabel = commands.add_parser("prelabel", help="pre-label a whole Label Studio project", formatter_class=kind, description=about, epilog=_PRELABEL)
    prelabel.add_argument("--url", metavar="URL", help="Label Studio (default: LABEL_STUDIO_URL)")
    prelabel.add_argument("--api-key", metavar="TOKEN", help="legacy or personal access token (default: LABEL_STUDIO_API_KEY)")
    prelabel.add_argument("--project", type=int, required=True, metavar="ID", help="the number in the project's address")
    which = prelabel.add_argument_group("which tasks (default: all without a prediction of this model version)")
    which.add_argument("--view", type=int, metavar="ID", help="a tab of the Data Manager: the tab=ID of its address")
    which.add_argument("--ids", metavar="1,2,..", help="task numbers, or a file with one a line")
    which.add_argument("--only-unlabelled", action="store_true", help="tasks that nobody annotated")
    which.add_argument("--limit", type=int, metavar="N", help="at most so many")
    which.add_argument("--retry-failed", action="store_true", help="also those that failed in an earlier run")
    how = prelabel.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="count, show the label mapping, estimate time and bytes from three tasks; upload nothing")
    how.add_argument("--replace", action="store_true", help="delete older predictions that this program made, once the new one is there")
    how.add_argument("--from-boxes", choices=("annotations", "predictions"), help="rectangles of the tasks become masks; no detector is loaded")
    how.add_argument("--journal", type=Path, metavar="FILE", help="what was done (default: prelabel/<address>-<project>-<version>.journal)")
    how.add_argument("--engine", choices=("local", "ray"), default="local", help="default: local")
    how.add_argument("--actors", type=int, default=1, metavar="N", help="models that Ray holds at once, each on a GPU of its own (default: 1)")
    how.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster, such as ray://head:10001 or auto (default: this machine)")
    how.add_argument("--json", type=Path, metavar="FILE", help="also write the report as JSON; - prints it instead")
    how.add_argument("--no-progress", action="store_true", help="no progress bar")
    batch_options(prelabel)


def _result_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON; - prints it instead of the tables")
    parser.add_argument("--report", type=Path, metavar="HTML", help="also write a page with charts and the worst images; one file, no network")
    parser.add_argument("--overlap", choices=OVERLAPS, default="score", help="which instance is seen where several are (default: score, the surer one)")
    parser.add_argument("--rename", metavar="A=B,..", help="score label A under the name B")
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap behind the 95 %% intervals; 0 for none (default: 1000)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def _scoring(commands: Any) -> None:
    kind = argparse.RawDescriptionHelpFormatter
    about = "Compare masks with the ground truth of a dataset in PASCAL VOC layout."
    evaluate = commands.add_parser("evaluate", help="mIoU, AP and PQ on a VOC dataset", formatter_class=kind, description=about, epilog=_EVALUATE)
    evaluate.add_argument(
        "dataset", type=Path, metavar="DATASET", help="JPEGImages, SegmentationClass, ImageSets/Segmentation/<split>.txt or <split>_videos.txt"
    )
    evaluate.add_argument("--predictions", type=Path, metavar="DIR", help="label maps made before; no model is loaded")
    _result_options(evaluate)
    file_options(evaluate)
    about = "Compare what annotators accepted with what was predicted: how good the masks were, and how much work was left."
    score = commands.add_parser("score", help="accepted annotations against predictions", formatter_class=kind, description=about, epilog=_SCORE)
    score.add_argument("source", type=Path, metavar="SOURCE", help="an export of Label Studio, or a folder of labelme JSON")
    score.add_argument("--predictions", type=Path, metavar="DIR", help="the folder of labelme JSON as it was predicted")
    _score_options(score)
    _result_options(score)


def _score_options(score: argparse.ArgumentParser) -> None:
    score.add_argument("--suggest-thresholds", action="store_true", help="print the score threshold with the best F1 per class, as Label tags")
    score.add_argument("--images", type=Path, metavar="DIR", help="where the pictures are, for the page")
    which = score.add_argument_group("what counts (default: every annotation that was not skipped, against every model version)")
    which.add_argument("--annotator", action="append", default=[], metavar="WHO", help="e-mail address or user id; may be repeated")
    which.add_argument("--model-version", action="append", default=[], metavar="V", help="tasks without a prediction of it take no part; may be repeated")
    which.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="NAME",
        help="only regions of this control tag; may be repeated (default: boxes that repeat masks are left out)",
    )
    which.add_argument("--ground-truth", action="store_true", help="only annotations marked as ground truth")
    which.add_argument("--latest", action="store_true", help="only the last annotation of a task")
    which.add_argument("--include-cancelled", action="store_true", help="annotations that were skipped count too")
    which.add_argument("--missing", action="store_true", help="an annotated task without a prediction counts as one that found nothing")
    which.add_argument("--classes", metavar="NAMES", help="a,b,c or a file: the classes, in this order; other labels are faults")
    where = score.add_argument_group("Label Studio, for exports that hold only the ids of predictions")
    where.add_argument("--url", metavar="URL", help="default: LABEL_STUDIO_URL")
    where.add_argument("--api-key", metavar="TOKEN", help="default: LABEL_STUDIO_API_KEY, which does not show in the process list")
    where.add_argument("--project", type=int, metavar="ID", help="the number in the project's address")


def _about_models(commands: Any) -> None:
    about = "List models by name and whether their files are here."
    models = commands.add_parser("models", help="list the models known by name", description=about)
    models.add_argument("--model-root", metavar="DIR", help="where named weights lie (default: models)")
    models.add_argument("--json", action="store_true", help="print as JSON")
    about = "Ratios by CPU time in one process, interleaved, against label-studio-sdk and upstream's way; exit 1 if a goal is missed."
    bench = commands.add_parser("bench", help="measure codecs and pipeline against their peers", description=about)
    bench.add_argument("--repeats", type=int, default=7, metavar="N", help="default: 7")
    bench.add_argument("--json", action="store_true", help="print as JSON")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a misspelt option is answered by the command it was given to, with the one that was meant."""
    parser = make_parser()
    own, rest = list(sys.argv[1:] if argv is None else argv), list[str]()
    if "--" in own and "labelme" in own[: min(2, own.index("--"))]:  # what follows is for another program
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]
    args, unknown = parser.parse_known_args(own)
    args.rest = rest
    if not unknown:
        return args
    command: argparse.ArgumentParser = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[args.command]
    known = [option for action in command._actions for option in action.option_strings]
    given = unknown[0].partition("=")[0]
    if given in known:
        return command.error(f"{given} belongs after the command: yolosam2 {args.command} {given} ...")
    close = [option for option in known if len(option) > 3 and given.startswith(option)] or difflib.get_close_matches(given, known, 1)
    told = f"; did you mean {close[0]}?" if close else "; labelme's own options go behind --" if args.command == "labelme" else ""
    return command.error(f"unrecognized argument {unknown[0][:80]}{told}")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="yolosam2", description="Pre-annotation with masks: YOLO finds and names objects, SAM 2 outlines them.", epilog=_EPILOG, formatter_class=kind
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _labelling(commands)
    _label_studio(commands)
    _prelabelling(commands)
    _scoring(commands)
    add_convert(commands)
    add_labelme(commands)
    _about_models(commands)
    return parser
