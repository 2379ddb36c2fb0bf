"""Masks that people named already, as a namer sees them: what names are learned from."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
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
from backend.formats.base import ReadRequest
from backend.formats.options import ReadOptions
from backend.formats.registry import detect_format, format_of
from backend.formats.sample import Fault, Sample
from backend.models.clip import ClipNamer
from backend.models.probe import NamedFeatures

logger = logging.getLogger(__name__)
_NO_NAMES = (*NOT_CLASSES, UNNAMED, UNSURE)
_MASKS = 256  # that are looked at in one go


def _pictures_of(
    source: Path, images: Path | None, split: str | None, limits: ImageLimits, progress: bool
) -> Iterator[tuple[Image, list[Mask], list[str]]]:
    """Pictures with the masks and names of their objects."""
    if not source.exists():
        raise ConfigError(f"--examples: no such file or folder: {source}")
    kind = detect_format(source)
    request = ReadRequest(
        source=source,
        names=ClassNames(),
        pictures=Pictures([source if source.is_dir() else source.parent], images),
        options=ReadOptions(split=split),
    )
    reader = format_of(kind).read(request)
    missing = 0
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
        named = [one for one in sample.instances if one.parts and one.label not in _NO_NAMES]
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
        masks, labels = [], []
        for one in named:
            if not one.crowd:
                masks.append(one.mask)
                labels.append(one.label)
        yield image, masks, labels
    if missing:
        logger.warning(
            "examples: the pictures of %d files are not at hand; --examples-images names their"
            " folder",
            missing,
        )


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
    found = _pictures_of(source, images, split, limits, progress)
    for number, (image, masks, own) in enumerate(found):
        for start in range(0, len(masks), _MASKS):
            rows.append(namer.features([image], [masks[start : start + _MASKS]]))
        digest.update(image.tobytes())
        for mask, label in zip(masks, own, strict=True):
            digest.update(f"{label} {mask.x} {mask.y} {mask.crop.shape}".encode())
            digest.update(np.packbits(mask.crop).tobytes())
        labels += own
        groups += [number] * len(own)
    if not labels:
        raise ConfigError(f"--examples {source}: has no named mask with its picture")
    counts = ", ".join(f"{n} {label}" for label, n in Counter(labels).most_common(12))
    logger.info("examples: %d masks: %s", len(labels), counts)
    return NamedFeatures(np.concatenate(rows), tuple(labels), np.array(groups), digest.hexdigest())
