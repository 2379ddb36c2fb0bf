"""The commands that judge and pre-label, and what all commands share: settings, output, interruption."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.config.models import Settings, load_settings
from backend.errors import AuthError, ConfigError

if TYPE_CHECKING:
    from backend.config.service import ServiceSettings
    from backend.judging import Outputs

INTERRUPTED = 130

_FIELDS = (
    "detector",
    "segmenter",
    "segmenter_config",
    "model_root",
    "device",
    "prompts",
    "classes",
    "conf",
    "iou",
    "max_det",
    "agnostic_nms",
    "box_margin",
    "min_part",
    "batch",
    "sam_batch",
    "workers",
    "split",
)


def settings_of(args: argparse.Namespace) -> Settings:
    """All settings of the models, from flags, environment and config file."""
    flags = {name: getattr(args, name, None) for name in _FIELDS}
    return load_settings(flags, os.environ, getattr(args, "config", None))


def say(text: str) -> None:
    """A result, to stdout."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """A remark while working, to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def stop_on_interrupt() -> threading.Event:
    """The first Ctrl-C sets the event, and the work in flight is finished; the second ends the program at once."""
    stop = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        sys.stderr.write("\ninterrupted: finishing what is in flight; press Ctrl-C again to drop it\n")

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop


def service_of(args: argparse.Namespace) -> ServiceSettings:
    """Address and token of Label Studio, of the commands that call them ``--url`` and ``--api-key``."""
    from backend.config.service import load_service_settings

    try:
        return load_service_settings({"label_studio_url": args.url, "label_studio_api_key": args.api_key}, os.environ)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--label-studio-url", "--url").replace("--label-studio-api-key", "--api-key")) from None


def _outputs(args: argparse.Namespace) -> Outputs:
    from backend.judging import Outputs

    if args.resamples < 0:
        raise ConfigError(f"--resamples: expected 0 or more, got {args.resamples}")
    return Outputs(args.json, args.report, getattr(args, "images", None), args.resamples, not args.no_progress)


def _print_document(args: argparse.Namespace, document: dict[str, Any], texts: Sequence[str]) -> int:
    from backend.judging import exit_code
    from backend.scoring.text import faults_text, stopped_text

    if str(args.json) == "-":
        say(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        wrote = [f"wrote {path}" for path in (args.json, args.report) if path is not None]
        remarks = "\n".join(document["settings"]["remarks"])
        say("\n\n".join(text for text in (stopped_text(document), *texts, remarks, faults_text(document), "\n".join(wrote)) if text))
    return exit_code(document)


def evaluate(args: argparse.Namespace) -> int:
    """Masks against the truth of a VOC dataset."""
    from backend.core.classes import parse_rename
    from backend.judging import run_evaluate
    from backend.scoring.text import classes_text, figures_text, upstream_lines

    given = [f"--{name}" for name in ("detector", "segmenter", "prompts") if args.predictions is not None and getattr(args, name) is not None]
    if given:
        raise ConfigError(f"--predictions: label maps made before are compared, no model is loaded; leave out {', '.join(given)}")
    settings, outputs, stop = settings_of(args), _outputs(args), stop_on_interrupt()
    document = run_evaluate(args.dataset, settings, args.predictions, args.overlap, parse_rename(args.rename), outputs, stop)
    view = document["views"][0]
    code = _print_document(args, document, [upstream_lines(view), classes_text(view), figures_text(view)])
    return INTERRUPTED if stop.is_set() else code


def score(args: argparse.Namespace) -> int:
    """Accepted annotations against predictions."""
    from backend.core.classes import parse_rename
    from backend.judging import ScoreOptions, run_score
    from backend.scoring.pairs import Selection
    from backend.scoring.text import score_texts

    names = None if args.classes is None else load_settings({"classes": args.classes}, {}).classes
    selection = Selection(
        frozenset(args.annotator), frozenset(args.model_version), frozenset(args.tag), args.include_cancelled, args.ground_truth, args.latest, args.missing
    )
    options = ScoreOptions(args.source, args.predictions, args.project, selection, names, parse_rename(args.rename), args.overlap, args.url is not None)
    service = service_of(args)
    outputs, stop = _outputs(args), stop_on_interrupt()
    document = run_score(options, service, outputs, stop)
    code = _print_document(args, document, score_texts(document, args.suggest_thresholds))
    return INTERRUPTED if stop.is_set() else code


def _task_ids(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        entries = text.split(",") if "," in text or text.strip().isdigit() else Path(text).read_text(encoding="utf-8").replace(",", " ").split()
        found = tuple(dict.fromkeys(int(entry) for entry in entries if entry.strip()))
        if not found:
            raise ValueError
        return found
    except (OSError, ValueError):
        raise ConfigError(f"--ids: expected task numbers with commas, or a file with one a line, got {text[:60]!r}") from None


def prelabel(args: argparse.Namespace) -> int:
    """Masks for a whole Label Studio project."""
    from backend.files.atomic import ensure_writable, write_atomic
    from backend.label_studio.prelabel import Choice
    from backend.prelabelling import Options, as_json, dry_run_text, run_prelabel

    choice = Choice(_task_ids(args.ids), args.view, args.only_unlabelled, args.limit, args.retry_failed)
    if args.from_boxes and args.prompts:
        raise ConfigError("--from-boxes and --prompts both say where boxes come from; give one of them")
    options = Options(
        args.project, choice, args.engine, args.ray_address, args.actors, args.dry_run, args.replace, args.from_boxes, args.journal, not args.no_progress
    )
    settings, service, stop = settings_of(args), service_of(args), stop_on_interrupt()
    to_file = args.json is not None and str(args.json) != "-"
    if to_file:
        ensure_writable(args.json.parent)
    summary, report = run_prelabel(settings, service, options, stop)
    if to_file:
        write_atomic(args.json, (as_json(report) + "\n").encode("utf-8", "backslashreplace"))
    say(as_json(report) if str(args.json) == "-" else dry_run_text(report) if summary is None else summary.as_text())
    if summary is None:
        return 0
    if summary.error is not None and (summary.halted or isinstance(summary.error, AuthError) or not stop.is_set()):
        return summary.error.exit_code
    return INTERRUPTED if stop.is_set() else 1 if summary.failed or summary.later else 0
