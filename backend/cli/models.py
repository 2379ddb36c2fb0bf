"""``yolosam2 models``: the models known by name."""

from __future__ import annotations

import argparse
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


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "models",
        help="list the models known by name",
        about="List models by name: licence, classes, size, and whether their files are here.",
        run=run,
    )
    add_settings(parser, Settings, ("model_root",))
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    """List the models."""
    from backend.models.namers import known_namers
    from backend.models.registry import known_models
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
    if args.json:
        print_json(table)
        return 0
    for row in table:
        state = "here" if row["here"] else "fetched on first use"
        size = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f} MB"
        print_result(
            f"{row['kind']:<10} {row['name']:<32} {row['licence']:<11} {row['classes']:<22}"
            f" {size:>9}  {state}: {row['where']}"
        )
    return 0


def _size(where: Path | str) -> int | None:
    return where.stat().st_size if isinstance(where, Path) and where.is_file() else None
