"""Samples as YOLO segmentation labels that Ultralytics trains on: pictures, a text file beside
each, and ``data.yaml``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from backend.core.classes import NOT_CLASSES, number_of
from backend.core.masks import mask_difference
from backend.errors import InputError
from backend.formats.base import Encoded, WriteRequest
from backend.formats.sample import Sample, count_notes, with_masks
from backend.formats.yolo import labels as yolo
from backend.formats.yolo.labels import data_yaml

READ_BY_ULTRALYTICS = (
    ".bmp",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)  # pictures, by Ultralytics 8.4 and by us
_LEAST = 10  # pixels a side, in Ultralytics 8.4


def outdated(left: Sequence[str], written: Collection[str]) -> list[str]:
    """Files of an earlier conversion that do not belong to the dataset any more: those of splits
    that were written now, and of images that are in another split now. Splits that were converted
    apart stay.

    Args:
        left: files that an earlier conversion wrote and this one did not, such as
            ``labels/train/a.txt``.
        written: what this one wrote.
    """
    places = [PurePosixPath(name) for name in written if name.startswith("labels/")]
    splits = {path.parts[1] for path in places}
    images = {path.relative_to(*path.parts[:2]).with_suffix("") for path in places}

    def is_outdated(path: PurePosixPath) -> bool:
        if len(path.parts) < 3 or path.parts[0] not in ("images", "labels"):
            return False
        return (
            path.parts[1] in splits or path.relative_to(*path.parts[:2]).with_suffix("") in images
        )

    return [name for name in left if is_outdated(PurePosixPath(name))]


def _splits_in(out: Path) -> list[str]:
    """The splits of a YOLO dataset, as far as it is there."""
    folders = sorted((out / "labels").iterdir()) if (out / "labels").is_dir() else []
    return [
        folder.name
        for folder in folders
        if folder.is_dir() and next(folder.rglob("*.txt"), None) is not None
    ]


class YoloWriter:
    """``images/<split>``, ``labels/<split>`` and ``data.yaml``.

    Args:
        request: its copies put pictures into ``images``; a ring may leave the edge of its mask by
            its tolerance, 0 is exact.
    """

    per_split = True
    lists_names = True
    shared: Sequence[str] = ("data.yaml",)

    def __init__(self, request: WriteRequest) -> None:
        self._out = request.out
        self._names = request.names
        self._copies = request.copies
        self._split = request.options.split
        self._tolerance = request.options.tolerance or 0.0
        self._needs_pictures = self._copies.mode != "none"
        self._splits: dict[str, None] = {}

    def paths(self, stem: str) -> list[PurePosixPath]:
        return []  # the folder of an image depends on its split

    def class_files(self) -> list[tuple[PurePosixPath, bytes]]:
        return []  # data.yaml lists the splits as well

    def encode(self, sample: Sample, stem: str) -> Encoded:
        size_hw = sample.known_size() if sample.instances else (0, 0)
        instances, losses = with_masks(sample.instances)
        losses += count_notes(sample, instances)
        lines: list[str] = []
        written: Counter[str] = Counter()
        for one in instances:
            if one.crowd or one.label in NOT_CLASSES:
                losses["crowds, ignored and background regions"] += 1
                continue
            line, bridges = yolo.line(
                number_of(self._names, one.label), one.mask, size_hw, self._tolerance
            )
            lines.append(line)
            written[one.label] += 1
            if bridges:
                losses["instances whose parts are joined by a line"] += 1
            if changed := mask_difference(
                one.mask, yolo.read_line(line, size_hw, len(self._names.names), "").mask
            ):
                losses["pixels changed"] += changed
        split = sample.split or self._split
        if (
            sample.name.suffix.lower() not in READ_BY_ULTRALYTICS
            or min(sample.size_hw or (_LEAST,)) < _LEAST
        ):
            losses[
                f"pictures below {_LEAST} pixels a side, or of a kind that Ultralytics leaves out"
            ] += 1
        copied = self._copies.place(
            sample, PurePosixPath("images", split, stem + sample.name.suffix)
        )
        losses.update(copied.losses)
        if copied.path is None and self._needs_pictures:
            raise InputError(
                f"{sample.where}: its picture is not at hand, and nothing can be trained without;"
                " name the folder of the pictures with --images"
            )
        text = "".join(f"{line}\n" for line in lines)
        return Encoded(
            written,
            [(PurePosixPath("labels", split, f"{stem}.txt"), text.encode()), *copied.files],
            losses,
            split,
        )

    def add(self, encoded: Encoded) -> None:
        self._splits[encoded.row] = None

    def close(self) -> Iterator[tuple[PurePosixPath, bytes]]:
        splits = list(dict.fromkeys([*_splits_in(self._out), *self._splits])) or [self._split]
        yield PurePosixPath("data.yaml"), data_yaml(self._names.names, splits).encode()

    def abort(self) -> None:
        return
