"""``yolosam2 doctor``: why nothing appears in Label Studio."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from backend.cli.common import (
    Commands,
    add_command,
    add_label_studio_options,
    add_model_options,
    model_settings,
    print_json,
    print_result,
    service_settings,
)

_EPILOG = """example (the same model options as for serve):
  yolosam2 doctor --url http://localhost:8080 --project 1 --detector my-yolo.pt"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        help="find out why nothing appears",
        about=(
            "Check packages, device, weights, and, with an address, Label Studio, its settings, a"
            " project and one real image; print the fix for each fault."
        ),
        run=run,
        epilog=_EPILOG,
    )
    add_label_studio_options(parser)
    about = "the backend's address as Label Studio would call it"
    parser.add_argument("--backend-url", metavar="URL", help=about)
    about = "also whether labelme's window can open here"
    parser.add_argument("--labelme", action="store_true", help=about)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run all checks."""
    from backend.doctor.checks import as_text, exit_code
    from backend.doctor.machine import check_device, check_labelme, check_packages, check_weights
    from backend.doctor.studio import check_label_studio
    from backend.models.registry import conf_of

    settings = model_settings(args)
    service = service_settings(args)
    names: dict[str | None, Mapping[int, str]] = {}
    checks = [*check_packages(), *check_device(settings), *check_weights(settings, names)]
    if args.labelme:
        checks += check_labelme()
    checks += check_label_studio(service, args.project, names, conf_of(settings), args.backend_url)
    if args.json:
        print_json([check.as_dict() for check in checks])
    else:
        print_result(as_text(checks))
    return exit_code(checks)
