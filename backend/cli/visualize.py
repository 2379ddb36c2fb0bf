"""``yolosam2 visualize``: masks drawn over images."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.annotate import run_options
from backend.cli.common import (
    Commands,
    add_command,
    add_file_options,
    add_source_options,
    model_settings,
    parse_rename,
    print_status,
    print_summary,
    stop_on_interrupt,
)
from backend.cli.everything import add_automatic_options, check_automatic, labeler_of
from backend.config.models import Settings
from backend.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "visualize",
        help="draw masks over images",
        about=(
            "Write pictures with masks, outlines, labels and scores drawn over them; of a VOC"
            " dataset with truth, class maps: prediction, truth and errors. With --labels, or of a"
            " JSON file, what is labelled is drawn, and no model is asked."
        ),
        run=run,
    )
    about = "output folder; made if missing"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=about)
    add_source_options(parser)
    about = "draw what is labelled in SRC, in any format that convert reads"
    parser.add_argument("--labels", action="store_true", help=about)
    about = "where the pictures of --labels lie, if not in SRC"
    parser.add_argument("--images", type=Path, metavar="DIR", help=about)
    about = "only the prediction, also for a dataset with truth"
    parser.add_argument("--plain", action="store_true", help=about)
    about = "class A of the model is class B of the dataset"
    parser.add_argument("--rename", metavar="A=B,..", help=about)
    add_file_options(parser)
    add_automatic_options(parser)


def _unnamed(settings: Settings) -> bool:
    """Whether nothing names automatic masks."""
    return settings.names is None and settings.namer is None and settings.examples is None


def run(args: argparse.Namespace) -> int:
    """Draw the pictures."""
    from backend.files.atomic import ensure_writable
    from backend.formats.voc.dataset import has_truth
    from backend.labeling.annotate import annotate
    from backend.labeling.drawings import comparisons
    from backend.labeling.load import load_labeler
    from backend.labeling.run_output import RunOutput
    from backend.labeling.sources import collect

    if args.labels or all(source.suffix.lower() == ".json" for source in args.sources):
        return _draw_labels(args)
    settings = model_settings(args)
    check_automatic(args, settings)
    work = collect(args.sources, settings.split, args.out)
    ensure_writable(args.out)
    for remark in work.remarks:
        print_status(remark)
    loaded = load_labeler(settings, args.mode, work.class_names)
    labeler = labeler_of(args, settings, loaded.labeler)
    formats = ["overlay"]
    sheets: list[RunOutput] = []
    unnamed = args.mode == "automatic" and _unnamed(settings)
    if not args.plain and not unnamed and all(has_truth(source) for source in args.sources):
        names = work.class_names or settings.classes
        if names is None:
            raise ConfigError(
                "the dataset has no class_names.txt; name its classes with --classes, in the order"
                " of their values, or draw only the prediction with --plain"
            )
        rename = parse_rename(args.rename)
        formats = []
        sheets = [comparisons(args.out, labeler.names, names, rename)]
    summary = annotate(
        work.items,
        labeler,
        formats,
        args.out,
        run_options(args, settings, loaded.prompts),
        more_outputs=sheets,
        legend=args.flat,
        stop=stop_on_interrupt(),
    )
    return print_summary(args, summary, failed=bool(summary.failed))


def _draw_labels(args: argparse.Namespace) -> int:
    from backend.datasets.drawn import draw_labels
    from backend.files.images import ImageLimits

    given = [f"--{name}" for name in ("detector", "segmenter", "prompts") if getattr(args, name)]
    if given:
        raise ConfigError(
            f"--labels: draws what is labelled, no model is loaded; leave out {', '.join(given)}"
        )
    stop = stop_on_interrupt()
    summary = draw_labels(
        args.sources,
        args.out,
        images=args.images,
        limits=ImageLimits(max_pixels=model_settings(args).max_pixels),
        overwrite=args.overwrite,
        progress=not args.no_progress,
        stop=stop,
    )
    return print_summary(args, summary, failed=bool(summary.failed or summary.kept))
