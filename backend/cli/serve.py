"""``yolosam2 serve``: the Label Studio ML backend."""

from __future__ import annotations

import argparse
import logging
import os

from backend.cli.common import (
    Commands,
    add_command,
    add_model_options,
    add_settings,
    model_settings,
)
from backend.cli.everything import TAGS, add_everything_settings
from backend.config.process import log_to_stderr
from backend.config.service import ServiceSettings, load_service_settings

_EPILOG = """example:
  LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=... \\
    yolosam2 serve --detector my-yolo.pt --segmenter sam2.1_hiera_large

environment:
  LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY   where images come from; the key is a legacy or a
                                           personal access token
  BASIC_AUTH_USER, BASIC_AUTH_PASS         asked for on every route but the health checks
  ALLOWED_HOSTS                            other hosts that images may come from:
                                           a.example.com,*.example.org,10.1.0.0/16
  docs/label-studio.md lists the rest.

Label Studio itself must be started with ML_BLOCK_LOCAL_IP=false and
SSRF_PROTECTION_ENABLED=false to talk to a private address."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "serve",
        help="the Label Studio ML backend",
        about=(
            "Serve masks to Label Studio: connect this address in a project under Settings, Model."
        ),
        run=run,
        epilog=_EPILOG,
    )
    names = (
        "host",
        "port",
        "threads",
        "insecure",
        "log_format",
        "holdout",
        "label_studio_url",
        "training",
        "train_options",
    )
    add_settings(parser, ServiceSettings, names)
    add_model_options(parser)
    add_everything_settings(parser, TAGS)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from backend.label_studio.server.serve import serve

    service = load_service_settings(vars(args), os.environ)
    log_to_stderr(logging.WARNING, service.log_format)
    logging.getLogger("backend").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    serve(model_settings(args), service)
    return 0
