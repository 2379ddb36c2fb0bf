"""Codecs and files against their peers: logits to annotation files, run lengths, COCO.

The models are replaced by canned 256x256 logits of ten objects on a 1080p image, so that only our
own work is measured.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.benchmarks.ratios import Measurement, _mean_row, ratio_of
from backend.core.classes import ClassNames
from backend.core.masks import full_frame, mask_from_full, mask_xyxy
from backend.core.types import Instance, Mask, Masks, Prediction
from backend.core.upsample import crop_masks
from backend.files.pictures import Pictures
from backend.formats.base import NoCopies, WriteRequest
from backend.formats.coco import segmentation as coco
from backend.formats.label_studio import brush_rle as rle
from backend.formats.label_studio import results as labelstudio
from backend.formats.options import WriteOptions
from backend.formats.registry import format_of
from backend.formats.sample import sample_of

SIZE_HW = (1080, 1920)
_BOXES = 10
_QUALITY = np.ones(_BOXES, np.float32)  # a segmenter gives it with its logits


def canned_logits(seed: int = 1) -> NDArray[np.float32]:
    """Smooth, slightly ragged blobs with a hole here and there: (10, 256, 256) float32, 2 to 15 %
    of the frame each.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    grids = []
    for k in range(_BOXES):
        cx = rng.uniform(60, 196)
        cy = rng.uniform(60, 196)
        radius = rng.uniform(20, 56)
        field = (
            radius
            - np.hypot(x - cx, y - cy)
            + 3 * cv2.GaussianBlur(rng.normal(size=(256, 256)).astype(np.float32), (0, 0), 3) * 4
        )
        if k % 3 == 0:
            field = np.minimum(field, np.hypot(x - cx, y - cy) - radius * 0.3)
        grids.append(field)
    return np.stack(grids).astype(np.float32)


def _prediction(logits: NDArray[np.float32]) -> Prediction:
    masks = crop_masks(Masks(logits, _QUALITY, SIZE_HW))
    instances = [
        Instance(f"class{k}", k, 0.5, mask_xyxy(mask), mask, 1.0)
        for k, mask in enumerate(masks)
        if mask is not None
    ]
    return Prediction(tuple(instances), SIZE_HW, "bench")


def labelme_file_of(prediction: Prediction) -> bytes:
    """The labelme file of a prediction, as ``annotate`` writes it."""
    made = format_of("labelme")
    writer = made.write(
        WriteRequest(
            out=Path(),
            names=ClassNames(),
            pictures=Pictures([], None),
            copies=NoCopies(),
            options=WriteOptions(resumable=True),
        )
    )
    sample = sample_of(prediction, name=PurePosixPath("a.jpg"), drawing_order=made.drawing_order)
    ((_, content),) = writer.encode(sample, "a").files
    return content if isinstance(content, bytes) else b""


def _routes(repeats: int, folder: Path) -> list[Measurement]:
    from backend.benchmarks.yardsticks import label_studio_json, labelme_file
    from backend.models.sam2.stock import use_one_thread

    use_one_thread()
    logits = canned_logits()
    labels = [f"class{k}" for k in range(_BOXES)]
    half = logits.astype(np.float16).astype(
        np.float32
    )  # what leaves the device; rounded once for both sides

    def to_json(prediction: Prediction) -> str:
        return labelstudio.result_of(prediction, labelstudio.plain_outputs(prediction)).regions

    studio = ratio_of(
        lambda: label_studio_json(half, SIZE_HW, labels),
        lambda: to_json(_prediction(half)),
        repeats,
    )
    theirs = folder / "theirs.json"
    ours = folder / "ours.json"
    files = ratio_of(
        lambda: labelme_file(half, SIZE_HW, labels, theirs),
        lambda: ours.write_bytes(labelme_file_of(_prediction(half))),
        repeats,
    )
    names = (
        "logits -> Label Studio RLE JSON, against mask2rle",
        "logits -> labelme file, against upstream's route",
    )
    return [
        Measurement(name, ratio, goal, True, f"{slow:.1f} ms against {fast:.2f} ms")
        for name, goal, (ratio, slow, fast) in zip(names, (150, 60), (studio, files), strict=True)
    ]


def mask_set() -> list[tuple[str, NDArray[np.bool_]]]:
    """Twelve masks: three sizes of image, and small, smooth, holed and ragged objects."""
    rng = np.random.default_rng(7)
    masks = []
    for height, width in ((480, 640), SIZE_HW, (2160, 3840)):
        y, x = np.mgrid[:height, :width].astype(np.float32)
        middle = np.hypot((y - height / 2), (x - width / 2))
        side = min(height, width)
        rough = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), 1.0)
        smooth = cv2.resize(
            rng.normal(size=(24, 32)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        disc = middle + smooth * side * 0.03 < side * 0.35
        masks += [
            ("small", middle < side * 0.036),
            ("smooth", disc),
            ("holed", disc & (smooth < 0.9)),
            ("ragged", disc & (rough > -0.25)),
        ]
    return masks


def _rle(repeats: int) -> list[Measurement]:
    from backend.benchmarks.yardsticks import sdk_brush  # torch is loaded with it

    sdk = sdk_brush()
    encode = []
    decode = []
    for _, full in mask_set():
        grey = full.astype(np.uint8) * 255
        crop = mask_from_full(full)
        size = (full.shape[0], full.shape[1])
        text = sdk.mask2rle(grey)
        ours, _, _ = ratio_of(
            partial(sdk.mask2rle, grey), partial(rle.encode_brush, crop, size), repeats
        )
        encode.append(ours)
        ours, _, _ = ratio_of(
            partial(sdk.decode_rle, text), partial(rle.decode_brush, text, size), repeats
        )
        decode.append(ours)
    return [
        _mean_row("RLE encode against the SDK", encode, 150),
        _mean_row("RLE decode against the SDK", decode, 150),
    ]


def _coco(repeats: int) -> list[Measurement]:
    """COCO's run lengths from a crop and back to one, against pycocotools, which works on whole
    frames in column order.
    """
    from pycocotools import mask as coco_mask

    encode = []
    decode = []
    for _, full in mask_set():
        crop = mask_from_full(full)
        size = (full.shape[0], full.shape[1])
        if crop is None:
            continue
        theirs = coco_mask.encode(np.asfortranarray(full.view(np.uint8)))
        ours = coco.encode_segmentation(crop, size)

        def by_frame(mask: Mask = crop, size: tuple[int, int] = size) -> object:
            return coco_mask.encode(np.asfortranarray(full_frame(mask, size).view(np.uint8)))

        def to_crop(encoded: Any = theirs) -> object:
            return mask_from_full(coco_mask.decode(encoded))

        ratio, _, _ = ratio_of(by_frame, partial(coco.encode_segmentation, crop, size), repeats)
        encode.append(ratio)
        ratio, _, _ = ratio_of(to_crop, partial(coco.decode_segmentation, ours, size), repeats)
        decode.append(ratio)
    return [
        Measurement(
            f"COCO run lengths against pycocotools, {name}, least of {len(ratios)}",
            min(ratios),
            2,
            True,
            f"up to {max(ratios):.1f}x",
        )
        for name, ratios in (("encode", encode), ("decode", decode))
    ]


def _instance(k: int, mask: Mask) -> Instance:
    return Instance(f"class{k}", k, 0.5, mask_xyxy(mask), mask, 1.0)
