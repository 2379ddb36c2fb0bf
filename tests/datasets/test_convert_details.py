"""Readers and writers one by one: what is counted, what is refused, what each option does."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml
from labelme.utils.shape import shape_to_mask

from backend.core.classes import ClassNames
from backend.core.masks import full_frame
from backend.datasets.convert import ConvertOptions, convert
from backend.datasets.report import ConvertSummary
from backend.datasets.splits import parse_split
from backend.errors import ConfigError
from backend.files.atomic import temporary_beside
from backend.formats.options import What, WriteOptions
from backend.formats.registry import detect_format
from backend.formats.voc.label_maps import encode_png, read_label_map
from backend.formats.yolo import labels as yolo
from labelme_plugin.document import read_document
from labelme_plugin.instances import labelled_masks
from tests.datasets.test_convert import labelled, simple
from tests.support.dataset_scenes import objects, shape, write_picture
from tests.support.exports import disc, regions, task
from tests.support.exports import write as write_export

QUIET = ConvertOptions(progress=False)
RING = [[1, 1, 7, 1, 7, 7]]


def coco(
    path: Path, images: list[Any], annotations: list[Any], categories: list[Any] | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "images": images,
                "annotations": annotations,
                "categories": categories or [{"id": 1, "name": "cat"}],
            }
        )
    )
    return path


def image(number: Any, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": 9, "width": 9, **more}


def row(number: int, of: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": of, "category_id": 1, "segmentation": RING, **more}


def run(source: Path, out: Path, target: str, **options: Any) -> ConvertSummary:
    return convert(source, out, target, ConvertOptions(progress=False, **options))


def shapes(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["shapes"]


# COCO


def test_coco_files_by_name_and_place(tmp_path: Path) -> None:
    for place, split in (
        ("annotations/instances_train2017.json", "train"),
        ("annotations/instances_holdout.json", "holdout"),
    ):
        coco(tmp_path / "c" / place, [image(1, f"{split}.jpg")], [row(1, 1)])
    assert run(
        tmp_path / "c", tmp_path / "o1", "yolo", write=WriteOptions(copy="none")
    ).per_split == {"train": 1, "holdout": 1}
    coco(tmp_path / "d/val.json", [image(1, "a.jpg")], [row(1, 1)])
    (tmp_path / "d/val.json").write_bytes(
        b"\xef\xbb\xbf \n" + (tmp_path / "d/val.json").read_bytes()
    )
    assert (detect_format(tmp_path / "d"), detect_format(tmp_path / "d/val.json")) == (
        "coco",
        "coco",
    )
    assert run(tmp_path / "d", tmp_path / "o2", "voc").per_split == {"val": 1}
    write_picture(tmp_path / "c/train2017/train.jpg", 9, 9)
    write_picture(tmp_path / "c/images/holdout/holdout.jpg", 9, 9)
    assert run(tmp_path / "c", tmp_path / "o3", "yolo").images == 2


def test_odd_annotations_are_counted_and_odd_files_named(tmp_path: Path) -> None:
    size = {"height": 9, "width": 9}
    images = [
        image(1, "a.jpg"),
        image(1, "again.jpg"),
        image(2, "b.jpg", height=0),
        image(3, "c.jpg", width=9999999),
        image(4, "d.jpg", height=160000, width=16000),
    ]
    empty = {"size": [9, 9], "counts": [81]}
    rows = [
        row(1, 1, score=1.5),
        row(2, 1, score=1, segmentation=empty),
        row(3, 1, score=0, iscrowd=True),
        {"id": 4},
        row(5, 1, segmentation=[]),
    ]
    rows.append(row(6, 1, labelme={"voc_object": 70000, "iscrowd": 1}))
    summary = run(
        coco(tmp_path / "c.json", [*images, {**size, "id": 5}, 7], rows),
        tmp_path / "out",
        "labelme",
    )
    assert summary.left_out == {
        "annotations that cover no pixel": 1,
        "annotations without a segmentation or a box": 1,
    }
    found = shapes(tmp_path / "out/a.json")
    assert [(one.get("score"), one.get("iscrowd"), one.get("voc_object")) for one in found] == [
        (1.5, None, None),
        (0, 1, None),
        (None, None, None),
    ]
    told = " ".join(sentence for _, sentence in summary.failed)
    for part in (
        "1 is the id of another image too",
        "images[2].height: expected a number of pixels above 0, got 0",
        "images[3]: an image of 9999999x9 pixels is too large",
        "16000x160000 pixels is too large",
    ):
        assert part in told
    for part in (
        "annotations[3].image_id",
        "images[5].file_name: expected a name, got nothing",
        "images[6].id: expected a number or text",
    ):
        assert part in told
    for categories, part in (
        ([{"id": 1, "name": " "}], "categories[0]: expected an id and a name"),
        ([7], "categories[0]"),
        ([{"x": 1}], "categories[0]"),
    ):
        assert (
            part
            in run(
                coco(tmp_path / "e.json", [], [], categories), tmp_path / "o2", "labelme"
            ).failed[0][1]
        )
    (tmp_path / "f.json").write_text('{"annotations": [], "images": []}')
    assert (
        "has neither categories nor images"
        in run(tmp_path / "f.json", tmp_path / "o3", "labelme").failed[0][1]
    )
    assert any(
        "has no annotations" in one
        for one in run(
            coco(tmp_path / "g.json", [image(1, "a.jpg")], []), tmp_path / "o4", "labelme"
        ).remarks
    )


def test_coco_keeps_who_made_it_and_ignores_its_own_columns(tmp_path: Path) -> None:
    one = image(
        1,
        "a.jpg",
        license=3,
        flickr_url="x",
        coco_url="y",
        date_captured="z",
        model_version="v1",
        mine=5,
    )
    run(coco(tmp_path / "c.json", [one], [row(1, 1, score=0.25)]), tmp_path / "out", "labelme")
    document = json.loads((tmp_path / "out/a.json").read_text())
    assert set(document) == {
        "version",
        "flags",
        "shapes",
        "imagePath",
        "imageData",
        "imageHeight",
        "imageWidth",
        "mine",
        "yolo_sam2",
    }
    assert (document["yolo_sam2"]["model_version"], document["shapes"][0]["description"]) == (
        "v1",
        '{"score": 0.25}',
    )


# Label Studio


def test_label_studio_regions_and_what_else_tasks_hold(tmp_path: Path) -> None:
    region = {
        **regions(("car", disc(30, 30, 9), 0.5))[0],
        "meta": {"text": "one line", "other": 3, "labelme": {"voc_object": 99999, "group_id": 2}},
    }
    size = {"original_width": 80, "original_height": 60, "to_name": "image", "from_name": "x"}
    blank = {**regions(("car", disc(30, 30, 9), 0.5), salt="b")[0], "id": "blank"}
    blank["value"] = {"format": "rle", "rle": [0, 0, 75, 0, 0, 0], "brushlabels": ["car"]}
    point = {
        "id": "p",
        "type": "keypointlabels",
        "value": {"x": 1, "y": 1, "width": 1, "keypointlabels": ["car"]},
        **size,
    }
    others = [
        {"id": "c", "type": "choices", "value": {"choices": ["a"]}, **size},
        {"type": "relation", "from_id": "a", "to_id": "b"},
    ]
    outside = {
        "id": "r",
        "type": "rectanglelabels",
        "value": {"x": 200, "y": 200, "width": 5, "height": 5, "rectanglelabels": ["car"]},
        **size,
    }
    made = {
        **task(1, [region, point, outside, *others], None),
        "data": {"image": "https://h/x/pic?w=1", "ref": 7},
    }
    summary = run(write_export(tmp_path / "e.json", [made]), tmp_path / "out", "labelme")
    assert summary.left_out == {
        "key points, lines and other regions without an area": 1,
        "choices, texts and relations": 2,
        "regions that cover no pixel": 1,
    }
    document = json.loads((tmp_path / "out/pic.json").read_text())
    (one,) = document["shapes"]
    assert (one["description"], one["label_studio_meta"], one["group_id"], "voc_object" in one) == (
        "one line",
        {"other": 3},
        2,
        False,
    )
    assert (document["label_studio_data"], document["imagePath"]) == ({"ref": 7}, "pic.jpg")
    again = convert(tmp_path / "out", tmp_path / "back", "label-studio", QUIET)
    assert not again.failed
    (back,) = json.loads((tmp_path / "back/import.json").read_text())
    assert back["data"]["ref"] == 7
    assert back["annotations"][0]["result"][0]["meta"] == {
        "text": ["one line"],
        "other": 3,
        "labelme": {"group_id": 2},
    }


def test_label_studio_addresses(tmp_path: Path) -> None:
    mask = regions(("car", disc(30, 30, 9), 0.5))
    write_picture(tmp_path / "p/in.png", 60, 80)
    inside = base64.b64encode((tmp_path / "p/in.png").read_bytes()).decode()
    urls = {
        1: ("https://host/photos/sub/a%20b.jpg", "sub/a b"),
        2: ("/data/upload/3/0123abcd-c.JPG", "c"),
        3: ("/data/local-files/?d=x/y/d.jpg", "x/y/d"),
        4: (f"data:image/png;base64,{inside}", "task_4"),
        5: ("s3://bucket/deep/0123abcd-e.jpg", "0123abcd-e"),
        6: ("https://host/other/f", "f"),
    }
    tasks = [{**task(k, mask, None), "data": {"image": url}} for k, (url, _) in urls.items()]
    code = [
        "convert",
        write_export(tmp_path / "e.json", tasks),
        tmp_path / "out",
        "--to",
        "labelme",
        "--no-progress",
    ]
    from backend.cli.main import main

    write_picture(tmp_path / "p/f.webp", 60, 80)
    assert (
        main(
            [
                *map(str, code),
                "--image-url-prefix",
                "https://host/photos/",
                "--images",
                str(tmp_path / "p"),
            ]
        )
        == 0
    )
    assert sorted(
        path.relative_to(tmp_path / "out").with_suffix("").as_posix()
        for path in (tmp_path / "out").rglob("*.json")
    ) == sorted(name for _, name in urls.values())
    assert (tmp_path / "out/task_4.png").read_bytes() == (tmp_path / "p/in.png").read_bytes()
    assert json.loads((tmp_path / "out/f.json").read_text())["imagePath"] == "../p/f.webp"
    home = convert(tmp_path / "e.json", tmp_path / "tasks", "label-studio", QUIET)
    assert home.losses == {"pictures embedded in files, which nothing can show from there": 1}
    addresses = [
        one["data"]["image"] for one in json.loads((tmp_path / "tasks/import.json").read_text())
    ]
    assert addresses[:3] == [urls[k][0] for k in (1, 2, 3)]
    assert addresses[3] == "/data/local-files/?d=task_4.png"


def test_label_studio_chooses_the_newest_and_names_bad_tasks(tmp_path: Path) -> None:
    old = regions(("car", disc(30, 30, 9), 0.5))
    new = regions(("dog", disc(30, 30, 12), 0.5))
    completions = {"id": 1, "data": {"image": "/a.jpg"}, "completions": [{"result": new}]}
    created = {
        **task(2, old, None),
        "annotations": [
            {"result": new, "created_at": "2026-02"},
            {"result": old, "created_at": "2026-01"},
        ],
    }
    mixed = task(3, [*old, {**new[0], "original_width": 90}], None)
    both = {
        **task(4, old, None),
        "annotations": [
            {"result": old, "updated_at": "2026-01", "created_at": "2025"},
            {"result": new, "created_at": "2025-12"},
        ],
    }
    mini = {"id": 5, "image": "/x.jpg", "annotator": 1, "annotation_id": 2}
    summary = run(
        write_export(tmp_path / "e.json", [completions, created, mixed, both, mini]),
        tmp_path / "out",
        "labelme",
    )
    assert {path.stem: shapes(path)[0]["label"] for path in (tmp_path / "out").glob("*.json")} == {
        "a": "dog",
        "2": "dog",
        "4": "car",
    }
    told = " ".join(sentence for _, sentence in summary.failed)
    assert "regions of several image sizes: 80x60 and 90x60" in told
    assert "this is JSON_MIN: export as JSON" in told


def test_label_studio_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backend.formats.label_studio import writer as to_label_studio

    labelled(tmp_path / "s/a ä.json", "cat", "__ignore__")
    first = json.loads((tmp_path / "s/a ä.json").read_text())
    first["shapes"][0].update(score=0.5, description='{"score": 0.5}')
    first["shapes"][1].update(description='{"looks": "like JSON"}')
    (tmp_path / "s/a ä.json").write_text(json.dumps(first))
    labelled(tmp_path / "s/b.json", "dog", "_background_")
    monkeypatch.setattr(to_label_studio, "_FILE_BYTES", 1000)
    summary = run(
        tmp_path / "s",
        tmp_path / "out",
        "label-studio",
        write=WriteOptions(what=What("predictions", "v7")),
    )
    assert [path.name for path in summary.outputs[1:]] == [
        "import.json",
        "import-2.json",
        "label_config.xml",
    ]
    (one,), (two,) = (
        json.loads((tmp_path / f"out/{name}").read_text())
        for name in ("import.json", "import-2.json")
    )
    assert one["data"]["image"] == "/data/local-files/?d=a%20%C3%A4.jpg"
    (prediction,) = one["predictions"]
    # Half a correction is expected.
    assert (prediction["model_version"], prediction["score"]) == ("v7", 0.6667)
    assert [region.get("meta") for region in prediction["result"]] == [
        {"labelme": {"description": '{"score": 0.5}'}},
        {"text": ['{"looks": "like JSON"}']},
    ]
    assert two["predictions"][0]["model_version"] == "v7"
    config = (tmp_path / "out/label_config.xml").read_text()
    assert all(f'value="{name}"' in config for name in ("cat", "dog", "__ignore__"))
    assert "_background_" not in config  # it cut a hole into the dog
    (dog,) = two["predictions"][0]["result"]
    assert dog["value"]["brushlabels"] == ["dog"]
    run(
        tmp_path / "s",
        tmp_path / "o2",
        "label-studio",
        write=WriteOptions(what=What("annotations")),
    )
    assert "annotations" in json.loads((tmp_path / "o2/import.json").read_text())[0]
    run(
        tmp_path / "s",
        tmp_path / "o3",
        "label-studio",
        write=WriteOptions(what=What("predictions")),
    )
    assert (
        json.loads((tmp_path / "o3/import.json").read_text())[0]["predictions"][0]["model_version"]
        == "converted"
    )


# labelme


def test_labelme_shapes_of_every_kind(tmp_path: Path) -> None:
    size = (40, 50)
    kinds = {
        "line": [[5.0, 5.0], [30.0, 25.0]],
        "linestrip": [[5.0, 30.0], [20.0, 35.0], [45.0, 10.0]],
        "circle": [[25.0, 20.0], [30.0, 22.0]],
        "rectangle": [[3.4, 4.2], [20.7, 11.1]],
        "oriented_rectangle": [[10.0, 5.0], [30.0, 10.0], [28.0, 20.0], [8.0, 15.0]],
        "polygon": [[1.0, 1.0], [40.0, 3.0], [20.0, 30.0]],
    }
    drawn = [
        {"label": kind, "points": points, "shape_type": kind, "group_id": None, "flags": None}
        for kind, points in kinds.items()
    ]
    drawn += [
        {"label": "dot", "points": [[1, 1]], "shape_type": "point"},
        {**shape("far", np.ones((2, 2), bool)), "points": [[0, 0], [1, 1]]},
    ]
    drawn.append(
        {
            "label": "outside",
            "points": [[100, 100], [120, 100], [110, 120]],
            "shape_type": "polygon",
        }
    )
    path = simple(tmp_path / "s/a.json", np.ones(size, bool), shapes=drawn)
    summary = run(tmp_path / "s", tmp_path / "out", "labelme")
    assert summary.left_out == {
        "points and other shapes without an area": 1,
        "shapes that cover no pixel": 1,
    }
    found = {
        one.label: full_frame(one.mask, size)
        for one in labelled_masks(read_document(tmp_path / "out/a.json"), size, "x").objects
    }
    for kind, points in kinds.items():
        assert np.array_equal(found[kind], shape_to_mask(size, points, kind)), kind
    assert run(path, tmp_path / "one", "coco").images == 1
    simplified = run(tmp_path / "s", tmp_path / "p", "labelme", write=WriteOptions(shape="polygon"))
    redrawn = {
        one.label: full_frame(one.mask, size)
        for one in labelled_masks(read_document(tmp_path / "p/a.json"), size, "x").objects
    }
    changed = sum(int((redrawn[label] != frame).sum()) for label, frame in found.items())
    assert simplified.losses["pixels changed by simplified polygons"] == changed > 0


def test_labelme_groups_names_and_versions(tmp_path: Path) -> None:
    frames = [np.pad(np.ones((3, 3), bool), ((4, 7), (2 + 6 * k, 9 - 6 * k))) for k in range(2)]
    parts = [
        shape("cat", frame, group_id=4, description=text, score=0.5)
        for frame, text in zip(frames, ("a", "b"), strict=True)
    ]
    (tmp_path / "s/sub").mkdir(parents=True)
    path = simple(tmp_path / "s/a.json", frames[0], shapes=parts, imagePath="sub\\a.jpg")
    shutil.move(tmp_path / "s/a.jpg", tmp_path / "s/sub/a.jpg")
    document = json.loads(path.read_text())
    path.write_text(
        json.dumps({**document, "yolo_sam2": {"model_version": "v1", "digest": "other"}})
    )
    assert not run(tmp_path / "s", tmp_path / "out", "coco").losses
    made = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert made["images"][0]["file_name"] == "sub/a.jpg"
    assert "model_version" not in made["images"][0]  # a person changed it
    (one,) = made["annotations"]
    drawn = one["labelme"].pop("drawn")
    assert (one["score"], one["labelme"], [part.get("notes") for part in drawn]) == (
        0.5,
        {"group_id": 4, "description": "a"},
        [None, {"group_id": 4, "description": "b", "score": 0.5}],
    )
    assert run(tmp_path / "s", tmp_path / "yolo", "yolo").losses["scores"] == 1
    assert run(tmp_path / "s", tmp_path / "voc", "voc").losses == {
        "scores": 1,
        "descriptions, flags and other notes": 2,
    }
    for source in ("s", "out"):  # both parts keep what was noted on them
        run(tmp_path / source, tmp_path / f"home-{source}", "labelme")
        home = shapes(tmp_path / f"home-{source}" / ("a.json" if source == "s" else "sub/a.json"))
        assert [
            (one["description"], one["score"], one["group_id"], one["mask"]) for one in home
        ] == [(part["description"], 0.5, 4, part["mask"]) for part in parts]


def test_labelme_writer_groups_and_single_pixels(tmp_path: Path) -> None:
    frame = np.zeros((9, 9), bool)
    frame[8, 8] = True
    two = np.zeros((9, 9), bool)
    two[0:2, 0:2] = two[5:7, 5:7] = True
    simple(
        tmp_path / "s/a.json",
        two,
        shapes=[
            shape("dot", frame),
            shape("cat", two),
            shape("dog", two, group_id=0),
            shape("dog", two),
        ],
    )
    run(tmp_path / "s", tmp_path / "m", "labelme")
    dot = shapes(tmp_path / "m/a.json")[0]
    assert dot["points"] == [[7.0, 8.0], [8.0, 8.0]]
    assert objects(tmp_path / "m/a.json")[0][:2] == ("dot", frame.tobytes())
    run(
        tmp_path / "s",
        tmp_path / "p",
        "labelme",
        write=WriteOptions(shape="polygon", tolerance=0.0),
    )
    groups = [(one["label"], one["group_id"]) for one in shapes(tmp_path / "p/a.json")]
    assert groups == [
        ("dot", None),
        ("cat", 1),
        ("cat", 1),
        ("dog", 0),
        ("dog", 0),
        ("dog", 2),
        ("dog", 2),
    ]
    tall = np.zeros((9, 1), bool)
    tall[8] = True
    simple(tmp_path / "t/a.json", tall)
    run(tmp_path / "t", tmp_path / "o", "labelme")
    assert shapes(tmp_path / "o/a.json")[0]["points"] == [[0.0, 7.0], [0.0, 8.0]]


# YOLO


def test_yolo_layouts(tmp_path: Path) -> None:
    root = tmp_path / "y"
    for name in ("deep/images/a", "b"):
        write_picture(root / f"images/{name}.jpg", 10, 20)
    for name, text in (
        ("deep/images/a", "0 0 0 1 0 1 1\n\n1 0.5 0.5 0.5 0.5 0.75\n"),
        ("b", "1 0 0 1 0 1 1 0.5\n"),
    ):
        (root / f"labels/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"labels/{name}.txt").write_text(text)
    (root / "labels/classes.txt").write_text("cat\ndog\n")
    (root / "other.yaml").write_text("usernames: [x]\n")
    assert detect_format(root) == "yolo"
    summary = run(root, tmp_path / "o1", "labelme")
    assert (summary.images, summary.left_out) == (1, {}) or summary.images == 2
    (root / "other.yml").write_text(
        "path: .\nnames: [cat, dog]\ntrain: list.txt\nval: images\nnc: 2\n"
    )
    (root / "list.txt").write_text("./images/b.jpg\nimages/nosuch.jpg\n")
    summary = run(root, tmp_path / "o2", "labelme")
    assert [sentence for _, sentence in summary.failed if "nosuch.jpg" in sentence]
    (one,) = shapes(tmp_path / "o2/b.json")
    assert (one["label"], one["score"]) == ("dog", 0.5)
    with pytest.raises(ConfigError, match="has no split 'nosuch'; it has train, val"):
        run(root, tmp_path / "o3", "labelme", read=_read("nosuch"))
    assert run(root, tmp_path / "o4", "voc", read=_read("train")).per_split == {"train": 1}
    (root / "labels/b.txt").write_text("0 0 0 1 0 1 1\n0 1 2 3\n")
    told = " ".join(sentence for _, sentence in run(root, tmp_path / "o5", "labelme").failed)
    assert (
        "b.txt: line 2: expected pairs of numbers, or a score from 0 to 1 behind them, got 3"
        in told
    )


def _read(split: str) -> Any:
    from backend.formats.options import ReadOptions

    return ReadOptions(split=split)


def test_yolo_lines_at_the_edges() -> None:
    assert yolo.read_line("0 -0.005 0 1.005 0 1 1", (10, 20), 1, "x").mask.crop.shape == (10, 20)
    assert yolo.read_line("0 0 0 1 0 1 1 0", (10, 20), 1, "x").score == 0
    assert yolo.read_line("0 0 0 1 0 1 1 1", (10, 20), 1, "x").score == 1
    with pytest.raises(Exception, match="class 1 is not an index"):
        yolo.read_line("1 0 0 1 0 1 1", (10, 20), 1, "x")
    with pytest.raises(Exception, match="expected shares"):
        yolo.read_line("0 -0.02 0 1 0 1 1", (10, 20), 1, "x")
    assert yaml.safe_load(yolo.data_yaml(["a"], ["fold1", "fold2"])) == {
        "train": "images/fold1",
        "val": "images/fold2",
        "names": {0: "a"},
    }
    assert (
        yaml.safe_load(yolo.data_yaml(["a"], ["test", "train", "valid"]))["val"] == "images/valid"
    )
    assert yolo.read_data_yaml("names: [a, b, a]", "x")[0] == ("a", "b", "a")


def test_yolo_counts_what_it_leaves_out(tmp_path: Path) -> None:
    simple(
        tmp_path / "s/a.json",
        shapes=[
            shape("cat", np.ones((14, 16), bool), iscrowd=1),
            shape("__ignore__", np.ones((14, 16), bool)),
        ],
    )
    summary = run(tmp_path / "s", tmp_path / "o", "yolo", write=WriteOptions(split="fold"))
    assert (summary.losses, summary.empty, summary.per_class) == (
        {"crowds, ignored and background regions": 2},
        1,
        {},
    )
    assert (tmp_path / "o/labels/fold/a.txt").read_text() == ""
    assert yaml.safe_load((tmp_path / "o/data.yaml").read_text())["train"] == "images/fold"
    simplified = np.hypot(*(np.mgrid[:80, :80] - 40)) < 30
    simple(tmp_path / "t/a.json", simplified)
    assert run(tmp_path / "t", tmp_path / "o2", "yolo").losses == {}
    loose = run(tmp_path / "t", tmp_path / "o3", "yolo", write=WriteOptions(tolerance=2.0))
    assert 0 < loose.losses["pixels changed"] < 300
    assert (
        len((tmp_path / "o3/labels/train/a.txt").read_text())
        < len((tmp_path / "o2/labels/train/a.txt").read_text()) / 2
    )


# VOC


def test_voc_numbers_layers_and_sizes(tmp_path: Path) -> None:
    square = np.pad(np.ones((6, 8), bool), 4)
    many = [
        shape(
            "cat", np.pad(np.ones((1, 1), bool), ((k // 16, 13 - k // 16), (k % 16, 15 - k % 16)))
        )
        for k in range(200)
    ]
    simple(
        tmp_path / "s/a.json",
        shapes=[shape("dog", np.ones((14, 16), bool), iscrowd=1), *many, *many[:60]],
    )
    run(tmp_path / "s", tmp_path / "o", "voc")
    found = read_label_map(tmp_path / "o/SegmentationObject/a.png")
    assert (found.dtype, found.max()) == (np.uint16, 262)
    assert found[13, 15] == 255  # the crowd
    assert not (found[:12] == 255).any()
    back = run(tmp_path / "o", tmp_path / "back", "labelme")
    assert back.per_class["cat"] == 200
    assert (
        next(one for one in shapes(tmp_path / "back/a.json") if one["label"] == "dog")["iscrowd"]
        == 1
    )
    simple(tmp_path / "t/a.json", shapes=[shape("cat", square), shape("dog", square, voc_object=1)])
    over = run(tmp_path / "t", tmp_path / "o2", "voc")
    assert over.losses == {
        "pixels of instances under others": 48,
        "instances that others cover completely": 1,
    }
    assert set(np.unique(read_label_map(tmp_path / "o2/SegmentationClass/a.png"))) == {0, 2}


def test_voc_sources_with_faults(tmp_path: Path) -> None:
    root = tmp_path / "v"
    (root / "SegmentationClass/sub").mkdir(parents=True)
    (root / "SegmentationObject/sub").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    (root / "class_names.txt").write_text("_background_\ncat")
    for name, shape_ in (("sub/a", (9, 9)), ("b", (9, 9)), ("c", (9, 9))):
        (root / f"SegmentationClass/{name}.png").write_bytes(encode_png(np.ones(shape_, np.uint8)))
        (root / f"SegmentationObject/{name}.png").write_bytes(
            encode_png(np.ones((9, 8) if name == "b" else shape_, np.uint8))
        )
    write_picture(root / "JPEGImages/c.jpg", 9, 10)
    summary = run(root, tmp_path / "o", "labelme")
    assert sorted(
        path.relative_to(tmp_path / "o").as_posix() for path in (tmp_path / "o").rglob("*.json")
    ) == ["sub/a.json"]
    told = " ".join(sentence for _, sentence in summary.failed)
    assert "SegmentationObject is 8x9, SegmentationClass 9x9" in told
    assert "is 9x9, its picture 10x9" in told
    diagonal = np.eye(9, dtype=np.uint8)
    diagonal[0, 4] = diagonal[4, 0] = 255
    shutil.rmtree(root / "SegmentationObject")
    for path in (root / "SegmentationClass").glob("*.png"):
        path.unlink()
    (root / "SegmentationClass/sub/a.png").write_bytes(encode_png(diagonal))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/empty.txt").touch()
    (root / "ImageSets/Segmentation/val_videos.txt").write_text("sub\n")
    write_picture(root / "JPEGImages/sub/a.jpg", 9, 9)
    summary = run(root, tmp_path / "o2", "voc")
    assert (summary.per_class, summary.per_split) == ({"cat": 1, "__ignore__": 1}, {"val": 1})


def test_254_classes_are_the_most(tmp_path: Path) -> None:
    labelled(tmp_path / "s/a.json", "last")
    names = tuple(f"c{k}" for k in range(253))
    assert not run(tmp_path / "s", tmp_path / "o", "voc", classes=(*names, "last")).failed
    assert (
        "beyond the 254 classes"
        in run(tmp_path / "s", tmp_path / "o2", "voc", classes=(*names, "more", "last")).failed[0][
            1
        ]
    )


# Everything around


def test_linked_pictures(tmp_path: Path) -> None:
    labelled(tmp_path / "s/a.json", "cat")
    write_picture(tmp_path / "s/a.jpg", 16, 16, 6)
    labelled(tmp_path / "s/b.json", "cat")
    write_picture(tmp_path / "s/a.jpg", 16, 16, 3)
    write_picture(tmp_path / "s/b.jpg", 16, 16)
    summary = run(tmp_path / "s", tmp_path / "o", "yolo", write=WriteOptions(copy="link"))
    assert summary.losses == {"linked pictures that only EXIF turns upright": 1}
    link = tmp_path / "o/images/train/b.jpg"
    assert not Path(link.readlink()).is_absolute()
    assert link.resolve() == tmp_path / "s/b.jpg"
    turned = run(tmp_path / "s", tmp_path / "o2", "coco", write=WriteOptions(copy="copy"))
    assert turned.losses == {"pictures turned upright and encoded anew": 1}
    made = json.loads((tmp_path / "o2/annotations/instances_train.json").read_text())
    assert [
        (tmp_path / "o2/images/train" / row["file_name"]).is_file() for row in made["images"]
    ] == [True, True]
    with PIL.Image.open(tmp_path / "o2/images/train/a.jpg") as picture:
        assert (picture.format, picture.getexif().get(0x0112)) == ("JPEG", None)


def test_splits_and_names() -> None:
    assert ClassNames(["a"], fixed=True).index("b") is None
    fixed = ClassNames(["a"], fixed=True)
    fixed.add(["b"])
    assert fixed.names == ["a"]
    for wrong in (" ", "a=1e10,b=1"):
        with pytest.raises(ConfigError, match="--split: expected"):
            parse_split(wrong)
    assert {parse_split(" train = 1 , val = 0.5 ")[1].split_of(str(k)) for k in range(50)} == {
        "train",
        "val",
    }


def test_what_is_told_about_the_classes(tmp_path: Path) -> None:
    labelled(tmp_path / "s/a.json", "cat", "dog")
    assert any(
        "numbered as they came: cat, dog" in one
        for one in run(tmp_path / "s", tmp_path / "o", "yolo").remarks
    )
    (tmp_path / "s/labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    summary = run(tmp_path / "s", tmp_path / "o2", "yolo")
    assert (summary.classes, [one for one in summary.remarks if "there is no val" not in one]) == (
        ["dog", "cat"],
        [],
    )
    for k in range(5):
        labelled(tmp_path / f"s/b{k}.json", "cat")
    stale = temporary_beside(tmp_path / "o2/a")
    stale.with_name(stale.name.replace(f".{os.getpid()}.", ".999999999.")).touch()
    assert len(run(tmp_path / "s", tmp_path / "o2", "voc").examples) == 0
    assert not list((tmp_path / "o2").glob("*.tmp"))
    assert (tmp_path / "o2/ImageSets/Segmentation/train.txt").read_text().split() == [
        "a",
        "b0",
        "b1",
        "b2",
        "b3",
        "b4",
    ]
