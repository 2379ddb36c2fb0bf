"""MOTS: masks of tracks as lines of text, and as pictures.

Each line is ``frame id class height width counts``, as Voigtlaender and others, "MOTS: Multi-object
tracking and segmentation" (2019) and TrackEval read it: frames from 0 (KITTI MOTS) or 1
(MOTSChallenge), the id of an object is its class times 1000 plus its number in the class, and
counts are COCO's compressed run lengths. Masks of a frame must not overlap. A class of 10 marks
regions that are ignored.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from backend.core.masks import mask_xyxy
from backend.core.tracks import MOST_FRAMES, Track, TrackedVideo, parted
from backend.core.types import Instance
from backend.errors import InputError
from backend.formats.coco.segmentation import decode_segmentation, encode_segmentation

_PER_CLASS = 1000
_LARGEST_VALUE = 65535
IGNORED_CLASS = 10
_CUT = "masks that overlapped and were cut"
_BEYOND = "tracks beyond 999 of a class"


def class_numbers(labels: Sequence[str]) -> dict[str, int]:
    """A number for each class, from 1 on, without the one that marks ignored regions.

    >>> class_numbers([f"c{k}" for k in range(10)])["c9"]
    11
    """
    free = [k for k in range(1, len(labels) + 2) if k != IGNORED_CLASS]
    return dict(zip(labels, free, strict=False))


def object_ids(
    video: TrackedVideo, classes: Mapping[str, int]
) -> tuple[dict[int, int], dict[str, int]]:
    """The number of each track in MOTS: its class times 1000 plus its place in the class.

    Returns:
        Track to number, and what could not be held, with how many.
    """
    count: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    numbers: dict[int, int] = {}
    for track in video.tracks:
        count[track.label] += 1
        if count[track.label] >= _PER_CLASS:
            losses[_BEYOND] += 1
        else:
            numbers[track.id] = classes[track.label] * _PER_CLASS + count[track.label]
    return numbers, dict(losses)


def to_mots(
    video: TrackedVideo, classes: Mapping[str, int], first_frame: int = 0
) -> tuple[str, dict[str, int]]:
    """Tracks as MOTS text.

    Args:
        video: whose masks may overlap; see ``core.tracks.parted`` for who keeps the pixels.
        classes: label to number.
        first_frame: number of the first frame, 0 or 1.

    Returns:
        The text, and what could not be held, with how many.
    """
    numbers, told = object_ids(video, classes)
    losses = Counter(told)
    lines = []
    height, width = video.size_hw
    for frame in range(video.n_frames):
        there = [(track, one) for track, one in video.at(frame) if track.id in numbers]
        masks, n_cut = parted([one for _, one in there])
        losses[_CUT] += n_cut
        for k in sorted(masks):
            track = there[k][0]
            counts = encode_segmentation(masks[k], video.size_hw)["counts"]
            lines.append(
                f"{frame + first_frame} {numbers[track.id]} {classes[track.label]} {height} {width}"
                f" {counts}\n"
            )
    return "".join(lines), {what: n for what, n in losses.items() if n}


def beyond_maps(video: TrackedVideo, classes: Mapping[str, int]) -> dict[str, int]:
    """What the pictures of ``to_mots_maps`` cannot hold, with how many."""
    numbers, _ = object_ids(video, classes)
    n_beyond = sum(number > _LARGEST_VALUE for number in numbers.values())
    return {"tracks whose number no picture of 16 bits can hold": n_beyond} if n_beyond else {}


def to_mots_maps(video: TrackedVideo, classes: Mapping[str, int]) -> Iterator[bytes]:
    """The same as pictures: for each frame a PNG of 16 bits, whose values are the numbers of the
    objects, 0 for none. Objects of classes beyond the 65th have numbers that are too large, and are
    left out; see ``beyond_maps``.
    """
    numbers, _ = object_ids(video, classes)
    numbers = {track: number for track, number in numbers.items() if number <= _LARGEST_VALUE}
    for frame in range(video.n_frames):
        there = [(track, one) for track, one in video.at(frame) if track.id in numbers]
        masks, _ = parted([one for _, one in there])
        values = np.zeros(video.size_hw, np.uint16)
        for k, mask in masks.items():
            h, w = mask.crop.shape
            part = values[mask.y : mask.y + h, mask.x : mask.x + w]
            part[mask.crop] = numbers[there[k][0].id]
        file = BytesIO()
        Image.fromarray(values).save(file, "png")
        yield file.getvalue()


def from_mots(
    text: str, names: Mapping[int, str], name: str, first_frame: int = 0
) -> tuple[TrackedVideo, list[str]]:
    """Tracks of MOTS text.

    Args:
        text: the whole file.
        names: number of a class to its label; others are called by their number.
        name: of the video.
        first_frame: number of the first frame.

    Returns:
        The video, whose scores are 1, and a sentence for every line that cannot be read. Regions of
        class 10, which are to be ignored, are left out.

    Raises:
        InputError: there is no line, or lines are of several sizes.
    """
    seen: defaultdict[int, dict[int, Instance]] = defaultdict(dict)
    labels: dict[int, str] = {}
    size_hw: tuple[int, int] | None = None
    last = -1
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{name}: line {number}"
        try:
            frame, object_id, class_number, own_size, counts = _fields(line, where)
        except InputError as error:
            faults.append(str(error))
            continue
        if size_hw not in (None, own_size):
            raise InputError(f"{where}: is {own_size[1]}x{own_size[0]}, those before it are not")
        size_hw = own_size
        if frame - first_frame >= MOST_FRAMES:
            faults.append(f"{where}: no video has {frame:,} frames")
            continue
        last = max(last, frame - first_frame)
        if class_number == IGNORED_CLASS:
            continue
        try:
            segmentation = {"size": list(own_size), "counts": counts}
            mask = decode_segmentation(segmentation, own_size, where)
        except InputError as error:
            faults.append(str(error))
            continue
        if mask is None or frame < first_frame:
            faults.append(f"{where}: has an empty mask, or a frame before {first_frame}")
            continue
        label = names.get(class_number, str(class_number))
        labels[object_id] = label
        seen[object_id][frame - first_frame] = Instance(
            label, class_number, 1.0, mask_xyxy(mask).astype(np.float32), mask
        )
    if size_hw is None:
        raise InputError(f"{name}: {faults[0] if faults else 'holds no line'}")
    tracks = tuple(
        Track(id=k, label=labels[object_id], seen=seen[object_id])
        for k, object_id in enumerate(sorted(labels), 1)
    )
    video = TrackedVideo(name=name, size_hw=size_hw, n_frames=last + 1, rate=25.0, tracks=tracks)
    return video, faults


def _fields(line: str, where: str) -> tuple[int, int, int, tuple[int, int], str]:
    parts = line.split()
    if len(parts) != 6:
        raise InputError(
            f"{where}: expected frame, id, class, height, width and counts, got {len(parts)} fields"
        )
    try:
        frame, object_id, class_number, height, width = (int(part) for part in parts[:5])
    except ValueError:
        raise InputError(f"{where}: expected whole numbers before the counts") from None
    if height < 1 or width < 1 or height * width > 1 << 30:
        raise InputError(f"{where}: {width}x{height} is no size of a picture")
    return frame, object_id, class_number, (height, width), parts[5]
