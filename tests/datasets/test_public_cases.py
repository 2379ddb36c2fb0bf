"""Small inputs as people and other programs make them, each with what must come out of it.

Every test is named after the kind of mistake it keeps away. Right values are computed by Pillow,
pycocotools, or by hand.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import yaml
from pycocotools import mask as coco_mask

from backend.core.masks import full_frame
from backend.datasets.convert import ConvertOptions, convert
from backend.datasets.report import ConvertSummary
from backend.errors import ConfigError
from backend.formats.coco.segmentation import decode_segmentation

SIZE = (48, 64)
RING = [8, 6, 32, 6, 32, 24, 8, 24]
BOX = np.zeros(SIZE, bool)
BOX[6:24, 8:32] = True


def photo(path: Path, size_hw: tuple[int, int] = SIZE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    pixels = np.stack([x * 3, y * 4, x + y], -1).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def run(source: Path, out: Path, target: str = "coco", **options: Any) -> ConvertSummary:
    return convert(source, out, target, ConvertOptions(progress=False, **options))


def found(out: Path) -> list[tuple[str, np.ndarray]]:
    """Label and pixels of everything in a COCO dataset, in order."""
    (file,) = (out / "annotations").glob("instances_*.json")
    document = json.loads(file.read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    sizes = {one["id"]: (one["height"], one["width"]) for one in document["images"]}
    made = []
    for one in document["annotations"]:
        size_hw = sizes[one["image_id"]]
        mask = decode_segmentation(one["segmentation"], size_hw)
        made.append((names[one["category_id"]], full_frame(mask, size_hw)))
    return made


def shape(kind: str, points: list, label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def labelme(path: Path, *shapes: dict, **more: Any) -> Path:
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    document = {"shapes": list(shapes), "imagePath": "a.jpg", "imageData": None, **size, **more}
    return put(path, {key: value for key, value in document.items() if value != "absent"})


SQUARE = shape("polygon", [[8, 6], [32, 6], [32, 24], [8, 24]])


def coco(path: Path, *rows: dict, image: dict | None = None, **more: Any) -> Path:
    size = {"height": SIZE[0], "width": SIZE[1]}
    return put(
        path,
        {
            "images": [{"id": 1, "file_name": "a.jpg", **size, **(image or {})}],
            "annotations": [
                {"id": k, "image_id": 1, "category_id": 1, **row} for k, row in enumerate(rows)
            ],
            "categories": [{"id": 1, "name": "cat"}],
            **more,
        },
    )


def region(key: str = "r", **more: Any) -> dict[str, Any]:
    """A rectangle of Label Studio over the right lower quarter."""
    value = {"x": 50, "y": 50, "width": 50, "height": 50, "rectanglelabels": ["cat"]}
    return {
        "id": key,
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_width": SIZE[1],
        "original_height": SIZE[0],
        "value": value,
        **more,
    }


def export(path: Path, *regions: Any, data: Any = None, **more: Any) -> Path:
    task = {
        "id": 1,
        "data": data or {"image": "/data/upload/1/ab12cd34-a.jpg"},
        "annotations": [{"id": 1, "result": list(regions)}],
        **more,
    }
    return put(path, [task])


QUARTER = np.zeros(SIZE, bool)
QUARTER[24:, 32:] = True


# ------------------------------------------------- taken at their word where the word is wrong


def counts_of(frame: np.ndarray) -> list[int]:
    """Uncompressed run lengths, by hand: columns first, beginning with background."""
    flat = frame.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def test_crowds_that_cvat_makes_of_every_mask_are_objects(tmp_path: Path) -> None:
    masks = {"counts": counts_of(BOX), "size": [*SIZE]}
    row = {"segmentation": masks, "iscrowd": 1, "attributes": {"occluded": False}}
    summary = run(coco(tmp_path / "c.json", row, row | {"area": 3}), tmp_path / "voc", "voc")
    with PIL.Image.open(tmp_path / "voc/SegmentationObject/a.png") as picture:
        assert set(np.unique(np.array(picture))) == {0, 2}
    assert [remark for remark in summary.remarks if "say iscrowd: 1" in remark]
    polygon = {"segmentation": [RING], "iscrowd": 0, "attributes": {"occluded": False}}
    run(coco(tmp_path / "mixed.json", row, polygon), tmp_path / "yolo", "yolo", **no_copies())
    assert len((tmp_path / "yolo/labels/train/a.txt").read_text().splitlines()) == 2


def no_copies() -> dict[str, Any]:
    from backend.formats.options import WriteOptions

    return {"write": WriteOptions(copy="none")}


def test_a_crowd_among_objects_stays_one(tmp_path: Path) -> None:
    crowd = {"segmentation": {"counts": counts_of(BOX), "size": [*SIZE]}, "iscrowd": 1}
    rows = (crowd, {"segmentation": [RING], "iscrowd": 0})
    summary = run(coco(tmp_path / "c.json", *rows), tmp_path / "y", "yolo", **no_copies())
    assert summary.losses["crowds, ignored and background regions"] == 1


def voc(root: Path, classes: PIL.Image.Image, *names: str, objects: Any = None) -> Path:
    photo(root / "JPEGImages/a.jpg")
    for folder, picture in (("SegmentationClass", classes), ("SegmentationObject", objects)):
        if picture is not None:
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture.save(root / folder / "a.png")
    put(root / "ImageSets/Segmentation/val.txt", "a\n")
    if names:
        put(root / "class_names.txt", "\n".join(["_background_", *names]))
    return root


def test_255_is_a_class_where_it_is_the_only_one(run_cli, tmp_path: Path) -> None:
    binary = PIL.Image.fromarray(np.where(BOX, 255, 0).astype(np.uint8))
    root = voc(tmp_path / "voc", binary, "road")
    run(root, tmp_path / "coco")
    ((label, frame),) = found(tmp_path / "coco")
    assert (label, np.array_equal(frame, BOX)) == ("road", True)
    half = BOX.copy()
    half[:, 20:] = False
    (tmp_path / "pred").mkdir()
    PIL.Image.fromarray(np.where(half, 255, 0).astype(np.uint8)).save(tmp_path / "pred/a.png")
    arguments = ("--predictions", tmp_path / "pred", "--json", tmp_path / "r.json")
    assert run_cli("evaluate", root, *arguments, "--no-progress")[0] == 0
    rows = json.loads((tmp_path / "r.json").read_text())["views"][0]["classes"]
    assert rows[1]["iou"] == pytest.approx(half.sum() / BOX.sum(), abs=1e-6)
    two = voc(tmp_path / "two", binary, "road", "car")
    with pytest.raises(ConfigError, match="255 is the only foreground value of all label maps"):
        run(two, tmp_path / "no")


def test_255_in_predictions_is_told(run_cli, tmp_path: Path) -> None:
    classes = PIL.Image.fromarray(np.where(BOX, 1, 0).astype(np.uint8))
    root = voc(tmp_path / "voc", classes, "road", "car")
    values = np.where(BOX, 1, 0).astype(np.uint8)
    values[:2] = 255
    (tmp_path / "pred").mkdir()
    PIL.Image.fromarray(values).save(tmp_path / "pred/a.png")
    _, text, _ = run_cli("evaluate", root, "--predictions", tmp_path / "pred", "--no-progress")
    assert "128 pixels of the predicted label maps are 255, which is no class" in text


@pytest.mark.parametrize("table", ["labelmap.txt", "label_colors.txt", "class_dict.csv"])
def test_colours_mean_what_the_table_says(tmp_path: Path, table: str) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[BOX] = (48, 112, 32)
    colours[QUARTER & ~BOX] = (176, 112, 32)
    lines = {
        "labelmap.txt": "# label:color_rgb:parts:actions\nCat:48,112,32::\nDog:176,112,32::\n"
        "background:0,0,0::\n",
        "label_colors.txt": "48 112 32\tCat\n176 112 32\tDog\n0 0 0\tVoid\n",
        "class_dict.csv": "name,r,g,b\nCat,48,112,32\nDog,176,112,32\n",
    }
    root = voc(tmp_path / "voc", PIL.Image.fromarray(colours))
    put(root / table, lines[table].replace("0 0 0\tVoid\n", ""))
    run(root, tmp_path / "coco")
    assert [(label, int(frame.sum())) for label, frame in found(tmp_path / "coco")] == [
        ("Cat", int(BOX.sum())),
        ("Dog", int((QUARTER & ~BOX).sum())),
    ]


def test_colours_and_palettes_of_voc_in_any_order(tmp_path: Path) -> None:
    """RGB in VOC's colours, and a palette of these that a program put in another order."""
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[BOX] = (0, 128, 0)  # VOC's colour of value 2
    for name, picture in (
        ("rgb", PIL.Image.fromarray(rgb)),
        ("p", PIL.Image.fromarray(rgb).convert("P", palette=PIL.Image.Palette.ADAPTIVE)),
    ):
        run(voc(tmp_path / name, picture, "cat", "dog"), tmp_path / f"{name}-coco")
        ((label, frame),) = found(tmp_path / f"{name}-coco")
        assert (label, np.array_equal(frame, BOX)) == ("dog", True)


def test_the_background_cuts_a_hole(tmp_path: Path) -> None:
    hole = shape("polygon", [[14, 10], [26, 10], [26, 20], [14, 20]], "_background_")
    photo(tmp_path / "s/a.jpg")
    labelme(tmp_path / "s/a.json", SQUARE, hole)
    run(tmp_path / "s", tmp_path / "coco")
    picture = PIL.Image.new("L", SIZE[::-1])
    pen = PIL.ImageDraw.Draw(picture)
    pen.polygon([tuple(p) for p in SQUARE["points"]], outline=1, fill=1)
    pen.polygon([tuple(p) for p in hole["points"]], outline=0, fill=0)
    ((label, frame),) = found(tmp_path / "coco")
    assert (label, np.array_equal(frame, np.array(picture, bool))) == ("cat", True)
    document = json.loads(next((tmp_path / "coco/annotations").iterdir()).read_text())
    assert [one["name"] for one in document["categories"]] == ["cat"]
    labelme(tmp_path / "t/a.json", hole, SQUARE)  # what is drawn later lies on top
    run(tmp_path / "t", tmp_path / "later")
    assert found(tmp_path / "later")[0][1].sum() == 25 * 19


def test_the_background_cuts_a_hole_in_label_studio_too(tmp_path: Path) -> None:
    hole = region(
        "h",
        value={"x": 75, "y": 75, "width": 10, "height": 10} | {"rectanglelabels": ["_background_"]},
    )
    run(export(tmp_path / "e.json", region(), hole), tmp_path / "coco")
    ((_, frame),) = found(tmp_path / "coco")
    assert frame.sum() < QUARTER.sum()
    assert not frame[38, 50]


# ------------------------------------------------------------------- unknown taken for empty


@pytest.mark.parametrize(
    "segmentation",
    [
        [[8, 6], [32, 6], [32, 24], [8, 24]],
        [[[8, 6], [32, 6], [32, 24], [8, 24]]],
        RING,
        [[RING]],
        [RING],
    ],
)
def test_rings_are_read_however_they_are_nested(tmp_path: Path, segmentation: list) -> None:
    run(coco(tmp_path / "c.json", {"segmentation": segmentation}), tmp_path / "coco")
    expected = coco_mask.decode(coco_mask.frPyObjects([RING], *SIZE))[..., 0].astype(bool)
    assert np.array_equal(found(tmp_path / "coco")[0][1], expected)


@pytest.mark.parametrize("segmentation", [[], None, [[8, 6, 24, 18]], [[8, 6, 32, 24]], [[]]])
def test_boxes_without_a_ring_are_filled_and_counted(tmp_path: Path, segmentation: Any) -> None:
    row = {"segmentation": segmentation, "bbox": [8, 6, 24, 18]}
    summary = run(coco(tmp_path / "c.json", row), tmp_path / "coco")
    assert np.array_equal(found(tmp_path / "coco")[0][1], BOX)
    assert summary.left_out["boxes, read as filled rectangles"] == 1


def yolo(root: Path, text: str, names: Any = ("cat", "dog")) -> Path:
    photo(root / "images/train/a.jpg", (100, 200))
    put(root / "labels/train/a.txt", text)
    put(root / "data.yaml", yaml.safe_dump({"train": "images/train", "names": list(names)}))
    return root


@pytest.mark.parametrize(
    ("text", "areas"),
    [
        ("1 0.5 0.5 0.2 0.4 1\n1 0.2 0.5 0.2 0.4 2\n", [1600, 1600]),
        ("1 0.5 0.5 0.2 0.4 0.91 1\n", [1600]),
        ("1 0.5 0.5 0.2 0.4 0.91 12\n", [1600]),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5 0.9 1\n", [81 * 41]),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5 7\n", [81 * 41]),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5 0.9\n", [81 * 41]),
        # No ids: a real corner at the lower edge of the picture.
        ("0 0.1 0.1 0.5 0.1 0.5 1 0.1 1\n", [81 * 90]),
    ],
)
def test_tracker_columns_are_no_corners(tmp_path: Path, text: str, areas: list[int]) -> None:
    run(yolo(tmp_path / "y", text), tmp_path / "coco")
    assert [int(frame.sum()) for _, frame in found(tmp_path / "coco")] == areas


def test_lines_and_annotations_that_come_twice_are_one(tmp_path: Path) -> None:
    line = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"
    summary = run(yolo(tmp_path / "y", line * 2), tmp_path / "coco")
    assert (len(found(tmp_path / "coco")), dict(summary.left_out)) == (
        1,
        {"lines that repeat another one": 1},
    )
    row = {"segmentation": [RING]}
    summary = run(coco(tmp_path / "c.json", row, row), tmp_path / "again")
    assert len(found(tmp_path / "again")) == 1
    assert summary.left_out["annotations that repeat another one"] == 1


def test_classes_that_are_named_twice_are_one(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0.2 0.4\n2 0.2 0.5 0.2 0.4\n"
    summary = run(yolo(tmp_path / "y", text, ("cat", "dog", "cat")), tmp_path / "coco")
    assert summary.per_class == {"cat": 2}
    assert [one for one in summary.remarks if "names of several numbers are one class: cat" in one]
    twice = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]
    rows = ({"segmentation": [RING]}, {"segmentation": [RING], "category_id": 2})
    summary = run(coco(tmp_path / "c.json", *rows, categories=twice), tmp_path / "two")
    assert summary.per_class == {"cat": 2}
    assert [one for one in summary.remarks if "categories of the same name" in one]


# ------------------------------------------------------------------ one odd region costs itself


@pytest.mark.parametrize(
    "odd",
    [
        {"value": {"x": 1, "y": 1, "width": 5, "height": 5}},
        {"type": "rectangle", "value": {"x": 1, "y": 1, "width": 5, "height": 5}},
        {"value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["a", "b"]}},
        {"value": {"x": None, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["a"]}},
        {"type": "polygonlabels", "value": {"points": [[1, 1], [2, 2]], "polygonlabels": ["a"]}},
        {"type": "polygonlabels", "value": {"points": [], "polygonlabels": ["a"]}},
        {"type": "brushlabels", "value": {"rle": [1, 2], "brushlabels": ["a"]}},
        {"value": None},
        "text",
    ],
)
def test_an_odd_region_of_label_studio_costs_itself(run_cli, tmp_path: Path, odd: Any) -> None:
    bad = region("odd", **odd) if isinstance(odd, dict) else odd
    path = export(
        tmp_path / "e.json",
        region(),
        bad,
        predictions=[{"id": 3, "model_version": "m", "result": [region()]}],
    )
    summary = run(path, tmp_path / "coco")
    ((label, frame),) = found(tmp_path / "coco")
    assert (label, np.array_equal(frame, QUARTER)) == ("cat", True)
    ((_, sentence),) = summary.failed
    assert "result[1]" in sentence
    assert "left out; the rest of its picture is converted" in sentence
    code, text, _ = run_cli("score", path, "--json", "-", "--no-progress")
    document = json.loads(text)
    assert (code, document["views"][0]["images"]) == (1, 1)
    assert "result[1]" in document["failed"][0]["reason"]


def test_strict_refuses_a_picture_with_an_odd_region(tmp_path: Path) -> None:
    bad = region("odd", value={"x": 1, "y": 1, "width": 5, "height": 5})
    path = export(tmp_path / "e.json", region(), bad)
    summary = run(path, tmp_path / "coco", strict=True)
    assert summary.images == 0
    assert "the region has no label (--strict)" in summary.failed[0][1]


def test_a_picture_of_which_nothing_can_be_read_is_no_picture_of_nothing(tmp_path: Path) -> None:
    path = export(tmp_path / "e.json", "text", region(value={"x": 1}))
    summary = run(path, tmp_path / "coco")
    assert summary.images == 0
    assert len(summary.failed) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"segmentation": {"counts": "~~~", "size": [*SIZE]}},
        {"segmentation": {"counts": [5], "size": [*SIZE]}},
        {"segmentation": {"counts": [48 * 64], "size": 5}},
        {"segmentation": [[1, 2, "x", 4, 5, 6]]},
        {"segmentation": [RING], "category_id": 77},
        {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
    ],
)
def test_an_odd_annotation_of_coco_costs_itself(tmp_path: Path, odd: dict) -> None:
    path = coco(tmp_path / "c.json", {"segmentation": [RING]}, odd)
    summary = run(path, tmp_path / "coco")
    assert [label for label, _ in found(tmp_path / "coco")] == ["cat"]
    ((_, sentence),) = summary.failed
    assert "annotations[1]" in sentence


def test_odd_lines_and_values_cost_themselves(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0.2 0.4\n9 0.5 0.5 0.2 0.4\n0 0.1 x\n"
    summary = run(yolo(tmp_path / "y", text), tmp_path / "coco")
    assert [label for label, _ in found(tmp_path / "coco")] == ["cat"]
    assert [sentence.partition("a.txt: ")[2][:6] for _, sentence in summary.failed] == [
        "line 2",
        "line 3",
    ]
    classes = np.where(BOX, 1, 0).astype(np.uint8)
    classes[40:] = 7
    root = voc(tmp_path / "voc", PIL.Image.fromarray(classes), "road")
    summary = run(root, tmp_path / "v")
    assert [label for label, _ in found(tmp_path / "v")] == ["road"]
    assert "value 7 is beyond the 1 classes" in summary.failed[0][1]


def test_blanks_around_a_label_are_no_part_of_it(tmp_path: Path) -> None:
    photo(tmp_path / "s/a.jpg")
    labelme(tmp_path / "s/a.json", SQUARE, shape("rectangle", [[1, 1], [3, 3]], "cat "))
    for target in ("coco", "voc", "yolo", "label-studio"):
        summary = run(tmp_path / "s", tmp_path / target, target)
        assert (summary.per_class, summary.failed) == ({"cat": 2}, [])


# ------------------------------------------------------------------------------------- sizes


def test_sizes_of_labelme_files_come_from_the_picture(run_cli, tmp_path: Path) -> None:
    photo(tmp_path / "s/a.jpg")
    for k, size in enumerate(("absent", 0, None, "x")):
        folder = tmp_path / f"{k}"
        photo(folder / "a.jpg")
        labelme(folder / "a.json", SQUARE, imageHeight=size, imageWidth=size)
        run(folder, tmp_path / f"{k}-coco")
        assert found(tmp_path / f"{k}-coco")[0][1].shape == SIZE
        accepted = ("score", folder, "--predictions", tmp_path / f"{k}-pred", "--no-progress")
        labelme(tmp_path / f"{k}-pred/a.json", SQUARE, imagePath=f"../{k}/a.jpg")
        assert run_cli(*accepted)[0] == 0
    as_text = labelme(tmp_path / "t/a.json", SQUARE, imageHeight="48", imageWidth="64")
    run(as_text, tmp_path / "text")
    assert found(tmp_path / "text")[0][1].shape == SIZE


def test_sizes_of_labelme_files_come_from_what_is_embedded(tmp_path: Path) -> None:
    data = base64.b64encode(photo(tmp_path / "x.png").read_bytes()).decode()
    sizes = {"imageHeight": "absent", "imageWidth": "absent"}
    labelme(tmp_path / "s/a.json", SQUARE, imageData=data, imagePath="gone.png", **sizes)
    run(tmp_path / "s", tmp_path / "coco")
    assert found(tmp_path / "coco")[0][1].shape == SIZE


def test_sizes_of_coco_come_from_the_picture_or_the_run_lengths(tmp_path: Path) -> None:
    runs = {"segmentation": {"counts": counts_of(BOX), "size": [*SIZE]}}
    for k, image in enumerate(({"height": 0, "width": 0}, {"height": None, "width": None})):
        photo(tmp_path / f"{k}/a.jpg")
        run(
            coco(tmp_path / f"{k}/c.json", {"segmentation": [RING]}, image=image),
            tmp_path / f"p{k}",
        )
        assert found(tmp_path / f"p{k}")[0][1].shape == SIZE
        run(coco(tmp_path / f"r{k}.json", runs, image=image), tmp_path / f"q{k}")
        assert np.array_equal(found(tmp_path / f"q{k}")[0][1], BOX)
    text = {"height": "48", "width": "64"}
    run(coco(tmp_path / "t.json", {"segmentation": [RING]}, image=text), tmp_path / "t")
    assert found(tmp_path / "t")[0][1].shape == SIZE


def test_sizes_of_regions_come_from_others_or_the_picture(tmp_path: Path) -> None:
    bare = region("bare", original_width=None, original_height=0)
    run(export(tmp_path / "e.json", bare, region()), tmp_path / "coco")
    assert [frame.shape for _, frame in found(tmp_path / "coco")] == [SIZE, SIZE]
    photo(tmp_path / "photos/a.jpg")
    alone = export(tmp_path / "alone.json", bare)
    run(alone, tmp_path / "alone", images=tmp_path / "photos")
    assert np.array_equal(found(tmp_path / "alone")[0][1], QUARTER)
    summary = run(alone, tmp_path / "without")
    assert "neither another region nor a picture tells them" in summary.failed[0][1]


def test_what_decodes_no_pixel_has_no_limit(tmp_path: Path) -> None:
    PIL.Image.new("1", (12_000, 9_000)).save(tmp_path / "a.png")
    labelme(tmp_path / "a.json", SQUARE, imagePath="a.png", imageHeight=9_000, imageWidth=12_000)
    run(tmp_path / "a.json", tmp_path / "coco")
    strip = labelme(tmp_path / "b/b.json", SQUARE, imageHeight=27_136, imageWidth=1_944)
    assert run(strip, tmp_path / "strip").images == 1


# ------------------------------------------------------------ pictures, as people have them


UPLOADED = {
    "my photo (2).jpg": "my_photo_2.jpg",
    "Capture d'écran.jpg": "Capture_décran.jpg",
    "a#b%20c.jpg": "ab20c.jpg",
    "plain.jpg": "plain_x7Yz09Q.jpg",
    "UPPER.JPG": "upper.jpg",
}


def test_pictures_are_found_under_the_names_of_their_uploads(tmp_path: Path) -> None:
    for name in UPLOADED:
        photo(tmp_path / "photos" / name)
    tasks = [
        {
            "id": k,
            "data": {"image": f"/data/upload/3/ab12cd34-{uploaded}"},
            "annotations": [{"id": k, "result": [region()]}],
        }
        for k, uploaded in enumerate(UPLOADED.values())
    ]
    put(tmp_path / "e.json", tasks)
    summary = run(tmp_path / "e.json", tmp_path / "y", "yolo", images=tmp_path / "photos")
    assert (summary.images, summary.failed) == (5, [])


def test_composed_and_decomposed_names_are_the_same(tmp_path: Path) -> None:
    photo(tmp_path / "photos/cafe\u0301.jpg")
    data = {"image": "/data/upload/1/ab12cd34-caf\u00e9.jpg"}
    path = export(tmp_path / "e.json", region(), data=data)
    assert run(path, tmp_path / "y", "yolo", images=tmp_path / "photos").failed == []


def test_two_pictures_that_fit_are_not_guessed_between(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a b.jpg")
    photo(tmp_path / "photos/a(_)b.jpg")
    data = {"image": "/data/upload/1/ab12cd34-a_b.jpg"}
    path = export(tmp_path / "e.json", region(), data=data)
    summary = run(path, tmp_path / "y", "yolo", images=tmp_path / "photos")
    assert summary.images == 0


def test_the_picture_with_the_files_own_name(tmp_path: Path) -> None:
    photo(tmp_path / "s/demo.jpg")
    labelme(tmp_path / "s/demo.json", SQUARE, imagePath="Hello.jpg")
    assert run(tmp_path / "s", tmp_path / "y", "yolo").failed == []


ADDRESSES = {
    "data/local-files/?d=set/a.jpg": "set/a.jpg",
    "/data/upload/3/ab12cd34-b.jpg": "b.jpg",
    "/data/local-files/?d=set%5Cc.jpg": "set/c.jpg",
    "https://host/set/d.jpg?sig=1": "d.jpg",
    "/tasks/7/resolve/?fileuri=" + base64.b64encode(b"s3://bucket/set/e.jpg").decode(): "e.jpg",
}


@pytest.mark.parametrize("kind", ["coco", "label-studio"])
def test_addresses_are_read_alike_by_both_readers(tmp_path: Path, kind: str) -> None:
    for name in "abcde":
        photo(tmp_path / "photos/set" / f"{name}.jpg")
    for k, (address, name) in enumerate(ADDRESSES.items()):
        if kind == "coco":
            row = {"segmentation": [RING]}
            path = coco(tmp_path / f"{k}.json", row, image={"file_name": address})
        else:
            path = export(tmp_path / f"{k}.json", region(), data={"image": address})
        summary = run(path, tmp_path / f"y{k}", "yolo", images=tmp_path / "photos")
        assert summary.failed == [], address
        assert (tmp_path / f"y{k}/images/train" / name).is_file(), address


@pytest.mark.parametrize("place", ["", "data", "images", "train/images", "images/default"])
def test_pictures_beside_the_list_of_coco(tmp_path: Path, place: str) -> None:
    photo(tmp_path / "c" / place / "a.jpg")
    coco(tmp_path / "c/result.json", {"segmentation": [RING]})
    assert run(tmp_path / "c/result.json", tmp_path / "y", "yolo").failed == []


@pytest.mark.parametrize("kind", ["repeater", "valueList"])
def test_every_page_is_a_picture(tmp_path: Path, kind: str) -> None:
    for k in (1, 2, 3):
        photo(tmp_path / f"photos/000{k}.jpg")
    pages = [f"/data/upload/1/ab12cd34-000{k}.jpg" for k in (1, 2, 3)]
    if kind == "repeater":
        data: dict[str, Any] = {"document": [{"page": page} for page in pages]}
        regions = [region("a", to_name="page_0"), region("b", to_name="page_1")]
    else:
        data = {"pages": pages}
        regions = [region("a", item_index=0), region("b", item_index=1)]
    path = export(tmp_path / "e.json", *regions, data=data)
    summary = run(path, tmp_path / "y", "yolo", images=tmp_path / "photos")
    assert (summary.images, summary.empty, summary.failed) == (3, 1, [])
    assert [
        len((tmp_path / f"y/labels/train/000{k}.txt").read_text().splitlines()) for k in (1, 2, 3)
    ] == [1, 1, 0]


# --------------------------------------------------------------------------- kinds of pictures


@pytest.mark.parametrize("mode", ["I;16", "L", "RGB"])
def test_turned_tiffs_are_turned_when_they_are_copied(tmp_path: Path, mode: str) -> None:
    stored = np.arange(48 * 64).reshape(64, 48) % 251
    pixels = {
        "I;16": stored.astype(np.uint16) * 16,
        "L": stored.astype(np.uint8),
        "RGB": np.stack([stored] * 3, -1).astype(np.uint8),
    }[mode]
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "s").mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / "s/a.tif", exif=exif)
    labelme(tmp_path / "s/a.json", SQUARE, imagePath="a.tif")
    assert run(tmp_path / "s", tmp_path / "y", "yolo").failed == []
    with PIL.Image.open(tmp_path / "y/images/train/a.tif") as picture:
        assert np.array_equal(np.array(picture), np.rot90(pixels, -1))


def test_what_pillow_reads_is_labelled_and_the_rest_is_told(run_cli, tmp_path: Path) -> None:
    for name, kind in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c.avif", "AVIF")):
        photo(tmp_path / "in" / name, format=kind)
    put(tmp_path / "in/notes.psd", "x")
    put(tmp_path / "in/more.psd", "x")
    put(tmp_path / "in/labels.txt", "x")
    arguments = ("--out", tmp_path / "out", "--detector", "demo", "--segmenter", "demo")
    code, text, err = run_cli("annotate", tmp_path / "in", *arguments, "--no-progress")
    assert (code, "labelled 3 images" in text) == (0, True)
    assert "files of other kinds were passed over: 2 .psd" in err


def test_twelve_bits_of_sixteen_fill_the_range() -> None:
    from backend.files.images import decode_image

    ramp = np.tile(np.linspace(100, 4095, 256).astype(np.uint16), (16, 1))
    stream = io.BytesIO()
    PIL.Image.fromarray(ramp).save(stream, "TIFF")
    found_pixels = decode_image(stream.getvalue())
    assert (found_pixels.min(), found_pixels.max()) == (0, 255)
    assert len(np.unique(found_pixels)) >= 250


# -------------------------------------------------------------------------- encodings of texts


def test_texts_in_other_encodings(run_cli, tmp_path: Path) -> None:
    classes = PIL.Image.fromarray(np.where(BOX, 1, 0).astype(np.uint8))
    root = voc(tmp_path / "voc", classes)
    (root / "class_names.txt").write_bytes("_background_\n汽车".encode("gbk"))
    code, _, err = run_cli("convert", root, tmp_path / "o", "--to", "coco", "--no-progress")
    assert (code, "is not in UTF-8; it may be in gb18030" in err) == (2, True)
    arguments = ("--to", "coco", "--encoding", "gbk", "--no-progress")
    assert run_cli("convert", root, tmp_path / "o", *arguments)[0] == 0
    assert found(tmp_path / "o")[0][0] == "汽车"
    (root / "class_names.txt").write_bytes("_background_\n汽车".encode("utf-16"))
    assert run_cli("convert", root, tmp_path / "u", "--to", "coco", "--no-progress")[0] == 0
    assert found(tmp_path / "u")[0][0] == "汽车"
    document = coco(tmp_path / "c.json", {"segmentation": [RING]}).read_text()
    (tmp_path / "c16.json").write_text(document.replace('"cat"', '"猫"'), encoding="utf-16")
    arguments = ("--from", "coco", "--to", "coco", "--no-progress")
    assert run_cli("convert", tmp_path / "c16.json", tmp_path / "j", *arguments)[0] == 0
    assert found(tmp_path / "j")[0][0] == "猫"
    wrong = ("--to", "coco", "--encoding", "nonsense", "--no-progress")
    assert "there is no encoding" in run_cli("convert", root, tmp_path / "w", *wrong)[2]


# ------------------------------------------------------------------------------- other inputs


@pytest.mark.parametrize("kind", ["task", "annotation"])
def test_a_task_alone_and_a_folder_of_them(run_cli, tmp_path: Path, kind: str) -> None:
    """As people cut them out of an export, and as Label Studio's target storages write them."""
    for k in (1, 2):
        task = {"id": k, "data": {"image": f"/data/upload/1/ab12cd34-{k}.jpg"}}
        annotation = {"id": k, "result": [region()]}
        whole = {**task, "annotations": [annotation]}
        name = f"{k}.json" if kind == "task" else str(k)
        put(tmp_path / "s" / name, whole if kind == "task" else {**annotation, "task": task})
    run(tmp_path / "s", tmp_path / "all")
    assert len(found(tmp_path / "all")) == 2
    one = tmp_path / "s" / ("1.json" if kind == "task" else "1")
    run(one, tmp_path / "one")
    assert np.array_equal(found(tmp_path / "one")[0][1], QUARTER)
    code, out, err = run_cli("score", one, "--no-progress")
    assert "predictions: not in the export" in out + err
    assert code == 2  # there is nothing to score


def test_boxes_of_voc_are_named(tmp_path: Path) -> None:
    put(tmp_path / "voc/Annotations/a.xml", "<annotation><object/></annotation>")
    with pytest.raises(ConfigError, match="holds XML files, as PASCAL VOC has boxes in"):
        run(tmp_path / "voc", tmp_path / "o")
    with pytest.raises(ConfigError, match=r"a.xml: is an XML file"):
        run(tmp_path / "voc/Annotations/a.xml", tmp_path / "o")


# ------------------------------------------------- the same in score


def test_score_names_what_it_does_not_take(run_cli, tmp_path: Path) -> None:
    labelme(tmp_path / "accepted/a.json", SQUARE, shape("blob", [[1, 1]]))
    labelme(tmp_path / "predicted/a.json", SQUARE)
    code, text, _ = run_cli(
        "score", tmp_path / "accepted", "--predictions", tmp_path / "predicted", "--no-progress"
    )
    assert code == 0
    assert "not taken as they are: 1 shapes of type 'blob', which is unknown" in text


def test_score_reads_a_folder_of_tasks(run_cli, tmp_path: Path) -> None:
    predicted = [{"id": 3, "model_version": "m", "result": [region()]}]
    (task,) = json.loads(export(tmp_path / "e.json", region(), predictions=predicted).read_text())
    for number in (1, 2):
        put(tmp_path / f"tasks/{number}", {**task, "id": number})
    code, text, _ = run_cli("score", tmp_path / "tasks", "--json", "-", "--no-progress")
    assert (code, json.loads(text)["views"][0]["images"]) == (0, 2)


def test_score_and_check_on_other_encodings(run_cli, tmp_path: Path) -> None:
    for name in ("accepted", "predicted"):
        path = labelme(tmp_path / name / "a.json", {**SQUARE, "label": "\u732b\u6c7d\u8f66"})
        text = json.dumps(json.loads(path.read_text()), ensure_ascii=False)
        path.write_bytes(text.encode("gbk"))
    folders = (tmp_path / "accepted", "--predictions", tmp_path / "predicted", "--no-progress")
    assert "--encoding names the one it is in" in run_cli("score", *folders)[2]
    code, out, _ = run_cli("score", *folders, "--encoding", "gbk")
    assert code == 0
    assert "\u732b\u6c7d\u8f66" in out
    code, out, _ = run_cli("convert", "--check", tmp_path / "accepted")
    assert code == 1
    assert "it may be in gb18030" in out
    assert "labelme reads nothing else than UTF-8" in out
