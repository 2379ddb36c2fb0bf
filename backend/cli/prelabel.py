"""``yolosam2 prelabel``: masks for a whole Label Studio project."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from backend.cli.common import (
    INTERRUPTED,
    Commands,
    add_batch_options,
    add_command,
    add_engine_options,
    add_label_studio_options,
    add_progress_option,
    model_settings,
    parse_share,
    print_json,
    print_result,
    service_settings,
    stop_on_interrupt,
)
from backend.cli.everything import TAGS, add_everything_settings
from backend.errors import AuthError, ConfigError

_EPILOG = """After a crash, a restart or Ctrl-C: run the same command again. What Label Studio has
is left alone, what is missing is predicted.

examples:
  yolosam2 prelabel --url http://localhost:8080 --project 1 --detector my-yolo.pt --dry-run
                                       what would be done, and how long it would take
  yolosam2 prelabel --url http://localhost:8080 --project 1 --detector my-yolo.pt --json report.json
  yolosam2 prelabel --url ... --project 1 --from-boxes annotations
                                       masks for rectangles that people drew
  yolosam2 prelabel --url ... --project 1 --prompts prediction.json
                                       boxes of any detector, by the names of the pictures
  yolosam2 prelabel --url ... --project 1 --engine ray --actors 4
                                       on Ray, one model a GPU; --ray-address for a cluster

Annotations and drafts are never touched. The token is best given as LABEL_STUDIO_API_KEY, which
does not show in the process list."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "prelabel",
        help="pre-label a whole Label Studio project",
        about=(
            "Predict masks for a whole Label Studio project and upload them; every task gets one"
            " prediction of a model version, whatever happens."
        ),
        run=run,
        epilog=_EPILOG,
    )
    add_label_studio_options(parser, required=True)
    which = parser.add_argument_group(
        "which tasks (default: all without a prediction of this model version)"
    )
    about = "a tab of the Data Manager: the tab=ID of its address"
    which.add_argument("--view", type=int, metavar="ID", help=about)
    about = "task numbers, or a file with one a line"
    which.add_argument("--ids", metavar="1,2,..", help=about)
    about = "tasks that nobody annotated"
    which.add_argument("--only-unlabelled", action="store_true", help=about)
    which.add_argument("--limit", type=int, metavar="N", help="at most so many")
    about = "leave this share without pre-labels, to tell what they save, such as 10%%"
    which.add_argument("--holdout", metavar="SHARE", help=about)
    about = "also those that failed in an earlier run"
    which.add_argument("--retry-failed", action="store_true", help=about)
    _add_how(parser.add_argument_group("how"))
    add_batch_options(parser)
    add_everything_settings(parser, TAGS)


def _add_how(how: argparse._ArgumentGroup) -> None:
    about = (
        "count, show the label mapping, estimate time and bytes from three tasks; upload nothing"
    )
    how.add_argument("--dry-run", action="store_true", help=about)
    about = "delete older predictions that this program made, once the new one is there"
    how.add_argument("--replace", action="store_true", help=about)
    about = "--replace also for tasks that somebody annotated; scoring them needs what is deleted"
    how.add_argument("--replace-annotated", action="store_true", help=about)
    about = (
        "leave the project as it is; else it shows and sorts by these predictions, and gets a tab"
        " with the hardest tasks first"
    )
    how.add_argument("--no-present", action="store_true", help=about)
    about = "also write instructions for annotators into the project, if it has none"
    how.add_argument("--instructions", action="store_true", help=about)
    about = "rectangles of the tasks become masks; no detector is loaded"
    how.add_argument("--from-boxes", choices=("annotations", "predictions"), help=about)
    about = "what was done (default: prelabel/<address>-<project>-<version>.journal)"
    how.add_argument("--journal", type=Path, metavar="FILE", help=about)
    add_engine_options(how)
    about = "also write the report as JSON; - prints it instead"
    how.add_argument("--json", type=Path, metavar="FILE", help=about)
    add_progress_option(how)


def _task_ids(text: str | None) -> tuple[int, ...]:
    """The task numbers of ``--ids``.

    Raises:
        ConfigError: neither numbers nor a file of them.
    """
    if text is None:
        return ()
    try:
        if "," in text or text.strip().isdigit():
            entries = text.split(",")
        else:
            entries = Path(text).read_text(encoding="utf-8").replace(",", " ").split()
        found = tuple(dict.fromkeys(int(entry) for entry in entries if entry.strip()))
        if not found:
            raise ValueError
    except (OSError, ValueError):
        raise ConfigError(
            "--ids: expected task numbers with commas, or a file with one a line, got"
            f" {text[:60]!r}"
        ) from None
    return found


def run(args: argparse.Namespace) -> int:
    """Pre-label the project."""
    from backend.files.atomic import ensure_writable, write_atomic
    from backend.label_studio.prelabel.dry_run import dry_run_text
    from backend.label_studio.prelabel.prelabel_project import prelabel_project
    from backend.label_studio.prelabel.prepare import PrelabelOptions
    from backend.label_studio.prelabel.run import Choice

    choice = Choice(
        ids=_task_ids(args.ids),
        view=args.view,
        only_unlabelled=args.only_unlabelled,
        limit=args.limit,
        retry_failed=args.retry_failed,
        holdout=parse_share(args.holdout, "--holdout"),
    )
    if args.from_boxes and args.prompts:
        raise ConfigError(
            "--from-boxes and --prompts both say where boxes come from; give one of them"
        )
    options = PrelabelOptions(
        project=args.project,
        choice=choice,
        engine=args.engine,
        ray_address=args.ray_address,
        actors=args.actors,
        dry_run=args.dry_run,
        replace=args.replace,
        replace_annotated=args.replace_annotated,
        present=not args.no_present,
        instructions=args.instructions,
        from_boxes=args.from_boxes,
        journal=args.journal,
        progress=not args.no_progress,
    )
    settings = model_settings(args)
    service = service_settings(args)
    stop = stop_on_interrupt()
    to_file = args.json is not None and str(args.json) != "-"
    if to_file:
        ensure_writable(args.json.parent)
    summary, report = prelabel_project(settings, service, options, stop)
    if to_file:
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        write_atomic(args.json, text.encode("utf-8", "backslashreplace"))
    if str(args.json) == "-":
        print_json(report, indent=1)
    else:
        print_result(dry_run_text(report) if summary is None else summary.as_text())
    if summary is None:
        return 0
    refused = summary.halted or isinstance(summary.error, AuthError)
    if summary.error is not None and (refused or not stop.is_set()):
        return summary.error.exit_code
    if stop.is_set():
        return INTERRUPTED
    return 1 if summary.failed or summary.later else 0
