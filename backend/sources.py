"""What to work on: files, folders and VOC datasets as one list of items with names for their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backend.errors import ConfigError, InputError
from backend.files import find_files, unique_stems
from backend.formats.voc import is_voc, open_voc
from backend.images import SUFFIXES


@dataclass(frozen=True)
class Item:
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
class Work:
    """All items of a run, and the class names if a dataset brought them."""

    items: tuple[Item, ...]
    class_names: tuple[str, ...] | None


def _voc_paths(root: Path, split: str) -> tuple[list[tuple[Path, Path]], tuple[str, ...] | None]:
    dataset = open_voc(root, split)
    pairs = []
    for image_id in dataset.image_ids:
        try:
            path = dataset.image_path(image_id)
        except InputError:
            path = root / "JPEGImages" / f"{image_id}.jpg"  # reported as missing when it is its turn
        relative = path.relative_to(root / "JPEGImages")
        pairs.append((path, relative))
    return pairs, dataset.class_names


def collect(sources: Sequence[Path], split: str, out: Path | None = None) -> Work:
    """List the images behind the given paths.

    Args:
        sources: image files, folders (searched recursively) and VOC datasets.
        split: which list of a VOC dataset.
        out: the output folder, left out of the search.

    Raises:
        ConfigError: a path that does not exist, or no image at all.
    """
    pairs: list[tuple[Path, Path]] = []
    names: tuple[str, ...] | None = None
    for source in sources:
        if source.is_file():
            pairs.append((source, Path(source.name)))
        elif not source.is_dir():
            raise ConfigError(f"{source}: no such file or folder")
        elif is_voc(source):
            found, names = _voc_paths(source, split)
            pairs.extend(found)
        else:
            skip = [out] if out is not None and out.resolve() != source.resolve() else []
            pairs.extend((path, path.relative_to(source)) for path in find_files(source, SUFFIXES, skip))
    seen: dict[Path, Path] = {}
    for path, relative in pairs:
        seen.setdefault(path.resolve(), relative)
    if not seen:
        where = ", ".join(str(source) for source in sources)
        raise ConfigError(f"{where}: no images there; looked for {', '.join(SUFFIXES)}")
    stems = _stems([relative for _, relative in pairs])
    items = []
    for (path, relative), stem in zip(pairs, stems, strict=True):
        if seen.pop(path.resolve(), None) is not None:
            items.append(Item(path, PurePosixPath(relative.as_posix()), stem))
    return Work(tuple(items), names)


def _stems(relatives: list[Path]) -> list[str]:
    """Unique stems; the same relative path from two sources gets a number."""
    counts: dict[str, int] = {}
    distinct = []
    for relative in relatives:
        key = relative.as_posix().casefold()
        counts[key] = counts.get(key, 0) + 1
        number = counts[key]
        distinct.append(relative if number == 1 else relative.with_name(f"{relative.stem}_{number}{relative.suffix}"))
    table = unique_stems(distinct)
    return [table[path] for path in distinct]
