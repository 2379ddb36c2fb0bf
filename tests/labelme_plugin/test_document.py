"""labelme files against labelme's own reader, and what a person made stays."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from labelme._label_file import LabelFile

from backend.core.masks import full_frame, mask_from_full, mask_xyxy
from backend.core.types import Instance, Mask, Prediction
from backend.errors import InputError
from labelme_plugin import document as files
from labelme_plugin import shapes
from labelme_plugin.instances import labelled_masks
from tests.conftest import random_mask
from tests.support.labelme_files import labelme_bytes, labelme_document

LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # labelme's reader does


def make(frames: list[np.ndarray], size_hw: tuple[int, int]) -> Prediction:
    masks = [mask_from_full(frame) for frame in frames]
    return Prediction(
        tuple(
            Instance(f"c{k}", k, 0.9, mask_xyxy(m), m, 0.8)
            for k, m in enumerate(masks)
            if m is not None
        ),
        size_hw,
        "v1",
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    PIL.Image.new("RGB", (90, 70), (9, 9, 9)).save(tmp_path / "図 a.jpg")
    return tmp_path / "図 a.jpg"


def labelme_masks(path: Path, size_hw: tuple[int, int]) -> dict[str, np.ndarray]:
    """Every mask of a file as labelme places it, by label."""
    found = {}
    for shape in LabelFile(str(path)).shapes:
        (x1, y1), (x2, y2) = np.array(shape["points"]).astype(int)
        frame = np.zeros(size_hw, bool)
        frame[y1 : y2 + 1, x1 : x2 + 1] = shape["mask"]
        found[shape["label"]] = frame
    return found


@LEAVES_FILES_OPEN
def test_labelme_loads_every_mask_bit_exact(picture: Path, rng: np.random.Generator) -> None:
    frames = [random_mask(rng, 70, 90, kind) for kind in (0, 2, 4, 4, 5, 5)]
    edge = np.zeros((70, 90), bool)
    edge[60:, 85:] = True
    frames.append(edge)
    path = picture.with_suffix(".json")
    path.write_bytes(labelme_bytes(make(frames, (70, 90)), picture.name))
    found = labelme_masks(path, (70, 90))
    assert len(found) == len(frames)
    for k, frame in enumerate(frames):
        assert np.array_equal(found[f"c{k}"], frame)


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 30), st.integers(1, 30))))
def test_png_round_trip_and_pillow_agrees(crop: np.ndarray) -> None:
    data = shapes.encode_mask_png(crop)
    assert np.array_equal(shapes.decode_mask_png(data), crop)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        picture.verify()
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.array(picture), crop * 255)


def test_document_by_hand() -> None:
    instance = Instance(
        "cat",
        0,
        0.91234,
        np.zeros(4, np.float32),
        Mask(3, 5, np.array([[1, 0], [1, 1], [0, 1]], bool)),
        0.8,
    )
    document = labelme_document(Prediction((instance,), (20, 30), "v1"))
    assert (document["version"], document["imageData"], document["imagePath"]) == (
        "5.5.0",
        None,
        "a.jpg",
    )
    assert (document["imageHeight"], document["imageWidth"]) == (20, 30)
    (shape,) = document["shapes"]
    assert shape["points"] == [[3, 5], [4, 7]]  # inclusive
    assert (shape["shape_type"], shape["flags"], shape["group_id"]) == ("mask", {}, None)
    assert np.array(PIL.Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).tolist() == [
        [255, 0],
        [255, 255],
        [0, 255],
    ]


def test_large_shapes_come_first_and_single_pixels_are_kept() -> None:
    sides = (1, 3, 9, 5)
    instances = tuple(
        Instance(str(s), 0, 0.5, np.zeros(4, np.float32), Mask(0, 0, np.ones((s, s), bool)))
        for s in sides
    )
    document = labelme_document(Prediction(instances, (20, 20), "v1"))
    assert [shape["label"] for shape in document["shapes"]] == ["9", "5", "3", "1"]
    # labelme 5.5 loses the second corner of a single pixel, so that it gets a neighbour.
    single = document["shapes"][-1]
    assert single["points"] == [[0, 0], [1, 0]]
    assert shapes.mask_of(single).crop.tolist() == [[True, False]]


def test_image_paths_have_forward_slashes() -> None:
    assert files.make_document([], "sub\\a.jpg", (20, 30))["imagePath"] == "sub/a.jpg"


@LEAVES_FILES_OPEN
def test_boxes_become_rectangles(picture: Path) -> None:
    one = Prediction(
        (Instance("cat", 0, 0.5, np.array([1, 2, 30, 40], np.float32)),), (70, 90), "v1"
    )
    path = picture.with_suffix(".json")
    path.write_bytes(labelme_bytes(one, picture.name))
    (shape,) = LabelFile(str(path)).shapes
    assert (shape["shape_type"], np.array(shape["points"]).tolist()) == (
        "rectangle",
        [[1, 2], [30, 40]],
    )


@pytest.mark.parametrize(
    "mask", [Mask(0, 0, np.zeros((3, 3), bool)), Mask(80, 0, np.ones((3, 30), bool))]
)
def test_masks_that_labelme_chokes_on_are_never_written(mask: Mask) -> None:
    with pytest.raises(InputError, match="mask"):
        labelme_document(
            Prediction((Instance("c", 0, 0.5, np.zeros(4, np.float32), mask),), (70, 90), "v1")
        )


def test_our_files_are_known_until_someone_changes_them(
    picture: Path, rng: np.random.Generator
) -> None:
    path = picture.with_suffix(".json")
    path.write_bytes(labelme_bytes(make([random_mask(rng, 70, 90, 4)], (70, 90)), picture.name))
    assert files.unchanged_version_of(path) == "v1"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document, indent=2))  # saved again by a program, unchanged
    assert files.unchanged_version_of(path) == "v1"
    for key, value in (
        ("flags", {"reject": True}),
        ("note", "mine"),
        ("shapes", [{**document["shapes"][0], "label": "dog"}]),
    ):
        path.write_text(json.dumps({**document, key: value}))
        assert files.unchanged_version_of(path) is None, key
    described = [{**document["shapes"][0], "description": "cut off"}]
    path.write_text(json.dumps({**document, "shapes": described}))
    assert files.unchanged_version_of(path) is None
    path.write_text("{}")
    assert files.unchanged_version_of(path) is None


def good_shape() -> dict[str, object]:
    return shapes.mask_shape("cat", Mask(3, 5, np.ones((4, 6), bool)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"points": [[3, 5], [9, 9]]},
            r"shapes\[0\].points: the inclusive box is 7x5, its mask 6x4",
        ),
        ({"mask": "%%%"}, "mask"),
        ({"mask": None}, "mask"),
        ({"points": [[1, 2]]}, "two points"),
        ({"points": [[None, 0], [1, 1]]}, "two points"),
        ({"points": [[1e999, 0], [1, 1]]}, "two points"),
        ({"label": 5}, r"shapes\[0\].label"),
        ({"mask": base64.b64encode(b"no png").decode()}, "cannot decode"),
    ],
)
def test_faults_are_named_by_path(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": [{**good_shape(), **change}]}))
    (told,) = labelled_masks(files.read_document(path), (70, 90), str(path)).faults
    assert re.search(words, told)
    assert str(path) in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a labelme file"),
        ('{"shapes": 5}', "not a labelme file"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        files.read_document(path)


def test_coloured_masks_are_refused() -> None:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(stream, "PNG")
    with pytest.raises(InputError, match="must decode to a 2D image"):
        shapes.decode_mask_png(stream.getvalue())


def test_masks_are_read_back() -> None:
    mask = shapes.mask_of(good_shape())
    assert np.array_equal(
        full_frame(mask, (20, 20)), full_frame(Mask(3, 5, np.ones((4, 6), bool)), (20, 20))
    )
