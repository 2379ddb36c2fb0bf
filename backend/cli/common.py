"""What the commands share: their options, settings, output and interruption."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from backend.config.fields import default_in_words, settings_of, share
from backend.config.models import Settings, load_settings
from backend.config.service import ServiceSettings, load_service_settings
from backend.errors import ConfigError
from backend.files.stores import place_of

Options: TypeAlias = argparse.ArgumentParser | argparse._ArgumentGroup
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

INTERRUPTED = 130
MODES = ("cascade", "boxes", "automatic", "both")
OVERLAPS = ("score", "smallest", "last")  # explained in core.stacking, which --help does not load
FORMATS = ("labelme", "label-studio", "coco", "coco-panoptic", "yolo", "voc")
IMAGE_URL_PREFIX = "/data/local-files/?d="

_DETECTOR = ("detector", "model_root", "device", "classes")
_MODELS = (
    "segmenter",
    "segmenter_config",
    "conf",
    "iou",
    "max_det",
    "agnostic_nms",
    "box_margin",
    "min_part",
    "batch",
    "sam_batch",
    "segmenter_size",
    "runtime",
    "precision",
)
_BATCH = ("prompts", "prompt_boxes", "workers")
_CALLED = {"label_studio_url": "--url", "label_studio_api_key": "--api-key"}


def add_command(
    commands: Commands,
    name: str,
    *,
    help: str,
    about: str,
    run: Any,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """A command with its body.

    Args:
        commands: where it goes.
        name: what a user types.
        help: one line for the list of commands.
        about: what its own ``--help`` begins with.
        run: parsed arguments to exit code.
        epilog: what its own ``--help`` ends with, laid out as it stands.
    """
    kind = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
    parser = commands.add_parser(
        name, help=help, description=about, epilog=epilog, formatter_class=kind
    )
    parser.set_defaults(run=run)
    return parser


def _is_long(flag: str) -> bool:
    """``-c`` comes before ``--config``."""
    return len(flag) > 2


def add_settings(
    options: Options, cls: type, names: Sequence[str], flags: Mapping[str, str] | None = None
) -> None:
    """Options made of the declarations of settings.

    Args:
        options: where they go.
        cls: a settings dataclass.
        names: of its fields, in the order of ``--help``.
        flags: field name to the flag to use instead of the declared ones.
    """
    declared = settings_of(cls)
    for name in names:
        one = declared[name]
        default = default_in_words(cls, name)
        text = f"{one.help} (default: {default})" if default else one.help
        given = (flags[name],) if flags and name in flags else sorted(one.flags, key=_is_long)
        if one.metavar:
            options.add_argument(*given, dest=name, metavar=one.metavar, help=text)
        elif getattr(cls, name, False) is not False:  # a flag that switches it off as well
            options.add_argument(
                *given, dest=name, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            options.add_argument(*given, dest=name, action="store_const", const=True, help=text)


def add_detector_options(options: Options) -> None:
    """Options of the commands that load a detector."""
    about = "settings as JSON or YAML; upstream YOLO-SAM2's keys are understood"
    options.add_argument("-c", "--config", type=Path, metavar="FILE", help=about)
    add_settings(options, Settings, _DETECTOR)


def add_model_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options of the commands that run detector and segmenter."""
    group = parser.add_argument_group("models and thresholds")
    add_detector_options(group)
    add_settings(group, Settings, _MODELS)
    return group


def add_batch_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options of the commands that work through many images."""
    group = add_model_options(parser)
    add_settings(group, Settings, _BATCH)
    return group


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that work through image files."""
    add_settings(add_batch_options(parser), Settings, ("split",))


def add_source_options(parser: argparse.ArgumentParser, *, addresses: bool = False) -> None:
    """What ``annotate`` and ``visualize`` work on, and how they tell of it.

    Args:
        parser: of the command.
        addresses: whether places in stores may be named.
    """
    about = "image files, folders (recursive) or VOC datasets"
    about += "; also addresses such as s3://bucket/set" if addresses else ""
    kind = place_of if addresses else Path
    parser.add_argument("sources", nargs="+", type=kind, metavar="SRC", help=about)
    about = (
        "cascade: boxes and masks; boxes: no segmenter; automatic: masks of everything, without a"
        " detector; both: the detector's masks, then automatic ones where it found nothing"
    )
    parser.add_argument("--mode", choices=MODES, default="cascade", help=about)
    about = "do again what is done; hand-made files are copied to .bak first"
    parser.add_argument("--overwrite", action="store_true", help=about)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_progress_option(parser)


def add_engine_options(options: Options) -> None:
    """``--engine`` and how Ray is used, of the commands that can go beyond one process."""
    about = "where the work is done: in this process, or by workers of Ray (default: local)"
    options.add_argument("--engine", choices=("local", "ray"), default="local", help=about)
    about = "models that Ray holds at once, each on a GPU of its own (default: 1)"
    options.add_argument("--actors", type=int, default=1, metavar="N", help=about)
    about = "of a cluster, such as ray://head:10001 or auto (default: this machine)"
    options.add_argument("--ray-address", metavar="ADDRESS", help=about)


def add_progress_option(parser: Options) -> None:
    """``--no-progress``."""
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def add_label_studio_options(
    options: Options, *, project: bool = True, required: bool = False, more: str = ""
) -> None:
    """Address and token of Label Studio, of the commands that ask it.

    Args:
        options: of the command, or a group of them.
        project: whether a project is named, too.
        required: whether it must be.
        more: what is said of it in the help.
    """
    about = "Label Studio (default: LABEL_STUDIO_URL)"
    options.add_argument("--url", dest="label_studio_url", metavar="URL", help=about)
    about = (
        "legacy or personal access token (default: LABEL_STUDIO_API_KEY, which does not show in the"
        " process list)"
    )
    options.add_argument("--api-key", dest="label_studio_api_key", metavar="TOKEN", help=about)
    if project:
        about = f"the number in the project's address{more}"
        options.add_argument("--project", type=int, required=required, metavar="ID", help=about)


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """How ``evaluate`` and ``score`` count, and where their results go."""
    about = "also write everything as JSON; - prints it instead of the tables"
    parser.add_argument("--json", type=Path, metavar="FILE", help=about)
    about = "also write a page with charts and the worst images; one file, no network"
    parser.add_argument("--report", type=Path, metavar="HTML", help=about)
    about = "which instance is seen where several are (default: score, the surer one)"
    parser.add_argument("--overlap", choices=OVERLAPS, default="score", help=about)
    parser.add_argument("--rename", metavar="A=B,..", help="score label A under the name B")
    about = "of the bootstrap behind the 95 %% intervals; 0 for none (default: 1000)"
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help=about)
    add_progress_option(parser)


def model_settings(args: argparse.Namespace) -> Settings:
    """All settings of the models, from flags, environment and configuration file."""
    return load_settings(vars(args), os.environ, getattr(args, "config", None))


def service_settings(args: argparse.Namespace) -> ServiceSettings:
    """Address and token of Label Studio, from ``--url`` and ``--api-key``."""
    flags = {name: getattr(args, name) for name in _CALLED}
    return load_service_settings(flags, os.environ, _CALLED)


def class_names(text: str | None) -> tuple[str, ...] | None:
    """The names of a ``--classes`` of its own, of the commands that load no model."""
    return None if text is None else load_settings({"classes": text}, {}).classes


def print_result(text: str) -> None:
    """Write a result to stdout."""
    sys.stdout.write(text + "\n")


def print_json(value: object, indent: int = 2) -> None:
    """Write a result to stdout as JSON."""
    print_result(json.dumps(value, indent=indent, ensure_ascii=False))


class Summary(Protocol):
    """What a run over many items did."""

    stopped: str | None

    def as_dict(self) -> dict[str, Any]: ...
    def as_text(self) -> str: ...


def print_summary(args: argparse.Namespace, summary: Summary, *, failed: bool) -> int:
    """Write what a run did, as JSON where that was asked for; gives the exit code."""
    if args.json:
        print_json(summary.as_dict())
    else:
        print_result(summary.as_text())
    if summary.stopped == "interrupted":
        return INTERRUPTED
    return 1 if failed else 0


def print_status(text: str) -> None:
    """Write a remark to stderr while working."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def stop_on_interrupt() -> threading.Event:
    """Handle Ctrl-C and SIGTERM.

    Returns:
        An event that the first signal sets, so that the work in flight is finished; the second
        signal ends the program at once.
    """
    stop = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        told = "interrupted: finishing what is in flight; press Ctrl-C again to drop it"
        sys.stderr.write(f"\n{told}\n")

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop


def parse_share(text: str | None, option: str) -> float:
    """``10%`` or ``0.1`` as 0.1; 0 for None.

    Raises:
        ConfigError: no number from 0 to 1.
    """
    if text is None:
        return 0.0
    try:
        return share(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def parse_names(text: str, known: Sequence[str], option: str) -> list[str]:
    """``a,b`` as the names that it lists.

    Raises:
        ConfigError: one that is not known, or none.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        told = ", ".join(unknown) or "nothing"
        raise ConfigError(f"{option}: unknown {told}; known are {', '.join(known)}")
    return names


def parse_rename(text: str | None, option: str = "--rename") -> dict[str, str]:
    """``a=b,c=d`` as a mapping.

    Raises:
        ConfigError: an entry without both sides.
    """
    pairs = [entry.partition("=") for entry in (text or "").split(",") if entry.strip()]
    for left, sign, right in pairs:
        if not sign or not left.strip() or not right.strip():
            raise ConfigError(f"{option}: expected OLD=NEW, got {left + sign + right!r}")
    return {left.strip(): right.strip() for left, _, right in pairs}
