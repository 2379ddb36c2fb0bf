"""VOC palette, label maps and folder layout."""

from __future__ import annotations

import io
from pathlib import Path

import imgviz
import numpy as np
import PIL.Image
import pytest

from backend.core.types import Instance, Mask, Prediction
from backend.errors import ConfigError, InputError
from backend.formats.png import made_by_us
from backend.formats.voc.class_names import class_names_text, read_class_names
from backend.formats.voc.dataset import is_voc, open_voc
from backend.formats.voc.label_maps import decode_png, encode_png, label_maps, palette


def test_palette_equals_imgviz() -> None:
    assert np.array_equal(palette(), imgviz.label_colormap())


@pytest.mark.parametrize("top", [3, 255, 256, 1000])
def test_label_maps_round_trip(top: int) -> None:
    rng = np.random.default_rng(top)
    kind = np.uint8 if top <= 255 else np.uint16
    label_map = rng.integers(0, top + 1, (20, 30)).astype(kind)
    label_map[0, 0] = top
    data = encode_png(label_map)
    again = decode_png(data, "x")
    assert again.dtype == kind
    assert np.array_equal(again, label_map)
    assert PIL.Image.open(io.BytesIO(data)).mode == ("P" if top <= 255 else "I;16")


def test_other_readers_see_indices_and_colours() -> None:
    with PIL.Image.open(io.BytesIO(encode_png(np.array([[0, 1], [2, 255]], np.uint8)))) as picture:
        assert np.array(picture).tolist() == [[0, 1], [2, 255]]
        assert np.array(picture.convert("RGB"))[0, 1].tolist() == [128, 0, 0]


def test_coloured_and_damaged_maps_are_refused() -> None:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(stream, "PNG")
    with pytest.raises(InputError, match=r"x\.png: expected an indexed PNG, got mode RGB"):
        decode_png(stream.getvalue(), "x.png")
    with pytest.raises(InputError, match="cannot read"):
        decode_png(b"nothing", "x.png")


def test_painting_by_hand() -> None:
    def instance(class_id: int, x: int, side: int) -> Instance:
        return Instance(
            "c",
            class_id,
            0.5 + class_id / 10,
            np.zeros(4, np.float32),
            Mask(x, 0, np.ones((side, side), bool)),
        )

    instances = (
        instance(4, 1, 1),
        instance(1, 0, 2),
        Instance("c", 0, 0.5, np.zeros(4, np.float32)),
    )  # sure and small, unsure and large
    classes, objects = label_maps(Prediction(instances, (2, 3), "v"))
    assert classes.tolist() == [[2, 5, 0], [2, 2, 0]]
    assert objects.tolist() == [[2, 1, 0], [2, 2, 0]]


def test_the_255th_object_is_not_ignore() -> None:
    one = np.ones((1, 1), bool)
    instances = tuple(
        Instance("c", 0, 0.5, np.zeros(4, np.float32), Mask(k, 0, one)) for k in range(300)
    )
    _, objects = label_maps(Prediction(instances, (1, 300), "v"))
    assert objects[0, 253:256].tolist() == [254, 256, 257]


def test_our_maps_are_known(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(np.zeros((4, 4), np.uint8)))
    assert made_by_us(path)
    with PIL.Image.open(path) as picture:
        picture.save(path)
    assert not made_by_us(path)
    path.write_bytes(b"x")
    assert not made_by_us(path)


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "class_names.txt"
    path.write_text(class_names_text(["cat", "dog"]))
    assert path.read_text() == "_background_\ncat\ndog"
    assert read_class_names(path) == ("cat", "dog")
    path.write_text("__ignore__\n_background_\ncat\n")
    assert read_class_names(path) == ("cat",)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="no class names"):
        read_class_names(path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for name in ("a.JPG", "b.jpeg", "s.1.png", "clip/000.jpg", "clip/001.jpg"):
        (tmp_path / "JPEGImages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "JPEGImages" / name).write_bytes(b"x")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\nb\n\ns.1\n")
    (lists / "val_videos.txt").write_text("clip\n")
    return tmp_path


def test_lists_and_any_suffix(dataset: Path) -> None:
    assert is_voc(dataset)
    found = open_voc(dataset, "val")
    assert found.image_ids == ("a", "b", "s.1", "clip/000", "clip/001")
    assert [found.image_path(i).name for i in found.image_ids] == [
        "a.JPG",
        "b.jpeg",
        "s.1.png",
        "000.jpg",
        "001.jpg",
    ]
    with pytest.raises(InputError, match="no image with this name"):
        found.image_path("zzz")


def test_missing_lists_and_escapes(dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"test\.txt: no such list.*lists there: val"):
        open_voc(dataset, "test")
    (dataset / "ImageSets" / "Segmentation" / "val.txt").write_text("../../etc/x\n")
    with pytest.raises(ConfigError, match="outside"):
        open_voc(dataset, "val")
