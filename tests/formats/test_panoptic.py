"""COCO panoptic: files as others write them, and what is wrong with some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from backend.core.classes import ClassNames
from backend.core.masks import full_frame
from backend.datasets.copying import Copies
from backend.files.pictures import Pictures
from backend.formats.base import ReadRequest, WriteRequest
from backend.formats.coco.panoptic import PanopticReader, segment_numbers
from backend.formats.coco.reader import CocoReader
from backend.formats.options import ReadOptions, WriteOptions
from backend.formats.registry import detect_format, format_of
from backend.formats.sample import Fault, Sample
from tests.support.hard_samples import samples_in

NUMBERS = np.array([[0, 0, 258], [70000, 70000, 258]])  # beyond one and two bytes
CATEGORIES = [
    {"id": 1, "name": "cat", "supercategory": "animal", "isthing": 1, "color": [1, 2, 3]},
    {"id": 92, "name": "sky", "supercategory": "sky", "isthing": 0, "color": [4, 5, 6]},
]


def put_png(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], -1)
    PIL.Image.fromarray(colours.astype(np.uint8)).save(path)


def segment(number: int, category: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "category_id": category, "area": 1, "bbox": [0, 0, 1, 1], **more}


def put_json(root: Path, segments: Sequence[Any], **more: Any) -> Path:
    """The file of a dataset with one image, its lists in the order of the COCO site's."""
    image = {"file_name": "a.jpg", "height": 2, "width": 3, "id": 7}
    annotation = {"segments_info": list(segments), "file_name": "a.png", "image_id": 7}
    path = root / "annotations/panoptic_val2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = {"images": [image], "annotations": [annotation], "categories": CATEGORIES, **more}
    path.write_text(json.dumps({"info": {}, "licenses": [], **lists}))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    put_png(tmp_path / "annotations/panoptic_val2017/a.png", NUMBERS)
    put_json(tmp_path, [segment(258, 1, iscrowd=0), segment(70000, 92, iscrowd=0)])
    return tmp_path


def request_of(source: Path, images: Path | None = None) -> ReadRequest:
    return ReadRequest(
        source=source,
        names=ClassNames(),
        pictures=Pictures([source if source.is_dir() else source.parent], images),
        options=ReadOptions(),
    )


def read(source: Path, images: Path | None = None) -> tuple[list[Sample | Fault], list[str]]:
    reader = PanopticReader(request_of(source, images))
    return list(reader.samples()), reader.remarks


def only(source: Path) -> Sample:
    (found,) = read(source)[0]
    assert isinstance(found, Sample), found
    return found


def fault(source: Path) -> str:
    (found,) = read(source)[0]
    assert isinstance(found, Fault)
    return found.sentence


def test_files_of_the_coco_site_are_read(dataset: Path) -> None:
    assert detect_format(dataset) == "coco-panoptic"
    assert detect_format(dataset / "annotations/panoptic_val2017.json") == "coco-panoptic"
    found, remarks = read(dataset)
    (sample,) = found
    assert isinstance(sample, Sample)
    assert sample.split == "val"
    assert [one.label for one in sample.instances] == ["cat", "sky"]
    for one, number in zip(sample.instances, (258, 70000), strict=True):
        assert np.array_equal(full_frame(one.mask, (2, 3)), number == NUMBERS)
    assert "1 of its categories are stuff" in remarks[0]


def test_colours_are_numbers_and_the_facts_are_those_of_what_is_seen(tmp_path: Path) -> None:
    """What is written reads by the definition of the format alone, overlaps and all."""
    pictures = tmp_path / "pictures"
    names = ClassNames()
    known = Pictures([pictures], pictures)
    writer = format_of("coco-panoptic").write(
        WriteRequest(
            out=tmp_path,
            names=names,
            pictures=known,
            copies=Copies("none", known),
            options=WriteOptions(),
        )
    )
    n_segments = 0
    for sample in samples_in(pictures):
        names.add([one.label for one in sample.instances])
        encoded = writer.encode(sample, sample.name.stem)
        path, data = encoded.files[0]
        assert isinstance(data, bytes)
        (tmp_path / "one.png").write_bytes(data)
        colours = np.array(PIL.Image.open(tmp_path / "one.png").convert("RGB")).astype(int)
        numbers = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        _, _, (name, segments) = encoded.row
        assert name == path.name
        assert {number for _, number, _ in segments} == set(np.unique(numbers)) - {0}
        for _, number, facts in segments:
            about = json.loads(facts)
            rows, columns = np.nonzero(numbers == number)
            x, y = int(columns.min()), int(rows.min())
            assert about["area"] == len(rows)
            assert about["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
            n_segments += 1
    writer.abort()
    assert n_segments > 20


def test_a_bad_segment_costs_itself(dataset: Path) -> None:
    bad = [segment(258, 1), segment(70000, 5), segment(9, 1), "x", {"category_id": 1}]
    bad.append(segment(258, 92))
    put_json(dataset, bad)
    sample = only(dataset)
    assert [one.label for one in sample.instances] == ["cat"]
    told = "\n".join(sample.faults)
    assert len(sample.faults) == 4
    assert "segments_info[1].category_id: 5 is none of the categories" in told
    assert "segments_info[3].id: expected a number from 1 to 16777215" in told
    assert "segments_info[4].id: expected" in told
    assert "segments_info[5].id: 258 is the id of another segment too" in told
    assert dict(sample.left_out) == {"segments that cover no pixel": 1}


def test_ids_may_be_floats_or_text_as_everywhere(dataset: Path) -> None:
    put_json(dataset, [{**segment(1, 1), "id": 258.0}, {**segment(1, 92), "id": "70000"}])
    assert [one.label for one in only(dataset).instances] == ["cat", "sky"]


def test_what_no_list_names_is_counted(dataset: Path) -> None:
    put_json(dataset, [segment(258, 1)])
    assert dict(only(dataset).left_out) == {"segments of the PNG that are not listed": 1}


def test_a_map_of_another_conversion_is_told(dataset: Path) -> None:
    """As if a run ended between its PNGs and its list; also for a picture in the place of a map."""
    put_json(dataset, [segment(128, 1), segment(32768, 92)])
    assert "shows none of the segments that" in fault(dataset)
    noise = np.random.default_rng(0).integers(1, 1 << 24, (2, 3))
    put_png(dataset / "annotations/panoptic_val2017/a.png", noise)
    assert "is it its map?" in fault(dataset)


def test_numbers_tell_label_and_pixels_and_nothing_else(tmp_path: Path) -> None:
    """So a PNG and a list that do not belong together never fit."""
    samples = list(samples_in(tmp_path))
    one = max(samples, key=lambda sample: len(sample.instances)).instances
    one = tuple(instance for instance in one if instance.parts)
    numbers = segment_numbers(one)
    assert len(set(numbers)) == len(numbers) > 2
    assert all(0 < number < 1 << 24 for number in numbers)
    others = segment_numbers([replace(instance, label="x y") for instance in one])
    assert not set(numbers) & set(others)
    assert segment_numbers(one[:1]) == numbers[:1]


def test_a_picture_is_never_a_map(dataset: Path) -> None:
    """Maps are called as pictures are, and lie where these are looked for."""
    put_json(dataset, [segment(258, 1)])
    document = (dataset / "annotations/panoptic_val2017.json").read_text().replace("a.jpg", "a.png")
    (dataset / "annotations/panoptic_val2017.json").write_text(document)
    assert only(dataset).picture is None
    photos = dataset / "photos"
    put_png(photos / "a.png", NUMBERS)
    for images in (photos, dataset):
        (found,) = read(dataset, images)[0]
        assert isinstance(found, Sample)
        assert found.picture == photos / "a.png"
    flat = dataset / "city_val.json"  # as Cityscapes has it
    flat.write_text(document)
    put_png(dataset / "city_val/a.png", NUMBERS)
    (found,) = read(flat, photos)[0]
    assert isinstance(found, Sample)
    assert found.picture == photos / "a.png"


def test_maps_may_lie_at_the_top(dataset: Path) -> None:
    (dataset / "annotations/panoptic_val2017").rename(dataset / "panoptic_val2017")
    assert [one.label for one in only(dataset).instances] == ["cat", "sky"]


def test_a_link_that_leads_outside_is_not_followed(
    dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    maps = dataset / "annotations/panoptic_val2017"
    maps.rename(elsewhere / "maps")
    maps.symlink_to(elsewhere / "maps")
    assert "is a link that leads outside of the folders given" in fault(dataset)


def test_modes_of_other_programs(dataset: Path) -> None:
    png = dataset / "annotations/panoptic_val2017/a.png"
    with PIL.Image.open(png) as picture:
        rgb = picture.convert("RGB")
    with_palette = rgb.convert("P", palette=PIL.Image.Palette.ADAPTIVE, colors=8)
    for one in (rgb.convert("RGBA"), with_palette):
        one.save(png)
        assert [one.label for one in only(dataset).instances] == ["cat", "sky"]
    PIL.Image.fromarray(np.zeros((2, 3), np.uint8)).save(png)
    put_json(dataset, [])
    assert only(dataset).instances == (), "an optimiser makes grey of nothing but black"


def test_an_empty_image_is_a_sample(dataset: Path) -> None:
    put_png(dataset / "annotations/panoptic_val2017/a.png", np.zeros((2, 3), int))
    put_json(dataset, [])
    assert only(dataset).instances == ()


def test_what_is_wrong_is_told(dataset: Path) -> None:
    path = put_json(dataset, [segment(258, 1)], annotations=[])
    assert "images[0]: has no annotations; expected one" in fault(dataset)
    twice = [{"image_id": 7, "file_name": "a.png", "segments_info": []}] * 2
    put_json(dataset, [], annotations=twice)
    assert "has 2 annotations" in fault(dataset)
    put_json(dataset, [], annotations=[{"image_id": 7, "file_name": "a.png"}])
    assert "annotations[0].segments_info: expected a list, got" in fault(dataset)
    put_json(dataset, [], annotations=[{"image_id": 7, "segments_info": []}])
    assert "annotations[0].file_name: expected a name, got" in fault(dataset)
    put_json(dataset, [segment(258, 1)])
    png = dataset / "annotations/panoptic_val2017/a.png"
    put_png(png, NUMBERS[:, :2])
    assert f"{png}: is 2x2, its picture 3x2" in fault(dataset)
    PIL.Image.fromarray(np.zeros((2, 3), np.uint16)).save(png)
    assert f"{png}: expected a PNG in colours, got mode I;16" in fault(dataset)
    png.unlink()
    assert f"{png}: no such file" in fault(dataset)
    png.parent.rmdir()
    path.with_suffix(".zip").write_bytes(b"")
    assert f"unpack {path.with_suffix('.zip')} first" in fault(dataset)


def test_instances_come_first_where_both_are(dataset: Path) -> None:
    """Every command reads such a folder, and a remark tells of the other kind."""
    instances = dataset / "annotations/instances_val2017.json"
    instances.write_text(
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}'
    )
    assert detect_format(dataset) == "coco"
    reader = CocoReader(request_of(dataset))
    assert "which --from coco-panoptic reads" in reader.remarks[0]


@pytest.mark.parametrize(
    ("name", "segments", "kind"),
    [
        ("ade20k_panoptic_val.json", True, "coco-panoptic"),
        ("panoptic_val.json", False, "coco"),
        ("things.json", False, "coco"),
    ],
)
def test_annotations_tell_the_kind_and_not_names_alone(
    tmp_path: Path, name: str, segments: bool, kind: str
) -> None:
    row = {"segments_info": []} if segments else {"bbox": [0, 0, 1, 1], "category_id": 1}
    lists = {"images": [], "annotations": [{"image_id": 1, **row}], "categories": CATEGORIES}
    (tmp_path / name).write_text(json.dumps(lists))
    assert detect_format(tmp_path / name) == kind


def test_the_wrong_reader_names_the_right_one(dataset: Path) -> None:
    reader = CocoReader(request_of(dataset / "annotations/panoptic_val2017.json"))
    (found,) = reader.samples()
    assert isinstance(found, Fault)
    assert "say --from coco-panoptic" in found.sentence


def test_lists_keep_their_maps_apart(tmp_path: Path) -> None:
    """Names may come again in another list, and in sub-folders."""
    for split, number in (("train", 258), ("val", 70000)):
        put_png(tmp_path / f"annotations/panoptic_{split}/sub/a.png", NUMBERS)
        path = put_json(tmp_path, [segment(number, 1)])
        document = path.read_text().replace('"a.', '"sub/a.')
        (tmp_path / f"annotations/panoptic_{split}.json").write_text(document)
        path.unlink()
    found = [one for one in read(tmp_path)[0] if isinstance(one, Sample)]
    assert [(one.split, str(one.name)) for one in found] == [
        ("train", "sub/a.jpg"),
        ("val", "sub/a.jpg"),
    ]
    areas = [int(one.instances[0].mask.crop.sum()) for one in found]
    assert areas == [2, 2]
