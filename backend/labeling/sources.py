"""What to work on: files, folders and VOC datasets as one list of items with names for their
outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backend.drawing.overlays import made_by_us
from backend.errors import ConfigError, InputError
from backend.files.atomic import check_out
from backend.files.find import PassedOver, find_files
from backend.files.images import SUFFIXES
from backend.files.names import unique_stems
from backend.files.stores import find_stored, is_stored
from backend.formats.voc.dataset import is_voc, open_voc

OUTPUT_FOLDERS = (
    "overlays",
    "SegmentationClass",
    "SegmentationObject",
    "label-studio",
    "labelme",
    "coco",
    "coco-panoptic",
    "yolo",
)


# Files that lie beside pictures in datasets, which nobody expects to be labelled.
BESIDE_PICTURES = (".json", ".txt", ".xml", ".yaml", ".yml", ".csv", ".md", ".html", ".bak")


@dataclass(frozen=True)
class ImageItem:
    """One image to work on.

    Attributes:
        path: of the file; for a listed but missing image, where it should be.
        relative: below its source folder, with suffix; what prompt files call it.
        stem: name of its outputs, with sub-folders, without suffix; unique in the run.
    """

    path: Path
    relative: PurePosixPath
    stem: str


@dataclass(frozen=True)
class ImageList:
    """All items of a run, and the class names if a dataset brought them."""

    items: tuple[ImageItem, ...]
    class_names: tuple[str, ...] | None
    remarks: tuple[str, ...] = ()  # what to tell the user
    failed: tuple[tuple[str, str], ...] = ()  # folders that may not be read, and a sentence each


def _voc_paths(
    root: Path, split: str
) -> tuple[list[tuple[Path, PurePosixPath]], tuple[str, ...] | None]:
    dataset = open_voc(root, split)
    pairs = []
    for image_id in dataset.image_ids:
        try:
            path = dataset.image_path(image_id)
        except InputError:
            path = (
                root / "JPEGImages" / f"{image_id}.jpg"
            )  # reported as missing when it is its turn
        relative = path.relative_to(root / "JPEGImages")
        pairs.append((path, PurePosixPath(relative.as_posix())))
    return pairs, dataset.class_names


def collect(sources: Sequence[Path], split: str, out: Path | None = None) -> ImageList:
    """List the images behind the given paths.

    Args:
        sources: image files, folders (searched recursively) and VOC datasets.
        split: which list of a VOC dataset.
        out: the output folder, left out of the search.

    Raises:
        ConfigError: a path that does not exist, or no image at all.
    """
    if out is not None:
        check_out(out)
    pairs: list[tuple[Path, PurePosixPath]] = []
    names: tuple[str, ...] | None = None
    passed = PassedOver()
    for source in sources:
        if source.is_file():
            pairs.append((source, PurePosixPath(source.name)))
        elif not source.is_dir():
            raise ConfigError(f"{source}: no such file or folder")
        elif not is_stored(source) and is_voc(source):
            found, own = _voc_paths(source, split)
            if names is not None and own is not None and own != names:
                raise ConfigError(
                    f"{source}: its class names differ from those of the dataset before it; label"
                    " them in separate runs"
                )
            pairs = pairs + found
            names = own or names
        else:
            pairs.extend(_pictures_in(source, out, passed))
    distinct = {path.resolve(): (path, relative) for path, relative in reversed(pairs)}
    if not distinct:
        where = ", ".join(str(source) for source in sources)
        raise ConfigError(
            "; ".join(
                [
                    f"{where}: no images there; looked for {', '.join(SUFFIXES)}",
                    *passed.remarks(BESIDE_PICTURES),
                    *(sentence for _, sentence in passed.refused),
                ]
            )
        )
    kept = list(reversed(distinct.values()))
    stems = unique_stems([relative for _, relative in kept])
    items = [
        ImageItem(path, relative, stem) for (path, relative), stem in zip(kept, stems, strict=True)
    ]
    if len(distinct) < len(pairs):
        taken = {path for path, _ in kept}
        passed.again = [path for path, _ in pairs if path not in taken]
    remarks = passed.remarks(BESIDE_PICTURES)
    return ImageList(tuple(items), names, tuple(remarks), tuple(passed.refused))


def _pictures_in(
    source: Path, out: Path | None, passed: PassedOver
) -> Iterator[tuple[Path, PurePosixPath]]:
    """The pictures in a folder, and their paths below it."""
    if is_stored(source):
        skip = [] if out is None else [out]
        if out is not None and str(out).rstrip("/") == str(source).rstrip("/"):
            skip = [out / name for name in OUTPUT_FOLDERS]
        found = find_stored(source, SUFFIXES, skip, passed)
    else:
        found = find_files(source, SUFFIXES, _not_pictures(source, out), passed_over=passed)
    for path in found:
        yield path, PurePosixPath(path.relative_to(source).as_posix())


def is_plain_folder(source: Path) -> bool:
    """Whether a source is a folder of pictures, or a place in a store, and no dataset."""
    if is_stored(source):
        return not source.is_file()
    return source.is_dir() and not is_voc(source)


def stream(source: Path, out: Path, passed: PassedOver) -> Iterator[ImageItem]:
    """The pictures of one folder as ``collect`` lists them, but one folder below it after the
    other, so that a list of millions is never held.

    A picture with several names may only be told by having all of them, so that links to pictures
    are left out.

    Args:
        source: see ``is_plain_folder``.
        out: the output folder, left out of the search.
        passed: takes what is not given.
    """
    seen: dict[str, PurePosixPath] = {}
    pairs = _pictures_in(source, out, passed)
    for folder, of_folder in itertools.groupby(pairs, lambda pair: pair[1].parent):
        if seen.setdefault(folder.as_posix().casefold(), folder) != folder:
            passed.alike.append(source / folder)
            continue
        kept = []
        for path, relative in of_folder:
            if not is_stored(path) and path.is_symlink():
                passed.again.append(path)
            else:
                kept.append((path, relative))
        stems = unique_stems([relative for _, relative in kept])
        for (path, relative), stem in zip(kept, stems, strict=True):
            yield ImageItem(path, relative, stem)


def _not_pictures(source: Path, out: Path | None) -> list[Path]:
    """Folders below a source that hold results: the output folder, overlays of an earlier run, or
    where a run into the source itself writes pictures.
    """
    overlays = source / "overlays"
    drawn = next(find_files(overlays, (".jpg",)), None)
    earlier = [overlays] if drawn is not None and made_by_us(drawn) else []
    if out is None:
        return earlier
    if out.resolve() != source.resolve():
        return [*earlier, out]
    return [out / name for name in OUTPUT_FOLDERS]


def check_distinct(items: Sequence[ImageItem]) -> None:
    """Refuse items that prompt files and Label Studio could not tell apart.

    Raises:
        ConfigError: naming one path that two sources have.
    """
    seen: set[PurePosixPath] = set()
    for item in items:
        if item.relative in seen:
            raise ConfigError(
                f"{item.relative}: is in two of the sources, which a prompt file or Label Studio"
                " cannot tell apart; label them in separate runs"
            )
        seen.add(item.relative)
