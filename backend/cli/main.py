"""The ``yolosam2`` program. Results go to stdout, logs and progress to stderr."""

from __future__ import annotations

import argparse
import difflib
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from backend.cli import (
    annotate,
    bench,
    convert,
    create_project,
    demo,
    doctor,
    evaluate,
    finetune,
    frames,
    labelme,
    make_config,
    models,
    next_tasks,
    prelabel,
    score,
    serve,
    tracks,
    video,
    view,
    visualize,
)
from backend.cli.common import INTERRUPTED
from backend.config.process import limit_arenas, log_to_stderr
from backend.errors import LabelingError

_ABOUT = "Pre-annotation with masks: YOLO finds and names objects, SAM 2 outlines them."
_EXIT_CODES = (
    "exit codes: 0 done, 1 some items failed (each is listed), 2 usage or settings, 3 refused by"
    " Label Studio, 130 interrupted"
)
_EPILOG = f"""examples:
  yolosam2 demo                                     the embedded models on the bundled samples
  yolosam2 annotate photos/ --out labels/           labelme JSON for a folder, resumable
  yolosam2 annotate photos/ --out out/ --format labelme,label-studio,voc,overlay
  yolosam2 annotate --watch photos/                 JSON beside each picture as it lands,
                                                    while labelme has the folder open
  yolosam2 annotate VOC/ --out out/ --prompts prediction.json --segmenter sam2.1_hiera_large
  yolosam2 serve                                    the Label Studio ML backend, on 127.0.0.1:9090
  yolosam2 doctor --url http://localhost:8080 --project 1    why nothing appears in Label Studio
  yolosam2 visualize photos/ --out pictures/ --detector demo --segmenter demo
  yolosam2 video street.mp4 --out labels/           objects followed through a video
  yolosam2 frames street.mp4 --out street/ --every 12
                                                    the frames of a video as pictures
  yolosam2 prelabel --url http://localhost:8080 --project 1  masks for every task of a project
  yolosam2 evaluate VOC/ --report report.html       masks against ground truth: mIoU, AP, PQ
  yolosam2 score export.json --report report.html   accepted annotations against predictions
  yolosam2 finetune labels/ --out tuned/            a segmenter that learned from accepted masks
  yolosam2 next export.json                         what to look at next, the hardest first
  yolosam2 view coco/ --out page.html               what a dataset holds, and what is odd in it
  yolosam2 convert export.json yolo/ --to yolo --images photos/
                                                    and between labelme, Label Studio, COCO,
                                                    YOLO and VOC

{_EXIT_CODES}"""

# In the order of ``--help``.
_COMMANDS = (
    demo,
    annotate,
    visualize,
    video,
    tracks,
    frames,
    serve,
    doctor,
    make_config,
    create_project,
    prelabel,
    evaluate,
    score,
    finetune,
    next_tasks,
    view,
    convert,
    labelme,
    models,
    bench,
)


class _Version(argparse.Action):
    """Prints our version and those of what decides the results."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        """Print and end."""
        names = ("yolo-sam2-labeling", "torch", "torchvision", "ultralytics", "sam2", "labelme")
        for name in names:
            try:
                sys.stdout.write(f"{name} {metadata.version(name)}\n")
            except metadata.PackageNotFoundError:
                sys.stdout.write(f"{name} is not installed\n")
        parser.exit(0)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="yolosam2", description=_ABOUT, epilog=_EPILOG, formatter_class=kind
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("--version", action=_Version, help="print the versions of what runs here")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.

    A misspelt option is answered by the command it was given to, with the one that was meant.
    """
    parser = make_parser()
    own = list(sys.argv[1:] if argv is None else argv)
    rest: list[str] = []
    if "--" in own and "labelme" in own[: min(2, own.index("--"))]:  # the rest is for labelme
        at = own.index("--")
        own, rest = own[:at], own[at + 1 :]
    args, unknown = parser.parse_known_args(own)
    args.rest = rest
    if unknown:
        _refuse(parser, args.command, unknown[0])
    return args


def _refuse(parser: argparse.ArgumentParser, command: str, unknown: str) -> None:
    """End the program with what is wrong with an argument, and what was probably meant."""
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    own: argparse.ArgumentParser = subparsers.choices[command]
    known = [option for action in own._actions for option in action.option_strings]
    given = unknown.partition("=")[0]
    if given in known:
        own.error(f"{given} belongs after the command: yolosam2 {command} {given} ...")
    close = [option for option in known if len(option) > 3 and given.startswith(option)]
    close = close or difflib.get_close_matches(given, known, 1)
    told = f"; did you mean {close[0]}?" if close else ""
    told += "; labelme's own options go behind --" if command == "labelme" else ""
    own.error(f"unrecognized argument {unknown[:80]}{told}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    limit_arenas()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    # Pillow's remarks on damaged metadata; what matters about a picture is raised as an error.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        args = parse(argv)
        log_to_stderr(logging.INFO if args.verbose else logging.WARNING)
        code: int = args.run(args)
    except LabelingError as error:
        sys.stderr.write(f"yolosam2: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("yolosam2: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def program() -> None:
    """Run the ``yolosam2`` command.

    As ``main``, but an interrupted run ends without waiting for the threads of the models, which
    abort otherwise.
    """
    code = main()
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
