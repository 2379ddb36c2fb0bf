"""labelme's real window, off screen: it shows what was written in the right places, and its AI
menus hold the cascade.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from backend.core.masks import full_frame
from backend.demo.run import SAMPLES
from backend.errors import ConfigError, InputError
from backend.files.images import read_image
from backend.formats.voc.label_maps import read_label_map
from backend.labeling.cascade import Cascade
from labelme_plugin import window
from labelme_plugin.assistant import Assistant
from labelme_plugin.document import read_document
from labelme_plugin.instances import labelled_masks
from labelme_plugin.pixels import image_of, pixels_of
from labelme_plugin.window import MODEL_NAME, check_version
from tests.conftest import PYTHON, ROOT
from tests.support.lab import NAMES, OUT, turned

DEMO = ("--detector", "demo", "--segmenter", "demo", "--device", "cpu")


@contextmanager
def display() -> Iterator[str]:
    """A real X display, which nobody sees."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1200x24", "-nolisten"]
    with subprocess.Popen([*command, "tcp"], pass_fds=[writing], stderr=subprocess.DEVNULL) as xvfb:
        os.close(writing)
        with os.fdopen(reading) as stream:
            number = stream.readline().strip()
        try:
            yield f":{number}"
        finally:
            xvfb.terminate()


def drive(
    folder: Path, step: str, *arguments: object, platform: str = "offscreen"
) -> dict[str, Any]:
    """What was seen while ``yolosam2 labelme`` ran with these arguments."""
    with display() if platform == "xcb" else nullcontext("") as number:
        return _drive(folder, step, arguments, platform, number)


def _drive(
    folder: Path, step: str, arguments: tuple[object, ...], platform: str, number: str
) -> dict[str, Any]:
    for name in ("home", "xdg"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    environment = {
        **os.environ,
        "HOME": str(folder / "home"),
        "XDG_RUNTIME_DIR": str(folder / "xdg"),
        "QT_QPA_PLATFORM": platform,
        "DISPLAY": number,
        "PYTHONPATH": str(ROOT),
    }
    command = [
        PYTHON,
        str(ROOT / "tests/support/labelme_driver.py"),
        str(folder),
        step,
        "labelme",
        *map(str, arguments),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=240, check=False
    )
    assert (folder / "seen.json").is_file(), done.stderr[-3000:]
    seen = json.loads((folder / "seen.json").read_text())
    assert "error" not in seen, seen["error"]
    assert done.returncode == 0
    return seen


def mask_of(shape: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    """The full mask of a shape that was on the canvas."""
    crop = (
        np.unpackbits(
            np.frombuffer(bytes.fromhex(shape["mask"]), np.uint8),
            count=shape["size"][0] * shape["size"][1],
        )
        .reshape(shape["size"])
        .astype(bool)
    )
    (x, y), (right, bottom) = ((int(a), int(b)) for a, b in shape["points"])
    assert crop.shape == (bottom - y + 1, right - x + 1)
    frame = np.zeros(size_hw, bool)
    frame[y : bottom + 1, x : right + 1] = crop
    return frame


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / max(1, np.count_nonzero(a | b))


def truth(name: str) -> list[tuple[str, np.ndarray]]:
    objects, classes = (
        read_label_map(SAMPLES / kind / f"{name}.png")
        for kind in ("SegmentationObject", "SegmentationClass")
    )
    return [
        (NAMES[int(np.median(classes[objects == v])) - 1], objects == v)
        for v in np.unique(objects)
        if v not in (0, 255)
    ]


def keep(folder: Path, name: str, kept_as: str) -> None:
    """The picture of the window, where people can look at it afterwards."""
    OUT.mkdir(exist_ok=True)
    shutil.copy(folder / name, OUT / kept_as)


@pytest.mark.timeout(600)
def test_the_window_shows_every_mask_where_the_object_is(run_cli, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "sub ü 図").mkdir(parents=True)
    for name in ("3000000", "3000001", "3000006", "3000010"):
        shutil.copy(SAMPLES / "JPEGImages" / f"{name}.jpg", pictures)
    turned(SAMPLES / "JPEGImages/3000002.jpg", pictures / "sub ü 図/3000002.jpg")
    assert (
        run_cli(
            "annotate",
            pictures,
            "--out",
            pictures,
            "--no-progress",
            "--box-margin",
            "0.04",
            "--min-part",
            "0.02",
            *DEMO,
        )[0]
        == 0
    )
    before = {path: path.read_bytes() for path in pictures.rglob("*.json")}
    seen = drive(tmp_path, "look", pictures, *DEMO)
    assert len(seen) == 5
    matched: list[float] = []
    for k, about in seen.items():
        size_hw = tuple(about["size"])
        name = Path(about["file"]).stem
        path = next(pictures.rglob(f"{name}.json"))
        written = {
            (one.label, full_frame(one.mask, size_hw).tobytes())
            for one in labelled_masks(read_document(path), size_hw, str(path)).objects
        }
        shown = [(shape["label"], mask_of(shape, size_hw)) for shape in about["shapes"]]
        assert {(label, mask.tobytes()) for label, mask in shown} == written
        canvas = np.load(tmp_path / f"canvas-{k}.npz")
        x, y = (int(v) for v in about["origin"])
        painted = np.any(canvas["with_shapes"] != canvas["without"], 2)[
            y : y + size_hw[0], x : x + size_hw[1]
        ]
        assert about["scale"] == 1
        outlines = np.zeros(size_hw, np.uint8)
        allowed = np.zeros(size_hw, bool)
        for shape, (_, mask) in zip(about["shapes"], shown, strict=True):
            assert painted[mask].mean() > 0.99
            (left, top), (right, bottom) = ((int(a), int(b)) for a, b in shape["points"])
            cv2.rectangle(outlines, (left, top), (right, bottom), 1, 5)
            allowed |= cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))) > 0
        assert not (painted & ~allowed & (outlines == 0)).any()
        inside = painted & (outlines == 0)
        for label, mask in truth(name):
            best = max(
                (one for one in shown if one[0] == label),
                key=lambda one: iou(one[1], mask),
                default=(label, np.zeros(size_hw, bool)),
            )[1]
            if iou(best, mask) >= 0.5:
                area = cv2.dilate(best.astype(np.uint8), np.ones((3, 3))).astype(bool) & (
                    outlines == 0
                )
                matched.append(iou(inside & area, mask & (outlines == 0)))
    assert len(matched) >= 15
    assert np.mean(matched) > 0.8
    assert {
        path: path.read_bytes() for path in pictures.rglob("*.json")
    } == before  # looking changes nothing
    keep(tmp_path, "window-1.png", "labelme_window.png")
    keep(tmp_path, "window-4.png", "labelme_window_turned.png")


@pytest.mark.slow  # test_run_works_on_a_real_display is the short one
@pytest.mark.timeout(600)
def test_class_names_boxes_and_clicks_become_masks_in_the_window(
    demo: Cascade, tmp_path: Path
) -> None:
    picture = SAMPLES / "JPEGImages/3000001.jpg"
    objects = truth("3000001")
    _, mask = max(objects, key=lambda one: one[1].sum())
    rows, columns = np.nonzero(mask)
    centre = [float(np.median(columns)), float(np.median(rows))]
    box = [
        [float(columns.min()) - 2, float(rows.min()) - 2],
        [float(columns.max()) + 2, float(rows.max()) + 2],
    ]
    (tmp_path / "points.json").write_text(
        json.dumps({"box": box, "points": [centre, [centre[0] + 4, centre[1] + 3]]})
    )
    (tmp_path / "out").mkdir()
    settings = ("--box-margin", "0.04", "--min-part", "0.02")
    labelme_options = ("--", "--output", tmp_path / "out")
    seen = drive(tmp_path, "assist", picture, *DEMO, *settings, *labelme_options)
    assert seen["labels"] == sorted(NAMES)
    assert seen["menus"] == {
        "assisted": MODEL_NAME,
        "format": "mask",
        "text": MODEL_NAME,
        "typed": ",".join(NAMES),
    }
    assert seen["unknown"] == {
        "shapes": 0,
        "status": f"{MODEL_NAME}: no class unicorn; known are {', '.join(NAMES)}",
    }
    assert (seen["empty"]["shapes"], "type names of classes" in seen["empty"]["status"]) == (
        0,
        True,
    )
    assert seen["untouched"]  # nothing found, nothing written
    assert "unexpected ValueError" in seen["raised"]
    assert "no picture is open" in seen["closed"]
    image = read_image(picture)
    (prediction,) = demo.predict([image])
    size_hw = image.shape[:2]
    expected = [(one.label, full_frame(one.mask, size_hw)) for one in prediction.instances]
    shown = [(shape["label"], mask_of(shape, size_hw)) for shape in seen["text"]]
    assert len(shown) >= 5
    for its, frame in shown:  # labelme leaves out what overlaps a surer one
        assert any(its == other and np.array_equal(frame, theirs) for other, theirs in expected)
    scores = [json.loads(shape["description"])["score"] for shape in seen["text"]]
    assert set(np.round(scores, 5)) <= set(np.round([one.score for one in prediction.instances], 5))
    assert seen["again"] == len(shown)
    counts = Counter(its for its, _ in shown)
    told = seen["told"].partition(" found ")[2].split(", ")
    assert sorted(told) == sorted(f"{n} {its}" for its, n in counts.items())
    assert seen["told again"].endswith("found nothing that is not there already")
    assert all(shape["flags"] == {} for shape in read_document(tmp_path / "saved.json")["shapes"])
    for name, least in (("box", 0.8), ("points", 0.6)):
        (shape,) = seen[name]
        assert (shape["label"], shape["type"]) == ("by hand", "mask")
        assert iou(mask_of(shape, size_hw), mask) > least, name
    saved = read_document(tmp_path / "saved.json")
    assert {shape["shape_type"] for shape in saved["shapes"]} == {"mask"}
    assert {shape["label"] for shape in saved["shapes"]} == {its for its, _ in shown} | {"by hand"}
    keep(tmp_path, "text.png", "labelme_text_prompt.png")
    keep(tmp_path, "box.png", "labelme_box.png")


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
def test_run_works_on_a_real_display(tmp_path: Path) -> None:
    """Qt's OpenGL and torch's compiler each bring an LLVM, and end the program together."""
    (tmp_path / "out").mkdir()
    picture = SAMPLES / "JPEGImages/3000001.jpg"
    labelme_options = ("--", "--output", tmp_path / "out")
    seen = drive(tmp_path, "text", picture, *DEMO, *labelme_options, platform="xcb")
    assert seen["labels"] == sorted(NAMES)
    assert len(seen["text"]) >= 5
    keep(tmp_path, "text.png", "labelme_on_a_display.png")


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
def test_any_words_name_masks_of_everything(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    names = ",".join(NAMES).replace("box", "box|carton")
    automatic = ("--mode", "automatic", "--names", names, "--segmenter", "demo", "--device", "cpu")
    picture = SAMPLES / "JPEGImages/3000001.jpg"
    labelme_options = ("--", "--output", tmp_path / "out")
    seen = drive(tmp_path, "words", picture, *automatic, *labelme_options, platform="xcb")
    assert seen["typed"] == ",".join(NAMES)
    assert "any words" in seen["tip"]
    found = Counter(shape["label"] for shape in seen["named"])
    assert set(found) <= set(NAMES)
    assert found.total() >= 5
    matched = 0
    for label, mask in truth("3000001"):
        same = [shape for shape in seen["named"] if shape["label"] == label]
        matched += any(iou(mask_of(shape, mask.shape), mask) > 0.75 for shape in same)
    assert matched >= 5
    assert {shape["label"] for shape in seen["synonyms"]} == {"carton"}
    assert {shape["label"] for shape in seen["all"]} == {"object"}
    assert len(seen["all"]) >= len(seen["named"])
    assert {shape["type"] for shape in seen["all"]} == {"mask"}
    assert "object" in seen["all told"]
    keep(tmp_path, "named.png", "labelme_words.png")
    keep(tmp_path, "all.png", "labelme_everything.png")


@pytest.mark.parametrize(
    "version", ["5.5.0", "5.11.4", "6.2.0", "6.4.0", "7.0.0", "7.9.1", "10.3.0", "unknown"]
)
def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, run_cli, version: str) -> None:
    with pytest.raises(
        ConfigError,
        match=f"labelme {version} is installed; this experimental launcher knows labelme 6.3 only",
    ):
        check_version(version)
    monkeypatch.setattr(window.metadata, "version", lambda name: version)
    code, _, err = run_cli("labelme", "x", *DEMO)
    assert (code, "Its files work with every labelme" in err) == (2, True)


def test_known_versions_pass() -> None:
    for version in ("6.3.0", "6.3.1", "6.3.9"):
        check_version(version)


def test_without_labelme_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, run_cli) -> None:
    def missing(name: str) -> str:
        raise window.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(window.metadata, "version", missing)
    code, _, err = run_cli("labelme", "x", *DEMO)
    assert (code, "labelme is not installed; pip install" in err) == (2, True)


def test_a_labelme_that_is_built_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, fake: Cascade
) -> None:
    import osam

    monkeypatch.delattr(osam.apis, "registered_model_types")
    with pytest.raises(ConfigError, match="is built differently from what this launcher knows"):
        window.register(Assistant(fake))


def test_only_the_launcher_imports_labelme() -> None:
    code = (
        "import sys, backend.cli.main, labelme_plugin.window, labelme_plugin.format\n"
        "print('labelme' in sys.modules, 'PyQt5' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_pictures_come_blue_first() -> None:
    blue_first = np.zeros((3, 4, 4), np.uint8)
    blue_first[..., 0], blue_first[..., 2], blue_first[..., 3] = 200, 10, 255
    assert image_of(blue_first)[0, 0].tolist() == [10, 0, 200]
    assert image_of(blue_first[..., :3])[0, 0].tolist() == [10, 0, 200]


@pytest.mark.parametrize("kind", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_qt_images_of_any_format_are_the_picture_that_annotate_reads(
    tmp_path: Path, rng: np.random.Generator, kind: str
) -> None:
    from PyQt5 import QtGui

    picture = PIL.Image.fromarray(rng.integers(0, 256, (11, 37, 4), np.uint8), "RGBA").convert(
        "RGB" if kind == "P" else kind
    )
    picture = picture.quantize(50) if kind == "P" else picture
    picture.save(tmp_path / "a.png")
    ours = image_of(pixels_of(QtGui.QImage(str(tmp_path / "a.png"))))
    assert np.abs(ours.astype(int) - read_image(tmp_path / "a.png")).max() <= 1


def test_the_assistant_knows_what_it_was_asked(fake: Cascade, demo: Cascade) -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    answers, unknown = Assistant(fake).by_text(image, [" CAT ", "", "unicorn"])
    assert ([(one.text, one.box) for one in answers], unknown) == (
        [(" CAT ", (2, 3, 19, 29))],
        ["unicorn"],
    )
    assert Assistant(fake).by_text(image, [""]) == ([], [])
    assert Assistant(fake).by_text(image, ["dog"]) == ([], [])
    with pytest.raises(InputError, match="no segmenter"):
        Assistant(Cascade(None, None, names={0: "x"})).by_points(image, np.zeros((1, 2)), [1])
    assistant = Assistant(demo)
    picture = np.array(PIL.Image.open(SAMPLES / "JPEGImages/3000001.jpg"))
    for _ in range(2):
        assistant.by_points(picture, np.array([[500.0, 300.0]]), [1])
    assert len(assistant._embeddings) == 1
    for k in range(5):
        assistant.by_points(
            np.roll(picture, k, 0), np.array([[500.0, 300.0], [10.0, 10.0]]), [1, 0]
        )
    assert len(assistant._embeddings) == 3


def test_an_error_never_closes_the_window(monkeypatch: pytest.MonkeyPatch, fake: Cascade) -> None:
    """labelme answers exceptions by closing, with unsaved work in it."""
    said: list[str] = []
    monkeypatch.setattr(window, "_tell", said.append)

    class Broken(Assistant):
        def by_points(self, image: np.ndarray, points_xy: np.ndarray, labels: Any) -> Any:
            raise RuntimeError("out of memory")

    class Prompt:
        points = np.zeros((1, 2))
        point_labels = np.ones(1, int)

    assert window._answers(Broken(fake), Prompt(), np.zeros((4, 4, 3), np.uint8)) == []
    assert said == [f"{MODEL_NAME}: unexpected RuntimeError: out of memory"]


def test_texts_are_spelled_as_the_classes_are(fake: Cascade) -> None:
    assert Assistant(fake).spelled([" Cat", "DOG ", "cat", " unicorn "]) == [
        "cat",
        "dog",
        "unicorn",
    ]
    assert Assistant(fake, ["dog"]).names == ["dog"]


def test_the_assistant_by_hand(fake: Cascade) -> None:
    """Corners in any order, signed points, scores and the segmenter's own estimate."""
    from backend.core.types import Embedding, Masks, Prompts
    from tests.support.fakes import FakeSegmenter

    asked: list[Prompts] = []
    encoded: list[int] = []

    class Segmenter(FakeSegmenter):
        def embed(self, image: np.ndarray) -> Embedding:
            encoded.append(1)
            return super().embed(image)

        def refine(self, embedding: Embedding, prompts: Any) -> Masks:
            asked.extend(prompts)
            return Masks(
                np.full((1, 4, 4), 1.0, np.float32), np.array([0.25], np.float32), embedding.size_hw
            )

    from tests.support.fakes import FakeDetector

    detector = FakeDetector([(2, 3, 20, 30), (5, 5, 30, 35), (1, 1, 9, 9)])
    assistant = Assistant(Cascade(detector, Segmenter()))
    image = np.zeros((40, 50, 3), np.uint8)
    (answer,) = assistant.by_points(
        image, np.array([[30.0, 20.0], [5.0, 8.0], [6.0, 9.0], [7.0, 7.0]]), [2, 3, 1, 0]
    )
    assert (answer.score, answer.text, answer.box) == (0.25, None, (0, 0, 49, 39))
    assert asked[0].xyxy.tolist() == [5, 8, 30, 20]
    assert (asked[0].points_xy.tolist(), asked[0].positive.tolist()) == (
        [[6, 9], [7, 7]],
        [True, False],
    )
    assistant.by_points(image, np.array([[1.0, 1.0]]), [1])
    assistant.by_points(image.reshape(50, 40, 3), np.array([[1.0, 1.0]]), [1])
    assert len(encoded) == 2
    answers, unknown = assistant.by_text(image, ["DOG", "Cat", "zebra"])
    assert ([one.text for one in answers], unknown) == (["Cat", "DOG", "Cat"], ["zebra"])
    assert [one.score for one in answers] == sorted((one.score for one in answers), reverse=True)
