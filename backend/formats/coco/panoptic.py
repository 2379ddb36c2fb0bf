"""COCO panoptic annotations: a PNG for each image in which the colour of a pixel is the number of
its segment, and a JSON file that says which category each segment has.

A segment's number is R + 256 * G + 65536 * B of its colour; 0 is no segment (the panoptic format of
cocodataset.org).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from backend.core.stacking import masks_by_value
from backend.core.types import LabelMap, Mask
from backend.errors import InputError, json_kind
from backend.files.names import safe_name
from backend.files.text import open_utf8
from backend.formats.base import Encoded, ReadRequest
from backend.formats.coco.annotations import instance_of
from backend.formats.coco.files import PANOPTIC, id_text, panoptic_files
from backend.formats.coco.reader import CocoReader
from backend.formats.coco.writer import CocoWriter, row_of
from backend.formats.json_stream import read_list
from backend.formats.json_text import json_bytes
from backend.formats.painting import paint_instances
from backend.formats.png import marked_png, opened_png, read_png
from backend.formats.sample import DatasetInstance, Fault, Sample, with_masks

_NUMBERS = 1 << 24


def segment_numbers(instances: Sequence[DatasetInstance]) -> list[int]:
    """A number for each instance that only its label and its pixels decide, so that a PNG and a
    list of segments of two conversions never fit by chance: 1 to 2**24 - 1, no two the same.
    """
    found: dict[int, None] = {}
    for one in instances:
        digest = blake2b(one.label.encode("utf-8", "surrogatepass"), digest_size=8)
        for part in one.parts:
            mask = part.mask
            digest.update(f"{mask.x},{mask.y},{mask.crop.shape}".encode())
            digest.update(np.packbits(mask.crop).tobytes())
        number = int.from_bytes(digest.digest(), "big") % _NUMBERS
        while not number or number in found:
            number = (number + 1) % _NUMBERS
        found[number] = None
    return list(found)


def encode_segments(index: LabelMap, numbers: Sequence[int]) -> bytes:
    """The PNG of an image.

    Args:
        index: (H, W), 0 for nothing, else the place of a segment from 1.
        numbers: of the segments.

    >>> decode_segments(encode_segments(np.array([[0, 1, 2]]), [70000, 258]), "a.png").tolist()
    [[0, 70000, 258]]
    """
    codes = np.array([0, *numbers], np.uint32)
    colours = np.stack([codes >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)
    return marked_png(PIL.Image.fromarray(colours[index]))


def decode_segments(
    data: bytes, name: str, size_hw: tuple[int, int] | None = None
) -> NDArray[np.uint32]:
    """The number of the segment at each pixel, (H, W).

    Args:
        data: the file.
        name: for messages.
        size_hw: that it must have; None for any.

    Raises:
        InputError: not a PNG, damaged, of another size, or without colours.
    """
    with opened_png(data, name, size_hw) as picture:
        if picture.mode not in ("RGB", "RGBA", "P", "L", "1"):
            raise InputError(f"{name}: expected a PNG in colours, got mode {picture.mode}")
        colours = np.array(picture.convert("RGB"))
    numbers = colours[..., 2].astype(np.uint32)
    for channel in (1, 0):
        numbers = numbers << 8 | colours[..., channel]
    return numbers


class PanopticWriter(CocoWriter):
    """``annotations/panoptic_<split>.json`` and a folder of that name with a PNG for each image.

    All categories are things, because nothing tells which ones are stuff.
    """

    shared: Sequence[str] = (f"annotations/{PANOPTIC}_*.json",)
    called: ClassVar[str] = PANOPTIC
    category_notes: ClassVar[Mapping[str, Any]] = {"isthing": 1}

    def encode(self, sample: Sample, stem: str) -> Encoded:
        size_hw = sample.known_size()
        instances, losses = with_masks(sample.instances)
        if n_notes := sum(part.notes is not None for one in instances for part in one.parts):
            losses["descriptions, flags and other notes"] += n_notes
        image, copied = self._image(sample, stem, size_hw, losses)
        index, hidden = paint_instances(instances, size_hw)
        losses += hidden
        numbers = segment_numbers(instances)
        png = encode_segments(index, numbers)
        seen = [(instances[k - 1], numbers[k - 1], mask) for k, mask in masks_by_value(index)]
        segments = [
            (one.label, number, json_bytes(self._facts(one, mask, {})))
            for one, number, mask in seen
        ]
        split = sample.split or self._split
        path = PurePosixPath("annotations", f"{PANOPTIC}_{split}", f"{stem}.png")
        return Encoded(
            Counter(one.label for one, _, _ in seen),
            [(path, png), *copied.files],
            losses,
            (split, json_bytes(image), (f"{stem}.png", segments)),
        )

    def add(self, encoded: Encoded) -> None:
        split, image, (file_name, segments) = encoded.row
        known = self._add_image(split, image)
        infos = b",".join(
            row_of(1, {"id": number, "category_id": self._category(label)}, facts)
            for label, number, facts in segments
        )
        ids = {"image_id": known.n_images, "file_name": file_name}
        known.n_annotations += 1
        known.annotations.write(
            row_of(known.n_annotations, ids, b'{"segments_info":[' + infos + b"]}")
        )


class PanopticReader(CocoReader):
    """Panoptic annotation files, one after the other, with the PNGs beside them.

    Args:
        request: its source is a file, or a folder with ``annotations/panoptic_*.json``.
    """

    called: ClassVar[str] = PANOPTIC

    def __init__(self, request: ReadRequest) -> None:
        super().__init__(request)
        for path in self._categories:
            for folder in self._map_folders(path):
                self._pictures.leave_out(folder)
            with open_utf8(path, request.options.encoding) as stream:
                rows = list(read_list(stream, path, "categories"))
            if n_stuff := sum(row.get("isthing") == 0 for row in rows):
                self.remarks.append(
                    f"{path}: {n_stuff} of its categories are stuff; each segment of them is taken"
                    " for one object"
                )

    def _also(self, source: Path) -> list[str]:
        return []

    def files_in(self, folder: Path) -> list[Path]:
        return panoptic_files(folder)

    def _instances(
        self,
        path: Path,
        rows: Sequence[tuple[int, dict[str, Any]]],
        where: str,
        size_hw: tuple[int, int],
        left_out: Counter[str],
        faults: list[str],
    ) -> tuple[DatasetInstance, ...]:
        if len(rows) != 1:
            raise InputError(f"{where}: has {len(rows) or 'no'} annotations; expected one")
        [(place, row)] = rows
        at = f"{path}: annotations[{place}]"
        segments = row.get("segments_info")
        if not isinstance(segments, list):
            raise InputError(f"{at}.segments_info: expected a list, got {json_kind(segments)}")
        listed = self._listed(segments, at, faults)
        masks = self._masks(path, row, at, size_hw, listed, left_out)
        found: list[DatasetInstance] = []
        for number, (spot, segment) in listed.items():
            try:
                label = self._label(path, segment, spot)
                mask = masks.get(number)
                if mask is None:
                    left_out["segments that cover no pixel"] += 1
                    continue
                found.append(instance_of(segment, label, mask, order=len(found), trusted=True))
            except Exception as error:  # whatever a segment holds, it costs only itself
                faults.append(Fault.of(spot, error, str(path)).sentence)
        return tuple(found)

    def _listed(
        self, segments: Sequence[Any], at: str, faults: list[str]
    ) -> dict[int, tuple[str, dict[str, Any]]]:
        """The segments of an image by their numbers, and where each is listed."""
        found: dict[int, tuple[str, dict[str, Any]]] = {}
        for k, segment in enumerate(segments):
            spot = f"{at}.segments_info[{k}]"
            key = id_text(segment.get("id")) if isinstance(segment, dict) else None
            number = int(key) if key is not None and key.isdecimal() else 0
            if not 0 < number < _NUMBERS:
                faults.append(f"{spot}.id: expected a number from 1 to {_NUMBERS - 1}")
            elif number in found:
                faults.append(f"{spot}.id: {number} is the id of another segment too")
            else:
                found[number] = (spot, segment)
        return found

    def _masks(
        self,
        path: Path,
        row: Mapping[str, Any],
        at: str,
        size_hw: tuple[int, int],
        listed: Collection[int],
        left_out: Counter[str],
    ) -> dict[int, Mask]:
        """The pixels of each listed segment by its number.

        Raises:
            InputError: there is no PNG, or it shows none of them.
        """
        if not isinstance(row.get("file_name"), str):
            raise InputError(
                f"{at}.file_name: expected a name, got {json_kind(row.get('file_name'))}"
            )
        png = self._png(path, safe_name(row["file_name"], f"{at}.file_name"))
        values = decode_segments(read_png(png), str(png), size_hw)
        known = np.isin(values, np.array(sorted(listed), np.uint32))
        others = np.unique(values[~known & (values > 0)])
        if len(others):
            left_out["segments of the PNG that are not listed"] += len(others)
        if listed and len(others) and not known.any():
            raise InputError(f"{png}: shows none of the segments that {at} lists; is it its map?")
        return dict(masks_by_value(np.where(known, values, 0)))

    def _map_folders(self, path: Path) -> list[Path]:
        """Where the PNGs of a file may be: in a folder called like it, beside it as on the COCO
        site, or at the top of the dataset as Detectron2 has it.
        """
        stem = path.stem
        return list(
            dict.fromkeys([path.with_suffix(""), self._root / stem, path.parent.parent / stem])
        )

    def _png(self, path: Path, name: PurePosixPath) -> Path:
        """Where the PNG of an image is.

        Raises:
            InputError: nowhere, or a link there leads outside of the folders given.
        """
        for place in (folder / name for folder in self._map_folders(path)):
            if place.is_file():
                if not self._pictures.inside(place):
                    raise InputError(f"{place}: is a link that leads outside of the folders given")
                return place
        packed = path.with_suffix(".zip")
        told = f"; unpack {packed} first" if packed.is_file() else ""
        raise InputError(f"{path.with_suffix('') / name}: no such file{told}")
