"""Generated scenes as a VOC dataset with a prompt file of true boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backend.core.masks import mask_from_full, mask_xyxy
from backend.core.tracks import PackedInstances, Track, TrackedVideo
from backend.core.types import Detections, Mask
from backend.demo.scenes.clips import SIZE_HW, Clip
from backend.demo.scenes.compose import Scene, generate
from backend.demo.scenes.objects import CLASS_NAMES
from backend.drawing.overlays import encode_picture
from backend.drawing.video import Mp4Writer
from backend.files.atomic import write_atomic
from backend.formats.json_text import json_bytes
from backend.formats.prompt_file import prompt_rows
from backend.formats.tracks.youtube_vis import to_youtube_vis
from backend.formats.voc.class_names import class_names_text
from backend.formats.voc.label_maps import encode_png

FILM_RATE = 25.0  # frames a second


def true_masks(scene: Scene) -> list[Mask]:
    """The visible part of every object that is seen, in order."""
    return [mask for _, mask in _seen(scene)]


def _seen(scene: Scene) -> list[tuple[int, Mask]]:
    """Class and mask of every object that is seen."""
    masks = [mask_from_full(scene.objects == k + 1) for k in range(len(scene.class_ids))]
    pairs = zip(scene.class_ids, masks, strict=True)
    return [(class_id, mask) for class_id, mask in pairs if mask is not None]


def true_detections(scene: Scene) -> Detections:
    """Tight boxes around the visible parts, with score 1."""
    seen = _seen(scene)
    boxes = np.array([mask_xyxy(mask) for _, mask in seen], np.float32).reshape(-1, 4)
    classes = np.array([class_id for class_id, _ in seen], np.int64)
    return Detections(boxes, classes, np.ones(len(boxes), np.float32))


def class_map(scene: Scene) -> np.ndarray:
    """(H, W) uint8 label map of the truth: class index + 1, background 0."""
    return np.array([0, *[c + 1 for c in scene.class_ids]], np.uint8)[scene.objects]


def write_voc(out: Path, seed: int, count: int) -> None:
    """Write ``count`` scenes from ``seed`` on as a VOC dataset.

    Args:
        out: folder; gets JPEGImages, SegmentationClass, SegmentationObject,
            ImageSets/Segmentation/val.txt, class_names.txt and prediction.json with the true boxes.
        seed: of the first scene.
        count: how many.

    Raises:
        Unavailable: the disk refuses.
    """
    cv2.setNumThreads(1)
    names: list[str] = []
    rows: list[dict[str, Any]] = []
    for number in range(seed, seed + count):
        scene = generate(number)
        name = f"{number:07d}"
        write_atomic(out / "JPEGImages" / f"{name}.jpg", encode_picture(scene.image))
        write_atomic(out / "SegmentationClass" / f"{name}.png", encode_png(class_map(scene)))
        write_atomic(out / "SegmentationObject" / f"{name}.png", encode_png(scene.objects))
        rows.extend(prompt_rows(name, true_detections(scene)))
        names.append(name)
    write_atomic(
        out / "ImageSets" / "Segmentation" / "val.txt",
        "".join(f"{name}\n" for name in names).encode(),
    )
    write_atomic(out / "class_names.txt", class_names_text(CLASS_NAMES).encode())
    write_atomic(out / "prediction.json", json.dumps(rows, indent=0).encode())


def write_clips(out: Path, seed: int, count: int, frames: int) -> None:
    """Write ``count`` clips from ``seed`` on as a VOC dataset of videos.

    Args:
        out: folder; gets JPEGImages/<clip>/<frame>.jpg, SegmentationClass and SegmentationObject
            alike, ImageSets/Segmentation/val_videos.txt, class_names.txt, and prediction.json with
            the true boxes. Object values are the same in all frames of a clip.
        seed: of the first clip.
        count: how many.
        frames: of each.

    Raises:
        Unavailable: the disk refuses.
    """
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    names = [f"{number:07d}" for number in range(seed, seed + count)]
    for number, name in zip(range(seed, seed + count), names, strict=True):
        clip = Clip(number)
        for frame in clip.frames(frames):
            scene = Scene(frame.image, frame.objects, clip.class_ids)
            at = f"{name}/{frame.number:05d}"
            write_atomic(out / "JPEGImages" / f"{at}.jpg", encode_picture(scene.image))
            write_atomic(out / "SegmentationClass" / f"{at}.png", encode_png(class_map(scene)))
            write_atomic(out / "SegmentationObject" / f"{at}.png", encode_png(scene.objects))
            rows.extend(prompt_rows(at, true_detections(scene)))
    listed = "".join(f"{name}\n" for name in names)
    write_atomic(out / "ImageSets" / "Segmentation" / "val_videos.txt", listed.encode())
    write_atomic(out / "class_names.txt", class_names_text(CLASS_NAMES).encode())
    write_atomic(out / "prediction.json", json.dumps(rows, indent=0).encode())


def write_film(path: Path, seed: int, frames: int) -> None:
    """Write one clip as an MP4, and its truth beside it as YouTube-VIS JSON.

    Args:
        path: of the film; the truth is called alike, with ``.json``.
        seed: of the clip.
        frames: how many.

    Raises:
        Unavailable: the disk refuses.
    """
    clip = Clip(seed)
    seen = [PackedInstances() for _ in clip.class_ids]
    film = Mp4Writer(path, SIZE_HW, FILM_RATE)
    for frame in clip.frames(frames):
        film.add(frame.image)
        for k, one in enumerate(seen):
            mask = mask_from_full(frame.objects == k + 1)
            if mask is not None:
                one.add(frame.number, mask, 1.0)
    film.close()
    tracks = []
    for number, (class_id, one) in enumerate(zip(clip.class_ids, seen, strict=True), 1):
        label = CLASS_NAMES[class_id]
        tracks.append(Track(id=number, label=label, seen=one.named(label, class_id, number)))
    video = TrackedVideo(
        name=path.stem, size_hw=SIZE_HW, n_frames=frames, rate=FILM_RATE, tracks=tuple(tracks)
    )
    files = [f"{path.stem}/{number:05d}.jpg" for number in range(frames)]
    document = to_youtube_vis([(video, files)], CLASS_NAMES)
    write_atomic(path.with_suffix(".json"), json_bytes(document) + b"\n")
