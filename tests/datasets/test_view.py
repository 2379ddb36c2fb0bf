"""``yolosam2 view``: what a dataset holds, and what is odd in it, on a page and as JSON."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from backend.core.colours import hex_colour
from backend.demo.run import SAMPLES
from tests.datasets.test_public_cases import SQUARE, export, labelme, photo, region, shape
from tests.support.lab import browser_page, needs_chromium


def looked(run_cli, *arguments: object) -> tuple[int, dict[str, Any]]:
    code, out, err = run_cli("view", *arguments, "--json", "--no-progress")
    assert out, err
    return code, json.loads(out)


def test_the_samples(run_cli, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, found = looked(run_cli, SAMPLES, "--out", page)
    assert code == 0
    assert (found["images"], found["objects"], found["lists"]) == (12, 62, {"val": 12})
    assert {row["class"]: row["objects"] for row in found["classes"]} == {
        "box": 15,
        "cup": 14,
        "leaf": 12,
        "ball": 9,
        "ring": 8,
        "star": 4,
    }
    objects = np.array(PIL.Image.open(SAMPLES / "SegmentationObject/3000002.png"))
    shares = [float((objects == v).mean()) for v in np.unique(objects) if v not in (0, 255)]
    largest = max(row["largest_share"] for row in found["classes"])
    assert largest >= round(max(shares), 6) - 1e-6
    text = page.read_text()
    assert text.count("data:image/jpeg") == 12
    assert hex_colour("leaf") in text
    assert "http" not in re.sub(r"data:[^\"]*", "", text), "nothing from the network"


def test_what_is_odd_is_told(run_cli, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    photo(folder / "a.jpg")
    shutil.copy(folder / "a.jpg", folder / "twin.jpg")
    for name, size_hw in (("b", (146, 64)), ("c", (500, 400)), ("d", (90, 64))):
        photo(folder / f"{name}.jpg", size_hw)
    dot = shape("polygon", [[5, 5], [6, 5], [6, 6]], "speck")
    whole = shape("rectangle", [[0, 0], [64, 48]])
    labelme(folder / "a.json", SQUARE, SQUARE, whole)
    labelme(folder / "twin.json", SQUARE, imagePath="twin.jpg")
    labelme(folder / "b.json", imagePath="b.jpg", imageHeight=146)
    labelme(folder / "c.json", dot, imagePath="c.jpg", imageHeight=500, imageWidth=400)
    (folder / "d.json").write_text('{"shapes": [')
    code, found = looked(run_cli, folder, "--out", tmp_path / "page.html")
    assert code == 1
    assert [one["where"].rpartition("/")[2] for one in found["failed"]] == ["d.json"]
    why = {(one["image"], one["why"]) for one in found["suspects"]}
    assert ("a.jpg", "1 objects over 90 % of the picture") in why
    assert ("twin.jpg", "the same picture as a.jpg") in why
    assert ("b.jpg", "nothing in it") in why
    assert any(image == "c.jpg" and "tiny" in one for image, one in why)
    assert [one["class"] for one in found["rare_classes"]] == ["speck"]
    _, text, _ = run_cli("view", folder, "--no-progress")
    assert "class 'speck' has 1, perhaps a slip of the keyboard: c.jpg" in text
    page = (tmp_path / "page.html").read_text()
    for one in ("the same picture as a.jpg", "speck", "nothing in it", "d.json"):
        assert one in page


def test_boxes_and_pictures_that_are_not_at_hand(run_cli, tmp_path: Path) -> None:
    path = export(tmp_path / "e.json", region())
    page = tmp_path / "p.html"
    code, found = looked(run_cli, path, "--out", page)
    assert (code, found["pictures"]) == (0, {"not at hand": 1})
    assert "data:image/jpeg" in page.read_text(), "its objects are drawn all the same"


def test_names_from_files_are_no_html(run_cli, tmp_path: Path) -> None:
    photo(tmp_path / "d/a.jpg")
    labelme(tmp_path / "d/a.json", {**SQUARE, "label": "<script>alert(1)</script>"})
    run_cli("view", tmp_path / "d", "--out", tmp_path / "p.html", "--no-progress")
    page = (tmp_path / "p.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_long_dataset_is_spread_over_the_page(run_cli, tmp_path: Path) -> None:
    for k in range(90):
        photo(tmp_path / f"d/{k:03}.jpg", (40 + k, 64))
        labelme(tmp_path / f"d/{k:03}.json", SQUARE, imagePath=f"{k:03}.jpg", imageHeight=40 + k)
    page = tmp_path / "p.html"
    looked(run_cli, tmp_path / "d", "--out", page, "--limit", 20)
    shown = [int(k) for k in re.findall(r"<figcaption>(\d+).jpg", page.read_text())]
    assert 5 <= len(shown) <= 20
    assert shown[0] < 10
    assert shown[-1] > 70


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "no such file or folder"),
        ([".", "--limit", "-1"], "--limit: expected 0 or more"),
        ([".", "--out", "."], "is a folder; name the page"),
        ([".", "--from", "abc"], "--from: unknown format 'abc'"),
    ],
)
def test_what_cannot_be_looked_at(run_cli, arguments: list[str], told: str) -> None:
    code, _, err = run_cli("view", *arguments)
    assert code == 2
    assert told in err


@needs_chromium
def test_the_page_in_a_browser(run_cli, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    run_cli("view", SAMPLES, "--out", path, "--no-progress")
    with browser_page(viewport={"width": 420, "height": 900}) as page:
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.goto(path.as_uri())
        page.wait_for_load_state("networkidle")
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")  # they load when seen
        page.wait_for_function("[...document.images].every(i => i.complete)")
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        drawn = page.evaluate("[...document.images].filter(i => i.naturalWidth > 0).length")
        assert (wide <= 0, drawn, problems) == (True, 12, [])
