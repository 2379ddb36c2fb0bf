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
from typing import Any

from backend.errors import LabelingError
from backend.memory import limit_arenas
from backend.settings import Settings, load_settings

_EPILOG = """examples:
  yolosam2 demo                                            the embedded models on the bundled samples
  yolosam2 annotate photos/ --out labels/                  labelme JSON for a folder, resumable
  yolosam2 annotate photos/ --out out/ --format labelme,label-studio,voc,overlay
  yolosam2 annotate VOC/ --out out/ --prompts prediction.json --segmenter sam2.1_hiera_large
  yolosam2 visualize photos/ --out pictures/ --detector demo --segmenter demo

exit codes: 0 done, 1 some items failed (each is listed), 2 usage or settings, 3 refused by Label Studio, 130 interrupted"""

_FORMATS = """formats:
  labelme        one JSON per image, masks as labelme draws them
  label-studio   importable tasks with brush masks, and a labeling config
  voc            indexed PNGs: SegmentationClass, SegmentationObject, class_names.txt
  overlay        pictures with masks drawn"""

_SERVICE_FIELDS = ("host", "port", "threads", "insecure", "label_studio_url", "label_studio_api_key")

_SERVE = """environment:
  LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY   where images come from; the key is a legacy or a personal access token
  BASIC_AUTH_USER, BASIC_AUTH_PASS         asked for on every route but the health checks
  ALLOWED_HOSTS                            other hosts that images may come from: a.example.com,*.example.org,10.1.0.0/16
  The README lists the rest.

Label Studio itself must be started with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false to talk to a private address."""

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
    "box_margin",
    "min_part",
    "batch",
    "sam_batch",
    "workers",
    "split",
)


def _model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models and thresholds")
    group.add_argument("-c", "--config", type=Path, metavar="FILE", help="settings as JSON or YAML; upstream YOLO-SAM2's keys are understood")
    group.add_argument("-p", "--prompts", metavar="JSON", help="boxes come from this prediction.json; no detector is loaded")
    group.add_argument("--detector", metavar="MODEL", help="demo, an Ultralytics name (yolov8n .. yolo26x) or a .pt file")
    group.add_argument("--segmenter", metavar="MODEL", help="demo, sam2.1_hiera_tiny|small|base_plus|large, sam2_hiera_*, or a checkpoint file")
    group.add_argument("--segmenter-config", metavar="YAML", help="configuration of a checkpoint file")
    group.add_argument("--model-root", metavar="DIR", help="where named weights lie and are downloaded to (default: models)")
    group.add_argument("--device", metavar="auto|cpu|cuda|mps", help="default: auto")
    group.add_argument("--classes", metavar="NAMES", help="a,b,c or a file: classes to keep, or the names behind category_id of --prompts")
    group.add_argument("--conf", "-conf", metavar="0..1", help="detections below are dropped (default: 0.25)")
    group.add_argument("--iou", metavar="0..1", help="overlap for non-maximum suppression (default: 0.7)")
    group.add_argument("--max-det", metavar="N", help="most detections per image (default: 300)")
    group.add_argument("--box-margin", metavar="SHARE", help="cut masks to their box grown by this share of its sides (default: off)")
    group.add_argument("--min-part", metavar="SHARE", help="drop parts and fill holes below this share of a mask's area (default: off)")
    group.add_argument("-b", "--batch", metavar="N", help="images per model call (default: 8)")
    group.add_argument("--sam-batch", metavar="N", help="boxes per decoder call (default: 32)")
    group.add_argument("--workers", metavar="N", help="threads that decode, and as many that encode (default: 2)")
    group.add_argument("--split", metavar="NAME", help="list of a VOC dataset (default: val)")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", type=Path, metavar="SRC", help="image files, folders (recursive) or VOC datasets")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder; made if missing")
    parser.add_argument("--mode", choices=("cascade", "boxes"), default="cascade", help="cascade: boxes and masks; boxes: no segmenter")
    parser.add_argument("--overwrite", action="store_true", help="do again what is done; hand-made files are copied to .bak first")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="yolosam2", description="Pre-annotation with masks: YOLO finds and names objects, SAM 2 outlines them.", epilog=_EPILOG, formatter_class=kind
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = "Label the bundled samples with the embedded models and compare with their truth."
    demo = commands.add_parser("demo", help="the embedded models over the bundled samples", description=about)
    demo.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="default: demo-out")
    demo.add_argument("--no-progress", action="store_true", help="no progress bar")
    about = "Label images. Run the same command again to go on after an interruption: what is done is skipped."
    annotate = commands.add_parser("annotate", help="label images into files", formatter_class=kind, description=about, epilog=_FORMATS)
    _run_options(annotate)
    annotate.add_argument("--format", default="labelme", metavar="F[,F..]", help="labelme, label-studio, voc, overlay (default: labelme)")
    prefix = "/data/local-files/?d="
    annotate.add_argument("--image-url-prefix", default=prefix, metavar="URL", help="put before each image's path in Label Studio tasks")
    _model_options(annotate)
    about = "Serve masks to Label Studio: connect this address in a project under Settings, Model."
    serve = commands.add_parser("serve", help="the Label Studio ML backend", formatter_class=kind, description=about, epilog=_SERVE)
    serve.add_argument("--host", metavar="ADDRESS", help="where to listen; others than 127.0.0.1 need a password or --insecure (default: 127.0.0.1)")
    serve.add_argument("--port", metavar="N", help="default: 9090")
    serve.add_argument("--threads", metavar="N", help="HTTP threads; the models have one of their own (default: 16)")
    serve.add_argument("--insecure", action="store_const", const=True, help="listen on an open address without a password")
    serve.add_argument("--label-studio-url", "--url", metavar="URL", help="Label Studio, as this machine reaches it (LABEL_STUDIO_URL)")
    _model_options(serve)
    about = "Print a labeling config for a detector's classes: brush masks, and a smart point and box for refining by hand."
    config = commands.add_parser("make-config", help="a labeling config for a detector's classes", description=about)
    _model_options(config)
    about = "Write pictures with masks, outlines, labels and scores drawn over them."
    visualize = commands.add_parser("visualize", help="draw masks over images", description=about)
    _run_options(visualize)
    _model_options(visualize)
    about = "List models by name and whether their files are here."
    models = commands.add_parser("models", help="list the models known by name", description=about)
    models.add_argument("--model-root", metavar="DIR", help="where named weights lie (default: models)")
    models.add_argument("--json", action="store_true", help="print as JSON")
    about = "Ratios by CPU time in one process, interleaved, against label-studio-sdk and upstream's way; exit 1 if a goal is missed."
    bench = commands.add_parser("bench", help="measure codecs and pipeline against their peers", description=about)
    bench.add_argument("--repeats", type=int, default=7, metavar="N", help="default: 7")
    bench.add_argument("--json", action="store_true", help="print as JSON")
    return parser


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
    from backend.errors import ConfigError
    from backend.files import ensure_writable
    from backend.images import ImageLimits
    from backend.sinks import FORMATS
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
    options = Options(settings.batch, settings.workers, args.overwrite, ImageLimits(max_pixels=settings.max_pixels), loaded.prompts, not args.no_progress)
    stop = _stop_on_interrupt()
    summary = annotate(work.items, loaded.cascade, formats, args.out, options, url_prefix=getattr(args, "image_url_prefix", ""), stop=stop)
    _print(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False) if args.json else summary.as_text())
    if summary.stopped == "interrupted":
        return 130
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


_COMMANDS = {"annotate": _annotate, "visualize": _annotate, "models": _models, "demo": _demo, "bench": _bench, "serve": _serve, "make-config": _make_config}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    limit_arenas()
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    # Pillow's remarks on damaged metadata; what matters about a picture is raised as an error.
    warnings.filterwarnings("ignore", module="PIL")
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        return _COMMANDS[args.command](args)
    except LabelingError as error:
        sys.stderr.write(f"yolosam2: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("yolosam2: interrupted\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
