"""What every format of the registry has to keep to: samples that are written and read again are the
same but for the losses that were counted, damage is told, and the same samples make the same bytes.

Formats come from the registry, so that one that is registered tomorrow is covered as it is.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from backend.core.classes import NOT_CLASSES, ClassNames
from backend.core.masks import full_frame, mask_iou
from backend.datasets.copying import Copies
from backend.datasets.stems import Stems
from backend.errors import LabelingError
from backend.files.picture_data import picture_bytes
from backend.files.pictures import Pictures
from backend.formats.base import Encoded, Format, ReadRequest, Writer, WriteRequest
from backend.formats.options import ReadOptions, WriteOptions
from backend.formats.registry import detect_format, format_names, format_of
from backend.formats.sample import (
    LISTS,
    DatasetInstance,
    Fault,
    Sample,
    with_wanted_instances,
)
from tests.support.hard_samples import PLAIN, SPLITS, file_name, samples_in, scenes

VARIANTS = {  # what a format does not know of them changes nothing
    "default": WriteOptions(),
    "outlines": WriteOptions(shape="polygon", tolerance=1.5),
}
TEXT_SUFFIXES = (".txt", ".csv", ".tsv")  # lines: a cut between two of them leaves a sound file


# ------------------------------------------------------------------ writing and reading


@dataclass
class Written:
    """A dataset in a format, and what its writer said of every image.

    Attributes:
        made: the format.
        home: holds the pictures and the dataset.
        options: how it was written.
        before: the samples that were to be written, by name.
        encoded: of those that could be.
        losses: of instances and notes; what is lost of any picture of that size does not count.
        refused: errors of those that could not be, by name.
    """

    made: Format
    home: Path
    options: WriteOptions
    before: dict[PurePosixPath, Sample] = field(default_factory=dict)
    encoded: dict[PurePosixPath, Encoded] = field(default_factory=dict)
    losses: dict[PurePosixPath, Counter[str]] = field(default_factory=dict)
    refused: dict[PurePosixPath, Exception] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.home / "out"

    @property
    def pictures(self) -> Path:
        return self.home / "pictures"

    def files(self) -> dict[str, bytes]:
        """Everything that was written, by its path below ``out``."""
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes()
            for path in sorted(self.out.rglob("*"))
            if path.is_file()
        }


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Path):
        path.symlink_to(content)
    else:  # a spool
        content.finish().rename(path)


def encode_one(writer: Writer, sample: Sample, stem: str) -> tuple[Encoded, Counter[str]]:
    """A sample in the target format, and what is lost beside what every such picture loses."""
    encoded = writer.encode(sample, stem)
    bare = writer.encode(replace(sample, instances=(), notes={}), stem)
    return encoded, Counter(encoded.losses) - Counter(bare.losses)


def write(made: Format, home: Path, options: WriteOptions) -> Written:
    """Write all scenes the way a conversion does, without its manifest."""
    written = Written(made, home, options)
    written.out.mkdir(parents=True)
    names = ClassNames()
    pictures = Pictures([written.pictures], written.pictures, [written.out])
    copies = Copies("copy" if made.holds_pictures else "none", pictures)
    request = WriteRequest(
        out=written.out,
        names=names,
        pictures=pictures,
        copies=copies,
        options=options,
    )
    writer = made.write(request)
    stems = Stems(writer.per_split)
    try:
        for sample in samples_in(written.pictures):
            written.before[sample.name] = sample
            wanted = with_wanted_instances(sample, names, writer.lists_names)
            try:
                encoded, losses = encode_one(writer, wanted, stems.stem_of(wanted))
            except Exception as error:  # it fails the tests of this sample, not those of others
                written.refused[sample.name] = error
                continue
            written.encoded[sample.name] = encoded
            written.losses[sample.name] = losses
            for path, content in encoded.files:
                put(written.out / path, content)
            writer.add(encoded)
        for path, content in writer.close():
            put(written.out / path, content)
    finally:
        writer.abort()
    return written


def read(made: Format, out: Path, pictures: Path) -> Iterator[Sample | Fault]:
    """Read a dataset; where pictures are no part of it, their folder is named."""
    images = None if made.holds_pictures else pictures
    request = ReadRequest(
        source=out,
        names=ClassNames(),
        pictures=Pictures([out], images),
        options=ReadOptions(),
    )
    yield from made.read(request).samples()


def split_up(found: Sequence[Sample | Fault]) -> tuple[dict[PurePosixPath, Sample], list[str]]:
    """Samples by name, and the sentences of the faults."""
    samples = [one for one in found if isinstance(one, Sample)]
    by_name = {one.name: one for one in samples}
    assert len(by_name) == len(samples), "a sample comes twice"
    return by_name, [one.sentence for one in found if isinstance(one, Fault)]


# ------------------------------------------------------------------------- comparing


def overlap(one: DatasetInstance, other: DatasetInstance) -> float:
    """How much two instances are the same; half where one has no pixels to compare."""
    if not one.parts or not other.parts:
        return 0.5
    return mask_iou(one.mask, other.mask)


def pairs(before: Sample, after: Sample) -> list[tuple[DatasetInstance, int | None]]:
    """Every instance, and which one of those that were read it became; None where it is gone."""
    left = dict(enumerate(after.instances))
    found: list[tuple[DatasetInstance, int | None]] = []
    for one in before.instances:
        fitting = {k: overlap(one, other) for k, other in left.items() if other.label == one.label}
        best = max(fitting, key=lambda k: fitting[k], default=None)
        if best is not None and fitting[best] > 0:
            del left[best]
            found.append((one, best))
        else:
            found.append((one, None))
    return found


def notes_of(one: DatasetInstance) -> dict[str, Any]:
    return {key: value for key, value in one.notes.items() if key != "group_id"}


def changed(one: DatasetInstance, other: DatasetInstance, size_hw: tuple[int, int]) -> Counter[str]:
    """What of an instance is not as it was: pixels, and everything else once."""
    found = Counter[str]()
    if one.parts:
        frames = [full_frame(which.mask, size_hw) for which in (one, other)]
        found["pixels"] = int((frames[0] != frames[1]).sum())
    found["score"] = int(one.score != other.score)
    found["crowd"] = int(one.crowd != other.crowd)
    found["notes"] = int(notes_of(one) != notes_of(other))
    return +found


def differences(before: Sample, after: Sample) -> Counter[str]:
    """What did not come home, each thing once."""
    found = Counter[str]()
    assert before.size_hw is not None
    for one, place in pairs(before, after):
        if place is None:
            found["instances"] += 1
        else:
            found += changed(one, after.instances[place], before.size_hw)
    found["notes on the image"] = int(dict(before.notes) != dict(after.notes))
    return +found


# ----------------------------------------------------------------------------- tests


@pytest.fixture(
    scope="module",
    params=[(name, variant) for name in format_names() for variant in VARIANTS],
    ids=lambda one: "-".join(one),
)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    name, variant = request.param
    return write(format_of(name), tmp_path_factory.mktemp("contract"), VARIANTS[variant])


@pytest.fixture(scope="module")
def home(written: Written) -> tuple[dict[PurePosixPath, Sample], list[str]]:
    return split_up(list(read(written.made, written.out, written.pictures)))


@pytest.mark.parametrize("scene", scenes())
def test_what_does_not_come_home_was_counted(written: Written, home, scene: str) -> None:
    """A format either keeps a thing or counts it; nothing is lost in silence, nothing is new."""
    name = file_name(scene)
    assert name not in written.refused, repr(written.refused[name])
    before = written.before[name]
    after = home[0][name]
    assert after.size_hw == before.size_hw
    assert before.picture is not None
    assert after.picture is not None
    assert picture_bytes(after.picture, "") == picture_bytes(before.picture, "")
    assert len(after.instances) <= len(before.instances)
    counted = written.losses[name] + Counter(after.left_out)
    missing = differences(before, after)
    assert missing.total() <= counted.total(), f"{dict(missing)} lost, {dict(counted)} counted"
    told = written.encoded[name].labels
    n_held = Counter(one.label for one in after.instances)
    assert n_held <= Counter(told), "read, though the writer did not count it"
    if scene == PLAIN:
        assert not counted
        assert not missing


def test_nothing_else_is_read(written: Written, home) -> None:
    samples, faults = home
    assert not faults
    assert set(samples) == set(written.encoded)
    assert detect_format(written.out) == written.made.name


def test_lists_come_home_or_are_counted(written: Written, home) -> None:
    for name, encoded in written.encoded.items():
        if written.made.knows_lists:
            assert home[0][name].split == written.before[name].split
        else:
            assert encoded.losses[LISTS] == 1


def test_order_is_kept(written: Written, home) -> None:
    """Images come in the order they were written in, list by list; only where every image has a
    file of its own may they come by name. Objects keep their order; pixels that are no single
    object may come at another place.
    """
    has_own_files = all(encoded.files for encoded in written.encoded.values())
    for split in SPLITS if written.made.knows_lists else (None,):
        wanted = [name for name in written.encoded if split in (None, written.before[name].split)]
        found = [name for name, one in home[0].items() if split in (None, one.split)]
        assert found == wanted or (has_own_files and sorted(found) == sorted(wanted))
    for name, after in home[0].items():
        places = [
            place
            for one, place in pairs(written.before[name], after)
            if place is not None and not one.crowd and one.label not in NOT_CLASSES
        ]
        assert places == sorted(places), name


def test_the_same_samples_make_the_same_bytes(written: Written, tmp_path: Path) -> None:
    again = write(written.made, tmp_path / "again", written.options).files()
    assert again.keys() == written.files().keys()
    assert [path for path, data in written.files().items() if again[path] != data] == []


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def garbled(data: bytes) -> bytes:
    """Half a file, then what is neither text nor any format."""
    return cut(data) + b"\x00\xff\xfe{" * 3


def told_of(made: Format, out: Path, pictures: Path) -> tuple[dict, list[str]]:
    """What is still read of a damaged dataset, and what is told; anything but a sentence fails."""
    found: list[Sample | Fault] = []
    sentences = []
    try:
        found += read(made, out, pictures)
    except LabelingError as error:
        sentences.append(str(error))
    samples, faults = split_up(found)
    sentences += faults
    assert not [text for text in sentences if "unexpected" in text or "Traceback" in text]
    return samples, sentences


@pytest.fixture
def copy(written: Written, tmp_path: Path) -> Path:
    shutil.copytree(written.out, tmp_path / "copy" / "out")
    shutil.copytree(written.pictures, tmp_path / "copy" / "pictures")
    return tmp_path / "copy" / "out"


def owners(written: Written) -> dict[str, PurePosixPath]:
    """The files that hold what is known of one image alone, without its picture, and the image."""
    return {
        path.as_posix(): name
        for name, encoded in written.encoded.items()
        for path, content in encoded.files
        if content != picture_bytes(written.pictures / name, "")
    }


@pytest.mark.parametrize("damage", [cut, garbled])
def test_a_damaged_file_of_an_image_costs_that_image_alone(
    written: Written, home, copy: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Only where a file is lines of text can a cut leave a sound one."""
    for file, name in owners(written).items():
        path = copy / file
        sound = path.read_bytes()
        path.write_bytes(damage(sound))
        samples, sentences = told_of(written.made, copy, copy.parent / "pictures")
        path.write_bytes(sound)
        may_be_sound = damage is cut and path.suffix in TEXT_SUFFIXES
        if not (may_be_sound and name in samples):
            assert name not in samples, file
            assert len(sentences) == 1, file
            assert str(path) in sentences[0]
        assert set(home[0]) - set(samples) <= {name}, file
        for other in set(samples) - {name}:
            assert not differences(home[0][other], samples[other]), (file, other)


@pytest.mark.parametrize("damage", [cut, garbled])
def test_a_damaged_file_that_images_share_is_told(
    written: Written, home, copy: Path, damage: Callable[[bytes], bytes]
) -> None:
    """A sentence names it, or everything is read as before because nothing relies on it. A list
    that was cut may be a sound and shorter one, whose last line leads nowhere.
    """
    pictures = {(written.pictures / name).read_bytes() for name in written.before}
    own = owners(written)
    shared = {file for file, data in written.files().items() if data not in pictures} - set(own)
    for file in shared:
        path = copy / file
        sound = path.read_bytes()
        path.write_bytes(damage(sound))
        samples, sentences = told_of(written.made, copy, copy.parent / "pictures")
        path.write_bytes(sound)
        may_be_sound = damage is cut and path.suffix in TEXT_SUFFIXES
        assert set(samples) <= set(home[0]), file
        named = copy if may_be_sound else path
        assert all(str(named) in text for text in sentences), sentences
        if not sentences and not may_be_sound:
            assert set(samples) == set(home[0]), file
            assert not any(differences(home[0][name], one) for name, one in samples.items()), file
