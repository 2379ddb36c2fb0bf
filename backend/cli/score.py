"""``yolosam2 score``: accepted annotations against predictions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.cli.common import (
    INTERRUPTED,
    Commands,
    add_command,
    add_label_studio_options,
    add_result_options,
    class_names,
    parse_rename,
    parse_share,
    print_json,
    print_result,
    service_settings,
    stop_on_interrupt,
)
from backend.errors import ConfigError

if TYPE_CHECKING:
    from backend.evaluation.results import Outputs

_EPILOG = """inputs:
  EXPORT.json                      a snapshot export of Label Studio with full predictions, or a
                                   plain JSON export with --url, --api-key and --project, from
                                   where the predictions are fetched; or a folder of either, as
                                   a synchronized storage writes them
  FOLDER --predictions FOLDER      labelme JSON as people left it, and as it was predicted

an export of a project of videos gets figures of tracks (HOTA, IDF1, switches) and what was left to
do with their key frames, instead of those of masks

without SOURCE, a snapshot of the project is made, scored and deleted again.

examples:
  yolosam2 score --url http://localhost:8080 --project 3 --report report.html
  yolosam2 score export.json --report report.html --json scores.json
  yolosam2 score export.json --annotator anna@example.com --model-version demo+demo-1a2b3c
  yolosam2 score export.json --compare v1 v2 --report report.html
                                   what the second is better at, with intervals
  yolosam2 score --compare before.json after.json
                                   the same for two results that --json wrote
  yolosam2 score export.json --name 1a2b3c=before --name 4d5e6f=after
  yolosam2 score export.json --suggest-thresholds
                                   model_score_threshold per class, ready to paste
  yolosam2 score --url http://localhost:8080 --project 3 --apply-thresholds
                                   the same, put into the project
  yolosam2 score accepted/ --predictions labels/
                                   two folders of labelme JSON"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "score",
        help="accepted annotations against predictions",
        about=(
            "Compare what annotators accepted with what was predicted: how good the masks were, and"
            " how much work was left."
        ),
        run=run,
        epilog=_EPILOG,
    )
    about = (
        "an export of Label Studio, a folder of them, or a folder of labelme JSON; without any,"
        " --url and --project say what to fetch"
    )
    parser.add_argument("source", type=Path, nargs="?", metavar="SOURCE", help=about)
    about = "the folder of labelme JSON as it was predicted"
    parser.add_argument("--predictions", type=Path, metavar="DIR", help=about)
    about = (
        "two model versions of the source side by side; a beginning or end of each will do; without"
        " a source, two files that --json wrote"
    )
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"), help=about)
    about = (
        "print the score threshold with the best F1 per class: as Label tags, and with --project in"
        " its whole labeling config"
    )
    parser.add_argument("--suggest-thresholds", action="store_true", help=about)
    about = "put those thresholds into the labeling config of --project"
    parser.add_argument("--apply-thresholds", action="store_true", help=about)
    about = "where the pictures are, for the page"
    parser.add_argument("--images", type=Path, metavar="DIR", help=about)
    about = "of files that are not in UTF-8, such as gbk or latin-1"
    parser.add_argument("--encoding", metavar="NAME", help=about)
    about = "what an hour of an annotator costs, for what was saved"
    parser.add_argument("--hourly", type=float, metavar="MONEY", help=about)
    about = "what to call a model version, by its beginning or end; may be repeated"
    parser.add_argument("--name", metavar="VERSION=NAME", action="append", default=[], help=about)
    _add_selection(parser)
    where = parser.add_argument_group(
        "Label Studio, for exports that hold only the ids of predictions"
    )
    add_label_studio_options(where)
    add_result_options(parser)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    which = parser.add_argument_group(
        "what counts (default: every annotation that was not skipped, against every model version)"
    )
    many: dict[str, Any] = {"action": "append", "default": []}
    about = "e-mail address or user id; may be repeated"
    which.add_argument("--annotator", metavar="WHO", help=about, **many)
    about = "tasks without a prediction of it take no part; may be repeated"
    which.add_argument("--model-version", metavar="V", help=about, **many)
    about = (
        "only regions of this control tag; may be repeated (default: boxes that repeat masks are"
        " left out)"
    )
    which.add_argument("--tag", metavar="NAME", help=about, **many)
    about = "only annotations marked as ground truth"
    which.add_argument("--ground-truth", action="store_true", help=about)
    about = "only the last annotation of a task"
    which.add_argument("--latest", action="store_true", help=about)
    about = "annotations that were skipped count too"
    which.add_argument("--include-cancelled", action="store_true", help=about)
    about = (
        "the control group that prelabel --holdout left without pre-labels; its tasks count for"
        " the times alone"
    )
    which.add_argument("--holdout", metavar="SHARE", help=about)
    about = "an annotated task without a prediction counts as one that found nothing"
    which.add_argument("--missing", action="store_true", help=about)
    about = "a,b,c or a file: the classes, in this order; other labels are faults"
    which.add_argument("--classes", metavar="NAMES", help=about)


def run(args: argparse.Namespace) -> int:
    """Score the annotations."""
    from backend.evaluation.pairs import Selection
    from backend.evaluation.run_score import ScoreOptions, run_score
    from backend.evaluation.text import score_texts
    from backend.evaluation.thresholds import project_config
    from backend.files.text import check_encoding

    if args.compare and args.source is None and args.project is None:
        return _compare_files(args, *args.compare)
    if args.apply_thresholds and args.project is None:
        raise ConfigError("--apply-thresholds: also give --project")
    selection = Selection(
        annotators=frozenset(args.annotator),
        model_versions=frozenset(args.model_version),
        tags=frozenset(args.tag),
        cancelled=args.include_cancelled,
        ground_truth=args.ground_truth,
        latest=args.latest,
        missing=args.missing,
        names=parse_rename(",".join(args.name), "--name"),
        holdout=parse_share(args.holdout, "--holdout"),
    )
    service = service_settings(args)
    outputs = outputs_of(args)
    stop = stop_on_interrupt()
    options = ScoreOptions(
        source=args.source,
        predictions=args.predictions,
        project=args.project,
        selection=selection,
        classes=class_names(args.classes),
        rename=parse_rename(args.rename),
        overlap=args.overlap,
        url_given=args.label_studio_url is not None,
        hourly=args.hourly,
        compare=None if args.compare is None else (args.compare[0], args.compare[1]),
        encoding=check_encoding(args.encoding),
    )
    document = run_score(options, service, outputs, stop)
    if "video" in document:
        return _print_videos(args, document)
    with_thresholds = args.suggest_thresholds or args.apply_thresholds
    texts = score_texts(document, with_thresholds)
    if with_thresholds and args.project is not None:
        texts.append(project_config(document, service, args.project, apply=args.apply_thresholds))
    code = print_document(args, document, texts)
    return INTERRUPTED if stop.is_set() else code


def _print_videos(args: argparse.Namespace, document: dict[str, Any]) -> int:
    from backend.evaluation.video_text import video_texts

    if str(args.json) == "-":
        print_json(document, indent=1)
    else:
        wrote = [f"wrote {args.json}"] if args.json is not None else []
        print_result("\n\n".join([*video_texts(document), *wrote]))
    return 1 if document["failed"] else 0


def _compare_files(args: argparse.Namespace, old: str, new: str) -> int:
    from backend.evaluation.compare_results import compare_results
    from backend.evaluation.comparison_text import comparison_text
    from backend.files.atomic import write_atomic

    if args.report is not None:
        raise ConfigError("--report: makes no page of two results; it needs SOURCE")
    comparison = compare_results(Path(old), Path(new))
    if str(args.json) == "-":
        print_json(comparison, indent=1)
        return 0
    if args.json is not None:
        write_atomic(args.json, json.dumps(comparison, indent=1, ensure_ascii=False).encode())
    print_result(comparison_text(comparison))
    return 0


def outputs_of(args: argparse.Namespace) -> Outputs:
    """Where the results go, as ``--json``, ``--report`` and ``--images`` say.

    Raises:
        ConfigError: a number of resamples below 0.
    """
    from backend.evaluation.results import Outputs

    if args.resamples < 0:
        raise ConfigError(f"--resamples: expected 0 or more, got {args.resamples}")
    return Outputs(
        json=args.json,
        report=args.report,
        images=getattr(args, "images", None),
        resamples=args.resamples,
        progress=not args.no_progress,
    )


def print_document(args: argparse.Namespace, document: dict[str, Any], texts: Sequence[str]) -> int:
    """Print a scoring document as JSON or as text; returns the exit code."""
    from backend.evaluation.results import exit_code
    from backend.evaluation.text import faults_text, stopped_text

    if str(args.json) == "-":
        print_json(document, indent=1)
        return exit_code(document)
    remarks = "\n".join(document["settings"]["remarks"])
    wrote = "\n".join(f"wrote {path}" for path in (args.json, args.report) if path is not None)
    parts = (stopped_text(document), *texts, remarks, faults_text(document), wrote)
    print_result("\n\n".join(part for part in parts if part))
    return exit_code(document)
