"""COCO panoptic annotations: a PNG for each image in which the colour of a pixel is the number of
its segment, and a JSON file that says which category each segment has.

A segment's number is R + 256 * G + 65536 * B of its colour; 0 is no segment (the panoptic format of
cocodataset.org).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from backend.formats.coco.files import PANOPTIC, panoptic_files
from backend.formats.coco.reader import CocoReader
from backend.formats.coco.writer import CocoWriter, row_of
from backend.formats.json_stream import read_list
from backend.formats.json_text import json_bytes
from backend.formats.painting import paint_instances
from backend.formats.png import marked_png, opened_png, read_png
from backend.formats.sample import DatasetInstance, Fault, Sample, with_masks
from backend.formats.voc.label_maps import colours_of_values

_BYTES = np.array([1, 1 << 8, 1 << 16])  # what red, green and blue count


def encode_segments(index: LabelMap, n_segments: int) -> tuple[bytes, list[int]]:
    """The PNG of an image, in VOC's colours so that people see something in it.

    Args:
        index: (H, W), 0 for nothing, else the place of a segment from 1.
        n_segments: how many places there are.

    Returns:
        The file, and the number of each segment.

    >>> data, numbers = encode_segments(np.array([[0, 1, 2]]), 2)
    >>> numbers, decode_segments(data, "a.png").tolist()
    ([128, 32768], [[0, 128, 32768]])
    """
    colours = colours_of_values(np.arange(n_segments + 1))
    numbers = colours.astype(np.int64) @ _BYTES
    return marked_png(PIL.Image.fromarray(colours[index])), numbers[1:].tolist()


def decode_segments(data: bytes, name: str) -> NDArray[np.int64]:
    """The number of the segment at each pixel, (H, W).

    Args:
        data: the file.
        name: for messages.

    Raises:
        InputError: not a PNG, damaged, or without colours.
    """
    with opened_png(data, name) as picture:
        if picture.mode not in ("RGB", "RGBA", "P"):
            raise InputError(f"{name}: expected a PNG in colours, got mode {picture.mode}")
        colours = np.array(picture.convert("RGB"), np.int64)
    numbers: NDArray[np.int64] = colours @ _BYTES
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
        png, numbers = encode_segments(index, len(instances))
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
            with open_utf8(path, request.options.encoding) as stream:
                rows = list(read_list(stream, path, "categories"))
            if n_stuff := sum(row.get("isthing") == 0 for row in rows):
                self.remarks.append(
                    f"{path}: {n_stuff} of its categories are stuff; each segment of them is taken"
                    " for one object"
                )

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
        masks = self._masks(path, row, at, size_hw)
        found: list[DatasetInstance] = []
        for k, segment in enumerate(segments):
            spot = f"{at}.segments_info[{k}]"
            try:
                number = segment.get("id") if isinstance(segment, dict) else None
                if type(number) is not int:
                    raise InputError(f"{spot}.id: expected a number, got {json_kind(number)}")
                label = self._label(path, segment, spot)
                mask = masks.pop(number, None)
                if mask is None:
                    left_out["segments that cover no pixel"] += 1
                    continue
                found.append(instance_of(segment, label, mask, order=len(found), trusted=True))
            except Exception as error:  # whatever a segment holds, it costs only itself
                faults.append(Fault.of(spot, error, str(path)).sentence)
        if masks:
            left_out["segments of the PNG that are not listed"] += len(masks)
        return tuple(found)

    def _masks(
        self, path: Path, row: Mapping[str, Any], at: str, size_hw: tuple[int, int]
    ) -> dict[int, Mask]:
        """The pixels of each segment by its number."""
        if not isinstance(row.get("file_name"), str):
            raise InputError(
                f"{at}.file_name: expected a name, got {json_kind(row.get('file_name'))}"
            )
        png = self._png(path, safe_name(row["file_name"], f"{at}.file_name"))
        values = decode_segments(read_png(png), str(png))
        if values.shape != size_hw:
            raise InputError(
                f"{png}: is {values.shape[1]}x{values.shape[0]}, its picture"
                f" {size_hw[1]}x{size_hw[0]}"
            )
        return dict(masks_by_value(values))

    def _png(self, path: Path, name: PurePosixPath) -> Path:
        """Where the PNG of an image is: in the folder called like the JSON file, else beside it.

        Raises:
            InputError: in neither, or a link there leads outside of the folders given.
        """
        folder = path.with_suffix("")
        for place in (folder / name, path.parent / name):
            if place.is_file():
                if not self._pictures.inside(place):
                    raise InputError(f"{place}: is a link that leads outside of the folders given")
                return place
        packed = path.with_suffix(".zip")
        told = f"; unpack {packed} first" if packed.is_file() and not folder.is_dir() else ""
        raise InputError(f"{folder / name}: no such file{told}")
