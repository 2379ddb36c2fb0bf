"""What an annotation format is made of: reader, writer, and how they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias

from backend.core.classes import ClassNames
from backend.core.stacking import painting_order
from backend.core.types import Instance
from backend.files.ownership import never_marked
from backend.files.pictures import Pictures
from backend.files.spool import Spool
from backend.formats.options import ReadOptions, WriteOptions
from backend.formats.sample import Fault, Sample

EMBEDDED = "pictures embedded in files, which nothing can show from there"
TURNED = "pictures turned upright and encoded anew"
NOT_AT_HAND = "pictures that are not at hand (--images names their folder)"
Content: TypeAlias = bytes | Path  # of a file: its bytes, or what it is to be a link to


@dataclass(frozen=True, eq=False)
class Copied:
    """What became of a picture.

    Attributes:
        path: its place in the output, or where it lies, relative to the folders that were given;
            None where it is not at hand.
        files: to be written for it.
        losses: what was changed or lost, and how many times.
    """

    path: PurePosixPath | None
    files: tuple[tuple[PurePosixPath, Content], ...] = ()
    losses: Mapping[str, int] = field(default_factory=Counter)


class PictureCopies(Protocol):
    """Puts pictures into an output folder, as ``datasets.copying.Copies`` does."""

    mode: str

    def place(self, sample: Sample, path: PurePosixPath, always: bool = False) -> Copied: ...


class Reader(Protocol):
    """A dataset as a stream. ``total`` is None where only reading tells."""

    total: int | None
    remarks: list[str]  # what to tell the user about the whole, complete when the stream has ended

    def samples(self) -> Iterator[Sample | Fault]:
        """Every image, or what is wrong with it."""


class FileReader(Reader, Protocol):
    """A folder with a file for each image, which can be read one by one."""

    files: Sequence[Path]  # relative to the folder

    def read(self, relative: Path) -> Sample:
        """One file.

        Raises:
            InputError: naming the file, and the field if it is one.
        """


@dataclass(frozen=True, eq=False)
class Encoded:
    """One image in a target format.

    Attributes:
        labels: of the instances that are in it, and how many each.
        files: paths below the output folder, and their content.
        losses: what the format could not hold, and how many times.
        row: what the writer's ``add`` takes for the files that all images share.
    """

    labels: Mapping[str, int] = field(default_factory=Counter)
    files: Sequence[tuple[PurePosixPath, Content]] = ()
    losses: Mapping[str, int] = field(default_factory=Counter)
    row: Any = None


class Writer(Protocol):
    """A target format: images one by one, then what they share.

    Attributes:
        per_split: whether each split has files of its own, in which the same names may come again.
        lists_names: whether labels have to stand in a list, a line each.
        shared: patterns of the files that ``close`` writes and that images rely on, below the
            output folder; somebody else's make the folder unusable.
    """

    per_split: bool
    lists_names: bool
    shared: Sequence[str]

    def paths(self, stem: str) -> Sequence[PurePosixPath]:
        """The files that ``encode`` makes of an image itself, in its order; not its picture."""

    def encode(self, sample: Sample, stem: str) -> Encoded:
        """One image under the name ``stem``; changes nothing, and runs on any thread."""

    def add(self, encoded: Encoded) -> None:
        """Take an image's row into the shared files."""

    def class_files(self) -> Sequence[tuple[PurePosixPath, bytes]]:
        """The files that only tell the classes as they are now.

        Raises:
            ConfigError: more classes than the format can hold.
        """

    def close(self) -> Iterator[tuple[PurePosixPath, bytes | Spool]]:
        """The shared files, those of ``class_files`` last: bytes, or a spool of them."""

    def abort(self) -> None:
        """Drop what was collected."""


class NoCopies:
    """Leaves pictures where they are, and does not count them."""

    mode = "none"

    def place(self, sample: Sample, path: PurePosixPath, always: bool = False) -> Copied:
        """Nothing is copied."""
        return Copied(None)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadRequest:
    """What a reader is made for.

    Attributes:
        source: file or folder.
        names: of the classes; grows by what the source lists.
        pictures: where pictures may be.
        options: what to read.
        skip: folders to leave out, such as the output folder, which may lie inside the source.
    """

    source: Path
    names: ClassNames
    pictures: Pictures
    options: ReadOptions
    skip: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class WriteRequest:
    """What a writer is made for.

    Attributes:
        out: output folder.
        names: of the classes.
        pictures: tells where pictures lie below their folder.
        copies: puts pictures into the output.
        options: how to write.
    """

    out: Path
    names: ClassNames
    pictures: Pictures
    copies: PictureCopies
    options: WriteOptions


def no_names(out: Path) -> tuple[str, ...]:
    """The classes of an earlier conversion, in formats that do not number them."""
    return ()


def tells_nothing(path: Path) -> str | None:
    """The picture or the model of a file, in formats whose files do not name it."""
    return None


@dataclass(frozen=True, kw_only=True)
class Format:
    """An annotation format: how it is told, read and written.

    Attributes:
        name: what a user calls it.
        is_file: whether a file is in this format, by its beginning.
        is_folder: whether a folder holds files in this format at its top.
        read: makes a reader; raises ``ConfigError`` where there is nothing to read.
        write: makes a writer.
        names_in: the classes of an earlier conversion into a folder, in the order of their numbers.
        is_marked: whether a file carries our mark and nobody changed it since.
        version_in: the model version that made an existing file of one image, if nobody changed it
            since; None where it tells none.
        picture_named_in: the name of the picture that an existing file of one image is for; None
            where it tells none.
        own_folder: below the output folder, where only this program writes; None for none.
        most_classes: that can be told apart; None for any number.
        drawing_order: indices of the instances of a prediction, later ones seen on top.
        found_by_files: whether a folder with such files, whatever their names, is in this format.
        holds_boxes: whether an object may be a box without a mask.
        holds_pictures: whether a dataset in this format has its pictures in it.
        knows_lists: whether images belong to lists such as train and val.
        check: path, folder of pictures, whether to show a bar: the faults of files in this format.
        open_window: opens the format's own program with our models in it.
        check_window: says which version of it would open, or raises ``ConfigError`` with what is
            in the way.
    """

    name: str
    is_file: Callable[[Path], bool]
    is_folder: Callable[[Path], bool]
    read: Callable[[ReadRequest], Reader]
    write: Callable[[WriteRequest], Writer]
    names_in: Callable[[Path], tuple[str, ...]] = no_names
    is_marked: Callable[[Path], bool] = never_marked
    drawing_order: Callable[[Sequence[Instance]], Sequence[int]] = painting_order
    version_in: Callable[[Path], str | None] = tells_nothing
    picture_named_in: Callable[[Path], str | None] = tells_nothing
    own_folder: str | None = None
    most_classes: int | None = None
    found_by_files: bool = True
    holds_boxes: bool = True
    holds_pictures: bool = False
    knows_lists: bool = True
    check: Callable[[Path, Path | None, bool], Any] | None = None
    open_window: Callable[..., int] | None = None
    check_window: Callable[[], str] | None = None
