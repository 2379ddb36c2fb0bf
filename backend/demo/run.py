"""The demo: the embedded models over the bundled samples, through the real backend app, compared
with the truth.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from backend.config.models import Settings, read_names
from backend.core.naming import Words
from backend.core.protocols import Labeler
from backend.demo.served import ServedCascade, served
from backend.drawing.overlays import contact_sheet, encode_picture
from backend.errors import ConfigError, disk_error
from backend.evaluation.semantic import Confusion, confusion, iou_table
from backend.files.atomic import ensure_writable, write_atomic
from backend.files.images import read_image
from backend.formats.voc.label_maps import decode_png
from backend.labeling.annotate import annotate
from backend.labeling.load import CASCADE, load_labeler
from backend.labeling.picture_work import RunOptions
from backend.labeling.sources import ImageItem, collect

SAMPLES = Path(__file__).parent / "samples"


def _copy_pictures(out: Path) -> list[Path]:
    pictures = sorted((SAMPLES / "JPEGImages").glob("*.jpg"))
    if not pictures:
        raise ConfigError(f"{SAMPLES}: the bundled samples are missing; reinstall the package")
    try:
        return [Path(shutil.copy(path, out / path.name)) for path in pictures]
    except OSError as error:
        raise disk_error(error, out) from error


def compare_with_truth(
    out: Path, items: Sequence[ImageItem], truth: Path, n_classes: int
) -> Confusion:
    """Confusion of the label maps in ``out`` with those in ``truth``, summed over all items."""
    counts = []
    for item in items:
        name = f"SegmentationClass/{item.stem}.png"
        expected = decode_png((truth / name).read_bytes(), name)
        found = decode_png((out / name).read_bytes(), name)
        counts.append(confusion(expected, found, n_classes + 1))
    total = counts[0]
    for one in counts[1:]:
        total = total + one
    return total


@contextmanager
def _labeler(names: Sequence[str], mode: str) -> Iterator[Labeler]:
    """The cascade goes through the real backend app; automatic masks are made here."""
    settings = Settings(
        detector="demo",
        segmenter="demo",
        device="cpu",
        box_margin=DEMO_MARGIN,
        min_part=DEMO_MIN_PART,
        names=tuple(Words(name) for name in names),
        unsure="drop",  # the classes of the samples are known, and the truth has no other
    )
    if mode == CASCADE:
        with served(settings) as url, closing(ServedCascade(url, names)) as cascade:
            yield cascade
    else:
        yield load_labeler(settings, mode).labeler


def run_demo(out: Path, progress: bool = True, mode: str = CASCADE) -> str:
    """Label the samples into ``out``.

    Args:
        out: gets the pictures with labelme JSON beside them, Label Studio tasks, label maps,
            overlays and a contact sheet.
        progress: show a progress bar on stderr.
        mode: ``cascade``, or ``automatic`` for masks of everything with names.

    Returns:
        The per-class IoU table and what was written, as text.

    Raises:
        ConfigError: embedded files are missing, or the folder cannot be written.
    """
    start = time.perf_counter()
    ensure_writable(out)
    pictures = _copy_pictures(out)
    names = [
        name for name in read_names(str(SAMPLES / "class_names.txt")) if name != "_background_"
    ]
    work = collect(pictures, "val")
    with _labeler(names, mode) as labeler:
        summary = annotate(
            work.items,
            labeler,
            ("labelme", "label-studio", "voc", "overlay"),
            out,
            RunOptions(overwrite=True, progress=progress),
        )
        version = labeler.model_version
    if summary.failed:
        raise ConfigError("; ".join(reason for _, reason in summary.failed))
    total = compare_with_truth(out, work.items, SAMPLES, len(names))
    sheet = contact_sheet(
        [read_image(out / "overlays" / f"{item.stem}.jpg") for item in work.items], 4, 1600
    )
    write_atomic(out / "contact_sheet.png", encode_picture(sheet, ".png"))
    took = time.perf_counter() - start
    left_out = ", ".join(f"{count} {why}" for why, count in summary.left_out.most_common())
    lines = [
        (
            f"{summary.labelled} pictures, {sum(summary.per_class.values())} objects in {took:.1f}"
            f" s, model version {version}"
        ),
        *([f"left out: {left_out}"] if left_out else []),
        "",
        "IoU against the truth:",
        iou_table(total, names),
        "",
        f"{out}/contact_sheet.png       all pictures with their masks",
        f"{out}/*.json                  labelme: open the folder with `labelme {out}`",
        (
            f"{out}/label-studio/           Label Studio: import.json, and label_config.xml for the"
            " labeling setup"
        ),
        (
            f"{out}/SegmentationClass/      label maps (indexed PNG), SegmentationObject/ one value"
            " per object"
        ),
    ]
    return "\n".join(lines)


DEMO_MIN_PART = 0.02  # drops its specks and fills its pinholes; chosen there too
DEMO_MARGIN = (
    0.04  # cuts what the micro SAM 2 spills over touching objects; chosen on validation scenes
)
