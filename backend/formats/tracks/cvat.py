"""CVAT for video 1.1: tracks with a mask in each frame, or with boxes, as XML.

As CVAT's description of its XML format lays it out: an ``annotations`` element with ``version``,
``meta`` and a ``track`` for each object, which holds a shape for each frame that says something
new. The ``rle`` of a mask counts pixels row by row inside its box ``left top width height``,
beginning with background. CVAT draws a mask until the next one, so that every frame has its own
here; between two boxes it draws a straight line. ``outside="1"`` says that the object is not seen
from a frame on. Scores have no place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from backend.core.colours import hex_colour
from backend.core.masks import pack_mask
from backend.core.runs import counts_of_edges, edges_of_counts, edges_of_mask, mask_of_edges
from backend.core.tracks import MOST_FRAMES, PackedInstances, Track, TrackedVideo
from backend.core.types import Mask
from backend.errors import InputError
from backend.formats.tracks.video_rectangle import key_frames

_LARGEST = 1 << 30  # pixels of a picture
_TOLERANCE = 0.02  # pixels that a side may be off between two boxes
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SIDES = ("xtl", "ytl", "xbr", "ybr")


def to_cvat(
    video: TrackedVideo, names: Sequence[str], frames: Sequence[int] | None = None
) -> bytes:
    """Tracks as XML that CVAT imports into a task of the same video as "CVAT 1.1".

    Args:
        video: with its tracks.
        names: of the classes, in order.
        frames: numbers of the frames in the file; by default they count from 0.

    >>> import numpy as np
    >>> from backend.core.types import Instance
    >>> mask = Mask(1, 0, np.array([[True, False, True]]))
    >>> seen = {0: Instance("cat", 0, 1.0, np.zeros(4, np.float32), mask)}
    >>> track = Track(id=1, label="cat", seen=seen)
    >>> video = TrackedVideo(name="v", size_hw=(1, 5), n_frames=1, rate=25, tracks=(track,))
    >>> 'rle="0, 1, 1, 1" left="1"' in to_cvat(video, ["cat"]).decode()
    True
    """
    numbers = list(range(video.n_frames)) if frames is None else list(frames)
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    root.append(_meta(video, names, numbers))
    for place, track in enumerate(video.tracks):
        own = SubElement(root, "track", id=str(place), label=_plain(track.label), source="auto")
        if all(one.mask is None for one in track.seen.values()):
            boxes = {frame: one.xyxy for frame, one in track.seen.items()}
            told = key_frames(boxes, _TOLERANCE)
            shapes = [(one.frame, partial(_box, one.xyxy), one.enabled) for one in told]
        else:
            shapes = [
                (
                    frame,
                    partial(_box, one.xyxy.astype(np.float64))
                    if one.mask is None
                    else partial(_shape, one.mask),
                    frame + 1 in track.seen,
                )
                for frame, one in sorted(track.seen.items())
            ]
        for frame, shape, goes_on in shapes:
            own.append(shape(numbers[frame], outside=False))
            if not goes_on and frame + 1 < video.n_frames:
                own.append(shape(numbers[frame + 1], outside=True))
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _plain(text: str) -> str:
    """Without the characters that XML cannot hold.

    >>> _plain("a\x01b")
    'ab'
    """
    return _NOT_XML.sub("", text)


def _meta(video: TrackedVideo, names: Sequence[str], numbers: Sequence[int]) -> Element:
    meta = Element("meta")
    task = SubElement(meta, "task")
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    told = {
        "name": _plain(video.name),
        "size": str(video.n_frames),
        "mode": "interpolation",
        "start_frame": str(numbers[0] if numbers else 0),
        "stop_frame": str(numbers[-1] if numbers else 0),
        "frame_filter": f"step={step}" if step > 1 else "",
    }
    for key, value in told.items():
        SubElement(task, key).text = value
    labels = SubElement(task, "labels")
    for name in names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = _plain(name)
        SubElement(label, "color").text = hex_colour(name)
        SubElement(label, "type").text = "any"
        SubElement(label, "attributes")
    size = SubElement(task, "original_size")
    SubElement(size, "width").text = str(video.size_hw[1])
    SubElement(size, "height").text = str(video.size_hw[0])
    return meta


def _shape(mask: Mask, frame: int, *, outside: bool) -> Element:
    height, width = mask.crop.shape
    counts = counts_of_edges(edges_of_mask(Mask(0, 0, mask.crop), width), height * width)
    told = {"left": mask.x, "top": mask.y, "width": width, "height": height}
    place = {
        "rle": ", ".join(map(str, counts.tolist())),
        **{key: str(one) for key, one in told.items()},
    }
    return _keyframe("mask", frame, place, outside=outside)


def _box(xyxy: NDArray[np.float64], frame: int, *, outside: bool) -> Element:
    sides = {key: f"{value:.2f}" for key, value in zip(_SIDES, xyxy, strict=True)}
    return _keyframe("box", frame, sides, outside=outside)


def _keyframe(tag: str, frame: int, place: Mapping[str, str], *, outside: bool) -> Element:
    told = {
        "frame": str(frame),
        "keyframe": "1",
        "outside": str(int(outside)),
        "occluded": "0",
        **place,
        "z_order": "0",
    }
    return Element(tag, told)


def from_cvat(text: bytes, name: str) -> tuple[TrackedVideo, list[str]]:
    """Tracks of a file of CVAT for video.

    Args:
        text: the whole file.
        name: of the video, for messages, and where the file names none.

    Returns:
        The video, whose scores are 1, and a sentence for everything that cannot be read. A mask
        stays until the next one of its track, and boxes move on a straight line from one to the
        next, as CVAT draws them.

    Raises:
        InputError: it is no such file, or tells no size of the frames.
    """
    try:
        root = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise InputError(f"{name}: is no XML that can be read: {error}") from None
    if root.tag != "annotations":
        raise InputError(f"{name}: expected <annotations>, got <{root.tag}>")
    size = root.find("meta//original_size")
    if size is None:
        raise InputError(f"{name}: tells no original_size; is it of CVAT for video?")
    size_hw = (_number(size, "height", name), _number(size, "width", name))
    if not 0 < size_hw[0] * size_hw[1] <= _LARGEST or min(size_hw) < 1:
        raise InputError(f"{name}: {size_hw[1]}x{size_hw[0]} is no size of a picture")
    labels = [one.text or "" for one in root.findall("meta//label/name")]
    faults: list[str] = []
    tracks: list[Track] = []
    told = root.find("meta/task/size")
    n_frames = int(told.text) if told is not None and (told.text or "").isdecimal() else 0
    n_frames = min(n_frames, MOST_FRAMES)
    start, step = _counting(root)
    found = []
    for k, row in enumerate(root.findall("track")):
        where = f"{name}: track {row.get('id', k)}"
        label = row.get("label")
        if not label:
            faults.append(f"{where}: has no label")
            continue
        if label not in labels:
            labels.append(label)
        shapes = [
            ((frame - start) // step, shape)
            for frame, shape in _shapes(row, size_hw, where, faults)
            if frame >= start
        ]
        n_frames = max([n_frames, *(frame + 1 for frame, _ in shapes)])
        found.append((label, shapes))
    limits = np.array([size_hw[1], size_hw[0]] * 2, np.float64)
    for label, shapes in found:
        seen = PackedInstances(label, labels.index(label))
        for (frame, shape), (end, following) in pairwise([*shapes, (n_frames, _NOTHING)]):
            if shape.mask is not None and not shape.outside:
                packed = pack_mask(shape.mask)
                for at in range(frame, end):
                    seen.put(at, packed, 1.0)
            elif shape.xyxy is not None and not shape.outside:
                target = shape.xyxy if following.xyxy is None else following.xyxy
                for at in range(frame, end):
                    share = (at - frame) / (end - frame)
                    box = np.clip(shape.xyxy + (target - shape.xyxy) * share, 0, limits)
                    if (box[2:] > box[:2]).all():  # else it is outside the picture
                        seen.add_box(at, box.astype(np.float32), 1.0)
        tracks.append(Track(id=len(tracks) + 1, label=label, seen=seen))
    title = root.findtext("meta/task/name") or name
    video = TrackedVideo(
        name=title, size_hw=size_hw, n_frames=n_frames, rate=25.0, tracks=tuple(tracks)
    )
    return video, faults


def _counting(root: Any) -> tuple[int, int]:
    """The first frame of a task, and the step from one to the next; frames are counted in the whole
    video.
    """
    start = root.findtext("meta/task/start_frame") or ""
    step = (root.findtext("meta/task/frame_filter") or "").partition("step=")[2]
    is_step = step.isdecimal() and int(step) > 0
    return (int(start) if start.isdecimal() else 0), (int(step) if is_step else 1)


def _number(parent: Any, key: str, where: str) -> int:
    text = parent.findtext(key) or ""
    if not text.isdecimal():
        raise InputError(f"{where}: expected a whole number for {key}, got {text!r}")
    return int(text)


@dataclass(frozen=True, eq=False)
class _Shape:
    """What a keyframe says."""

    outside: bool  # whether the object is not seen from here on
    mask: Mask | None = None
    xyxy: NDArray[np.float64] | None = None


_NOTHING = _Shape(True)


def _shapes(
    row: Any, size_hw: tuple[int, int], where: str, faults: list[str]
) -> list[tuple[int, _Shape]]:
    """What each keyframe of a track says, in order."""
    found: dict[int, _Shape] = {}
    others = 0
    for shape in row:
        if shape.tag not in ("mask", "box"):
            others += 1
            continue
        try:
            frame = int(shape.get("frame", ""))
            read = _read_box if shape.tag == "box" else _read_mask
            told = read(shape, size_hw, f"{where}, frame {frame}")
        except ValueError:
            faults.append(f"{where}: a {shape.tag} without numbers for its frame and place")
            continue
        except InputError as error:
            faults.append(str(error))
            continue
        if not 0 <= frame < MOST_FRAMES:
            faults.append(f"{where}: {frame:,} is no frame of a video")
            continue
        found[frame] = told
    if others:
        faults.append(f"{where}: {others} of its shapes are no masks or boxes, which are not read")
    return sorted(found.items(), key=lambda one: one[0])


def _read_mask(shape: Any, size_hw: tuple[int, int], where: str) -> _Shape:
    box = [int(shape.get(key, "")) for key in ("left", "top", "width", "height")]
    counts = [int(one) for one in shape.get("rle", "").split(",")]
    return _Shape(shape.get("outside") == "1", _mask(counts, box, size_hw, where))


def _read_box(shape: Any, size_hw: tuple[int, int], where: str) -> _Shape:
    """A box, which may stick out of the picture."""
    outside = shape.get("outside") == "1"
    sides = np.array([float(shape.get(key, "nan")) for key in _SIDES])
    is_box = np.isfinite(sides).all() and (sides[2:] > sides[:2]).all()
    if not is_box and not outside:
        raise InputError(f"{where}: a box whose sides are no numbers, or the wrong way round")
    if float(shape.get("rotation") or 0) and not outside:
        raise InputError(f"{where}: a turned box, which is not read")
    return _Shape(outside, xyxy=sides if is_box else None)


def _mask(
    counts: Sequence[int], box: Sequence[int], size_hw: tuple[int, int], where: str
) -> Mask | None:
    left, top, width, height = box
    inside = 0 <= left <= size_hw[1] - width and 0 <= top <= size_hw[0] - height
    if not inside or width < 1 or height < 1:
        raise InputError(f"{where}: its box is not inside {size_hw[1]}x{size_hw[0]}")
    if min(counts) < 0 or sum(counts) != width * height:
        raise InputError(f"{where}: the run lengths do not add up to {width}x{height}")
    small = mask_of_edges(edges_of_counts(np.array(counts, np.int64)), width)
    return None if small is None else Mask(small.x + left, small.y + top, small.crop)
