"""Which format a file or a folder is taken for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ConfigError
from backend.formats.registry import detect_format, format_of

COCO = {"images": [], "annotations": [], "categories": []}
LABELME = {"version": "6.3.2", "shapes": [], "imagePath": "a.jpg"}
EXPORT = [{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}]


def folder(root: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("content", "expected"),
    [(EXPORT, "label-studio"), (COCO, "coco"), (LABELME, "labelme"), ({"other": 1}, "labelme")],
)
def test_a_file(tmp_path: Path, content: object, expected: str) -> None:
    assert detect_format(folder(tmp_path, {"a.json": content}) / "a.json") == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"instances.json": COCO}, "coco"),
        ({"instances.json": COCO, "detections.json": EXPORT}, "coco"),
        ({"a.json": LABELME, "detections.json": EXPORT}, "labelme"),
        ({"import.json": EXPORT}, "label-studio"),
        ({"results.json": EXPORT}, "labelme"),  # it tells of each file what is wrong
        ({"x/a.json": LABELME}, "labelme"),
        ({"labels/a.txt": "0 0.5 0.5 0.1 0.1", "data.yaml": "names: [cat]"}, "yolo"),
    ],
)
def test_a_folder(tmp_path: Path, files: dict[str, Any], expected: str) -> None:
    assert detect_format(folder(tmp_path, files)) == expected


def test_what_cannot_be_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        detect_format(tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no labelme JSON"):
        detect_format(tmp_path)
    both = folder(tmp_path, {"import.json": EXPORT, "annotations/instances_val.json": COCO})
    with pytest.raises(ConfigError, match="holds label-studio, coco; say with --from"):
        detect_format(both)
    (tmp_path / "number.json").write_text("7")
    with pytest.raises(ConfigError, match="is neither a folder nor a JSON file"):
        detect_format(tmp_path / "number.json")


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="unknown format 'png'; known are labelme, label-studio"):
        format_of("png")
