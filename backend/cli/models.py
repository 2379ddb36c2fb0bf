"""``yolosam2 models``: the models known by name."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.cli.common import (
    Commands,
    add_command,
    add_settings,
    model_settings,
    print_json,
    print_result,
)
from backend.config.models import Settings
from backend.errors import ConfigError

_KINDS = ("detector", "segmenter")
_EPILOG = """examples:
  yolosam2 models
  yolosam2 models tuned/
  yolosam2 models tuned/ --rollback"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "models",
        help="list the models known by name, and tuned ones; go back to an earlier one",
        about="List models by name: licence, classes, size, and whether their files are here. What"
        " finetune made is listed with what it gained, also where it lies below the model root.",
        run=run,
        epilog=_EPILOG,
    )
    about = "folder that finetune made"
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=about)
    about = "let each RUN offer what it offered before its last training"
    parser.add_argument("--rollback", action="store_true", help=about)
    about = "only this kind of model goes back"
    parser.add_argument("--kind", choices=_KINDS, help=about)
    add_settings(parser, Settings, ("model_root",))
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    """List the models, or go back to earlier ones."""
    if args.rollback:
        return _roll_back(args)
    if args.kind is not None:
        raise ConfigError("--kind: goes with --rollback")
    from backend.models.namers import known_namers
    from backend.models.table import known_models
    from backend.models.weights import EMBEDDED_FOLDER

    root = model_settings(args).model_root
    table: list[dict[str, Any]] = [
        {
            "kind": model.kind,
            "name": model.name,
            "where": str(where),
            "here": not isinstance(where, Path) or where.is_file(),
            "bytes": _size(EMBEDDED_FOLDER / model.weights if model.embedded else where),
            "licence": model.licence,
            "classes": model.classes,
        }
        for model, where in [*known_models(root), *known_namers(root)]
    ]
    table = [] if args.runs else table
    tuned = _tuned(args.runs or (sorted(root.iterdir()) if root.is_dir() else ()), args.runs)
    if args.json:
        print_json([*table, *tuned])
        return 0
    for row in table:
        state = "here" if row["here"] else "fetched on first use"
        size = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f} MB"
        print_result(
            f"{row['kind']:<10} {row['name']:<32} {row['licence']:<11} {row['classes']:<22}"
            f" {size:>9}  {state}: {row['where']}"
        )
    for row in tuned:
        gained = "" if row["gain"] is None else f", {row['gain']}"
        print_result(
            f"{row['kind']:<10} {row['name']:<32} {row['licence'] or 'as base':<11}"
            f" tuned from {row['base']} on {row['pictures']} pictures, {row['made']}{gained}"
        )
    return 0


def _tuned(folders: Iterable[Path], asked: Sequence[Path]) -> list[dict[str, Any]]:
    """What tuned models folders offer.

    Raises:
        ConfigError: one that was asked for offers none, or not whole.
    """
    from backend.models.tuned import is_tuned, read_tuned

    found = []
    for folder in folders:
        kinds = [kind for kind in _KINDS if is_tuned(folder, kind)]
        if not kinds and folder in asked:
            raise ConfigError(f"{folder}: offers no tuned model, such as finetune makes")
        for kind in kinds:
            try:
                about = read_tuned(folder, kind).about
            except ConfigError:
                if folder in asked:
                    raise
                continue
            found.append(
                {
                    "kind": kind,
                    "name": str(folder),
                    "base": about["base"],
                    "licence": about.get("licence"),
                    "made": about.get("made"),
                    "pictures": len(about.get("pictures", {}).get("train", ())),
                    "weights": about["weights"],
                    "gain": _gain(kind, about.get("figures", {})),
                    "figures": about.get("figures"),
                }
            )
    return found


def _gain(kind: str, figures: Mapping[str, Any]) -> str | None:
    """The figure that decided, before and after."""
    if kind == "segmenter" and (ious := figures.get("iou_from_true_boxes")):
        return f"mean IoU from true boxes {ious['before']:.3f} to {ious['after']:.3f}"
    rows = {row["name"]: row for row in figures.get("figures", ())}
    row = rows.get("mean_iou_without_background")
    if row is None:
        return None
    return f"mean IoU of both {row['first'] or 0:.3f} to {row['second'] or 0:.3f}"


def _roll_back(args: argparse.Namespace) -> int:
    from backend.models.tuned import is_tuned, read_tuned, roll_back

    if not args.runs:
        raise ConfigError("--rollback: name the folder of a run, such as: models tuned/ --rollback")
    for folder in args.runs:
        kinds = [args.kind] if args.kind else [kind for kind in _KINDS if is_tuned(folder, kind)]
        if not kinds:
            raise ConfigError(f"{folder}: offers no tuned model to go back from")
        for kind in kinds:
            left = read_tuned(folder, kind)
            found = roll_back(folder, kind)
            now = (
                f"none; name its base, --{kind} {left.base}"
                if found is None
                else f"{found.path.name} again"
            )
            print_result(f"{folder}: {left.path.name} is not offered any more; {kind}: {now}")
    return 0


def _size(where: Path | str) -> int | None:
    return where.stat().st_size if isinstance(where, Path) and where.is_file() else None
