"""Two folders of labelme JSON as pairs: what people accepted, and what was predicted for the same
pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from backend.core.classes import ClassIndex, renamed
from backend.core.masks import mask_xyxy
from backend.core.types import Instance, Mask
from backend.errors import ConfigError, InputError, as_sentence
from backend.evaluation.pairs import BACKGROUND_LABEL, IGNORE_LABEL, Fault, Pair, Picture, Region
from backend.files.find import find_files, is_inside
from labelme_plugin.document import made_by_us, predicted_by, read_document
from labelme_plugin.instances import labelled_masks, size_of

MISSING = "missing"


def _picture(document: Mapping[str, Any], path: Path, folder: Path) -> Path | None:
    """The picture beside a file.

    One that lies neither in the folder nor beside it is left alone, whatever the file says.
    """
    name = document.get("imagePath")
    picture = path.parent / name.replace("\\", "/") if isinstance(name, str) and name else None
    with suppress(OSError, ValueError):  # a name that the system cannot even look for
        return (
            picture if picture is not None and is_inside(picture, folder.resolve().parent) else None
        )
    return None


class FolderReader:
    """Pairs the JSON files of two folders by their relative paths.

    Args:
        accepted: folder, searched recursively.
        predicted: likewise.
        classes: of all files; grows.
        rename: label to the name it is scored under.
        missing: whether an accepted file without a predicted one counts as one that found nothing.

    Raises:
        ConfigError: a folder is not there, or nothing is accepted.
    """

    def __init__(
        self,
        accepted: Path,
        predicted: Path,
        classes: ClassIndex,
        rename: Mapping[str, str] | None = None,
        missing: bool = False,
    ) -> None:
        for folder in (accepted, predicted):
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder")
        if accepted.resolve() == predicted.resolve():
            raise ConfigError(
                f"{accepted}: is compared with itself; --predictions names the folder as it was"
                " before anybody edited it"
            )
        self._accepted = accepted
        self._predicted = predicted
        self._classes = classes
        self._rename = rename or {}
        self._missing = missing
        self.files = [
            path.relative_to(accepted) for path in find_files(accepted, (".json",), [predicted])
        ]
        if not self.files:
            raise ConfigError(f"{accepted}: no labelme JSON there")
        known = set(self.files)
        theirs = [
            path.relative_to(predicted) for path in find_files(predicted, (".json",), [accepted])
        ]
        self.n_unannotated = sum(path not in known for path in theirs)
        self.n_left_out = 0
        self.n_changed = 0  # predicted files that a person changed since
        self.renamed: set[str] = set()  # labels that went by another name

    def pairs(self, relative: Path) -> Iterator[Pair | Fault]:
        """The pair of a file, or what is wrong with it."""
        try:
            yield self._pair(relative)
        except Exception as error:  # whatever a file holds, it costs only itself
            yield Fault(
                relative.as_posix(),
                (
                    as_sentence(error)
                    if isinstance(error, InputError)
                    else f"{self._accepted / relative}: {as_sentence(error)}"
                ),
            )

    def _pair(self, relative: Path) -> Pair:
        path = self._accepted / relative
        other = self._predicted / relative
        document = read_document(path)
        size_hw = size_of(document, str(path))
        accepted, void = self._regions(document, path)
        predicted: list[Region] = []
        version = MISSING
        if other.is_file():
            before = read_document(other)
            if (theirs := size_of(before, str(other))) != size_hw:
                raise InputError(
                    f"{path}: is {size_hw[1]}x{size_hw[0]}, but {other} is {theirs[1]}x{theirs[0]}"
                )
            predicted, _ = self._regions(
                before, other
            )  # a model cannot excuse itself from anything
            version = predicted_by(before) or "unknown"
            self.n_changed += version != "unknown" and made_by_us(other) is None
        elif not self._missing:
            raise InputError(
                f"{path}: there is no {other}, so nothing to compare it with; --missing counts it"
                " as one that found nothing"
            )
        picture = _picture(document, path, self._accepted)
        return Pair(
            relative.as_posix(),
            relative.as_posix(),
            size_hw,
            tuple(accepted),
            tuple(predicted),
            tuple(void),
            "",
            version,
            version != MISSING,
            Picture(picture),
        )

    def _regions(self, document: Mapping[str, Any], path: Path) -> tuple[list[Region], list[Mask]]:
        objects, others = labelled_masks(document, str(path))
        self.n_left_out += others
        regions = []
        void = []
        for k, one in enumerate(objects):
            label = renamed(one.label, self._rename)
            self.renamed |= {one.label} & set(self._rename)
            if label == BACKGROUND_LABEL:
                continue
            if label == IGNORE_LABEL:
                void.append(one.mask)
                continue
            try:
                class_id = self._classes.index(label)
            except InputError as error:
                raise InputError(f"{path}: object {k}: {error}") from None
            instance = Instance(
                label,
                class_id,
                1.0 if one.score is None else one.score,
                mask_xyxy(one.mask),
                one.mask,
            )
            regions.append(Region(None, instance, one.score is not None))
        return regions, void
