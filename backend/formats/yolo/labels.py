"""YOLO segmentation labels: a text line per instance, and the ``data.yaml`` around them, as
Ultralytics reads them.

A line is the class index and the corners of one closed ring as shares of the image, ``x / width y /
height``. We write the centres of pixels, ``(x + 0.5) / width``, so that a reader that cuts off
fractions at the image's own size gets the very pixel back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from backend.core.rasterize import box_mask
from backend.core.rings import ring_mask, single_ring
from backend.core.types import Mask
from backend.errors import ConfigError, InputError, json_kind

_MOST_NUMBERS = 20_000_000
_NO_SPLITS = (
    "path",
    "names",
    "nc",
    "download",
    "channels",
    "kpt_shape",
    "kpt_names",
    "flip_idx",
    "yaml_file",
    "roboflow",
    "description",
    "license",
    "url",
)
_SLACK = 0.01  # beyond the image, as Ultralytics allows


@dataclass(frozen=True, eq=False)
class LabelLine:
    """One line of a label file."""

    class_id: int
    mask: Mask | None  # None where it covers no pixel
    score: float | None  # predictions may end with one
    is_box: bool  # four numbers only: centre and size


def line(
    class_id: int, mask: Mask, size_hw: tuple[int, int], tolerance: float = 0.0
) -> tuple[str, int]:
    """A mask as one line.

    Args:
        class_id: index into the names.
        mask: not empty, inside the image.
        size_hw: of the image.
        tolerance: pixels by which the ring may leave the edge for fewer points.

    Returns:
        The line without a newline, and how many bridges lead from part to part.

    >>> line(1, Mask(0, 0, np.ones((2, 2), np.bool_)), size_hw=(4, 4))
    ('1 0.125 0.125 0.125 0.375 0.375 0.375 0.375 0.125', 0)
    """
    ring, bridges = single_ring(mask, tolerance)
    while len(ring) < 3:  # one or two pixels
        ring = np.concatenate([ring, ring[-1:]])
    shares = (ring + 0.5) / np.array([size_hw[1], size_hw[0]])
    return " ".join([str(class_id), *(f"{share:.7g}" for share in shares.ravel())]), bridges


def _numbers(words: Sequence[str], where: str) -> list[float]:
    if len(words) > _MOST_NUMBERS:
        raise InputError(f"{where}: {len(words)} numbers in a line")
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise InputError(f"{where}: expected numbers, got {' '.join(words)[:60]!r}") from None
    if not all(math.isfinite(one) for one in numbers):
        raise InputError(f"{where}: expected finite numbers")
    return numbers


def ends_with_ids(lines: Sequence[str]) -> bool:
    """Whether the lines of a file end with the ids of tracks, as a tracker's do.

    A number above 1 can be neither a coordinate nor a score. An id of 1 could be a coordinate; it
    is none where box, score and id make six numbers, or where the last corner would make the ring
    cross itself.

    >>> ends_with_ids(["0 0.5 0.5 0.2 0.2 7"]), ends_with_ids(["0 0.5 0.5 0.2 0.2 0.9"])
    (True, False)
    """
    found = False
    for text in lines:
        words = text.split()[1:]
        if not words:
            continue
        if not words[-1].isdecimal():
            return False
        found = found or int(words[-1]) > 1 or _last_is_no_corner(words)
    return found


def _last_is_no_corner(words: Sequence[str]) -> bool:
    """Whether the last two numbers, the last of them 1, are score and id and not a corner."""
    if words[-1] != "1" or len(words) % 2:
        return False
    if len(words) == 6:
        return True
    try:
        points = np.array([float(word) for word in words]).reshape(-1, 2)
    except ValueError:
        return False
    return len(points) >= 5 and _crosses(points) and not _crosses(points[:-1])


def _crosses(ring: NDArray[np.float64]) -> bool:
    """Whether an edge at the last corner of a ring crosses another edge."""
    start = ring
    end = np.roll(ring, -1, 0)

    def side(a: Any, b: Any, c: Any) -> Any:
        return np.sign(
            (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
            - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
        )

    for k in (len(ring) - 2, len(ring) - 1):
        apart = (side(start[k], end[k], start) * side(start[k], end[k], end) < 0) & (
            side(start, end, start[k]) * side(start, end, end[k]) < 0
        )
        if apart.any():
            return True
    return False


def read_line(
    text: str, size_hw: tuple[int, int], n_classes: int, where: str, with_id: bool = False
) -> LabelLine:
    """Read one line.

    Args:
        text: class and a ring; or class, centre and size of a box; either may end with a score.
        size_hw: of the image.
        n_classes: how many there are.
        where: for messages, such as ``a.txt: line 3``.
        with_id: whether the last number is the id of a track; see ``ends_with_ids``.

    Raises:
        InputError: not numbers, no such class, too few corners, or corners beyond the image.

    >>> box = read_line("1 0.5 0.5 0.5 0.5 0.9", (4, 4), n_classes=2, where="a.txt: line 1")
    >>> box.class_id, box.score, box.mask
    (1, 0.9, Mask(x=1, y=1, crop=array([[ True,  True],
           [ True,  True]])))
    """
    first, *numbers = _numbers(text.split(), where)
    if first != int(first) or not 0 <= first < n_classes:
        raise InputError(f"{where}: class {first:g} is not an index into the {n_classes} names")
    if with_id and len(numbers) > 4:
        numbers.pop()
    score = numbers.pop() if len(numbers) % 2 else None
    if score is not None and not 0 <= score <= 1:
        raise InputError(
            f"{where}: expected pairs of numbers, or a score from 0 to 1 behind them, got"
            f" {len(numbers) + 1} numbers, the last {score:g}"
        )
    if len(numbers) < 4:
        raise InputError(f"{where}: expected at least three corners, got {len(numbers) // 2}")
    if any(not -_SLACK <= one <= 1 + _SLACK for one in numbers):
        raise InputError(
            f"{where}: expected shares of the image from 0 to 1, got"
            f" {next(n for n in numbers if not -_SLACK <= n <= 1 + _SLACK):g}"
        )
    height, width = size_hw
    if len(numbers) == 4:
        x, y, w, h = numbers
        corners = (
            (x - w / 2) * width,
            (y - h / 2) * height,
            (x + w / 2) * width,
            (y + h / 2) * height,
        )
        return LabelLine(int(first), box_mask(*corners, size_hw), score, True)
    shares = np.array(numbers).reshape(-1, 2)
    ring = np.clip(np.floor(shares * [width, height] + 1e-6), 0, [width - 1, height - 1]).astype(
        np.int32
    )
    return LabelLine(int(first), ring_mask(ring, size_hw), score, False)


def data_yaml(names: Sequence[str], splits: Sequence[str]) -> str:
    """The ``data.yaml`` of a dataset whose pictures lie in ``images/<split>``.

    Without a second split, training and validation use the same.

    >>> print(data_yaml(["cat"], ["train", "val"]), end="")
    train: images/train
    val: images/val
    names:
      0: cat
    """
    train = "train" if "train" in splits else splits[0]
    val = next(
        (name for name in splits if name.startswith("val")),
        next((name for name in splits if name != train), train),
    )
    lists = {
        "train": train,
        "val": val,
        **{name: name for name in splits if name not in (train, val)},
    }
    document = {
        **{key: f"images/{name}" for key, name in lists.items()},
        "names": dict(enumerate(names)),
    }
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def read_data_yaml(text: str, where: str) -> tuple[tuple[str, ...], dict[str, list[str]], str]:
    """Names, and the folders or lists of every split.

    Args:
        text: content of the file.
        where: for messages.

    Returns:
        Names in the order of their index; split to its entries as written, which may be anything
        where it is none of train, val and test; and the root they are relative to, as written, or
        an empty text.

    Raises:
        ConfigError: not YAML, or without names.

    >>> read_data_yaml("{train: images/train, names: [cat, dog]}", "data.yaml")
    (('cat', 'dog'), {'train': ['images/train']}, '')
    """
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where}: is not valid YAML: {' '.join(str(error).split())[:120]}"
        ) from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{where}: expected names and splits, got {json_kind(document)}")
    splits: dict[str, list[str]] = {}
    for key, value in document.items():
        entries = value if isinstance(value, list) else [value]
        if key not in _NO_SPLITS and value and all(isinstance(one, str) for one in entries):
            splits[str(key)] = entries
    if document.get("kpt_shape") is not None:
        raise ConfigError(f"{where}: is a dataset of key points; outlines and boxes are read")
    root = document.get("path")
    return _names(document.get("names"), where), splits, root if isinstance(root, str) else ""


def _names(found: Any, where: str) -> tuple[str, ...]:
    if isinstance(found, Mapping):
        try:
            found = [found[k] if k in found else found[str(k)] for k in range(len(found))]
        except KeyError:
            raise ConfigError(
                f"{where}: names: expected every index from 0 to {len(found) - 1}"
            ) from None
    if not isinstance(found, list) or not all(isinstance(name, str | int) for name in found):
        raise ConfigError(f"{where}: names: expected the names of the classes")
    return tuple(str(name) for name in found)
