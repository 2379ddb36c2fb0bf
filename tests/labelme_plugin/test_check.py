"""The checker of labelme files: every fault it knows, made on purpose, and what labelme itself says
to them.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from labelme._label_file import LabelFile, LabelFileReadError
from labelme.utils.shape import shapes_to_label

from backend.files.pictures import Pictures
from labelme_plugin.check import check_file
from tests.support.dataset_scenes import shape, write_picture, write_scenes

Document = dict[str, Any]


def png(array: np.ndarray, kind: str = "PNG") -> str:
    stream = io.BytesIO()
    PIL.Image.fromarray(array).save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


def good() -> Document:
    frame = np.zeros((40, 50), bool)
    frame[5:20, 10:30] = True
    polygon = {
        "label": "cat",
        "points": [[1, 1], [9, 1], [9, 9]],
        "shape_type": "polygon",
        "group_id": None,
        "flags": {},
        "description": "",
    }
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [polygon, shape("dog", frame)],
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 40,
        "imageWidth": 50,
    }


def change(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document.update(changes)


def drop(key: str) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        del document[key]

    return apply


def mask(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document["shapes"][1].update(changes)


def polygon(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document["shapes"][0].update(changes)


def no_key(index: int, key: str) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        del document["shapes"][index][key]

    return apply


GREY = (np.arange(300) % 200).astype(np.uint8).reshape(15, 20)
ONES = np.ones((15, 20), np.uint8)
# What is changed, where the fault is, what is said, and what labelme 6.3 does: "refuses", "opens
# and then its exports stop", or "opens".
FAULTS: dict[str, tuple[Callable[[Document], None], str, str, str]] = {
    "exclusive box": (
        mask(points=[[10, 5], [30, 20]]),
        "shapes[1].points",
        "the box is exclusive",
        "stops",
    ),
    "whole image": (
        mask(mask=png(np.ones((40, 50), np.uint8))),
        "shapes[1].points",
        "the mask is as large as the image",
        "stops",
    ),
    "swapped corners": (
        mask(points=[[29, 19], [10, 5]]),
        "shapes[1].points",
        "the corners are swapped",
        "stops",
    ),
    "other size": (
        mask(points=[[10, 5], [25, 19]]),
        "shapes[1].points",
        "the inclusive box is 16x15, its mask 20x15",
        "stops",
    ),
    "beyond the image": (
        mask(points=[[40, 5], [59, 19]]),
        "shapes[1].points",
        "reaches beyond the image of 50x40",
        "stops",
    ),
    "fractions": (
        mask(points=[[10.5, 5], [29.5, 19]]),
        "shapes[1].points",
        "fractions of pixels",
        "opens",
    ),
    "four points": (
        mask(points=[[10, 5], [29, 5], [29, 19], [10, 19]]),
        "shapes[1].points",
        "a mask has 2 points, this one 4",
        "stops",
    ),
    "one pixel": (
        mask(points=[[10, 5], [10, 5]], mask=png(np.ones((1, 1), np.uint8))),
        "shapes[1].points",
        "single pixel",
        "opens",
    ),
    "no mask": (
        mask(mask=None),
        "shapes[1].mask",
        "expected a PNG in base64, got nothing",
        "stops",
    ),
    "empty text": (mask(mask=""), "shapes[1].mask", "got an empty text", "refuses"),
    "data URL": (
        mask(mask="data:image/png;base64," + png(ONES)),
        "shapes[1].mask",
        "begins with data:",
        "refuses",
    ),
    "blank label": (polygon(label=" cat"), "shapes[0].label", "has blanks around it", "opens"),
    "huge number": (
        polygon(points=[[10**400, 1], [2, 2], [3, 3]]),
        "shapes[0].points",
        "pairs of finite numbers",
        "stops",
    ),
    "list for type": (polygon(shape_type=[]), "shapes[0].shape_type", "is none of", "refuses"),
    "no shapes": (drop("shapes"), "shapes", "every labelme refuses", "refuses"),
    "no base64": (mask(mask="!"), "shapes[1].mask", "", "refuses"),
    "no PNG": (
        mask(mask=base64.b64encode(b"hello").decode()),
        "shapes[1].mask",
        "is no PNG",
        "refuses",
    ),
    "JPEG": (mask(mask=png(ONES * 255, "JPEG")), "shapes[1].mask", "is a JPEG", "opens"),
    "colours": (
        mask(mask=png(np.ones((15, 20, 3), np.uint8))),
        "shapes[1].mask",
        "has 3 channels",
        "stops",
    ),
    "all zero": (mask(mask=png(ONES * 0)), "shapes[1].mask", "no foreground pixel", "opens"),
    "soft edges": (mask(mask=png(GREY)), "shapes[1].mask", "grey levels", "opens"),
    "null flags": (
        mask(flags=None),
        "shapes[1].flags",
        "on which the window of labelme 5.5 crashes",
        "opens",
    ),
    "flags of numbers": (
        mask(flags={"a": 1}),
        "shapes[1].flags",
        "names with true or false",
        "refuses",
    ),
    "group of text": (
        polygon(group_id="3"),
        "shapes[0].group_id",
        "whole number or null",
        "refuses",
    ),
    "description": (
        polygon(description=5),
        "shapes[0].description",
        "expected a text or null",
        "refuses",
    ),
    "no type": (no_key(0, "shape_type"), "shapes[0].shape_type", "is missing", "refuses"),
    "strange type": (
        polygon(shape_type="star"),
        "shapes[0].shape_type",
        "'star' is none of",
        "stops",
    ),
    "label": (polygon(label=None), "shapes[0].label", "expected a text", "refuses"),
    "empty label": (polygon(label=" "), "shapes[0].label", "is empty", "opens"),
    "two corners": (
        polygon(points=[[1, 1], [2, 2]]),
        "shapes[0].points",
        "a polygon has at least 3 points, this one 2",
        "stops",
    ),
    "no points": (polygon(points=[]), "shapes[0].points", "an empty list", "refuses"),
    "text for points": (
        polygon(points=[["1", 1], [2, 2], [3, 3]]),
        "shapes[0].points",
        "pairs of finite numbers",
        "refuses",
    ),
    "far points": (
        polygon(points=[[1, 1], [900, 2], [3, 3]]),
        "shapes[0].points",
        "lies outside of the image",
        "opens",
    ),
    "mask of a polygon": (
        polygon(mask=png(ONES)),
        "shapes[0].mask",
        "a polygon has no mask",
        "opens",
    ),
    "no object": (
        lambda document: document["shapes"].append(5),
        "shapes[2]",
        "expected an object",
        "refuses",
    ),
    "no imageData": (drop("imageData"), "imageData", "every labelme refuses", "refuses"),
    "no imagePath": (drop("imagePath"), "imagePath", "every labelme refuses", "refuses"),
    "no picture": (change(imagePath="b.jpg"), "imagePath", "there is no such picture", "refuses"),
    "picture elsewhere": (
        change(imagePath="../a.jpg"),
        "imagePath",
        "lies outside of the folders given",
        "refuses",
    ),
    "wrong size": (
        change(imageWidth=51),
        "imageHeight",
        "is 51x40 by the file, but the picture is 50x40",
        "refuses",
    ),
    "size of text": (
        change(imageHeight="40"),
        "imageHeight",
        "expected a number of pixels",
        "refuses",
    ),
    "no size": (drop("imageHeight"), "imageHeight", "is missing", "opens"),
    "bad imageData": (change(imageData="!!!"), "imageData", "", "refuses"),
    "image flags": (change(flags={"a": "yes"}), "flags", "names with true or false", "opens"),
    "backslashes": (change(imagePath="sub\\a.jpg"), "imagePath", "backslashes", "opens"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_picture(tmp_path / "f/a.jpg", 40, 50)
    write_picture(tmp_path / "f/sub/a.jpg", 40, 50)
    return tmp_path / "f"


def labelme_does(path: Path) -> str:
    try:
        opened = LabelFile(str(path))
    except LabelFileReadError:
        return "refuses"
    try:
        shapes_to_label((40, 50), opened.shapes, {one["label"]: 1 for one in opened.shapes})
    except Exception:
        return "stops"
    return "opens"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # labelme's reader leaves files open
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_named_where_it_is(folder: Path, name: str) -> None:
    apply, field, sentence, labelme = FAULTS[name]
    document = copy.deepcopy(good())
    apply(document)
    path = folder / "a.json"
    path.write_text(json.dumps(document))
    problems = check_file(path, Pictures([folder], None))
    assert [one.field for one in problems] == [field], problems
    assert sentence in problems[0].sentence
    assert labelme_does(path) == labelme


def test_good_files_have_no_faults(
    run_cli, folder: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    (folder / "a.json").write_text(json.dumps(good()))
    code, text, _ = run_cli("convert", "--check", folder)
    assert (code, text) == (0, "checked 1 file: none with faults\n")
    write_scenes(tmp_path / "scenes", rng)
    for shapes in ("mask", "polygon"):
        run_cli(
            "convert",
            tmp_path / "scenes",
            tmp_path / shapes,
            "--to",
            "labelme",
            "--shape",
            shapes,
            "--no-progress",
        )
        code, text, _ = run_cli(
            "convert",
            "--check",
            tmp_path / shapes,
            "--images",
            tmp_path / "scenes",
            "--no-progress",
        )
        assert (code, text) == (0, "checked 5 files: none with faults\n")


def test_labels_that_labelme2voc_stops_at(run_cli, folder: Path) -> None:
    (folder / "labels.txt").write_text("__ignore__\n_background_\ncat\n")
    (folder / "a.json").write_text(json.dumps(good()))
    code, text, _ = run_cli("convert", "--check", folder, "--no-progress")
    assert code == 1
    assert "a.json: shapes[1].label: 'dog' is not in labels.txt" in text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "is not valid JSON"),
        (b"[]", "is no labelme file, and was not checked"),
        (b"\xff\xfe", "is in UTF-16, and labelme reads nothing else than UTF-8"),
        (b"[" * 99999, "is not"),
    ],
)
def test_what_is_no_labelme_file(run_cli, folder: Path, data: bytes, sentence: str) -> None:
    (folder / "a.json").write_bytes(data)
    (folder / "b.json").write_text(json.dumps(good()))
    code, text, _ = run_cli("convert", "--check", folder, "--no-progress", "--json")
    found = json.loads(text)
    assert (code, found["files"], found["faulty"]) == ((0, 2, 0) if data == b"[]" else (1, 2, 1))
    assert sentence in found["problems"][0]["sentence"]


def test_a_byte_order_mark_is_read_here_and_nowhere_else(run_cli, folder: Path) -> None:
    (folder / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(good()).encode())
    assert (
        "begins with a byte order mark, which no labelme can read"
        in run_cli("convert", "--check", folder, "--no-progress")[1]
    )
    with pytest.raises(LabelFileReadError):
        LabelFile(str(folder / "a.json"))


def test_a_turned_picture_is_explained(run_cli, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", 50, 40, 6)
    (tmp_path / "a.json").write_text(json.dumps(good()))
    assert (
        "EXIF turns the picture, and labelme shows it turned"
        in run_cli("convert", "--check", tmp_path, "--no-progress")[1]
    )


COUNTS = {
    "circle": (2, 2),
    "line": (2, 2),
    "point": (1, 1),
    "linestrip": (2, None),
    "oriented_rectangle": (4, 4),
    "rectangle": (2, 2),
}


@pytest.mark.parametrize("kind", COUNTS)
def test_every_type_has_its_number_of_points(folder: Path, kind: str) -> None:
    least, most = COUNTS[kind]
    for count in (least - 1, least, (most or 7) + 1):
        document = good()
        document["shapes"] = [
            {"label": "x", "points": [[k, k] for k in range(count)], "shape_type": kind}
        ]
        (folder / "a.json").write_text(json.dumps(document))
        problems = check_file(folder / "a.json", Pictures([folder], None))
        assert bool(problems) == (count < least or (most is not None and count > most)), (
            kind,
            count,
        )


@pytest.mark.parametrize(
    "points", [[[-1, 5], [18, 19]], [[10, -1], [29, 13]], [[31, 5], [50, 19]], [[10, 26], [29, 40]]]
)
def test_boxes_that_leave_the_image_by_one(folder: Path, points: list) -> None:
    document = good()
    document["shapes"][1]["points"] = points
    (folder / "a.json").write_text(json.dumps(document))
    (problem,) = check_file(folder / "a.json", Pictures([folder], None))
    assert "reaches beyond the image" in problem.sentence


def test_more_that_is_wrong(folder: Path, tmp_path: Path, run_cli) -> None:
    for change, field, part in (
        (mask(points=[[10, 19], [29, 5]]), "shapes[1].points", "the corners are swapped"),
        (mask(points=[[10, 5], [30, 18]]), "shapes[1].points", "the inclusive box is 21x14"),
        (
            mask(mask=png(np.array([[0, 1, 2]] * 5 * 3, np.uint8)[:, [0, 1, 2] * 6 + [0, 1]])),
            "shapes[1].mask",
            "has 3 grey levels",
        ),
        (
            polygon(points=[[True, 1], [2, 2], [3, 3]]),
            "shapes[0].points",
            "pairs of finite numbers",
        ),
        (
            polygon(points=[[1, 1], [2, 90], [3, 3]]),
            "shapes[0].points",
            "lies outside of the image",
        ),
        (
            polygon(points=[[-9, 1], [2, 2], [3, 3]]),
            "shapes[0].points",
            "lies outside of the image",
        ),
        (polygon(group_id=True), "shapes[0].group_id", "whole number or null"),
        (change_of(imageHeight=0), "imageHeight", "expected a number of pixels, got 0"),
        (change_of(imagePath="a\0.jpg"), "imagePath", "there is no such picture"),
        (change_of(imageData=""), "imageData", ""),
        (change_of(shapes={}), "shapes", "expected a list"),
    ):
        document = good()
        change(document)
        (folder / "a.json").write_text(json.dumps(document))
        problems = check_file(folder / "a.json", Pictures([folder], None))
        assert [(one.field, part in one.sentence) for one in problems] == [(field, True)], problems
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "a.json").write_text(json.dumps({**good(), "imagePath": "b.jpg", "flags": {"a": 1}}))
    code, text, _ = run_cli("convert", "--check", folder / "a.json", "--no-progress")
    assert (code, text.splitlines()[-2]) == (1, "checked 1 file: 1 with faults")
    assert text.endswith("as every labelme opens it\n")
    (tmp_path / "nothing").mkdir()
    for name in ("nothing", "nosuch"):
        assert run_cli("convert", "--check", tmp_path / name)[0] == 2
    with (folder / "huge.json").open("wb") as stream:
        stream.truncate(200 << 20)
    assert "200 MiB, the limit is 128" in run_cli("convert", "--check", folder, "--no-progress")[1]


change_of = change
REMARKS = {"fractions", "null flags", "far points", "picture elsewhere", "no size", "backslashes"}


def test_remarks_are_no_faults(run_cli, folder: Path) -> None:
    for name in REMARKS:
        document = copy.deepcopy(good())
        FAULTS[name][0](document)
        (folder / "a.json").write_text(json.dumps(document))
        code, text, _ = run_cli("convert", "--check", folder, "--no-progress")
        assert (code, ": remark: " in text, "none with faults; 1 remarks" in text) == (
            0,
            True,
            True,
        ), name


def test_odd_files_cost_only_themselves(run_cli, folder: Path) -> None:
    (folder / "good.json").write_text(json.dumps(good()))
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "half.json").write_text(json.dumps({**good(), "imagePath": "\ud800.jpg"}))
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "picture.json").write_text(json.dumps({**good(), "imagePath": "loop.jpg"}))
    os.mkfifo(folder / "pipe.json")
    code, text, _ = run_cli("convert", "--check", folder, "--no-progress")
    assert code == 1
    assert "pipe.json: is no regular file" in text
    assert "1 links that lead out" in text
    assert "good.json" not in text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mode", ["CMYK", "I;16", "L", "1", "RGB"])
def test_pictures_that_labelme_cannot_show(folder: Path, mode: str) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    (
        PIL.Image.new("RGB", (50, 40)).convert(mode)
        if mode != "I;16"
        else PIL.Image.fromarray(np.zeros((40, 50), np.uint16))
    ).save(folder / name)
    (folder / "a.json").write_text(json.dumps({**good(), "imagePath": name}))
    problems = check_file(folder / "a.json", Pictures([folder], None))
    assert bool(problems) == (labelme_does(folder / "a.json") == "refuses")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("upright", [True, False])
def test_the_exif_of_embedded_pictures_is_not_looked_at(
    folder: Path, tmp_path: Path, upright: bool
) -> None:
    write_picture(tmp_path / "t.jpg", 50, 40, 6)  # stored as 40 x 50
    size = (
        {"imageHeight": 50, "imageWidth": 40} if upright else {"imageHeight": 40, "imageWidth": 50}
    )
    document = {
        **good(),
        "imageData": base64.b64encode((tmp_path / "t.jpg").read_bytes()).decode(),
        "shapes": [],
        **size,
    }
    (folder / "a.json").write_text(json.dumps(document))
    assert bool(check_file(folder / "a.json", Pictures([folder], None))) == upright
    assert labelme_does(folder / "a.json") == ("refuses" if upright else "opens")


def test_what_is_alike_is_told_once(run_cli, folder: Path) -> None:
    document = {**good(), "imagePath": "lost.jpg"}
    for name in "abcdef":
        (folder / f"{name}.json").write_text(json.dumps(document))
    code, text, _ = run_cli("convert", "--check", folder, "--no-progress")
    assert code == 1
    (line,) = [line for line in text.splitlines() if "no such picture" in line]
    assert line.startswith("6 times in 6 files: imagePath: 'lost.jpg'")
    assert all(str(folder / f"{name}.json") in line for name in "abc")
