"""What every annotation format is read into and written from: one image at a time, with its
instances in drawing order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias

from backend.core.classes import NOT_CLASSES, ClassNames
from backend.core.masks import join_masks
from backend.core.types import Mask
from backend.errors import InputError, as_sentence
from backend.files.names import listable
from backend.files.pictures import Pictures
from backend.files.spool import Spool
from backend.formats.options import ReadOptions, WriteOptions

LISTS = "images whose place in a list (train, val) is not kept"
UNWANTED = "instances of classes that --classes leaves out"
EXTRA = "labelme"  # key under which other formats keep what labelme has and they do not know
EMBEDDED = "pictures embedded in files, which nothing can show from there"
TURNED = "pictures turned upright and encoded anew"
NOT_AT_HAND = "pictures that are not at hand (--images names their folder)"
Content: TypeAlias = bytes | Path  # of a file: its bytes, or what it is to be a link to


@dataclass(frozen=True, eq=False)
class Part:
    """One drawn piece of an instance."""

    mask: Mask
    order: int  # among all pieces of the image; later ones are seen on top
    ring: tuple[tuple[float, float], ...] | None = (
        None  # the polygon of labelme that it was drawn as, in pixels
    )
    notes: Mapping[str, Any] | None = (
        None  # of labelme, where a part has others than its instance; "score" among them
    )


@dataclass(frozen=True, eq=False)
class DatasetInstance:
    """One instance, whoever made it."""

    label: str
    parts: tuple[Part, ...]  # at least one, in drawing order
    score: float | None = None  # 0..1; None where nothing told
    crowd: bool = False  # pixels of the class, not one object
    number: int | None = None  # its value in a SegmentationObject that it was read from, 0..65535
    notes: Mapping[str, Any] = field(
        default_factory=dict
    )  # group_id, flags, description, and keys nobody here knows, as labelme has them

    @cached_property
    def mask(self) -> Mask:
        """All parts together."""
        return join_masks([part.mask for part in self.parts])


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a dataset with everything that is known about it."""

    name: PurePosixPath  # of the picture below its dataset, with suffix; relative, without ".."
    where: str  # the file or task it was read from, for messages
    size_hw: tuple[int, int] | None  # upright; None where nothing tells
    instances: tuple[DatasetInstance, ...]
    picture: Path | bytes | None = (
        None  # its file, or its bytes where a file holds them; None where it is not at hand
    )
    url: str | None = None  # as a Label Studio task has it
    model_version: str | None = (
        None  # of the model that made all this, unchanged; None for a person's work
    )
    split: str | None = None  # train, val ..., where the source tells
    notes: Mapping[str, Any] = field(
        default_factory=dict
    )  # image flags and keys nobody here knows, as labelme has them
    left_out: Mapping[str, int] = field(
        default_factory=dict
    )  # what of the source had no place here: what, and how many
    named: Path | None = None  # where a labelme file says its picture is; nobody looked

    def known_size(self) -> tuple[int, int]:
        """Height and width, upright.

        Raises:
            InputError: nothing tells.
        """
        if self.size_hw is None:
            raise InputError(
                f"{self.where}: how large the picture is nobody says; name the folder of the"
                " pictures with --images"
            )
        return self.size_hw


@dataclass(frozen=True)
class Fault:
    """One image that cannot be read."""

    where: str
    sentence: str

    @classmethod
    def of(cls, where: str, error: Exception, named: str | None = None) -> Fault:
        """What went wrong at a place, in a sentence that names it, or a part of ``named``."""
        sentence = as_sentence(error)
        return cls(where, sentence if (named or where) in sentence else f"{where}: {sentence}")


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
    """Puts pictures into an output folder; ``datasets.copying`` has it."""

    mode: str

    def place(self, sample: Sample, path: PurePosixPath, always: bool = False) -> Copied: ...


class Reader(Protocol):
    """A dataset as a stream. ``total`` is None where only reading tells."""

    total: int | None
    remarks: list[str]  # what to tell the user about the whole, complete when the stream has ended

    def samples(self) -> Iterator[Sample | Fault]: ...


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

    def encode(self, sample: Sample, stem: str) -> Encoded:
        """One image under the name ``stem``; changes nothing."""

    def add(self, encoded: Encoded) -> None:
        """Take an image's row into the shared files."""

    def close(self) -> Iterator[tuple[PurePosixPath, bytes | Spool]]:
        """The shared files: their bytes, or what they were collected in."""

    def abort(self) -> None:
        """Drop what was collected."""


def object_value(value: object) -> int | None:
    """A value of a SegmentationObject as a file keeps it; None for anything else."""
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 16
        else None
    )


def extras_of(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an image, annotation, region or task holds under ``EXTRA``."""
    found = holder.get(EXTRA)
    return found if isinstance(found, dict) else {}


def count_notes(sample: Sample, instances: Sequence[DatasetInstance]) -> Counter[str]:
    """What a format without room for it loses: scores, and everything noted on the image and its
    instances. A group is kept as one instance.
    """
    n_scores = sum(one.score is not None for one in instances)
    n_notes = bool(sample.notes) + sum(
        not set(one.notes) <= {"group_id"} and not _is_score(one) for one in instances
    )
    n_notes += sum(part.notes is not None for one in instances for part in one.parts)
    return Counter(
        {
            text: n
            for text, n in (("scores", n_scores), ("descriptions, flags and other notes", n_notes))
            if n
        }
    )


def _is_score(instance: DatasetInstance) -> bool:
    """True where all that is noted repeats the score."""
    described = instance.notes.get("description")
    return (
        instance.score is not None
        and set(instance.notes) <= {"group_id", "description"}
        and (described is None or repeats_score(described))
    )


def repeats_score(description: object) -> bool:
    """True for a description that only tells the score, as labelme's AI tools and ours write it: a
    JSON object with a ``score``.
    """
    try:
        found = json.loads(description) if isinstance(description, str) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(found) <= {"score", "text"} and "score" in found


def chosen(sample: Sample, names: ClassNames, listed: bool) -> Sample:
    """A sample with only the instances whose class is wanted; the others are counted.

    Args:
        sample: as read.
        names: of the classes; grows by new labels.
        listed: whether labels have to stand in a list.

    Raises:
        InputError: a label cannot stand in one.
    """
    if listed:
        for one in sample.instances:
            listable(one.label, sample.where)
    kept = [
        one
        for one in sample.instances
        if one.label in NOT_CLASSES or names.index(one.label) is not None
    ]
    others = len(sample.instances) - len(kept)
    if not others:
        return sample
    return replace(
        sample,
        instances=tuple(kept),
        left_out=Counter(sample.left_out) + Counter({UNWANTED: others}),
    )


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
        holds_pictures: whether a dataset in this format has its pictures in it.
        knows_lists: whether images belong to lists such as train and val.
        check: path, folder of pictures, whether to show a bar: the faults of files in this format.
        open_window: opens the format's own program with our models in it.
    """

    name: str
    is_file: Callable[[Path], bool]
    is_folder: Callable[[Path], bool]
    read: Callable[[ReadRequest], Reader]
    write: Callable[[WriteRequest], Writer]
    names_in: Callable[[Path], tuple[str, ...]] = no_names
    holds_pictures: bool = False
    knows_lists: bool = True
    check: Callable[[Path, Path | None, bool], Any] | None = None
    open_window: Callable[..., int] | None = None
