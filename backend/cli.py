"""The ``yolosam2`` program: reads settings, wires, prints. Results on stdout, logs and progress on stderr."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import ConfigError, LabelingError
from backend.logs import log_to_stderr
from backend.memory import limit_arenas
from backend.options import parse
from backend.settings import Settings, load_settings

if TYPE_CHECKING:
    from backend.judging import Outputs
    from backend.service_settings import ServiceSettings

_INTERRUPTED = 130
_SERVICE_FIELDS = ("host", "port", "threads", "insecure", "label_studio_url", "label_studio_api_key")

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


def _settings(args: argparse.Namespace) -> Settings:
    flags = {name: getattr(args, name, None) for name in _FIELDS}
    return load_settings(flags, os.environ, getattr(args, "config", None))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _stop_on_interrupt() -> threading.Event:
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


def _annotate(args: argparse.Namespace) -> int:
    from backend.annotate import Options, annotate
    from backend.class_mapping import parse_rename
    from backend.files import ensure_writable
    from backend.formats.voc import has_truth
    from backend.images import ImageLimits
    from backend.sinks import FORMATS, ComparisonSink, Sink
    from backend.sources import collect
    from backend.wiring import load

    formats = [name.strip() for name in args.format.split(",") if name.strip()] if args.command == "annotate" else ["overlay"]
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"--format: unknown {', '.join(unknown) or 'nothing'}; known are {', '.join(FORMATS)}")
    settings = _settings(args)
    work = collect(args.sources, settings.split, args.out)
    ensure_writable(args.out)
    loaded = load(settings, args.mode, work.class_names)
    more: list[Sink] = []
    if args.command == "visualize" and not args.plain and all(has_truth(source) for source in args.sources):
        names = work.class_names or settings.classes
        if names is None:
            raise ConfigError(
                "the dataset has no class_names.txt; name its classes with --classes, in the order of their values, or draw only the prediction with --plain"
            )
        formats, more = [], [ComparisonSink(args.out, loaded.cascade.names, names, parse_rename(args.rename))]
    options = Options(settings.batch, settings.workers, args.overwrite, ImageLimits(max_pixels=settings.max_pixels), loaded.prompts, not args.no_progress)
    stop = _stop_on_interrupt()
    prefix = getattr(args, "image_url_prefix", "")
    summary = annotate(work.items, loaded.cascade, formats, args.out, options, url_prefix=prefix, more_sinks=more, stop=stop)
    _print(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False) if args.json else summary.as_text())
    if summary.stopped == "interrupted":
        return _INTERRUPTED
    return 1 if summary.failed else 0


def _models(args: argparse.Namespace) -> int:
    from backend.models.catalog import DEMO, SAM2_MODELS, YOLO_MODELS

    root = _settings(args).model_root
    rows = [("detector", DEMO, "embedded")] + [("detector", n, root / f"{n}.pt") for n in YOLO_MODELS]
    rows += [("segmenter", DEMO, "embedded")] + [("segmenter", n, root / spec.weights) for n, spec in SAM2_MODELS.items()]
    table = [{"kind": k, "name": n, "where": str(w), "here": not isinstance(w, Path) or w.is_file()} for k, n, w in rows]
    if args.json:
        _print(json.dumps(table, indent=2))
    else:
        _print("\n".join(f"{r['kind']:<10} {r['name']:<24} {'here' if r['here'] else 'fetched on first use'}: {r['where']}" for r in table))
    return 0


def _serve(args: argparse.Namespace) -> int:
    from backend.service_settings import load_service_settings
    from backend.serving import serve

    logging.getLogger("backend").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    flags = {name: getattr(args, name, None) for name in _SERVICE_FIELDS}
    serve(_settings(args), load_service_settings(flags, os.environ))
    return 0


def _service(args: argparse.Namespace) -> ServiceSettings:
    """Address and token of Label Studio, of the commands that call them ``--url`` and ``--api-key``."""
    from backend.service_settings import load_service_settings

    try:
        return load_service_settings({"label_studio_url": args.url, "label_studio_api_key": args.api_key}, os.environ)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--label-studio-url", "--url").replace("--label-studio-api-key", "--api-key")) from None


def _doctor(args: argparse.Namespace) -> int:
    from backend.doctor.checks import as_text, exit_code
    from backend.doctor.machine import check_device, check_packages, check_weights
    from backend.doctor.studio import check_label_studio

    settings = _settings(args)
    service = _service(args)
    names: dict[str | None, Any] = {}
    checks = [*check_packages(), *check_device(settings), *check_weights(settings, names)]
    checks += check_label_studio(service, args.project, names, settings.conf, args.backend_url)
    _print(json.dumps([check.as_dict() for check in checks], indent=2, ensure_ascii=False) if args.json else as_text(checks))
    return exit_code(checks)


def _make_config(args: argparse.Namespace) -> int:
    from backend.formats.binding import make_config
    from backend.models.catalog import load_detector, resolve_device

    settings = _settings(args)
    names: Sequence[str] | None = settings.classes
    if names is None:
        names = list(load_detector(settings, resolve_device(settings.device)).names.values())
    _print(make_config(names).rstrip())
    return 0


def _demo(args: argparse.Namespace) -> int:
    from backend.demo.run import run_demo

    _print(run_demo(args.out, progress=not args.no_progress))
    return 0


def _bench(args: argparse.Namespace) -> int:
    from backend.bench import run_bench

    rows = run_bench(args.repeats)
    _print(json.dumps([row.as_dict() for row in rows], indent=2) if args.json else "\n".join(row.as_text() for row in rows))
    return 0 if all(row.met for row in rows) else 1


def _outputs(args: argparse.Namespace) -> Outputs:
    from backend.judging import Outputs

    if args.resamples < 0:
        raise ConfigError(f"--resamples: expected 0 or more, got {args.resamples}")
    return Outputs(args.json, args.report, getattr(args, "images", None), args.resamples, not args.no_progress)


def _print_document(args: argparse.Namespace, document: dict[str, Any], texts: Sequence[str]) -> int:
    from backend.judging import exit_code
    from backend.scoring.text import faults_text, stopped_text

    if str(args.json) == "-":
        _print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        wrote = [f"wrote {path}" for path in (args.json, args.report) if path is not None]
        remarks = "\n".join(document["settings"]["remarks"])
        _print("\n\n".join(text for text in (stopped_text(document), *texts, remarks, faults_text(document), "\n".join(wrote)) if text))
    return exit_code(document)


def _evaluate(args: argparse.Namespace) -> int:
    from backend.class_mapping import parse_rename
    from backend.judging import run_evaluate
    from backend.scoring.text import classes_text, figures_text, upstream_lines

    given = [f"--{name}" for name in ("detector", "segmenter", "prompts") if args.predictions is not None and getattr(args, name) is not None]
    if given:
        raise ConfigError(f"--predictions: label maps made before are compared, no model is loaded; leave out {', '.join(given)}")
    settings, outputs, stop = _settings(args), _outputs(args), _stop_on_interrupt()
    document = run_evaluate(args.dataset, settings, args.predictions, args.overlap, parse_rename(args.rename), outputs, stop)
    view = document["views"][0]
    code = _print_document(args, document, [upstream_lines(view), classes_text(view), figures_text(view)])
    return _INTERRUPTED if stop.is_set() else code


def _score(args: argparse.Namespace) -> int:
    from backend.class_mapping import parse_rename
    from backend.judging import ScoreOptions, run_score
    from backend.scoring.pairs import Selection
    from backend.scoring.text import score_texts

    names = None if args.classes is None else load_settings({"classes": args.classes}, {}).classes
    selection = Selection(
        frozenset(args.annotator), frozenset(args.model_version), frozenset(args.tag), args.include_cancelled, args.ground_truth, args.latest, args.missing
    )
    options = ScoreOptions(args.source, args.predictions, args.project, selection, names, parse_rename(args.rename), args.overlap, args.url is not None)
    service = _service(args)
    outputs, stop = _outputs(args), _stop_on_interrupt()
    document = run_score(options, service, outputs, stop)
    code = _print_document(args, document, score_texts(document, args.suggest_thresholds))
    return _INTERRUPTED if stop.is_set() else code


def _task_ids(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    entries = Path(text).read_text(encoding="utf-8").split() if Path(text).is_file() else text.split(",")
    try:
        return tuple(dict.fromkeys(int(entry) for entry in entries if entry.strip()))
    except ValueError:
        raise ConfigError(f"--ids: expected task numbers with commas, or a file with one a line, got {text[:60]!r}") from None


def _prelabel(args: argparse.Namespace) -> int:
    from backend.label_studio.prelabel import Choice
    from backend.prelabelling import Options, as_json, dry_run_text, run_prelabel

    choice = Choice(_task_ids(args.ids), args.view, args.only_unlabelled, args.limit, args.retry_failed)
    if args.from_boxes and args.prompts:
        raise ConfigError("--from-boxes and --prompts both say where boxes come from; give one of them")
    options = Options(
        args.project, choice, args.engine, args.ray_address, args.actors, args.dry_run, args.replace, args.from_boxes, args.journal, not args.no_progress
    )
    settings, service, stop = _settings(args), _service(args), _stop_on_interrupt()
    summary, report = run_prelabel(settings, service, options, stop)
    if args.json is not None and str(args.json) != "-":
        args.json.write_text(as_json(report) + "\n", encoding="utf-8")
    _print(as_json(report) if str(args.json) == "-" else dry_run_text(report) if summary is None else summary.as_text())
    if summary is None:
        return 0
    if summary.error is not None:
        return summary.error.exit_code
    return _INTERRUPTED if stop.is_set() else 1 if summary.failed or summary.later else 0


_COMMANDS = {
    "prelabel": _prelabel,
    "evaluate": _evaluate,
    "score": _score,
    "annotate": _annotate,
    "visualize": _annotate,
    "models": _models,
    "demo": _demo,
    "bench": _bench,
    "serve": _serve,
    "make-config": _make_config,
    "doctor": _doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    limit_arenas()
    args = parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    # Pillow's remarks on damaged metadata; what matters about a picture is raised as an error.
    warnings.filterwarnings("ignore", module="PIL")
    log_to_stderr(logging.INFO if args.verbose else logging.WARNING)
    try:
        return _COMMANDS[args.command](args)
    except LabelingError as error:
        sys.stderr.write(f"yolosam2: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("yolosam2: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def program() -> None:
    """The ``yolosam2`` command: as ``main``, but an interrupted run ends without waiting for the threads of the models, which abort otherwise."""
    code = main()
    if code == _INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
