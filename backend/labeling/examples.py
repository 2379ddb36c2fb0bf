"""Masks that people named already, as a namer sees them: what names are learned from."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backend.core.classes import NOT_CLASSES, ClassNames
from backend.core.naming import UNNAMED, UNSURE
from backend.core.types import Image, Mask
from backend.errors import ConfigError, LabelingError
from backend.files.images import ImageLimits, decode_image, read_image
from backend.files.pictures import Pictures
from backend.formats.base import Reader, ReadRequest
from backend.formats.options import ReadOptions
from backend.formats.registry import detect_format, format_of
from backend.formats.sample import Fault, Sample
from backend.models.clip import ClipNamer
from backend.models.probe import NOTHING, NamedFeatures

logger = logging.getLogger(__name__)
_NO_NAMES = (*NOT_CLASSES, UNNAMED, UNSURE)
_MASKS = 256  # that are looked at in one go
_MOST_BESIDE = 16  # places of a picture that show nothing
_TRIES = 10  # to find one


def _reader(source: Path, images: Path | None, split: str | None) -> Reader:
    if not source.exists():
        raise ConfigError(f"--examples: no such file or folder: {source}")
    try:
        kind = detect_format(source)
    except ConfigError as error:
        raise ConfigError(f"--examples: {error}") from None
    request = ReadRequest(
        source=source,
        names=ClassNames(),
        pictures=Pictures([source if source.is_dir() else source.parent], images),
        options=ReadOptions(split=split),
    )
    try:
        return format_of(kind).read(request)
    except LabelingError as error:
        told = str(error).replace("--split", "--examples-split")
        raise ConfigError(f"--examples: {told}") from None


def _pictures_of(
    reader: Reader, limits: ImageLimits, progress: bool
) -> Iterator[tuple[Image, list[Mask], list[str]]]:
    """Pictures with the masks and names of their objects, and places beside these."""
    missing = boxes = 0
    samples = tqdm(
        reader.samples(),
        total=reader.total,
        unit="img",
        desc="examples",
        disable=not progress,
        file=sys.stderr,
        dynamic_ncols=True,
    )
    for sample in samples:
        if isinstance(sample, Fault):
            logger.warning("examples: %s", sample.sentence)
            continue
        masked = [one for one in sample.instances if one.parts and not one.crowd]
        named = [one for one in masked if one.label not in _NO_NAMES]
        boxes += len(sample.instances) - len(masked)
        if not named:
            continue
        if sample.picture is None:
            missing += 1
            continue
        try:
            image = _pixels(sample, sample.picture, limits)
        except LabelingError as error:
            logger.warning("examples: %s", error)
            continue
        if image.shape[:2] != sample.size_hw:
            logger.warning("examples: %s: its picture has another size", sample.where)
            continue
        masks = [one.mask for one in named]
        beside = list(_beside(image, masks))
        yield image, [*masks, *beside], [*(one.label for one in named), *[NOTHING] * len(beside)]
    for remark in reader.remarks:
        logger.warning("examples: %s", remark)
    if boxes:
        logger.warning("examples: %d boxes and crowds left out; only masks tell looks", boxes)
    if missing:
        logger.warning(
            "examples: the pictures of %d files are not at hand; --examples-images names their"
            " folder",
            missing,
        )


def _beside(image: Image, masks: Sequence[Mask]) -> Iterator[Mask]:
    """Places of a picture that nobody named, as large as what is named there: examples of nothing.

    There are as many as masks, where there is room.
    """
    height, width = image.shape[:2]
    taken = np.zeros((height, width), np.bool_)
    for mask in masks:
        h, w = mask.crop.shape
        taken[mask.y : mask.y + h, mask.x : mask.x + w] |= mask.crop
    rng = np.random.default_rng(len(masks))
    for mask in masks[:_MOST_BESIDE]:
        for _ in range(_TRIES):
            h, w = mask.crop.shape
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            if np.count_nonzero(taken[y : y + h, x : x + w] & mask.crop) < 0.1 * mask.crop.sum():
                yield Mask(x, y, mask.crop)
                break


def _pixels(sample: Sample, picture: Path | bytes, limits: ImageLimits) -> Image:
    if isinstance(picture, bytes):
        return decode_image(picture, str(sample.name), limits)
    return read_image(picture, limits)


def read_examples(
    namer: ClipNamer,
    source: Path,
    images: Path | None,
    split: str | None,
    limits: ImageLimits,
    *,
    progress: bool,
) -> NamedFeatures:
    """See everything that people named in a folder or export, in any format.

    Pictures that cannot be read are told in the log and left out.

    Args:
        namer: what sees it.
        source: file or folder.
        images: where pictures are that do not lie beside it.
        split: the list that is read, where a dataset has several; None for all.
        limits: of pictures.
        progress: whether to show a bar.

    Raises:
        ConfigError: there is no named mask with its picture.
    """
    rows: list[np.ndarray] = []
    labels: list[str] = []
    groups: list[int] = []
    digest = sha256()
    found = _pictures_of(_reader(source, images, split), limits, progress)
    for number, (image, masks, own) in enumerate(found):
        for start in range(0, len(masks), _MASKS):
            rows.append(namer.features([image], [masks[start : start + _MASKS]]))
        digest.update(image.tobytes())
        for mask, label in zip(masks, own, strict=True):
            digest.update(f"{label} {mask.x} {mask.y} {mask.crop.shape}".encode())
            digest.update(np.packbits(mask.crop).tobytes())
        labels += own
        groups += [number] * len(own)
    if not any(label != NOTHING for label in labels):
        raise ConfigError(f"--examples {source}: has no named mask with its picture")
    counts = ", ".join(f"{n} {label}" for label, n in Counter(filter(None, labels)).most_common(12))
    logger.info("examples: %d masks: %s", len(labels), counts)
    return NamedFeatures(np.concatenate(rows), tuple(labels), np.array(groups), digest.hexdigest())
