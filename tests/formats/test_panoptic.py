"""COCO panoptic: files as others write them, and what is wrong with some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from backend.core.classes import ClassNames
from backend.core.masks import full_frame
from backend.datasets.copying import Copies
from backend.errors import ConfigError
from backend.files.pictures import Pictures
from backend.formats.base import ReadRequest, WriteRequest
from backend.formats.coco.panoptic import PanopticReader
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


def read(source: Path) -> tuple[list[Sample | Fault], list[str]]:
    request = ReadRequest(
        source=source,
        names=ClassNames(),
        pictures=Pictures([source], None),
        options=ReadOptions(),
    )
    reader = PanopticReader(request)
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
    put_json(dataset, bad)
    sample = only(dataset)
    assert [one.label for one in sample.instances] == ["cat"]
    assert len(sample.faults) == 3
    assert "segments_info[1].category_id: 5 is none of the categories" in sample.faults[0]
    assert "segments_info[3].id: expected a number, got" in sample.faults[1]
    assert dict(sample.left_out) == {
        "segments that cover no pixel": 1,
        "segments of the PNG that are not listed": 1,
    }


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
    PIL.Image.fromarray(np.zeros((2, 3), np.uint8)).save(png)
    assert f"{png}: expected a PNG in colours, got mode L" in fault(dataset)
    png.unlink()
    assert f"{png}: no such file" in fault(dataset)
    png.parent.rmdir()
    path.with_suffix(".zip").write_bytes(b"")
    assert f"unpack {path.with_suffix('.zip')} first" in fault(dataset)


def test_a_folder_with_both_kinds_of_coco_asks_which(dataset: Path) -> None:
    (dataset / "annotations/instances_val2017.json").write_text('{"annotations": []}')
    with pytest.raises(ConfigError, match="holds coco, coco-panoptic; say with --from"):
        detect_format(dataset)
