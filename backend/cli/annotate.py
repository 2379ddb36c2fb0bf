"""``yolosam2 annotate``: images into annotation files."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.cli.common import (
    IMAGE_URL_PREFIX,
    INTERRUPTED,
    Commands,
    add_command,
    add_engine_options,
    add_file_options,
    add_source_options,
    model_settings,
    parse_names,
    print_json,
    print_result,
    print_status,
    stop_on_interrupt,
)
from backend.cli.everything import add_automatic_options, check_automatic, labeler_of
from backend.config.models import Settings
from backend.errors import ConfigError
from backend.files.stores import is_stored, place_of

if TYPE_CHECKING:
    from backend.core.protocols import Labeler
    from backend.labeling.engine_ray import RayOptions
    from backend.labeling.picture_work import RunOptions
    from backend.labeling.run_summary import RunSummary
    from backend.labeling.sources import ImageItem

    Hint = Callable[[RunSummary], str]  # what to tell where nothing was found

_EPILOG = """formats:
  labelme        one JSON per image, masks as labelme draws them
  label-studio   importable tasks with brush masks, and a labeling config
  voc            indexed PNGs: SegmentationClass, SegmentationObject, class_names.txt
  coco, yolo     datasets to train on, in coco/ and yolo/, made of labelme files in labelme/;
                 yolosam2 convert makes them again after corrections
  overlay        pictures with masks drawn

examples:
  yolosam2 annotate photos/ --out labels
  yolosam2 annotate s3://bucket/photos --out s3://bucket/labels
                 pictures and results in a store: whatever fsspec reaches
  yolosam2 annotate s3://bucket/photos --out s3://bucket/labels --engine ray --actors 8 \\
      --ray-address auto
                 on a cluster, one model a GPU"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "annotate",
        help="label images into files",
        about=(
            "Label images. Run the same command again to go on after an interruption: what is done"
            " is skipped."
        ),
        run=run,
        epilog=_EPILOG,
    )
    about = "output folder or address; made if missing (with --watch: default beside the pictures)"
    parser.add_argument("--out", type=place_of, metavar="DIR", help=about)
    about = "stay, and label pictures as they land in the folders, until Ctrl-C"
    parser.add_argument("--watch", action="store_true", help=about)
    about = "how often --watch looks (default: 1)"
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help=about)
    add_source_options(parser, addresses=True)
    about = "labelme, label-studio, coco, coco-panoptic, yolo, voc, overlay (default: labelme)"
    parser.add_argument("--format", default="labelme", metavar="F[,F..]", help=about)
    about = "put before each image's path in Label Studio tasks"
    parser.add_argument("--image-url-prefix", default=IMAGE_URL_PREFIX, metavar="URL", help=about)
    add_engine_options(parser.add_argument_group("where the work is done"))
    add_file_options(parser)
    add_automatic_options(parser)


def run(args: argparse.Namespace) -> int:
    """Label the images."""
    from backend.labeling.outputs import DATASETS, OUTPUT_FORMATS

    formats = parse_names(args.format, (*OUTPUT_FORMATS, *DATASETS), "--format")
    _check_mode(args.mode, formats)
    settings = model_settings(args)
    check_automatic(args, settings)
    if args.watch:
        return _watch(args, settings, formats)
    if args.out is None:
        raise ConfigError(
            "annotate: --out DIR is missing; only --watch writes beside the pictures by itself"
        )
    datasets = [name for name in formats if name in DATASETS]
    if datasets and any(map(is_stored, [args.out, *args.sources])):
        raise ConfigError(
            f"--format {datasets[0]}: is made of files on a disk; write labelme, and convert a"
            " copy of the store"
        )
    stop = stop_on_interrupt()
    summary, hint = (_on_ray if args.engine == "ray" else _here)(args, settings, formats, stop)
    made = _datasets(args, datasets if summary.stopped is None else [], stop)
    if args.json:
        more = {"datasets": [one.as_dict() for one in made]} if made else {}
        print_json({**summary.as_dict(), **more})
    else:
        print_result("\n".join(one.as_text() for one in (summary, *made)))
        if hint is not None and summary.labelled and not summary.per_class:
            print_result(hint(summary))
    if summary.stopped == "interrupted":
        return INTERRUPTED
    return 1 if summary.failed or any(one.failed or one.kept for one in made) else 0


def _here(
    args: argparse.Namespace, settings: Settings, formats: Sequence[str], stop: threading.Event
) -> tuple[RunSummary, Hint | None]:
    """Label in this process; also what to tell where nothing was found."""
    from backend.files.atomic import ensure_writable
    from backend.labeling.annotate import annotate
    from backend.labeling.highest_score import highest_score
    from backend.labeling.load import load_labeler
    from backend.labeling.sources import collect

    work = collect(args.sources, settings.split, args.out)
    ensure_writable(args.out)
    for remark in work.remarks:
        print_status(remark)
    loaded = load_labeler(settings, args.mode, work.class_names)
    options = run_options(args, settings, loaded.prompts)
    summary = annotate(
        work.items,
        labeler_of(args, settings, loaded.labeler),
        formats,
        args.out,
        options,
        url_prefix=args.image_url_prefix,
        legend=args.flat,
        stop=stop,
    )
    summary.failed = [*work.failed, *summary.failed]

    def hint(done: RunSummary) -> str:
        return highest_score(settings, [item.path for item in done.done_now], options.limits)

    asked = args.mode != "automatic" and loaded.prompts is None
    return summary, hint if asked else None


def _on_ray(
    args: argparse.Namespace, settings: Settings, formats: Sequence[str], stop: threading.Event
) -> tuple[RunSummary, None]:
    """Label on workers of Ray."""
    from backend.files.find import PassedOver
    from backend.labeling.annotate import check_prompts
    from backend.labeling.annotate_ray import RayJob, annotate_on_ray
    from backend.labeling.load import load_labeler
    from backend.labeling.sources import BESIDE_PICTURES, collect, is_plain_folder, stream

    if len(args.sources) != 1:
        raise ConfigError(
            "--engine ray: takes one folder, dataset or address; run it once for each"
        )
    args.sources = [one if is_stored(one) else one.absolute() for one in args.sources]
    out = args.out if is_stored(args.out) else args.out.absolute()
    source = args.sources[0]
    passed = PassedOver()
    dataset = None if is_plain_folder(source) else collect([source], settings.split, args.out)
    names = None if dataset is None else dataset.class_names
    loaded = load_labeler(settings, args.mode, names)
    prompts = loaded.prompts
    labeler = labeler_of(args, settings, loaded.labeler)
    classes = [labeler.names[k] for k in sorted(labeler.names)]
    version = labeler.model_version
    del loaded, labeler  # workers have their own, perhaps on the same device
    job = RayJob(
        make_labeler=partial(_load, args, settings, names),
        names=classes,
        version=version,
        source=source,
        out=out,
        formats=formats,
        options=run_options(args, settings, prompts),
        url_prefix=args.image_url_prefix,
        legend=args.flat,
    )
    if dataset is not None:
        items: Iterable[ImageItem] = dataset.items
    else:
        items = stream(source, out, passed)
    if prompts is not None:
        items = list(items)
        check_prompts(prompts, items)
    summary = annotate_on_ray(items, job, ray_options(args, settings), stop)
    for remark in dataset.remarks if dataset is not None else passed.remarks(BESIDE_PICTURES):
        print_status(remark)
    summary.failed = [*passed.refused, *summary.failed]
    if not (
        summary.labelled or summary.done or summary.hand_made or summary.failed or stop.is_set()
    ):
        raise ConfigError(f"{source}: no images there")
    return summary, None


def _load(args: argparse.Namespace, settings: Settings, names: Any) -> Labeler:
    """The models, as each worker loads them."""
    from backend.labeling.load import load_labeler

    return labeler_of(args, settings, load_labeler(settings, args.mode, names).labeler)


def ray_options(args: argparse.Namespace, settings: Settings) -> RayOptions:
    """How ``--engine ray`` is to use Ray."""
    from backend.config.process import threads_of
    from backend.labeling.engine_ray import RayOptions
    from backend.labeling.ray_workers import LOADER_THREADS
    from backend.models.devices import gpus_of_actor

    if args.actors < 1:
        raise ConfigError(f"--actors: expected a number above 0, got {args.actors}")
    return RayOptions(
        batch=settings.batch,
        loaders=max(2, -(-threads_of(settings.workers) // LOADER_THREADS)),
        actors=args.actors,
        gpus=gpus_of_actor(settings.device),
        address=args.ray_address,
    )


def _check_mode(mode: str, formats: Sequence[str]) -> None:
    """Refuse to write files that would be empty.

    Raises:
        ConfigError: boxes are wanted in a format that cannot hold them.
    """
    from backend.formats.registry import format_names, format_of

    if mode != "boxes":
        return
    for name in formats:
        if name in format_names() and not format_of(name).holds_boxes:
            raise ConfigError(
                f"--mode boxes: {name} holds masks only, so nothing would be in it; choose another"
                " --format"
            )


def run_options(args: argparse.Namespace, settings: Settings, prompts: Any = None) -> RunOptions:
    """How ``annotate`` and ``visualize`` run."""
    from backend.files.images import ImageLimits
    from backend.labeling.picture_work import RunOptions
    from backend.models.devices import staging, whole_batch

    return RunOptions(
        batch=whole_batch(settings.batch, settings.device),
        workers=settings.workers,
        overwrite=args.overwrite,
        limits=ImageLimits(max_pixels=settings.max_pixels),
        prompts=prompts,
        progress=not args.no_progress,
        stage=staging(settings.device),
    )


def _datasets(args: argparse.Namespace, formats: Sequence[str], stop: threading.Event) -> list[Any]:
    """Datasets of the labelme files that were just written, or corrected since.

    The model's classes come first in them, in its order.
    """
    from backend.datasets.convert import ConvertOptions, convert
    from backend.labeling.outputs import LABELME_FOLDER

    roots = tuple(source if source.is_dir() else source.parent for source in args.sources)
    options = ConvertOptions(roots=roots, overwrite=args.overwrite, progress=not args.no_progress)
    source = args.out / LABELME_FOLDER
    return [convert(source, args.out / kind, kind, options, "labelme", stop) for kind in formats]


def _watch(args: argparse.Namespace, settings: Settings, formats: Sequence[str]) -> int:
    from backend.labeling.load import load_labeler
    from backend.labeling.watch import check_watch, watch

    if args.engine == "ray" or any(map(is_stored, [*args.sources, args.out or Path()])):
        raise ConfigError("--watch: looks at folders on a disk, from one process")
    check_watch(args.sources, formats, args.out, args.overwrite, args.interval)
    if settings.prompts is not None:
        raise ConfigError(
            "--watch: a prompt file cannot know pictures to come; leave out --prompts"
        )
    labeler = labeler_of(args, settings, load_labeler(settings, args.mode).labeler)
    options = run_options(args, settings)
    stop = stop_on_interrupt()
    print_status(f"watching {', '.join(map(str, args.sources))}; Ctrl-C ends it")
    summary = watch(
        args.sources,
        labeler,
        args.out,
        options,
        print_status,
        interval_s=args.interval,
        stop=stop,
    )
    if args.json:
        print_json(summary.as_dict())
    else:
        print_result(summary.as_text())
    return 1 if summary.failed else 0
