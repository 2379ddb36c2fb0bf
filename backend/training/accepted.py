"""What people accepted, in any format, as pictures to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from backend.core.classes import BACKGROUND_LABEL, NOT_CLASSES, ClassNames
from backend.core.masks import PackedMask, mask_xyxy, pack_mask, unpack_mask
from backend.core.types import Image, Mask
from backend.errors import ConfigError, InputError
from backend.files.atomic import file_digest
from backend.files.images import ImageLimits, decode_image, read_image
from backend.files.pictures import Pictures
from backend.formats.base import Reader, ReadRequest
from backend.formats.options import ANNOTATIONS, ReadOptions, What
from backend.formats.registry import detect_format, format_of
from backend.formats.sample import Fault, Sample


@dataclass(frozen=True, eq=False)
class AcceptedPicture:
    """A picture with what people accepted in it.

    Attributes:
        name: below its dataset.
        where: the file or task it was read from, for messages.
        picture: its file, or its bytes.
        digest: SHA-256 of these, hexadecimal.
        objects: label and mask of each; none for a picture that shows nothing.
        boxes: label and xyxy, in pixels, of objects whose outline nobody drew.
        ignored: masks of crowds and of regions that count neither for nor against.
        split: the list it is in, where the source tells.
    """

    name: PurePosixPath
    where: str
    picture: Path | bytes
    digest: str
    objects: tuple[tuple[str, PackedMask], ...]
    boxes: tuple[tuple[str, tuple[float, float, float, float]], ...]
    ignored: tuple[PackedMask, ...]
    split: str | None

    @property
    def masks(self) -> list[Mask]:
        """The masks of the objects."""
        return [unpack_mask(mask) for _, mask in self.objects]

    @property
    def every_label(self) -> list[str]:
        """The labels of the objects, and of those that have a box alone."""
        return [*self.labels, *(label for label, _ in self.boxes)]

    @property
    def labels(self) -> list[str]:
        """The labels of the objects."""
        return [label for label, _ in self.objects]

    def image(self, limits: ImageLimits) -> Image:
        """Its pixels, RGB uint8.

        Raises:
            InputError: they cannot be read.
        """
        if isinstance(self.picture, bytes):
            return decode_image(self.picture, str(self.name), limits)
        return read_image(self.picture, limits)


@dataclass(frozen=True, eq=False)
class Accepted:
    """All accepted pictures of a source.

    Attributes:
        pictures: in the order of the source.
        left_out: what is not among them, and how often.
        faults: a sentence for each picture or region that cannot be used.
        remarks: of the reader.
    """

    pictures: tuple[AcceptedPicture, ...]
    left_out: Counter[str]
    faults: tuple[str, ...]
    remarks: tuple[str, ...]


_LABEL_STUDIO = "label-studio"


def _reader(source: Path, images: Path | None, annotators: frozenset[str]) -> Reader:
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    root = source if source.is_dir() else source.parent
    request = ReadRequest(
        source=source,
        names=ClassNames(),
        pictures=Pictures([root], images),
        options=ReadOptions(what=What(ANNOTATIONS, annotators=annotators)),
    )
    name = detect_format(source)
    if annotators and name != _LABEL_STUDIO:
        raise ConfigError(
            f"--annotator: {source} does not tell who annotated; exports of Label Studio do"
        )
    return format_of(name).read(request)


def read_accepted(
    source: Path,
    images: Path | None = None,
    classes: Collection[str] | None = None,
    annotators: Collection[str] = (),
) -> Accepted:
    """Read what people accepted. What a model predicted and nobody changed is no example.

    Args:
        source: a folder or file in any format that ``convert`` reads.
        images: where the pictures are, if not beside it.
        classes: whose objects count; None for all.
        annotators: whose annotations count, by e-mail address or number; none for everybody's.

    Raises:
        ConfigError: nothing is there, or nothing of it was accepted.
    """
    found: list[AcceptedPicture] = []
    left_out: Counter[str] = Counter()
    faults: list[str] = []
    seen: set[str] = set()
    reader = _reader(source, images, frozenset(annotators))
    for sample in reader.samples():
        if isinstance(sample, Fault):
            faults.append(sample.sentence)
            continue
        faults += sample.faults
        left_out.update(sample.left_out)
        if sample.model_version is not None:
            left_out["pictures whose predictions nobody changed"] += 1
            continue
        try:
            one = _accepted(sample, classes, left_out)
        except InputError as error:
            faults.append(str(error))
            continue
        if one.digest in seen:
            left_out["pictures that are there already"] += 1
            continue
        seen.add(one.digest)
        found.append(one)
    if not found:
        told = ", ".join(f"{n} {text}" for text, n in left_out.items())
        told = "; ".join([*[told] * bool(told), *faults[:1], *reader.remarks[:1]])
        raise ConfigError(f"{source}: holds no accepted picture ({told or 'it is empty'})")
    return Accepted(tuple(found), left_out, tuple(faults), tuple(reader.remarks))


def _accepted(
    sample: Sample, classes: Collection[str] | None, left_out: Counter[str]
) -> AcceptedPicture:
    if sample.picture is None:
        raise InputError(
            f"{sample.where}: its picture is not at hand; --images names the folder of the pictures"
        )
    objects, boxes, ignored = [], [], []
    for one in sample.instances:
        if one.crowd or one.label in NOT_CLASSES:
            left_out["crowds and regions to ignore"] += 1
            if one.parts and one.label != BACKGROUND_LABEL:
                ignored.append(pack_mask(one.mask))
        elif classes is not None and one.label not in classes:
            left_out["objects of other classes"] += 1
        elif one.parts and not one.is_box:
            objects.append((one.label, pack_mask(one.mask)))
        else:
            box = one.xyxy if one.xyxy is not None else tuple(mask_xyxy(one.mask).tolist())
            boxes.append((one.label, box))
    if boxes:
        left_out["boxes without an outline, from which only a detector learns"] += len(boxes)
    picture = sample.picture
    digest = sha256(picture).hexdigest() if isinstance(picture, bytes) else file_digest(picture)
    return AcceptedPicture(
        sample.name,
        sample.where,
        picture,
        digest,
        tuple(objects),
        tuple(boxes),
        tuple(ignored),
        sample.split,
    )
