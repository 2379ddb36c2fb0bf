"""The ``yolosam2`` program: reads settings, wires, prints. Results on stdout, logs and progress on stderr."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.commands import INTERRUPTED, evaluate, prelabel, say, score, service_of, settings_of, stop_on_interrupt, tell
from backend.config.models import Settings
from backend.dataset_commands import convert, labelme
from backend.errors import ConfigError, LabelingError
from backend.logs import log_to_stderr
from backend.memory import limit_arenas
from backend.options import parse

if TYPE_CHECKING:
    from backend.labeling.annotate import Options

_SERVICE_FIELDS = ("host", "port", "threads", "insecure", "label_studio_url", "label_studio_api_key")


def _formats(args: argparse.Namespace) -> list[str]:
    """The formats of ``--format``.

    Raises:
        ConfigError: an unknown one, or none.
    """
    from backend.labeling.outputs import DATASETS, FORMATS

    formats = [name.strip() for name in args.format.split(",") if name.strip()]
    unknown = [name for name in formats if name not in (*FORMATS, *DATASETS)]
    if unknown or not formats:
        raise ConfigError(f"--format: unknown {', '.join(unknown) or 'nothing'}; known are {', '.join((*FORMATS, *DATASETS))}")
    return formats


def _annotate(args: argparse.Namespace) -> int:
    from backend.core.classes import parse_rename
    from backend.files.atomic import ensure_writable
    from backend.formats.voc.dataset import has_truth
    from backend.labeling.annotate import annotate
    from backend.labeling.load import load
    from backend.labeling.outputs import DATASETS, ComparisonSink, Sink
    from backend.labeling.sources import collect

    formats = _formats(args) if args.command == "annotate" else ["overlay"]
    settings = settings_of(args)
    if args.command == "annotate" and args.watch:
        return _watch(args, settings, formats)
    if args.out is None:
        raise ConfigError("annotate: --out DIR is missing; only --watch writes beside the pictures by itself")
    work = collect(args.sources, settings.split, args.out)
    ensure_writable(args.out)
    for remark in work.remarks:
        tell(remark)
    loaded = load(settings, args.mode, work.class_names)
    more: list[Sink] = []
    if args.command == "visualize" and not args.plain and all(has_truth(source) for source in args.sources):
        names = work.class_names or settings.classes
        if names is None:
            raise ConfigError(
                "the dataset has no class_names.txt; name its classes with --classes, in the order of their values, or draw only the prediction with --plain"
            )
        formats, more = [], [ComparisonSink(args.out, loaded.cascade.names, names, parse_rename(args.rename))]
    options = replace(_run_options(args, settings), overwrite=args.overwrite, prompts=loaded.prompts)
    stop = stop_on_interrupt()
    prefix = getattr(args, "image_url_prefix", "")
    summary = annotate(work.items, loaded.cascade, formats, args.out, options, url_prefix=prefix, more_sinks=more, stop=stop)
    made = _datasets(args, [name for name in formats if name in DATASETS], stop) if summary.stopped is None else []
    document = {**summary.as_dict(), **({"datasets": [one.as_dict() for one in made]} if made else {})}
    say(json.dumps(document, indent=2, ensure_ascii=False) if args.json else "\n".join(one.as_text() for one in (summary, *made)))
    if summary.stopped == "interrupted":
        return INTERRUPTED
    return 1 if summary.failed or any(one.failed or one.kept for one in made) else 0


def _run_options(args: argparse.Namespace, settings: Settings) -> Options:
    from backend.files.images import ImageLimits
    from backend.labeling.annotate import Options

    return Options(settings.batch, settings.workers, limits=ImageLimits(max_pixels=settings.max_pixels), progress=not args.no_progress)


def _datasets(args: argparse.Namespace, formats: Sequence[str], stop: threading.Event) -> list[Any]:
    """COCO and YOLO datasets of the labelme files that were just written, or corrected since; the model's classes come first, in its order."""
    from backend.datasets.convert import Options, convert
    from backend.labeling.outputs import LABELME_FOLDER

    roots = tuple(source if source.is_dir() else source.parent for source in args.sources)
    options = Options(roots=roots, overwrite=args.overwrite, progress=not args.no_progress)
    return [convert(args.out / LABELME_FOLDER, args.out / kind, kind, options, "labelme", stop) for kind in formats]


def _watch(args: argparse.Namespace, settings: Settings, formats: Sequence[str]) -> int:
    from backend.labeling.load import load
    from backend.labeling.watch import check_watch, watch

    check_watch(args.sources, formats, args.out, args.overwrite, args.interval)
    if settings.prompts is not None:
        raise ConfigError("--watch: a prompt file cannot know pictures to come; leave out --prompts")
    cascade = load(settings, args.mode).cascade
    options = _run_options(args, settings)
    stop = stop_on_interrupt()
    tell(f"watching {', '.join(map(str, args.sources))}; Ctrl-C ends it")
    summary = watch(args.sources, cascade, args.out, options, tell, interval_s=args.interval, stop=stop)
    say(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False) if args.json else summary.as_text())
    return 1 if summary.failed else 0


def _models(args: argparse.Namespace) -> int:
    from backend.models.registry import DEMO, SAM2_MODELS, YOLO_MODELS

    root = settings_of(args).model_root
    rows = [("detector", DEMO, "embedded")] + [("detector", n, root / f"{n}.pt") for n in YOLO_MODELS]
    rows += [("segmenter", DEMO, "embedded")] + [("segmenter", n, root / spec.weights) for n, spec in SAM2_MODELS.items()]
    table = [{"kind": k, "name": n, "where": str(w), "here": not isinstance(w, Path) or w.is_file()} for k, n, w in rows]
    if args.json:
        say(json.dumps(table, indent=2))
    else:
        say("\n".join(f"{r['kind']:<10} {r['name']:<24} {'here' if r['here'] else 'fetched on first use'}: {r['where']}" for r in table))
    return 0


def _serve(args: argparse.Namespace) -> int:
    from backend.config.service import load_service_settings
    from backend.serving import serve

    logging.getLogger("backend").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    flags = {name: getattr(args, name, None) for name in _SERVICE_FIELDS}
    serve(settings_of(args), load_service_settings(flags, os.environ))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from backend.doctor.checks import as_text, exit_code
    from backend.doctor.machine import check_device, check_packages, check_weights
    from backend.doctor.studio import check_label_studio

    settings = settings_of(args)
    service = service_of(args)
    names: dict[str | None, Any] = {}
    checks = [*check_packages(), *check_device(settings), *check_weights(settings, names)]
    checks += check_label_studio(service, args.project, names, settings.conf, args.backend_url)
    say(json.dumps([check.as_dict() for check in checks], indent=2, ensure_ascii=False) if args.json else as_text(checks))
    return exit_code(checks)


def _make_config(args: argparse.Namespace) -> int:
    from backend.formats.label_studio.label_config import make_config
    from backend.models.devices import resolve_device
    from backend.models.registry import load_detector

    settings = settings_of(args)
    names: Sequence[str] | None = settings.classes
    if names is None:
        names = list(load_detector(settings, resolve_device(settings.device)).names.values())
    say(make_config(names).rstrip())
    return 0


def _demo(args: argparse.Namespace) -> int:
    from backend.demo.run import run_demo

    say(run_demo(args.out, progress=not args.no_progress))
    return 0


def _bench(args: argparse.Namespace) -> int:
    from backend.bench import run_bench

    rows = run_bench(args.repeats)
    say(json.dumps([row.as_dict() for row in rows], indent=2) if args.json else "\n".join(row.as_text() for row in rows))
    return 0 if all(row.met for row in rows) else 1


_COMMANDS = {
    "prelabel": prelabel,
    "evaluate": evaluate,
    "score": score,
    "convert": convert,
    "labelme": labelme,
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
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def program() -> None:
    """The ``yolosam2`` command: as ``main``, but an interrupted run ends without waiting for the threads of the models, which abort otherwise."""
    code = main()
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
