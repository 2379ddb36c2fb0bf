"""What a run writes, by its name, and what stands against it before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backend.errors import ConfigError
from backend.files.stores import exists
from backend.formats.registry import format_of
from backend.labeling.annotation_files import AnnotationFiles
from backend.labeling.drawings import overlays_in
from backend.labeling.run_output import RunOutput
from backend.labeling.sources import ImageItem

OUTPUT_FORMATS = ("labelme", "label-studio", "voc", "overlay")
DATASETS = ("coco", "coco-panoptic", "yolo")  # made of labelme files once these are complete
LABELME_FOLDER = "labelme"  # of those


def make_outputs(
    formats: Sequence[str],
    out: Path,
    names: Sequence[str],
    url_prefix: str,
    *,
    legend: bool = False,
) -> list[RunOutput]:
    """The outputs of a run.

    Args:
        formats: of ``OUTPUT_FORMATS`` and ``DATASETS``.
        out: output folder.
        names: class names in order.
        url_prefix: put before an image's quoted relative path to make the URL in Label Studio
            tasks.
        legend: whether pictures get one; for masks that do not overlap.

    Raises:
        ConfigError: more classes than a format can hold.
    """
    for_datasets = bool(set(DATASETS) & set(formats))
    made: list[RunOutput] = []
    for name in dict.fromkeys("labelme" if name in DATASETS else name for name in formats):
        if name == "overlay":
            folder = out if set(formats) == {"overlay"} else out / "overlays"
            made.append(overlays_in(folder, legend=legend))
            continue
        root = out
        if name == "label-studio":
            root = out / name
        elif name == "labelme" and for_datasets:
            root = out / LABELME_FOLDER
        made.append(
            AnnotationFiles(
                format_of(name),
                root,
                names,
                url_prefix=url_prefix,
                # labels.txt fixes the numbers of classes in what is made of labelme files.
                with_class_files=name != "labelme" or for_datasets,
            )
        )
    return made


def with_earlier_stem(item: ImageItem, outputs: Sequence[RunOutput]) -> ImageItem:
    """An item whose outputs keep the names of an earlier run: a picture that was alone then, and is
    one of several of its name now, has its results under the plain name.
    """
    plain = item.relative.with_suffix("").as_posix()
    if item.stem == plain:
        return item
    was_alone = any(output.picture_of(plain) == item.path.name for output in outputs)
    return replace(item, stem=plain) if was_alone else item


def check_outputs(outputs: Sequence[RunOutput], items: Sequence[ImageItem]) -> None:
    """Refuse, before any work, what would destroy an input.

    Raises:
        ConfigError: naming the file.
    """
    inputs = {item.path.resolve() for item in items}
    for output in outputs:
        for item in items:
            for path in output.paths(item):
                if path.resolve() in inputs:
                    raise ConfigError(
                        f"{path}: is one of the pictures to label, and would be overwritten; choose"
                        " another --out"
                    )


def check_classes(outputs: Sequence[RunOutput], overwrite: bool) -> None:
    """Refuse, before any work, what would mix two sets of classes.

    Raises:
        ConfigError: naming the file.
    """
    for output in outputs:
        for path, data in output.class_files():
            if exists(path) and not overwrite and path.read_bytes().strip() != data.strip():
                raise ConfigError(
                    f"{path}: is there already, for other classes; choose another --out, or"
                    " --overwrite to replace it (a .bak copy is kept)"
                )
