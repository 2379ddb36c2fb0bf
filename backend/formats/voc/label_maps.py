"""Label maps of PASCAL VOC: indexed PNGs with the VOC palette.

Value 0 is background, ``class_id + 1`` a class (or the k-th object), 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from backend.core.classes import IGNORE
from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.stacking import paint, stacking_order
from backend.core.types import Instance, LabelMap, Prediction
from backend.errors import ConfigError, InputError
from backend.formats.png import marked_png, opened_png, read_png
from backend.formats.voc.colours import ColourTable, object_values, palette_values

ReadColours: TypeAlias = Callable[[NDArray[np.uint8]], LabelMap]


@cache
def palette() -> NDArray[np.uint8]:
    """The VOC palette, (256, 3) uint8 RGB: bit k of the index goes to bit 7 - k // 3 of channel k %
    3 (VOC devkit).

    >>> palette()[:3].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((index >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def encode_png(label_map: LabelMap) -> bytes:
    """An index image as PNG: palette mode below 256 values, 16-bit grey above.

    Args:
        label_map: (H, W), uint8 or uint16.

    >>> encode_png(np.zeros((1, 2), np.uint8))[:4]
    b'\\x89PNG'
    """
    if label_map.dtype == np.uint8:
        picture = PIL.Image.fromarray(label_map).convert("P")
        picture.putpalette(palette().ravel().tolist())
    else:
        picture = PIL.Image.fromarray(label_map.astype(np.uint16))
    return marked_png(picture)


def decode_png(data: bytes, name: str, read_colours: ReadColours | None = None) -> LabelMap:
    """Read an index image, palette or grey.

    Args:
        data: the file.
        name: for messages.
        read_colours: makes values of colours, (H, W, 3) uint8, where the map is coloured, or its
            palette is neither VOC's nor grey; None refuses coloured maps and takes indices as they
            are.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        InputError: not a PNG, damaged, or coloured instead of indexed.

    >>> decode_png(encode_png(np.array([[0, 1, 255]], np.uint8)), "a.png").tolist()
    [[0, 1, 255]]
    """
    with opened_png(data, name) as picture:
        if read_colours is not None and _is_coloured(picture):
            return read_colours(np.array(picture.convert("RGB")))
        if picture.mode in ("LA", "PA"):
            return np.array(picture)[..., 0]
        if picture.mode not in ("P", "L", "1", "I;16", "I"):
            raise InputError(
                f"{name}: expected an indexed PNG, got mode {picture.mode}; a labelmap.txt"
                " beside the folders names the colours of classes"
            )
        return np.array(picture, np.uint16 if picture.mode[0] == "I" else np.uint8)


def _is_coloured(picture: PIL.Image.Image) -> bool:
    """Whether colours count and not indices: without a palette, or where the palette is VOC's in
    another order, as programs make it that count the colours of a coloured map.
    """
    if picture.mode in ("RGB", "RGBA"):
        return True
    if picture.mode != "P":
        return False
    used = np.unique(np.array(picture))
    own = np.array(picture.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    if used.max(initial=0) >= len(own):
        return False
    colours = own[used]
    if (colours == palette()[used]).all() or (colours == used[:, None]).all():
        return False
    known = {tuple(colour) for colour in palette().tolist()}
    return all(tuple(colour) in known for colour in colours.tolist())


def label_maps(prediction: Prediction, overlap: str = "score") -> tuple[LabelMap, LabelMap]:
    """Paint a prediction: class values and object values.

    Args:
        prediction: instances without a mask are left out.
        overlap: of ``core.stacking.OVERLAPS``: which instance is seen where several overlap.

    Returns:
        Two (H, W) maps. Objects count from 1 in the order of ``prediction.instances``, leaving out
        255; in a video each has the number of its track instead.

    >>> from backend.core.types import Mask
    >>> mask = Mask(1, 0, np.ones((1, 2), np.bool_))
    >>> cat = Instance("cat", 7, 0.9, np.zeros(4, np.float32), mask)
    >>> classes, objects = label_maps(Prediction((cat,), (1, 3), ""))
    >>> classes.tolist(), objects.tolist()
    ([[0, 8, 8]], [[0, 1, 1]])
    """
    pairs = [(prediction.instances[k], k) for k in stacking_order(prediction.instances, overlap)]
    classes = paint(
        [(i.mask, i.class_id + 1) for i, _ in pairs if i.mask is not None], prediction.size_hw
    )
    objects = paint(
        [(i.mask, _object_value(i, k)) for i, k in pairs if i.mask is not None],
        prediction.size_hw,
    )
    return classes, objects


def _object_value(instance: Instance, place: int) -> int:
    number = place + 1 if instance.track is None else instance.track
    return number + (number >= IGNORE)


def read_label_map(path: Path, read_colours: ReadColours | None = None) -> LabelMap:
    """Read a label map from a file; see ``decode_png``.

    Raises:
        InputError: also for a file that is missing or unreadable.
    """
    return decode_png(read_png(path), str(path), read_colours)


def _check_sizes(classes: LabelMap, objects: LabelMap, where: str) -> None:
    if classes.shape != objects.shape:
        raise InputError(
            f"{where}: SegmentationObject is {objects.shape[1]}x{objects.shape[0]},"
            f" SegmentationClass {classes.shape[1]}x{classes.shape[0]}"
        )


@dataclass(frozen=True)
class MapReading:
    """How the label maps of a dataset are to be read.

    Attributes:
        colours: of the classes, where the dataset has a table of them.
        names: of the classes; None where nobody said.
        only_255: whether 255 is the only foreground value of all class maps, and so a class.
    """

    colours: ColourTable | None = None
    names: tuple[str, ...] | None = None
    only_255: bool = False

    def classes(self, path: Path) -> LabelMap:
        """The class values of an image.

        Raises:
            InputError: missing or damaged.
        """
        found = self._class_colours(path)
        return np.where(found == IGNORE, 1, 0).astype(np.uint8) if self.only_255 else found

    def check(self, names: Sequence[str]) -> None:
        """Refuse label maps whose only foreground value means pixels to be ignored.

        Raises:
            ConfigError: 255 is the only one, and there are several classes it could be.
        """
        if self.only_255 and len(names) != 1:
            raise ConfigError(
                "255 is the only foreground value of all label maps, which means pixels to be"
                " ignored; where it is one class, name that alone (--classes NAME, or"
                " class_names.txt)"
            )

    def _class_colours(self, path: Path) -> LabelMap:
        if self.colours is not None:
            table = self.colours
            return read_label_map(path, lambda rgb: table.to_values(rgb, str(path)))
        return read_label_map(
            path, lambda rgb: palette_values(rgb, palette(), self.names, str(path))
        )

    def objects(self, path: Path) -> LabelMap | None:
        """The object values of an image; None where they tell no objects apart."""
        found = read_label_map(path, lambda rgb: object_values(rgb, palette()))
        return None if self.only_255 and set(np.unique(found)) <= {0, IGNORE} else found


def is_only_255(paths: Iterable[Path], reading: MapReading) -> bool:
    """Whether 255 is the only foreground value of class maps, as binary masks have it.

    Args:
        paths: of class maps; those that cannot be read do not count. The first one with a class
            ends the search.
        reading: how to read them.

    >>> is_only_255([], MapReading())
    False
    """
    found_255 = False
    for path in paths:
        try:
            values = np.unique(reading.classes(path))
        except InputError:
            continue
        if ((values > 0) & (values != IGNORE)).any():
            return False
        found_255 = found_255 or IGNORE in values
    return found_255


def read_label_maps(
    classes: Path, objects: Path | None, reading: MapReading | None = None
) -> tuple[LabelMap, LabelMap | None]:
    """Class values of an image and, where there is a file of them, its object values.

    Raises:
        InputError: missing or damaged, or of two sizes.
    """
    how = reading or MapReading()
    found = how.classes(classes)
    beside = None if objects is None else how.objects(objects)
    if beside is None:
        return found, None
    _check_sizes(found, beside, str(classes))
    return found, beside


def instances_of(
    classes: LabelMap, objects: LabelMap, names: Sequence[str], where: str
) -> list[Instance]:
    """The objects of a pair of label maps.

    Args:
        classes: (H, W) class values.
        objects: (H, W) object values, 0 none and 255 ignored.
        names: of the classes; value k + 1 is ``names[k]``.
        where: for messages.

    Returns:
        One instance per object value, with score 1 and the class that most of its pixels have;
        objects without a class are left out.

    Raises:
        InputError: the maps differ in size, or a class value is beyond the names.

    >>> [cat] = instances_of(np.array([[0, 1, 1]]), np.array([[0, 5, 5]]), ["cat"], "a.png")
    >>> cat.label, cat.xyxy.tolist()
    ('cat', [1.0, 0.0, 3.0, 1.0])
    """
    _check_sizes(classes, objects, where)
    found = []
    for value in np.unique(objects):
        if value in (0, IGNORE):
            continue
        mask = mask_from_full(objects == value)
        if mask is None:
            continue
        h, w = mask.crop.shape
        inside = classes[mask.y : mask.y + h, mask.x : mask.x + w][mask.crop]
        inside = inside[(inside != 0) & (inside != IGNORE)]
        if not len(inside):
            continue
        class_id = int(np.bincount(inside).argmax()) - 1
        if class_id >= len(names):
            raise InputError(f"{where}: value {class_id + 1} is beyond the {len(names)} classes")
        found.append(Instance(names[class_id], class_id, 1.0, mask_xyxy(mask), mask))
    return found
