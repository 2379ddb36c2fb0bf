"""Two folders with a file for each image as pairs: what people accepted, and what was predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from backend.core.classes import ClassIndex, ClassNames
from backend.core.types import Mask
from backend.errors import ConfigError, InputError, as_sentence
from backend.evaluation.pairs import Pair, Picture, Region
from backend.evaluation.regions import RegionMaker
from backend.evaluation.versions import VersionNames
from backend.files.find import is_inside
from backend.files.pictures import Pictures
from backend.formats.base import FileReader, ReadRequest
from backend.formats.options import ReadOptions
from backend.formats.registry import format_of
from backend.formats.sample import Fault, Sample

MISSING = "missing"
_FORMAT = "labelme"  # of both folders


def _picture(named: Path | None, folder: Path) -> Path | None:
    """The picture that a file names.

    One that lies neither in the folder nor beside it is left alone, whatever the file says.
    """
    with suppress(OSError, ValueError):  # a name that the system cannot even look for
        inside = named is not None and is_inside(named, folder.resolve().parent)
        return named if inside else None
    return None


def _reader(folder: Path, other: Path, encoding: str | None) -> FileReader:
    request = ReadRequest(
        source=folder,
        names=ClassNames(),
        pictures=Pictures([folder], None),
        options=ReadOptions(for_scoring=True, encoding=encoding),
        skip=(other,),
    )
    return cast(FileReader, format_of(_FORMAT).read(request))


class FolderReader:
    """Pairs the files of two folders by their relative paths.

    Args:
        accepted: folder, searched recursively.
        predicted: likewise.
        classes: of all files; grows.
        rename: label to the name it is scored under.
        missing: whether an accepted file without a predicted one counts as one that found nothing.
        encoding: of files that are not in UTF-8.

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
        encoding: str | None = None,
        names: Mapping[str, str] | None = None,
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
        self._missing = missing
        self.names = VersionNames(names or {})
        self._maker = RegionMaker(classes, rename)
        self._ours = _reader(accepted, predicted, encoding)
        self._theirs: FileReader | None = None
        with suppress(ConfigError):  # nothing was predicted
            self._theirs = _reader(predicted, accepted, encoding)
        self.files = list(self._ours.files)
        predicted_files = self._theirs.files if self._theirs is not None else ()
        known = set(self.files)
        self.n_unannotated = sum(path not in known for path in predicted_files)
        self.left_out: Counter[str] = Counter()  # what, and how many
        self.n_changed = 0  # predicted files that a person changed since

    @property
    def renamed(self) -> set[str]:
        """Labels that went by another name."""
        return self._maker.renamed

    def pairs(self, relative: Path) -> Iterator[Pair | Fault]:
        """The pair of a file, or what is wrong with it."""
        try:
            faults: list[str] = []
            yield self._pair(relative, faults)
            for sentence in faults:
                yield Fault(relative.as_posix(), sentence)
        except Exception as error:  # whatever a file holds, it costs only itself
            sentence = as_sentence(error)
            if not isinstance(error, InputError):
                sentence = f"{self._accepted / relative}: {sentence}"
            yield Fault(relative.as_posix(), sentence)

    def _pair(self, relative: Path, faults: list[str]) -> Pair:
        path = self._accepted / relative
        other = self._predicted / relative
        ours = self._ours.read(relative)
        size_hw = ours.known_size()
        accepted, void = self._regions(ours, faults)
        theirs: Sample | None = None
        if other.is_file() and self._theirs is not None:
            theirs = self._theirs.read(relative)
            height, width = theirs.known_size()
            if (height, width) != size_hw:
                raise InputError(
                    f"{path}: is {size_hw[1]}x{size_hw[0]}, but {other} is {width}x{height}"
                )
        elif not self._missing:
            raise InputError(
                f"{path}: there is no {other}, so nothing to compare it with; --missing counts it"
                " as one that found nothing"
            )
        # Only regions that the annotator marked as ignored count; the model's own do not.
        predicted, _ = self._regions(theirs, faults) if theirs is not None else ([], [])
        version = MISSING
        if theirs is not None:
            version = theirs.first_model_version or "unknown"
            changed = theirs.model_version is None
            self.n_changed += theirs.first_model_version is not None and changed
        return Pair(
            unit=relative.as_posix(),
            name=relative.as_posix(),
            size_hw=size_hw,
            accepted=tuple(accepted),
            predicted=tuple(predicted),
            void=tuple(void),
            model_version=self.names(version),
            started_here=version != MISSING,
            picture=Picture(_picture(ours.named, self._accepted)),
        )

    def _regions(self, sample: Sample, faults: list[str]) -> tuple[list[Region], list[Mask]]:
        self.left_out.update(sample.left_out)
        faults += sample.faults
        return self._maker.regions(
            [(f"{sample.where}: object {k}", one) for k, one in enumerate(sample.instances)],
            faults,
        )
