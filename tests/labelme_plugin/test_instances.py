"""labelme shapes as masks, as labelme itself draws them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from labelme.utils.shape import shape_to_mask

from backend.core.masks import full_frame
from backend.errors import InputError
from backend.formats.voc.class_names import read_class_names
from labelme_plugin.document import read_document
from labelme_plugin.instances import labelled_masks, shape_mask

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
    objects, others = labelled_masks(
        document(*parts, other, shape("line", [[0, 0], [9, 9]]), shape("point", [[1, 1]])), "a.json"
    )
    assert [(one.label, one.score) for one in objects] == [("car", None), ("dog", 0.25)]
    assert np.count_nonzero(objects[0].mask.crop) == 25 + 36
    assert others == 2


def test_scores_of_labelmes_own_tools_are_found() -> None:
    one = shape("rectangle", [[1, 1], [5, 5]], description='{"score": 0.91, "text": "car"}')
    assert labelled_masks(document(one), "a.json")[0][0].score == 0.91
    one["description"] = "a remark"
    assert labelled_masks(document(one), "a.json")[0][0].score is None


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
    ],
)
def test_bad_shapes_are_named(bad: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        labelled_masks(document(bad), "a.json")
    with pytest.raises(InputError, match="imageHeight: expected a number of pixels, got nothing"):
        labelled_masks({"shapes": [], "imageWidth": 3}, "a.json")


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


def test_an_image_that_is_far_too_large_is_refused_unseen() -> None:
    with pytest.raises(InputError, match="an image of 16000x16000 pixels is too large"):
        labelled_masks(
            {
                "shapes": [shape("polygon", [[1, 1], [9, 1], [9, 9]])],
                "imageHeight": 16000,
                "imageWidth": 16000,
            },
            "a.json",
        )
