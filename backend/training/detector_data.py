"""Accepted pictures as the dataset that Ultralytics trains on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.core.classes import ClassNames
from backend.core.masks import unpack_mask
from backend.core.rasterize import box_mask
from backend.core.types import Mask
from backend.datasets.copying import Copies
from backend.drawing.overlays import encode_picture
from backend.errors import ConfigError, InputError, disk_error
from backend.files.images import ImageLimits
from backend.files.picture_data import header_of, upright_bytes
from backend.files.pictures import Pictures
from backend.formats.base import WriteRequest
from backend.formats.options import WriteOptions
from backend.formats.sample import DatasetInstance, Part, Sample
from backend.formats.yolo.writer import READ_BY_ULTRALYTICS, YoloWriter
from backend.training.accepted import AcceptedPicture
from backend.training.division import Parts

_GREY = 114  # of what Ultralytics puts around pictures, too
_AROUND = 10  # pixels around an object that stay; VOC has what is to be ignored as a line there


def write_detector_data(
    parts: Parts, names: Sequence[str], out: Path, limits: ImageLimits, faults: list[str]
) -> Path:
    """Write what a detector learns from and is chosen by; held-out pictures are not among it.

    Args:
        parts: accepted pictures.
        names: of the classes, in order.
        out: folder, made anew.
        limits: of pictures.
        faults: takes a sentence for each picture that cannot be used.

    Returns:
        Its ``data.yaml``.

    Raises:
        ConfigError: of one of the parts no picture can be used.
        Unavailable: the disk refuses.
    """
    pictures = Pictures([], None)
    request = WriteRequest(
        out=out,
        names=ClassNames(names, fixed=True),
        pictures=pictures,
        copies=Copies("link", pictures),
        options=WriteOptions(),
    )
    writer = YoloWriter(request)
    for split, members in (("train", parts.train), ("val", parts.validation)):
        count = len(faults)
        for one in members:
            try:
                encoded = writer.encode(_sample(one, split, limits, names), one.digest[:20])
            except InputError as error:
                faults.append(str(error))
                continue
            for path, content in encoded.files:
                _put(out / path, content)
            writer.add(encoded)
        if len(faults) - count == len(members):
            raise ConfigError(f"no picture of the part {split} can be used: {faults[-1]}")
    for path, data in writer.close():
        _put(out / path, data)
    return out / "data.yaml"


def _put(path: Path, content: bytes | Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    except FileExistsError:  # one picture trains and chooses, where there are few
        return
    except OSError as error:
        raise disk_error(error, path) from None


def _grey_pixels(one: AcceptedPicture, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a picture is to be grey: regions to ignore, but for objects in them and what is around
    these. So they teach neither that something is there nor that nothing is.
    """
    grey = np.zeros(size_hw, np.bool_)
    for packed in one.ignored:
        mask = unpack_mask(packed)
        _part(grey, mask)[mask.crop] = True
    if not grey.any():
        return grey
    objects = np.zeros(size_hw, np.uint8)
    for mask in one.masks:
        _part(objects, mask)[mask.crop] = 1
    for _, (x0, y0, x1, y1) in one.boxes:
        objects[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = 1
    side = 2 * _AROUND + 1
    near = cv2.dilate(objects, np.ones((side, side), np.uint8)).astype(np.bool_)
    return grey & ~near


def _part(frame: NDArray[Any], mask: Mask) -> NDArray[Any]:
    """What of a frame a mask's crop covers."""
    height, width = mask.crop.shape
    return frame[mask.y : mask.y + height, mask.x : mask.x + width]


def _sample(one: AcceptedPicture, split: str, limits: ImageLimits, names: Sequence[str]) -> Sample:
    """A picture upright, in a format that Ultralytics reads, with the objects of known classes."""
    header = header_of(one.picture, one.where, limits)
    name, picture = one.name, one.picture
    grey = _grey_pixels(one, header.size_hw)
    if grey.any():
        image = one.image(limits).copy()
        image[grey] = _GREY
        picture = encode_picture(image, ".png")
        name = PurePosixPath(name).with_suffix(".png")
    elif name.suffix.lower() not in READ_BY_ULTRALYTICS:
        picture = encode_picture(one.image(limits), ".png")
        name = PurePosixPath(name).with_suffix(".png")
    elif header.turned:
        picture = upright_bytes(picture, one.where)
    size_hw = header.size_hw
    masks: list[tuple[str, Mask]] = [(label, unpack_mask(mask)) for label, mask in one.objects]
    for label, xyxy in one.boxes:
        mask = box_mask(*xyxy, size_hw)
        if mask is not None:
            masks.append((label, mask))
    return Sample(
        name=name,
        where=one.where,
        size_hw=size_hw,
        instances=tuple(
            DatasetInstance(label, (Part(mask, k),))
            for k, (label, mask) in enumerate(masks)
            if label in names
        ),
        picture=picture,
        split=split,
    )
