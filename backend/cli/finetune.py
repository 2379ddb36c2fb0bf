"""``yolosam2 finetune``: learn from what was accepted, and prove it on what was held out."""

from __future__ import annotations

import argparse
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from backend.cli.common import (
    INTERRUPTED,
    Commands,
    add_command,
    add_label_studio_options,
    add_settings,
    model_settings,
    print_json,
    print_result,
    print_status,
    service_settings,
    stop_on_interrupt,
)
from backend.config.models import Settings
from backend.errors import ConfigError, LabelingError, Unavailable

if TYPE_CHECKING:
    from backend.training.request import FinetuneRequest
    from backend.training.segmenter_loop import Progress

_WHAT = {
    "both": ("detector", "segmenter"),
    "detector": ("detector",),
    "segmenter": ("segmenter",),
}
_EPILOG = """Learns from pictures and masks that people accepted: a labelme folder, an export of
Label Studio, or a COCO, VOC or YOLO dataset. Predictions that nobody changed are left out.

Pictures that look alike, such as frames of a video, stay on one side. What is held out is recorded
in RUN and never learned from, in later runs into the same RUN too.

examples:
  yolosam2 finetune labels/ --out tuned/ --minutes 60
  yolosam2 finetune VOC/ --out tuned/ --held-out val --what segmenter
  yolosam2 finetune --url http://localhost:8080 --project 3 --out tuned/ --minutes 60
  yolosam2 annotate photos/ --out out/ --detector tuned/ --segmenter tuned/

Ctrl-C keeps the best weights so far; the same command goes on after a kill."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "finetune",
        help="learn from accepted masks and boxes, proved on held-out pictures",
        about="Fine-tune detector and segmenter on what was accepted, and compare them with what"
        " they began as.",
        run=run,
        epilog=_EPILOG,
    )
    about = (
        "accepted annotations, in any format that convert reads; without it, --url and --project"
        " say what to fetch"
    )
    parser.add_argument("source", type=Path, nargs="?", metavar="SRC", help=about)
    about = "folder of the run: weights, log, and what is held out"
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help=about)
    about = "where the pictures are, if not beside SRC"
    parser.add_argument("--images", type=Path, metavar="DIR", help=about)
    about = (
        "whose annotations count, by e-mail address or number of the user; may be repeated"
        " (default: everybody's)"
    )
    parser.add_argument("--annotator", metavar="WHO", action="append", default=[], help=about)
    group = parser.add_argument_group("Label Studio, in the place of SRC")
    add_label_studio_options(group, more="; pictures and export go to RUN/project")
    group = parser.add_argument_group("what is held out")
    about = "list of SRC that judges (default: test or val, where SRC has it beside others)"
    group.add_argument("--held-out", metavar="LIST", help=about)
    about = "share of the pictures that judges where no list does (default: 0.2)"
    group.add_argument("--share", type=float, default=0.2, metavar="0..1", help=about)
    _add_training(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    about = "limit of the training itself (default: none)"
    group.add_argument("--minutes", type=float, metavar="N", help=about)
    about = "most epochs: passes over the views, or 200 steps (default: 60)"
    group.add_argument("--epochs", type=int, default=60, metavar="N", help=about)
    about = "views of each picture: whole, mirrored, then parts (default: 6)"
    group.add_argument("--views", type=int, default=6, metavar="N", help=about)
    about = (
        "disk for what the image encoder makes of views, where the decoder alone learns; with less,"
        " fewer views are encoded once, or all anew in each step (default: 20)"
    )
    group.add_argument("--cache-gb", type=float, default=20, metavar="N", help=about)
    about = "highest learning rate (default: what suits the size of the model)"
    group.add_argument("--rate", type=float, metavar="R", help=about)
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of chance (default: 0)")
    about = "offer the weights even if they are not shown to be better"
    group.add_argument("--accept", action="store_true", help=about)
    group = parser.add_argument_group("models")
    about = (
        "of the segmenter that learn: what turns features into masks, which takes minutes on a CPU;"
        " the neck of its image encoder too; the neck, and low-rank changes of the rest of that"
        " encoder (LoRA); or all of it (default: decoder)"
    )
    names = ("decoder", "neck", "lora", "all")
    group.add_argument("--parts", choices=names, default="decoder", help=about)
    about = "which models learn (default: both)"
    group.add_argument("--what", choices=_WHAT, default="both", help=about)
    about = "begin the detector's weights anew, with the architecture of --detector"
    group.add_argument("--scratch", action="store_true", help=about)
    settings = (
        "detector",
        "segmenter",
        "segmenter_config",
        "model_root",
        "device",
        "classes",
        "max_pixels",
    )
    add_settings(group, Settings, settings)


def _check(args: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        ConfigError: naming the option.
    """
    if not 0 < args.share < 1:
        raise ConfigError(f"--share: expected a number between 0 and 1, got {args.share}")
    for name in ("minutes", "rate"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"--{name}: expected a number above 0, got {value}")
    if not args.cache_gb >= 0:
        raise ConfigError(f"--cache-gb: expected a number, 0 or above, got {args.cache_gb}")
    for name in ("epochs", "views"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {getattr(args, name)}")


def run(args: argparse.Namespace) -> int:
    """Fine-tune."""
    from backend.files.atomic import ensure_writable
    from backend.training.lock import alone

    stop = stop_on_interrupt()
    try:
        _check(args)
        settings = model_settings(args)
        ensure_writable(args.out)
        with alone(args.out):
            return _run(args, settings, stop)
    except LabelingError as error:
        interrupted = stop.is_set() and isinstance(error, Unavailable)
        if args.json:
            told = {"interrupted": True} if interrupted else {"error": str(error)}
            print_json(told)
        if not interrupted:
            raise
        print_status(str(error))
        return INTERRUPTED


def _run(args: argparse.Namespace, settings: Settings, stop: threading.Event) -> int:
    from backend.training.finetune import finetune

    source, fetched = _source(args, stop)
    with tqdm(
        total=100,
        unit="%",
        desc="training",
        disable=args.no_progress or None,
        file=sys.stderr,
        dynamic_ncols=True,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    ) as bar:
        shown = ""

        def phase(what: str) -> None:
            nonlocal shown
            if shown != what:  # each has a rate of its own
                shown = what
                bar.reset(100)
                bar.set_description_str(what, refresh=False)
                bar.set_postfix_str("", refresh=False)

        def tell(progress: Progress) -> None:
            phase(progress.what)
            bar.n = round(100 * min(1.0, progress.done))
            bar.set_postfix_str(
                f"epoch {progress.epoch}, loss {progress.loss:.3f}, validation"
                f" {progress.figure} {progress.validation:.3f} (best {progress.best:.3f})"
            )

        def work(what: str, done: float) -> None:
            phase(what)
            bar.n = round(100 * done)
            bar.refresh()

        request = _request(args, source, settings)
        summary = finetune(request, settings, stop=stop, tell=tell, remark=print_status, work=work)
    summary = replace(summary, faults=(*fetched, *summary.faults))
    if args.json:
        print_json({**summary.as_dict(), "interrupted": stop.is_set()})
    else:
        from backend.training.summary_text import summary_text

        print_result(summary_text(summary, args.out))
    if stop.is_set():
        return INTERRUPTED
    return 1 if summary.faults or summary.stopped else 0


def _request(args: argparse.Namespace, source: Path, settings: Settings) -> FinetuneRequest:
    from backend.training.request import FinetuneRequest

    return FinetuneRequest(
        source=source,
        images=args.images,
        annotators=tuple(args.annotator),
        out=args.out,
        classes=settings.classes,
        share=args.share,
        held_out_list=args.held_out,
        minutes=args.minutes,
        epochs=args.epochs,
        views=args.views,
        cache_bytes=args.cache_gb * 1e9,
        rate=args.rate,
        seed=args.seed,
        accept=args.accept,
        kinds=_WHAT[args.what],
        scratch=args.scratch,
        parts=args.parts,
    )


def _source(args: argparse.Namespace, stop: threading.Event) -> tuple[Path, tuple[str, ...]]:
    """Where accepted annotations lie, fetched if need be; a sentence for each task that cannot be
    fetched.

    Raises:
        ConfigError: both SRC and a project are named, or neither.
        Unavailable: Label Studio does not answer, or the fetching was interrupted.
    """
    from backend.label_studio.api.accepted import fetch_accepted

    if (args.source is None) == (args.project is None):
        raise ConfigError("name SRC, or --project with --url; not both, and not neither")
    if args.project is None:
        return args.source, ()
    with tqdm(
        unit="task",
        desc="fetching",
        disable=args.no_progress or None,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = fetch_accepted(
            service_settings(args), args.project, args.out / "project", stop=stop, tell=tell
        )
    if stop.is_set():
        raise Unavailable("interrupted before training began")
    print_status(f"project {args.project}: {found.n_tasks} annotated tasks")
    return found.export, found.faults
