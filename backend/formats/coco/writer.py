"""Samples as COCO instance annotations with compressed run lengths: one JSON file a split, written
as images come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from backend.core.classes import BACKGROUND_LABEL, IGNORE_LABEL, number_of
from backend.core.masks import mask_xyxy
from backend.core.types import Mask
from backend.files.spool import Spool
from backend.formats.base import EMBEDDED, NOT_AT_HAND, Copied, Encoded, WriteRequest
from backend.formats.coco import parts
from backend.formats.coco import segmentation as coco
from backend.formats.coco.files import INSTANCES
from backend.formats.json_text import json_bytes
from backend.formats.sample import EXTRA, DatasetInstance, Sample, with_masks

OUR_MARK = "converted by yolosam2"  # the description of our files
_SPECIAL = {
    IGNORE_LABEL: 65535,
    BACKGROUND_LABEL: 65534,
}  # category ids that no class has, so that they move none


class Lists:
    """The two lists of a file, and how many entries each has."""

    def __init__(self, folder: Path) -> None:
        self.images = Spool(folder)
        self.annotations = Spool(folder)
        self.n_images = self.n_annotations = 0


def row_of(place: int, ids: dict[str, Any], rest: bytes) -> bytes:
    """An entry of a list: ids first, then what was encoded before they were known.

    Args:
        place: in the list, from 1.
        ids: of the entry.
        rest: a JSON object that is not empty.
    """
    comma = b",\n" if place > 1 else b""
    return comma + json_bytes(ids)[:-1] + b"," + rest[1:]


class CocoWriter:
    """``annotations/instances_<split>.json``.

    The id of an image or annotation is its place in its list.

    Args:
        request: its copies put pictures into ``images/<split>``; the category id is the index of a
            class plus one.
    """

    per_split = True
    lists_names = False
    shared: Sequence[str] = (f"annotations/{INSTANCES}_*.json",)
    called: ClassVar[str] = INSTANCES  # what the names of the files begin with
    category_notes: ClassVar[Mapping[str, Any]] = {}  # what stands at every category beside its id

    def __init__(self, request: WriteRequest) -> None:
        self._folder = request.out / "annotations"
        self._names = request.names
        self._copies = request.copies
        self._split = request.options.split
        self._splits: dict[str, Lists] = {}
        self._whole: Spool | None = None  # what is being put together
        self._used: set[str] = set()  # of the special labels

    def paths(self, stem: str) -> list[PurePosixPath]:
        return []

    def class_files(self) -> list[tuple[PurePosixPath, bytes]]:
        return []

    def encode(self, sample: Sample, stem: str) -> Encoded:
        size_hw = sample.known_size()
        instances, losses = with_masks(sample.instances)
        image, copied = self._image(sample, stem, size_hw, losses)
        kept = parts.keep(instances, size_hw)
        annotations = [
            (one.label, json_bytes(self._annotation(one, size_hw, drawn)))
            for one, drawn in zip(instances, kept, strict=True)
        ]
        return Encoded(
            Counter(one.label for one in instances),
            copied.files,
            losses,
            (sample.split or self._split, json_bytes(image), annotations),
        )

    def _image(
        self, sample: Sample, stem: str, size_hw: tuple[int, int], losses: Counter[str]
    ) -> tuple[dict[str, Any], Copied]:
        """An entry of ``images`` but for its id, and what became of the picture."""
        name = PurePosixPath(stem + sample.name.suffix)
        folder = PurePosixPath("images", sample.split or self._split)
        copied = self._copies.place(sample, folder / name)
        losses.update(copied.losses)
        if copied.path is None:
            losses[NOT_AT_HAND if sample.picture is None else EMBEDDED] += 1
        file_name = name if copied.files else copied.path or sample.name
        image: dict[str, Any] = {
            "file_name": str(file_name),
            "height": size_hw[0],
            "width": size_hw[1],
        }
        if sample.model_version is not None:
            image["model_version"] = sample.model_version
        if sample.notes:
            image[EXTRA] = dict(sample.notes)
        return image, copied

    def _annotation(
        self, one: DatasetInstance, size_hw: tuple[int, int], drawn: Mapping[str, Any]
    ) -> dict[str, Any]:
        mask = one.mask
        segmentation = coco.encode_segmentation(mask, size_hw)
        return {"segmentation": segmentation, **self._facts(one, mask, drawn)}

    def _facts(self, one: DatasetInstance, mask: Mask, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """What is noted of an instance whose pixels are ``mask`` here."""
        x0, y0, x1, y1 = mask_xyxy(mask).tolist()
        made: dict[str, Any] = {
            "area": mask.area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": int(one.crowd or one.label == IGNORE_LABEL),
        }
        if one.score is not None:
            made["score"] = one.score
        extra = {**one.notes, **drawn, **({} if one.number is None else {"voc_object": one.number})}
        if one.crowd and one.label == IGNORE_LABEL:
            extra["iscrowd"] = 1
        if extra:
            made[EXTRA] = extra
        return made

    def _category(self, label: str) -> int:
        if label in _SPECIAL:
            self._used.add(label)
            return _SPECIAL[label]
        return number_of(self._names, label) + 1

    def add(self, encoded: Encoded) -> None:
        split, image, annotations = encoded.row
        known = self._add_image(split, image)
        for label, annotation in annotations:
            known.n_annotations += 1
            ids = {
                "id": known.n_annotations,
                "image_id": known.n_images,
                "category_id": self._category(label),
            }
            known.annotations.write(row_of(known.n_annotations, ids, annotation))

    def _add_image(self, split: str, image: bytes) -> Lists:
        if split not in self._splits:
            self._splits[split] = Lists(self._folder)
        known = self._splits[split]
        known.n_images += 1
        known.images.write(row_of(known.n_images, {"id": known.n_images}, image))
        return known

    def close(self) -> Iterator[tuple[PurePosixPath, Spool]]:
        ids = {
            **{name: k + 1 for k, name in enumerate(self._names.names)},
            **{label: _SPECIAL[label] for label in sorted(self._used)},
        }
        categories = [
            {"id": number, "name": name, "supercategory": "", **self.category_notes}
            for name, number in ids.items()
        ]
        for split, lists in self._splits.items():
            whole = self._whole = Spool(self._folder)
            whole.write(
                b'{"info":{"description":"'
                + OUR_MARK.encode()
                + b'"},"licenses":[],"categories":'
                + json_bytes(categories)
                + b',\n"images":[\n'
            )
            whole.append(lists.images)
            whole.write(b'],\n"annotations":[\n')
            whole.append(lists.annotations)
            whole.write(b"]}\n")
            yield PurePosixPath("annotations", f"{self.called}_{split}.json"), whole

    def abort(self) -> None:
        if self._whole is not None:
            self._whole.discard()
        for lists in self._splits.values():
            lists.images.discard()
            lists.annotations.discard()
