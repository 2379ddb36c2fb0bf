"""labelme shapes as masks, as labelme itself draws them."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from labelme.utils.shape import shape_to_mask

from backend.core.masks import full_frame
from backend.errors import InputError
from backend.formats.sample import NO_AREA
from backend.formats.voc.class_names import read_class_names
from labelme_plugin.document import read_document
from labelme_plugin.instances import declared_size_of, labelled_masks, shape_mask, size_of

SIZE = (70, 90)


def shape(kind: str, points: list, label: str = "car", **more: object) -> dict:
    return {
        "label": label,
        "points": points,
        "shape_type": kind,
        "group_id": None,
        "flags": {},
        **more,
    }


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("polygon", [[3.2, 4.7], [60.1, 10.9], [40.5, 66.3], [12, 50]]),
        ("polygon", [[-5, 4], [120, 10], [40, 90]]),
        ("rectangle", [[10.4, 50.6], [40.2, 8.1]]),
        ("circle", [[40, 30], [50.5, 33]]),
    ],
)
def test_shapes_equal_labelmes_own(kind: str, points: list) -> None:
    mask = shape_mask(shape(kind, points), SIZE, "x")
    assert np.array_equal(full_frame(mask, SIZE), shape_to_mask(SIZE, points, kind))


def document(*shapes: dict) -> dict:
    return {
        "shapes": list(shapes),
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "imagePath": "a.jpg",
    }


def test_parts_with_a_common_group_are_one_object() -> None:
    parts = [
        shape("rectangle", [[1, 1], [5, 5]], group_id=3),
        shape("rectangle", [[20, 20], [25, 25]], group_id=3),
    ]
    other = shape("rectangle", [[40, 40], [45, 45]], "dog", group_id=3, score=0.25)
    shapes = [*parts, other, shape("line", [[0, 0], [9, 9]]), shape("point", [[1, 1]])]
    found = labelled_masks(document(*shapes), SIZE, "a.json")
    assert [(one.label, one.score) for one in found.objects] == [("car", None), ("dog", 0.25)]
    assert np.count_nonzero(found.objects[0].mask.crop) == 25 + 36
    assert (found.left_out, found.faults) == ({NO_AREA: 2}, ())


def test_scores_of_labelmes_own_tools_are_found() -> None:
    one = shape("rectangle", [[1, 1], [5, 5]], description='{"score": 0.91, "text": "car"}')
    assert labelled_masks(document(one), SIZE, "a.json").objects[0].score == 0.91
    one["description"] = "a remark"
    assert labelled_masks(document(one), SIZE, "a.json").objects[0].score is None


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (shape("polygon", [[1, 2], [3, 4]]), r"a.json: shapes\[0\].points: expected at least 3"),
        (
            shape("polygon", [[1, 2], [3, 4], [5, "6"]]),
            r"shapes\[0\].points: expected pairs of numbers",
        ),
        (shape("circle", [[1, 2]]), r"expected at least 2"),
        (shape("mask", [[1, 2], [3, 4]], mask="!!"), r"shapes\[0\]"),
        ("no shape", r"shapes\[0\]: expected an object, got text"),
        ({"points": [[1, 2]]}, r"shapes\[0\].label: expected a text, got nothing"),
        (shape("polygon", [[1, 2], [3, 4], [5, 6]], " "), r"shapes\[0\].label: is empty"),
        (shape("polygon", []), r"expected at least 3"),
        (shape("polygon", None), r"expected at least 3"),
    ],
)
def test_bad_shapes_are_named_and_cost_only_themselves(bad: object, sentence: str) -> None:
    good = shape("rectangle", [[1, 1], [5, 5]], "dog")
    found = labelled_masks(document(bad, good), SIZE, "a.json")
    assert [one.label for one in found.objects] == ["dog"]
    (told,) = found.faults
    assert re.search(sentence, told)


def test_sizes_that_a_file_tells() -> None:
    assert declared_size_of({"imageHeight": "70", "imageWidth": 90.0}) == SIZE
    for bad in (None, 0, -1, "x", True, 1.5, float("nan")):
        assert declared_size_of({"imageHeight": bad, "imageWidth": 90}) is None
    with pytest.raises(InputError, match="imageHeight: expected a number of pixels above 0"):
        size_of({"shapes": [], "imageWidth": 3}, "a.json")


@pytest.mark.parametrize("kind", ["rotation", "quadrilateral"])
def test_shapes_of_x_anylabeling_are_their_corners(kind: str) -> None:
    """A turned rectangle by hand, drawn by Pillow as ``oriented_rectangle`` is."""
    corners = [(10.5, 12.0), (30.0, 4.5), (36.0, 20.0), (16.5, 27.5)]
    picture = PIL.Image.new("L", SIZE[::-1])
    PIL.ImageDraw.Draw(picture).polygon(corners, outline=1, fill=1)
    one = shape(kind, [list(corner) for corner in corners])
    mask = labelled_masks(document(one), SIZE, "a.json").objects[0].mask
    assert np.array_equal(full_frame(mask, SIZE), np.array(picture, bool))


def test_a_cuboid_is_the_outline_of_its_corners() -> None:
    front = [[10, 10], [30, 10], [30, 30], [10, 30]]
    back = [[x + 10, y - 5] for x, y in front]
    found = labelled_masks(document(shape("cuboid", [*front, *back])), SIZE, "a.json")
    outline = [(10, 10), (20, 5), (40, 5), (40, 25), (30, 30), (10, 30)]
    picture = PIL.Image.new("L", SIZE[::-1])
    PIL.ImageDraw.Draw(picture).polygon(outline, outline=1, fill=1)
    assert np.array_equal(full_frame(found.objects[0].mask, SIZE), np.array(picture, bool))
    assert found.left_out == {"cuboids, read as the outline of all their corners": 1}


def test_unknown_shapes_are_counted_under_their_own_name() -> None:
    found = labelled_masks(document(shape("spline", [[0, 0], [9, 9]])), SIZE, "a.json")
    assert found.left_out == {"shapes of type 'spline', which is unknown": 1}


def test_the_photographs_of_labelme_become_the_maps_that_labelme2voc_made(
    shared_data: Path,
) -> None:
    folder = shared_data / "labelme-voc"
    names = list(read_class_names(folder / "labels.txt"))
    for path in sorted(folder.glob("*.json")):
        read = read_document(path)
        size_hw = (read["imageHeight"], read["imageWidth"])
        expected = np.array(
            PIL.Image.open(folder / "reference" / "SegmentationClass" / f"{path.stem}.png")
        )
        painted = np.zeros(size_hw, np.uint8)
        for k, one in enumerate(json.loads(path.read_text())["shapes"]):
            value = 255 if one["label"] == "__ignore__" else names.index(one["label"]) + 1
            assert np.array_equal(
                full_frame(shape_mask(one, size_hw, "x"), size_hw),
                shape_to_mask(size_hw, one["points"], one["shape_type"]),
            )
            painted[full_frame(shape_mask(one, size_hw, f"{path}: shapes[{k}]"), size_hw)] = value
        # One pixel of 2011_000006 differs, as it does when labelme 6.3 with today's Pillow draws
        # the same polygon.
        assert np.count_nonzero(painted != expected) <= (path.stem == "2011_000006")


def test_a_small_shape_in_a_huge_image_takes_little_memory() -> None:
    ring = shape("polygon", [[1, 1], [9, 1], [9, 9]])
    tracemalloc.start()
    found = labelled_masks(document(ring), (16_000, 16_000), "a.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.count_nonzero(found.objects[0].mask.crop) == 45
    assert peak < 1 << 20
